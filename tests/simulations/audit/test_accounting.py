"""A1 and the ledgers of A7: correct records pass, wrong ones fail under their names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from client import release
from common.privacy_events import SampledGaussianEvent
from simulations.audit import accounting, ledgers
from simulations.audit.accounting import audit_accounting
from simulations.audit.evidence import read_evidence
from simulations.audit.guarantee import guarantee
from simulations.audit.independent_epsilon import (
    pld_epsilon,
    rdp_epsilon,
    several_records_epsilon,
    without_replacement_epsilon,
)
from simulations.audit.ledgers import audit_ledgers
from tests.simulations.audit.conftest import MakeRun

GOLDEN = ((1.0, 0.01, 1000),)
DELTA = 1e-5


def verdicts(run: Path, **kept: Any) -> dict[str, str]:
    evidence = read_evidence(run, **kept)
    found = (*audit_accounting(evidence), *audit_ledgers(evidence))
    assert {each.name for each in found} == {*accounting.GATES, *ledgers.GATES}
    assert all(each.gate and each.reason for each in found)
    return {each.name: each.verdict for each in found}


def failing(run: Path, **kept: Any) -> set[str]:
    return {name for name, verdict in verdicts(run, **kept).items() if verdict == "fail"}


@pytest.mark.slow
def test_golden_values() -> None:
    assert pld_epsilon(GOLDEN, DELTA) == pytest.approx(1.828, abs=5e-4)
    assert pld_epsilon(GOLDEN, DELTA, "replace_one") == pytest.approx(2.843, abs=5e-4)
    assert rdp_epsilon(GOLDEN, DELTA) == pytest.approx(2.101, abs=2e-3)
    assert without_replacement_epsilon(GOLDEN, DELTA) == pytest.approx(3.576, abs=5e-4)
    assert pld_epsilon(((1.0, 1.0, 10),), DELTA) == pytest.approx(17.857, abs=5e-4)
    assert pld_epsilon(((1.0, 1.0, 1000),), DELTA) == pytest.approx(633.9, abs=0.05)


@pytest.mark.slow
def test_one_record_is_the_unit_and_more_cost_more() -> None:
    charges = ((2.0, 0.2, 4), (3.0, 1.0, 1))
    one = several_records_epsilon(charges, DELTA, 1)
    exact = pld_epsilon(charges, DELTA)
    assert exact - 1e-3 <= one <= exact + 0.02  # on a coarser grid
    two = several_records_epsilon(charges, DELTA, 2)
    full = pld_epsilon(((2.0 / 2, 0.36, 4), (3.0 / 2, 1.0, 1)), DELTA)  # in if either is sampled
    assert one < two < full


def test_a_correct_run_passes_and_restates_its_guarantee(make_run: MakeRun) -> None:
    run = make_run()
    found = verdicts(run)
    assert {n for n, v in found.items() if v != "pass"} == {"ledger.peers"}
    restated = guarantee(read_evidence(run))
    assert restated is not None
    plain, poisson, user = (line.epsilon for line in restated.lines)
    assert plain > poisson == user
    beside = {line.name: line.epsilon for line in restated.beside}
    assert beside["PLD, replace one"] > beside["PLD"]
    assert abs(beside["PRV, recorded"] - beside["PLD"]) <= 0.02
    spent = [point.epsilon for point in restated.profile]
    assert spent == sorted(spent, reverse=True)
    assert all(math.isfinite(value) for value in spent)


@pytest.mark.parametrize(
    ("privacy", "changes"),
    [
        ({"mode": "none", "noise_multiplier": "auto"}, {"update": None, "popularity": None}),
        ({"insecure_seeded_noise": True}, {}),
    ],
)
def test_without_a_claim_nothing_is_tested(
    make_run: MakeRun, privacy: dict[str, Any], changes: dict[str, Any]
) -> None:
    found = verdicts(make_run(privacy=privacy, **changes))
    assert {found[name] for name in accounting.GATES} == {"not_testable"}
    assert found["ledger.integrity"] == "pass"


def test_a_release_without_noise_refutes_a_private_run(make_run: MakeRun) -> None:
    assert set(accounting.GATES) <= failing(make_run(update=None))


def test_a_wrong_delta_is_found(make_run: MakeRun) -> None:
    found = failing(make_run(charged_privacy={"target_delta": 1e-3}))
    assert {"accounting.delta", "accounting.recorded", "ledger.totals"} <= found


def test_totals_at_another_delta_than_is_stated_are_found(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = release.epsilon
    monkeypatch.setattr(release, "epsilon", lambda events, delta, name: real(events, 1e-3, name))
    assert {"accounting.delta", "ledger.totals"} <= failing(make_run(anew=True))


def test_undercounted_steps_are_found(make_run: MakeRun) -> None:
    found = failing(make_run(steps=4))  # each round is four steps, charged as one
    assert found == {"accounting.steps"}


def test_a_rate_below_the_sampler_s_is_found(make_run: MakeRun) -> None:
    found = failing(make_run(update=SampledGaussianEvent(2.0, 0.1, 1)))
    assert found == {"accounting.rate"}


def test_a_total_that_forgets_earlier_rounds_is_found(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = release.epsilon
    monkeypatch.setattr(release, "epsilon", lambda events, *rest: real(events[-1:], *rest))
    found = failing(make_run(anew=True))
    assert {"accounting.agreement", "accounting.recorded", "ledger.totals"} <= found


def test_a_release_that_left_twice_under_one_charge_is_found(make_run: MakeRun) -> None:
    run = make_run()
    path = run / "releases.jsonl"
    again = json.loads(path.read_text().splitlines()[4]) | {"payload_sha256": "1" * 64}
    with path.open("a") as log:
        log.write(json.dumps(again) + "\n")
    (run / "report.json").unlink()  # a server that got both would have written it from both
    assert "ledger.double_release" in failing(run)


def test_a_kept_checkpoint_of_another_history_is_found(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    kept = tmp_path / "peer-checkpoints.jsonl"
    lines = (run / "releases.jsonl").read_text().splitlines()
    kept.write_text(json.dumps(json.loads(lines[-1])["ledger_checkpoint"]) + "\n")
    assert verdicts(run, against=[kept])["ledger.peers"] == "pass"
    older = make_run("older", anew=True)  # other keys: another ledger
    assert verdicts(older, against=[kept])["ledger.peers"] == "not_testable"
