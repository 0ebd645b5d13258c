"""What the server writes down about one round: a line of ``rounds.jsonl``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self

from common.errors import FederationError
from common.message_types import Stage
from common.release_record import ReleaseRecord

SiteStatus = Literal["ok", "refused", "error", "non_finite"]


@dataclass(frozen=True)
class SiteRound:
    """What one site did in one round.

    Attributes:
        site: its name, or ``node-ID`` while the server has not learnt it.
        status: ``ok`` is the only one that was averaged in.
        reason: one line, when not ok.
        bytes_up: size of the payload that was received.
        epsilon_prv: total ε of the site's ledger after this round, where it claims one.
        epsilon_left: what the site declared to be left of its own limit then; see
            `common.release_record`.
        weight: public weight of its update in the round's mean; null where there is no mean.
    """

    site: str
    status: SiteStatus
    reason: str | None = None
    bytes_up: int = 0
    epsilon_prv: float | None = None
    weight: int | None = None
    epsilon_left: float | None = None

    @classmethod
    def of(
        cls,
        release: ReleaseRecord,
        status: SiteStatus = "ok",
        reason: str | None = None,
        weight: int | None = None,
    ) -> Self:
        """The line of a site that sent a release, with what that states of its ledger."""
        spent, left = release.epsilon_prv, release.epsilon_left
        return cls(release.site, status, reason, release.bytes, spent, weight, left)


@dataclass(frozen=True)
class RoundOutcome:
    """What came back of one question to all sites.

    Attributes:
        sites: a line for each, sorted by name.
        update_norm: see `RoundRecord`.
        fault: why nothing came of the question although sites answered (a secure sum that
            was abandoned).
    """

    sites: tuple[SiteRound, ...]
    update_norm: float | None = None
    fault: str | None = None

    @property
    def ok(self) -> int:
        """Number of sites whose answer was used."""
        return sum(site.status == "ok" for site in self.sites)


def too_few_sites(
    outcome: RoundOutcome,
    server_round: int,
    min_sites: int,
    statistic: str = "popularity",
) -> FederationError:
    """The error that ends a run, with the first fault as an example."""
    asked = f"the {statistic} release" if server_round == 0 else f"round {server_round}"
    faults = [site for site in outcome.sites if site.status != "ok"]
    example = f" (first fault, {faults[0].site}: {faults[0].reason})" if faults else ""
    example = f" ({outcome.fault})" if outcome.fault else example
    return FederationError(
        f"{outcome.ok} of {len(outcome.sites)} sites gave a usable answer to {asked}, "
        f"{min_sites} are needed{example}; see rounds.jsonl for every site, or lower "
        "federation.min_sites"
    )


@dataclass(frozen=True)
class EvaluationOutcome:
    """Means over all sites' users: exact for the laboratory only, else noised and charged.

    Attributes:
        means: ``users`` and the mean of each metric, and ``noise_std`` where they are noised
            (`server.metric_means`); none when no user was evaluated.
        answers: what came back of the question.
    """

    means: dict[str, float] | None
    answers: RoundOutcome


@dataclass(frozen=True)
class RoundRecord:
    """One line of ``rounds.jsonl``; round 0 has one for each release before training.

    Attributes:
        run: name of the run, as in its releases.
        server_round: 0 for a release before training, else 1, 2, ….
        started_at: UTC, ISO 8601.
        seconds: wall-clock time of the round, its evaluation included.
        sites: every site that was asked, sorted by name.
        update_norm: L2 norm of the mean update, before the server optimiser.
        fault: why the round gave no new adapter although the run went on.
        metrics: what the means are: ``exact`` (lab only), ``private`` (noised, charged), or
            ``none``.
        validation: means, see `EvaluationOutcome`.
        test: means; once, after the last round.
        evaluation_faults: sites that did not answer an evaluation.
        adapter_sha256: of the global adapter after the round (`common.adapters`); null before
            training and where the round ended the run.
        stopped: why the run ended with this round, before its last one (`server.early_stop`).
    """

    run: str
    server_round: int
    started_at: str
    seconds: float
    sites: tuple[SiteRound, ...]
    update_norm: float | None = None
    fault: str | None = None
    metrics: Literal["exact", "private", "none"] = "exact"
    validation: dict[str, float] | None = None
    test: dict[str, float] | None = None
    evaluation_faults: tuple[SiteRound, ...] = ()
    adapter_sha256: str | None = None
    stopped: str | None = None

    def to_json(self) -> dict[str, object]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        lines = {
            name: tuple(SiteRound(**line) for line in values[name])
            for name in ("sites", "evaluation_faults")
        }
        return cls(**{**values, **lines})

    @property
    def has_stepped(self) -> bool:
        """Whether the round moved the global adapter."""
        return self.server_round > 0 and self.update_norm is not None

    def evaluated(
        self, evaluations: Mapping[Stage, EvaluationOutcome], seconds: float
    ) -> RoundRecord:
        """The record with what the round's evaluations came to.

        Args:
            evaluations: by stage.
            seconds: the round's time by now.
        """
        means = {stage: evaluation.means for stage, evaluation in evaluations.items()}
        answers = [site for each in evaluations.values() for site in each.answers.sites]
        return replace(
            self,
            seconds=seconds,
            sites=after_metrics(self.sites, evaluations.values()),
            validation=means.get("validation"),
            test=means.get("test"),
            evaluation_faults=tuple(site for site in answers if site.status != "ok"),
        )


def after_metrics(
    sites: Iterable[SiteRound], evaluations: Iterable[EvaluationOutcome]
) -> tuple[SiteRound, ...]:
    """`sites` with their ledgers' totals after what they released about metrics, too."""
    last: dict[str, SiteRound] = {}
    for answer in (site for evaluation in evaluations for site in evaluation.answers.sites):
        before = last.get(answer.site)
        most = 0.0 if before is None else before.epsilon_prv or 0.0
        if answer.epsilon_prv is not None and answer.epsilon_prv >= most:
            last[answer.site] = answer
    return tuple(_spent(each, last.get(each.site, each)) for each in sites)


def _spent(site: SiteRound, last: SiteRound) -> SiteRound:
    return replace(site, epsilon_prv=last.epsilon_prv, epsilon_left=last.epsilon_left)


class RoundClock:
    """Start and duration of one round, less the time in which no server was running."""

    def __init__(self, record: RoundRecord | None = None) -> None:
        """Starts now, or goes on with the time of a `record` that was cut short."""
        self.started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._start = time.perf_counter()
        if record is not None:
            self.started_at = record.started_at
            self._start -= record.seconds

    def seconds(self) -> float:
        """Seconds since the start."""
        return round(time.perf_counter() - self._start, 3)
