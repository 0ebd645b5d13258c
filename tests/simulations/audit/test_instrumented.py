"""The checks on the production code: what they see of a correct build, and their instruments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client.private_step import PrivateStep
from simulations.audit import named_checks
from simulations.audit.finding import Finding
from simulations.audit.instrumented import bounded_step, one_step
from simulations.audit.probes.case import Budget, changed, tiny_case
from simulations.audit.probes.linear_step import Mechanism, dirac, observed_steps
from simulations.audit.probes.sources import CountingSource, FrozenSource

LITTLE = Budget(alpha=1e-6, observations=4_000, canaries=200)  # false alarms of a correct build


def failed(findings: list[Finding]) -> list[str]:
    return [each.name for each in findings if each.refutes]


def test_the_shared_units_draw_the_same_with_one_more_at_the_end() -> None:
    one, other = FrozenSource(3), FrozenSource(3)
    for _ in range(2):
        assert np.array_equal(one.uniform(5), other.uniform(6)[:5])
    assert np.array_equal(one.permutation(7), other.permutation(7))
    assert not np.array_equal(one.uniform(5), FrozenSource(4).uniform(5))


def test_a_silent_source_takes_the_noise_out_and_counts_it() -> None:
    source = CountingSource(silent=True)
    seen = observed_steps(Mechanism((3, 2), 5.0), [dirac(4, 20.0, 5)] * 2, source)
    assert np.array_equal(seen.noised, seen.clipped)
    assert seen.clipped[0] == pytest.approx([0, 0, 0, 0, 1], abs=2e-6)
    assert seen.update == pytest.approx([0, 0, 0, 0, -1], abs=2e-6)
    assert source.asked == [3, 2, 3, 2]


def test_a_correct_step_is_bounded_and_is_told_apart_no_better_than_claimed() -> None:
    case = tiny_case(clip_rule="auto_s")
    findings = bounded_step.run(case, LITTLE) + one_step.run(case, LITTLE)
    assert failed(findings) == []
    assert len(findings) == 3


@pytest.mark.parametrize(
    ("method", "check"), [("add_noise", "step_distinguishing"), ("clip", "step.sensitivity")]
)
def test_a_step_that_halves_its_noise_or_doubles_its_bound_is_refuted(
    method: str, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PrivateStep.__init__

    def broken(self: Any, *arguments: Any, **named: Any) -> None:
        real(self, *arguments, **named)
        if method == "clip":
            self._optimizer.max_grad_norm *= 2
            self.max_grad_norm *= 2
        else:
            self._optimizer.noise_multiplier /= 2

    monkeypatch.setattr(PrivateStep, "__init__", broken)
    case = tiny_case()
    room = bounded_step if method == "clip" else one_step
    assert failed(room.run(case, LITTLE)) == [check]


def test_a_run_without_a_claim_has_nothing_to_refute() -> None:
    case = tiny_case()
    none = changed(case.config, privacy={"mode": "none"})
    assert named_checks.audited("A2", type(case)(none, case.catalogue), LITTLE) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "distributed", "central"])
def test_a_correct_build_passes_every_check(mode: str) -> None:
    case = tiny_case(mode=mode)
    findings = [
        each for c in named_checks.BY_CHECK for each in named_checks.audited(c, case, LITTLE)
    ]
    assert failed(findings) == []
    names = [each.name for each in findings]
    assert len(names) == len(set(names))
    assert {each.check for each in findings} == {"A1", "A2", "A3", "A4", "A5", "A7"}


@pytest.mark.slow
def test_whole_updates_pass_as_gradients_do() -> None:
    config = tiny_case(clipping="update")
    findings = named_checks.ROOMS["record_replay"](config, LITTLE)
    findings += named_checks.ROOMS["noise"](config, LITTLE)
    assert failed(findings) == []
    steps = next(each for each in findings if each.name == "replay.steps")
    assert steps.statistic["charged"] == 1
