"""What one check of an audit found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulations.report.metrics_file import Record

CheckName = Literal["A1", "A2", "A3", "A4", "A5", "A6", "A7"]
View = Literal[
    "release log",
    "one step",
    "one site's update",
    "the securely aggregated rounds",
    "the final adapter",
    "the ranked lists",
    "the ledgers",
    "the code",
]
Verdict = Literal["pass", "fail", "not_testable"]


class Finding(Record):
    """One attempt to refute a claim.

    Attributes:
        check: which check of the suite it belongs to.
        name: of the attempt, unique in an audit: `accounting`, `sampler.inclusions`, …
        view: what the attempt was allowed to see.
        gate: whether a failure refutes the claim; what is no gate is reported only.
        verdict: pass: the attempt did not refute; fail: it did; not_testable: it could not be
            made on this run, and the reason says why.
        reason: one sentence for a reader.
        statistic: the figures behind the verdict, by name.
        alpha: probability of a failure where the claim holds, after correction; None where the
            check is exact.
        epsilon_lower_bound: on the unit's ε at `confidence`, where the attempt gives one.
        confidence: of the bound.
        power: what the attempt would have found, in words; empty where nothing can be said.
    """

    check: CheckName
    name: str
    view: View
    gate: bool
    verdict: Verdict
    reason: str
    statistic: dict[str, float | int | str | None] = Field(default_factory=dict)
    alpha: float | None = None
    epsilon_lower_bound: float | None = None
    confidence: float | None = None
    power: str = ""

    @property
    def refutes(self) -> bool:
        """Whether it refutes the run's claim."""
        return self.gate and self.verdict == "fail"
