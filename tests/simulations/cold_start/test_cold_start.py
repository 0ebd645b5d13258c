"""Cold start: nobody and nothing that is judged was trained on, and the rule is serving's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.build_recommender import build_recommender
from common.config import RunConfig
from common.errors import DataError
from common.initial_adapter import initial_adapter
from common.loaded_recommender import load_round
from common.new_items import NewItemRule
from simulations import cli
from simulations.cold_start.bench import HISTORY_LENGTHS, ColdStartBench, first_requests
from simulations.cold_start.new_items import NewItemBench, TriedRule, chosen, item_means
from simulations.cold_start.plain_scorers import EVENLY, popularity_with_ties, tfidf_scorer
from tests.own_process import in_own_process

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

CONFIG = RunConfig.model_validate(
    {
        "data": {"dataset": "synthetic", "sites": 2, "held_out_users": 0.4},
        "model": {
            "head_dim": 8,
            "head_items": 10,
            "lora_layers": 1,
            "lora_rank": 2,
            "item_to_item": True,
            "item_to_item_items": 20,
        },
        "privacy": {"mode": "none"},
    }
)


@pytest.fixture(scope="module")
def bench() -> ColdStartBench:
    return ColdStartBench.of(CONFIG)


def test_who_and_what_is_judged_took_part_in_no_training(bench: ColdStartBench) -> None:
    trained = set(bench.known.users.user_ids)
    validation, test = (
        {user.user_id for user in bench.new_users[s]} for s in ("validation", "test")
    )
    assert validation
    assert test
    assert not validation & test
    assert not (validation | test) & trained
    known = set(bench.known.catalogue.item_ids)
    ids = bench.whole.catalogue.item_ids
    assert not known & {ids[item] for item in bench.cold.all}
    assert not set(bench.cold.validation) & set(bench.cold.test)
    for stage in ("validation", "test"):
        wanted = {int(event.test.items[0]) for event in bench.events[stage]}
        assert wanted <= set(bench.cold_of(stage).tolist())


def test_nobody_held_out_is_refused() -> None:
    config = RunConfig.model_validate({"data": {"dataset": "synthetic"}})
    with pytest.raises(DataError, match="set data.held_out_users"):
        ColdStartBench.of(config)


@pytest.mark.parametrize("length", HISTORY_LENGTHS)
def test_a_new_user_shows_their_first_items_and_wants_the_next(
    bench: ColdStartBench, length: int
) -> None:
    users = bench.new_users["test"]
    asked, targets = first_requests(users, length)
    for user, history, wanted in zip(users, asked.histories, targets, strict=True):
        assert np.concatenate([history, wanted]).tolist() == user.items[: length + 10].tolist()
        assert len(history) == length
        assert (np.diff(user.times) >= 0).all()


@pytest.mark.parametrize("rule", [NewItemRule(), NewItemRule(0.5, 3.0, 1.5)])
def test_the_parts_by_a_rule_are_what_the_served_index_scores(
    bench: ColdStartBench, rule: NewItemRule
) -> None:
    random = np.random.default_rng(3)
    recommender = build_recommender(CONFIG, bench.known.catalogue)
    adapter = {
        name: (array + 0.1 * random.standard_normal(array.shape)).astype(np.float32)
        for name, array in initial_adapter(CONFIG).items()
    }
    prior = random.standard_normal(len(bench.known.catalogue)).astype(np.float32)
    weights = random.standard_normal(20 * 21 // 2).astype(np.float32)
    load_round(recommender, adapter, prior, weights)
    items = NewItemBench.of(bench, recommender, "test")
    asked = items.requests(bench.events["test"][:5])
    combined, index = items.parts(asked).by(rule), items.served(rule)
    for row, _ in enumerate(asked):
        np.testing.assert_allclose(
            index.scores(asked[row : row + 1]), combined[row], rtol=1e-4, atol=1e-4
        )
    # Known items score as the recommender itself scores them, whatever the rule.
    known = len(bench.known.catalogue)
    np.testing.assert_allclose(
        combined[:, :known], recommender.score_all(asked), rtol=1e-4, atol=1e-4
    )
    # And a new item in a history means the same under every rule.
    had = [np.array([known, 3])]
    plain, ruled = items.served(NewItemRule()).scores(had), index.scores(had)
    np.testing.assert_allclose(ruled[:known], plain[:known], rtol=1e-4, atol=1e-4)


def test_the_best_rule_that_known_items_can_bear() -> None:
    tried = [
        TriedRule(NewItemRule(), 0.0, 0.1, 0.100),
        TriedRule(NewItemRule(lift=1), 0.02, 0.1, 0.096),
        TriedRule(NewItemRule(lift=9), 0.09, 0.1, 0.050),
    ]
    assert chosen(tried).rule.lift == 1


def test_figures_are_means_over_items_not_events() -> None:
    scores = np.array([[3.0, 2, 1], [3, 2, 1], [1, 2, 3]], dtype=np.float32)
    nothing = [np.zeros(0, dtype=np.int64)] * 3
    found = item_means(scores, np.array([0, 0, 1]), nothing)
    assert found == pytest.approx([1.0, 1 / np.log2(3)])


def test_plain_scorers(bench: ColdStartBench) -> None:
    catalogue = bench.whole.catalogue
    (row,) = tfidf_scorer(catalogue, EVENLY)([np.array([4])])
    assert row.argmax() == 4
    shares_genre = [bool(set(catalogue.genres[4]) & set(each)) for each in catalogue.genres]
    assert row[shares_genre].mean() > 2 * row[np.logical_not(shares_genre)].mean()
    (pop,) = popularity_with_ties(np.array([0, 5, 0, 4]), 0)([np.array([1])])
    assert pop.argsort()[::-1][:2].tolist() == [1, 3]
    assert len(set(pop.tolist())) == 4


@pytest.mark.slow
def test_the_command_trains_once_and_writes_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fedrec = in_own_process(cli.main, "fedrec", monkeypatch=monkeypatch, capsys=capsys)
    scenario = tmp_path / "small.toml"
    scenario.write_text(
        '[data]\ndataset = "synthetic"\nsites = 2\n'
        "[model]\nhead_dim = 4\nhead_items = 0\nlora_layers = 1\nlora_rank = 2\n"
        'context = "user,time"\n'
        '[privacy]\nmode = "none"\ntargets_per_unit = 2\nnegatives_per_unit = 4\n'
        "[federation]\nrounds = 1\nlocal_lr = 0.1\nunits_per_step = 4\n"
    )
    page = tmp_path / "cold.md"
    asked = ("cold-start", scenario, "--run", tmp_path / "run", "--set", "data.held_out_users=0.4")
    code, out, err = fedrec(*asked, "--stage", "test", "--out", page, "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    settings = {row["setting"] for row in rows}
    assert len(settings) == len(HISTORY_LENGTHS) + 3
    assert {"fedrec", "popularity", "TF-IDF", "fedrec, attributes unknown"} <= {
        row["method"] for row in rows
    }
    head, *lines = (tmp_path / "cold" / "run.jsonl").read_text().splitlines()
    assert json.loads(head)["epsilon"] is None
    assert [json.loads(line) for line in lines] == rows
    assert page.read_text().count("| fedrec |") == len(settings)
    adapter = tmp_path / "run" / "adapter" / "adapter.safetensors"
    before = adapter.stat().st_mtime_ns
    code, out, err = fedrec(*asked, "--try-rules")
    assert code == 0, err
    assert adapter.stat().st_mtime_ns == before  # it was trained already
    assert {"rule", "among_all", "among_new", "known"} == set(json.loads(out.splitlines()[-1]))
    code, _, err = fedrec(*asked, "--set", "model.head_dim=5")
    assert code == 2
    assert "other settings" in err
