"""The simulated loop: its worlds, its figures, and the command over a run with held-out users."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from client.serving.exploration import Exploration
from client.serving.reward_model import Beliefs
from client.serving.take_rate import TakeRate
from common.config import DataConfig, EvaluationConfig, FederationConfig, ModelConfig, PrivacyConfig
from common.config import RunConfig as Config
from common.errors import DataError, RunFolderError
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations import cli
from simulations.bandits import loop
from simulations.bandits.choosing import Setting, best_settings
from simulations.bandits.loop import Outcome, play
from simulations.bandits.measuring import TEST_FILE, Experiment, Played, Worlds
from simulations.bandits.page import write_page
from simulations.bandits.summary import summarise
from simulations.bandits.warm import load_warm
from simulations.bandits.world import World, WorldPlan, make_world, oracle_curve
from simulations.evaluation.intervals import Interval
from simulations.simulate import simulate
from tests.own_process import in_own_process

PLAN = WorldPlan(lists=2, rounds=6, k=3, new_items=0.3)
BELIEFS = Beliefs(known=0.05, new=0.3)


def made_world(seed: int = 0) -> World:
    """Forty users; a third of items are new, and half of those are liked by most of them."""
    rng = np.random.default_rng(seed)
    rate = np.where(np.arange(30) < 20, 0.2, np.where(np.arange(30) < 25, 0.8, 0.02))
    return World(
        plan=WorldPlan(lists=3, rounds=12, k=3),
        seed=seed,
        likes=rng.random((40, 30)) < rate,
        is_new=np.arange(30) >= 20,
        arrival=rng.integers(0, 10, 40),
        index=None,  # type: ignore[arg-type]
        rate=TakeRate(1.0, 0.0),
        embeddings=np.zeros((30, 0)),
    )


@pytest.fixture
def even_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that the run knows score a little more than new ones."""
    scores = np.where(np.arange(30) < 20, -1.4, -1.8).astype(np.float32)
    monkeypatch.setattr(loop, "scores_of", lambda index, asking: np.tile(scores, (len(asking), 1)))


def test_exploring_finds_the_new_items_that_users_like(even_scores: None) -> None:
    worlds = [made_world(seed) for seed in range(4)]
    greedy = [play(world, Exploration("greedy"), BELIEFS) for world in worlds]
    for policy in (Exploration("thompson", 1.0), Exploration("ucb", 1.0)):
        found = [play(world, policy, BELIEFS) for world in worlds]
        assert np.mean([each.reward for each in found]) > np.mean([g.reward for g in greedy])
        assert np.mean([each.new_taken for each in found]) > np.mean([g.new_taken for g in greedy])


def test_a_world_repeats_and_its_figures_agree(even_scores: None) -> None:
    world, policy = made_world(), Exploration("thompson", 1.0)
    found = play(world, policy, BELIEFS)
    assert found == play(world, policy, BELIEFS)
    assert found.curve[-1] == found.reward
    assert list(found.curve) == sorted(found.curve)
    assert found.new_taken <= min(found.new_shown, found.reward)
    assert found.taken_coverage <= found.coverage <= 1
    assert (np.array(found.curve) <= oracle_curve(world)).all()


def test_the_oracle_gives_each_user_all_they_like() -> None:
    world = made_world()
    shown = np.minimum(world.likes.sum(axis=1), 9)
    assert oracle_curve(world)[-1] == shown.sum()


def test_no_item_is_shown_twice(even_scores: None) -> None:
    world = made_world()
    all_taken = World(**{**vars(world), "likes": np.ones_like(world.likes)})
    assert play(all_taken, Exploration("greedy"), BELIEFS).reward == 40 * 9


def outcomes(reward: int) -> Outcome:
    return Outcome(reward, (1, reward), 0.5, 0.2, 4, 2, 1.0, 1.5)


def fake_played() -> list[Played]:
    found = []
    for seed in range(3):
        for name, more in (("greedy", 0), ("thompson", 5)):
            setting = Setting(Exploration(name), BELIEFS)  # type: ignore[arg-type]
            found.append(Played(seed, setting, outcomes(10 + seed + more), (5, 40)))
    return found


def test_differences_are_paired_by_world(tmp_path: Path) -> None:
    greedy, thompson = summarise(fake_played())
    assert thompson.differences["reward"] == Interval(5, 5, 5)
    assert thompson.differences["regret"] == Interval(-5, -5, -5)
    assert greedy.differences == {}
    assert greedy.means["reward"].mean == 11
    write_page(tmp_path / "page.md", "r", Worlds(PLAN), [greedy, thompson])
    text = (tmp_path / "page.md").read_text()
    assert "| items taken | +5.000 [+5.000, +5.000] |" in text
    assert (tmp_path / "page" / "regret.svg").read_text().startswith("<svg")


def test_a_line_of_the_log_is_read_back() -> None:
    played = fake_played()[1]
    assert Played.of(json.loads(json.dumps(played.record("r", PLAN)))) == played


def test_each_policy_gets_its_own_best_setting() -> None:
    low, high = Exploration("ucb", 0.1), Exploration("ucb", 0.5)
    rewards = {Setting(low, BELIEFS): 3.0, Setting(high, BELIEFS): 4.0}
    rewards[Setting(Exploration("greedy"), BELIEFS)] = 5.0
    best = best_settings(rewards)
    assert best["ucb"].policy == high
    assert set(best) == {"ucb", "greedy"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = Config(
        data=DataConfig(dataset="synthetic", sites=3, held_out_users=0.4),
        model=ModelConfig(head_dim=4, head_items=5, lora_layers=1, lora_rank=2, lora_rows=2),
        privacy=PrivacyConfig(mode="local", targets_per_unit=2, negatives_per_unit=4),
        federation=FederationConfig(rounds=1, local_lr=0.1, units_per_step=4),
        evaluation=EvaluationConfig(bootstrap_resamples=100, companions=""),
    )
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "run")
    folder.write_config(config)
    simulate(config, folder, SilentListener())
    return folder


@pytest.mark.slow
def test_worlds_share_no_user_and_no_new_item(run: RunFolder) -> None:
    warm = load_warm(run)
    before = warm.index_without(np.zeros(0, dtype=np.int64))
    ours, theirs = (make_world(warm, PLAN, part, 1) for part in ("validation", "test"))
    assert not (ours.is_new & theirs.is_new).any()
    assert len(ours.likes) + len(theirs.likes) == len(warm.likes)
    new = np.flatnonzero(ours.is_new)
    assert np.ptp(ours.index.bias[new].numpy()) == 0  # the mean prior, whoever the item is
    codes = ours.index.vectors[new, 4:9]
    assert not codes.any()
    again = warm.index_without(np.zeros(0, dtype=np.int64))
    assert (again.bias == before.bias).all()
    assert (again.vectors == before.vectors).all()


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_stopped(
    run: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = [Setting(Exploration(name), BELIEFS) for name in ("greedy", "ucb")]  # type: ignore[arg-type]
    (tmp_path / "logs").mkdir()
    first = Experiment(run, tmp_path / "logs", Worlds(PLAN, 1, 2)).report(settings)
    log = tmp_path / "logs" / TEST_FILE
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:2]))
    again = Experiment(run, tmp_path / "logs", Worlds(PLAN, 1, 2)).report(settings)
    assert again == first
    assert log.read_text().splitlines(keepends=True) == lines
    log.write_text('{"run": "another"}\n')
    with pytest.raises(RunFolderError, match="remove it"):
        Experiment(run, tmp_path / "logs", Worlds(PLAN, 1, 2)).report(settings)
    fedrec = in_own_process(cli.main, "fedrec", monkeypatch=monkeypatch, capsys=capsys)
    monkeypatch.setattr("simulations.bandits.choosing.POLICIES", [s.policy for s in settings])
    page = tmp_path / "page.md"
    asked = ("bandits", run.path, "--seeds", "2", "--chosen-on", "1", "--out", page, "--json")
    for more, told in ((("--lists", "9"), "use fewer --lists"), (("--rounds", "3"), "--rounds")):
        code, _, err = fedrec(*asked, *more)
        assert code == 2
        assert told in err
    code, out, err = fedrec(*asked, "--lists", "3", "--rounds", "5")
    assert code == 0, err
    assert [each["setting"]["policy"]["name"] for each in json.loads(out)] == ["greedy", "ucb"]
    assert "| items taken |" in page.read_text()
    config = run.read_config()
    nobody = config.model_copy(
        update={"data": config.data.model_copy(update={"held_out_users": 0})}
    )
    other = RunFolder.create(tmp_path / "nobody")
    other.write_config(nobody)
    with pytest.raises(DataError, match="held no users out"):
        load_warm(other)
