"""A6: users and items that the attacks must find where they are, and only there."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.errors import PrivacyError
from common.initial_adapter import initial_adapter
from common.randomness import seeded_source
from simulations.audit.attacks import (
    control_results,
    membership_attacks,
    positive_control,
    released_run,
)
from simulations.audit.attacks.membership_attacks import People, References, audit_members
from simulations.audit.attacks.positive_control import ControlOutcome, gaussian_claim
from simulations.audit.attacks.positive_control import positive_control as control
from simulations.audit.attacks.reconstruction import item_scores, judge
from simulations.audit.attacks.references import UNTRAINED, reference_models
from simulations.audit.attacks.released_model import ReleasedModel, training_units, user_losses
from simulations.audit.check import Terms
from simulations.audit.checks import CHECKS
from simulations.audit.evidence import Evidence, read_evidence
from simulations.companions import companion_config
from simulations.synthetic import synthetic_dataset
from tests.own_process import Command
from tests.simulations.audit.conftest import MakeRun

DATA = synthetic_dataset(30, 40)
TINY: dict[str, Any] = {
    "data": {"dataset": "synthetic", "sites": 3, "held_out_users": 0.5},
    "model": {"item_side": "head", "head_dim": 4, "head_items": 40, "head_matrix": "per_lag",
              "lora_layers": 1, "lora_rank": 2},
    "privacy": {"mode": "none", "negatives_per_unit": 0},
    "federation": {"rounds": 1, "local_lr": 0.1},
    "evaluation": {"metrics": "none", "companions": ""},
    "engine": {"device": "cpu"},
}  # fmt: skip


@cache
def config() -> RunConfig:
    return RunConfig.model_validate(TINY)


@cache
def start() -> ReleasedModel:
    own = config()
    return ReleasedModel(own, DATA.catalogue, initial_adapter(own), np.zeros(40, np.float32))


def moved(seed: int, scale: float = 0.05) -> ReleasedModel:
    source, model = seeded_source(seed, "moved"), start()
    adapter = {
        name: (scale * source.normal(array.size)).reshape(array.shape).astype(np.float32)
        for name, array in model.adapter.items()
    }
    return model.with_adapter(adapter)


def test_a_users_loss_does_not_depend_on_who_is_scored_beside() -> None:
    units, model = training_units(config(), DATA), moved(1)
    together = user_losses(model, units)
    alone = np.concatenate([user_losses(model, [unit]) for unit in units[:4]])
    assert together[:4] == pytest.approx(alone, rel=1e-5)
    assert together[::-1] == pytest.approx(user_losses(model, units[::-1]), rel=1e-5)
    assert together != pytest.approx(user_losses(start(), units), rel=1e-3)


def test_an_update_towards_an_item_names_it() -> None:
    update = {name: np.zeros_like(array) for name, array in start().adapter.items()}
    assert (item_scores(start(), update) == 0).all()
    matrix = update["head.mix.weight"]  # [4 + 40, 3 · (4 + 40)]: 40 items have codes
    matrix[4 + 7] = np.tile([0.0] * 4 + [1.0] * 40, matrix.shape[1] // 44)
    scores = item_scores(start(), update)
    assert scores.argmax() == 7
    assert np.delete(scores, 7).max() < 0


@pytest.mark.slow
def test_an_exact_update_names_a_users_items_and_a_noised_one_does_not() -> None:
    units = training_units(config(), DATA)[:12]
    exact = positive_control.reconstructed(config(), DATA, units)
    assert exact.area.low > 0.75 > exact.popularity
    assert exact.precision > exact.chance + 0.2
    private = {"privacy.mode": "local", "privacy.negatives_per_unit": 30,
               "privacy.noise_multiplier": 1e4}  # fmt: skip
    noised = positive_control.reconstructed(companion_config(config(), private), DATA, units)
    assert noised.area.value < 0.7  # 12 users of 6 to 28 items: 0.5 ± 0.04


def test_reconstruction_is_judged_by_rank() -> None:
    scores = [np.array([3.0, 2.0, 1.0, 0.0]), np.array([0.0, 1.0, 3.0, 2.0])]
    popularity = np.array([0.0, 1.0, 2.0, 3.0])
    found = judge(scores, [np.array([0, 1]), np.array([1, 2])], popularity)
    assert found.area.value == pytest.approx((1.0 + 0.75) / 2)
    assert found.precision == pytest.approx((1.0 + 0.5) / 2)
    assert found.chance == 0.5
    assert found.popularity == pytest.approx((0.0 + 0.5) / 2)
    with pytest.raises(PrivacyError, match="at least two updates"):
        judge(scores[:1], [np.array([0])], popularity)


def people(rows: int) -> tuple[Any, ...]:
    data = synthetic_dataset(rows, 40)
    units = training_units(config(), data)
    return tuple(units[: rows // 2]), tuple(units[rows // 2 :])


def test_members_of_an_untrained_adapter_are_not_told_apart() -> None:
    members, others = people(40)
    references = References((), range(len(others)), UNTRAINED)
    found = audit_members(start(), People(members, others), references, gaussian_claim(8.0), 0.01)
    by_name = {each.name: each for each in found}
    assert set(by_name) == set(membership_attacks.GATES)
    calibrated = by_name["membership.calibrated_loss"]
    assert calibrated.statistic["auc"] == pytest.approx(0.5)
    assert all(each.verdict == "not_testable" for each in found)  # 20 others support no 1%
    assert UNTRAINED in by_name["membership.rmia"].reason


def test_rmia_uses_references_that_know_neither() -> None:
    members, others = people(40)
    target, reference = moved(1), moved(2)
    left = list(range(0, len(others), 2))
    references = References((reference, reference), left, "two references")
    found = audit_members(target, People(members, others), references, None, 0.01)
    rmia = found[2]
    assert (rmia.statistic["others"], rmia.statistic["references"]) == (len(left), 2)
    inside = user_losses(reference, members) - user_losses(target, members)
    outside = (user_losses(reference, others) - user_losses(target, others))[left]
    # a = 1: p̄ is the reference alone, and the score orders users by their ratio.
    assert rmia.statistic["auc"] == pytest.approx((inside[:, None] > outside[None]).mean())


def test_references_that_do_not_fit_the_budget_are_left_out() -> None:
    found = reference_models(config(), DATA, members=30, run_seconds=100, seconds_left=20, seed=0)
    assert found.models == ()
    assert len(found.others_left) == 30
    assert "one would take about" in found.note


def test_a_false_claim_is_the_curve_of_its_epsilon() -> None:
    curve = gaussian_claim(1.0, 1e-5)
    assert curve.mu == pytest.approx(1 / 3.7304, rel=1e-3)  # Balle & Wang: σ at ε=1, δ=1e-5


def test_nobody_is_told_apart_where_all_were_trained_on(make_run: MakeRun) -> None:
    evidence = read_evidence(make_run())
    check = next(each for each in CHECKS if each.name == "A6")
    assert check.seconds(evidence) == 1.0
    found = check.run(evidence, Terms(0.01, 0.0, b""))
    assert [each.name for each in found] == [gate.name for gate in check.gates]
    assert {each.verdict for each in found} == {"not_testable"}
    assert "data.held_out_users" in found[0].reason


def with_config(evidence: Evidence, section: str, **changes: object) -> Evidence:
    config = evidence.config
    values = getattr(config, section).model_copy(update=changes)
    changed = config.model_copy(update={section: values})
    return replace(evidence, files=replace(evidence.files, config=changed))


def test_sites_that_others_made_say_nothing_of_who_is_out(make_run: MakeRun) -> None:
    evidence = with_config(read_evidence(make_run()), "data", held_out_users=0.5, sites_folder="s")
    found = released_run.audit_attacks(evidence, alpha=0.01, seconds_left=9, seed=0)
    assert {each.verdict for each in found} == {"not_testable"}
    assert "data.sites_folder" in found[0].reason


def test_items_that_the_attacks_do_not_read_let_nothing_pass(make_run: MakeRun) -> None:
    evidence = read_evidence(make_run())
    shown = with_config(evidence, "data", held_out_users=0.5, shown_negatives=True)
    found = released_run.audit_attacks(shown, alpha=0.01, seconds_left=9, seed=0)
    assert {each.verdict for each in found} == {"not_testable"}
    assert "data.shown_negatives" in found[0].reason


def test_only_a_claim_for_users_is_held_against_users(make_run: MakeRun) -> None:
    evidence = read_evidence(make_run())
    claim = released_run.user_claim(evidence)
    assert claim is not None
    assert 0 < claim.least_miss_rate(0.01) < 0.99
    assert released_run.user_claim(with_config(evidence, "privacy", unit="example")) is None


@pytest.mark.slow
def test_a_run_that_kept_users_out_is_attacked(tmp_path: Path, fedrec: Command) -> None:
    arguments = ["data.held_out_users=0.5", "data.sites=3", "model.head_dim=4",
                 "model.head_items=0", "model.lora_layers=1", "model.lora_rank=2",
                 "privacy.mode=local", "privacy.targets_per_unit=2", "federation.rounds=1",
                 "privacy.negatives_per_unit=4", "evaluation.lab=false",
                 "evaluation.companions="]  # fmt: skip
    settings = [word for each in arguments for word in ("--set", each)]
    name = str(tmp_path / "out")
    code, _, err = fedrec("simulate", "--set", "data.dataset=synthetic", *settings, "--run", name)
    assert code == 0, err
    evidence = read_evidence(Path(name))
    found = released_run.audit_attacks(evidence, alpha=0.01, seconds_left=1e4, seed=0)
    gates = [each for each in found if each.gate]
    assert [each.statistic["members"] for each in gates] == [30, 30, 30]
    assert [each.statistic["others"] for each in gates] == [30, 30, 15]
    assert gates[2].statistic["references"] == 4
    assert "unsupported" in gates[0].reason
    assert [each.name for each in found if not each.gate] == ["inference.gender"]


def outcome(name: str, caught: bool, should: bool) -> ControlOutcome:
    figures = {
        "auc": 0.5 + caught / 4,
        "auc_low": 0.5,
        "auc_high": 1.0,
        "tpr_at_1_percent": "unsupported",
    }
    return ControlOutcome(name, caught, should, "because", figures)


def test_a_control_that_is_not_caught_is_an_error(
    fedrec: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missed_at_two(seed: int) -> tuple[ControlOutcome, ...]:
        return (outcome("membership.loss", seed != 2, True), outcome("local", False, False))

    monkeypatch.setattr(control_results, "positive_control", missed_at_two)
    arguments = ("audit", "positive-control", "--seed", "1")
    assert fedrec(*arguments)[0] == 0
    code, out, err = fedrec(*arguments, "--seed", "2", "--out", str(tmp_path / "made"))
    assert code == 2
    assert "seed 2, membership.loss: because (1 in all)" in " ".join(err.split())
    assert out.count("WRONG") == 1
    page = (tmp_path / "made" / "positive-control.md").read_text()
    assert "| 1 | membership.loss | 0.750 [0.500, 1.000] | unsupported |  | yes |" in page
    assert "| 2 | membership.loss | 0.500 [0.500, 1.000] | unsupported |  | **NO** |" in page
    assert "| membership.loss | 0.625 (0.500 to 0.750) |" in page
    content = json.loads((tmp_path / "made" / "positive-control.json").read_text())
    assert [each["seed"] for each in content["controls"]] == [1, 2]


def test_the_committed_controls_are_as_they_should_be() -> None:
    folder = Path(__file__).parents[3] / "docs" / "audit"
    controls = json.loads((folder / "positive-control.json").read_text())["controls"]
    assert len(controls) >= 3
    for each in controls:
        fate = {one["name"]: (one["caught"], one["should"]) for one in each["outcomes"]}
        assert {name for name, (_, should) in fate.items() if should} == {
            *membership_attacks.GATES,
            "reconstruction.exact_update",
        }
        assert all(caught is should for caught, should in fate.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_positive_control_is_caught() -> None:
    outcomes = control()
    assert [each for each in outcomes if not each.as_it_should_be] == []
    assert {each.name for each in outcomes} > set(membership_attacks.GATES)
