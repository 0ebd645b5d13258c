"""What a site answers to an evaluate request: exact sums (lab only), or a charged release.

A private answer passes like every release: policy, budget, measuring, noise, and then charge
and bytes in one transaction. A retry sends the same bytes; validation and test of one round
are two releases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.ledger import Ledger
from client.policy import SitePolicy
from client.release import ReleasePlan, charge_release, enforce_budget, stored_release
from client.site_data import SiteData
from common.adapters import Adapter
from common.config import RunConfig
from common.errors import PolicyRefusal
from common.messages import EvaluateReply, EvaluateRequest, NoisedMetricsReply
from common.metrics import METRIC_NAMES, MetricSums
from common.metrics_plan import (
    METRIC_COORDINATES,
    METRICS_SENSITIVITY,
    metrics_event,
    metrics_tensor,
)
from common.randomness import RandomSource
from common.release_record import ReleaseRecord, payload_sha256

UserMetrics = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class MetricsRelease:
    """A site's limits and record, for its answers about metrics."""

    data: SiteData
    config: RunConfig
    policy: SitePolicy
    ledger: Ledger

    def answer(
        self,
        request: EvaluateRequest,
        measure: Callable[[], UserMetrics],
        noise: Callable[[], RandomSource],
    ) -> EvaluateReply | NoisedMetricsReply:
        """Measures and answers as `evaluation.metrics` says.

        Args:
            request: what the server asks.
            measure: gives each metric of every user, ``[U]`` by name; called once the
                policy and the budget allow an answer.
            noise: gives the source of the noise.

        Raises:
            PolicyRefusal: the run asks for no metrics, or such metrics may not leave.
            BudgetRefusal: the site cannot afford the release.
        """
        match self.config.evaluation.metrics:
            case "exact":
                self.policy.check_metrics()
                return self._exact(request, MetricSums.from_users(measure()))
            case "private":
                return self._private(request, measure, noise)
            case _:
                raise PolicyRefusal(
                    "evaluation.metrics=none: this run asks no site for metrics; "
                    "set evaluation.metrics=private for a charged release"
                )

    def _private(
        self,
        request: EvaluateRequest,
        measure: Callable[[], UserMetrics],
        noise: Callable[[], RandomSource],
    ) -> NoisedMetricsReply:
        event = metrics_event(self.config)
        if event is None:
            raise PolicyRefusal("evaluation.metrics=private needs a private privacy.mode; set one")
        plan = ReleasePlan(
            request.run,
            request.server_round,
            "metrics",
            event,
            divisor=1.0,
            max_grad_norm=METRICS_SENSITIVITY,
            stage=request.stage,
        )
        name, stored = metrics_tensor(request.stage), stored_release(self.ledger, plan)
        if stored is None:
            enforce_budget(self.ledger, plan, self.policy)
            sums = noised_sums(measure(), event.noise_multiplier, noise())
            stored = charge_release(
                self.ledger, plan, {name: sums}, self.config, self.data.site, self.policy
            )
        tensors, record = stored
        return NoisedMetricsReply(
            site=self.data.site,
            server_round=request.server_round,
            config_sha256=request.config_sha256,
            stage=request.stage,
            sums=tensors[name],
            release=record,
            declared_units=self.data.declared_units,
        )

    def _exact(self, request: EvaluateRequest, sums: MetricSums) -> EvaluateReply:
        payload: Adapter = {"sums": np.array(list(vars(sums).values()), dtype=np.float32)}
        record = ReleaseRecord(
            site=self.data.site,
            run=request.run,
            server_round=request.server_round,
            kind="metrics",
            mode=self.config.privacy.mode,
            mechanism="exact_lab_only",
            noise_multiplier=0.0,
            max_grad_norm=0.0,
            sample_rate=1.0,
            steps=1,
            unit=self.config.privacy.unit,
            sampling="none",
            divisor=1.0,
            tensors=["sums"],
            bytes=payload["sums"].nbytes,
            payload_sha256=payload_sha256(payload),
            delta=self.config.privacy.target_delta,
        )
        return EvaluateReply(
            site=self.data.site,
            server_round=request.server_round,
            config_sha256=request.config_sha256,
            sums=sums,
            release=record,
        )


def noised_sums(
    metrics: UserMetrics, noise_multiplier: float, noise: RandomSource
) -> npt.NDArray[np.float32]:
    """The sum of the users' vectors (1, metrics…) with Gaussian noise.

    Guarantee: every user's vector is brought into [0, 1]^6 (one that is not finite counts as
    zeros), so that adding or removing a user moves the sum by at most √6 in L2, and noise of
    standard deviation `noise_multiplier`·√6 is a Gaussian event of that multiplier. Without
    users it is noise all the same.

    Args:
        metrics: each metric of every user, float64 ``[U]`` by name.
        noise_multiplier: σ.
        noise: the site's source.

    Returns:
        float32 ``[6]``, in the order of `METRIC_COORDINATES`.
    """
    columns = [metrics[name] for name in METRIC_NAMES]
    vectors = np.column_stack([np.ones(len(columns[0])), *columns])  # [U, 6]
    finite = np.isfinite(vectors).all(axis=1, keepdims=True)
    bounded = np.clip(np.where(finite, vectors, 0.0), 0.0, 1.0)
    deviation = noise_multiplier * METRICS_SENSITIVITY
    noised: npt.NDArray[np.float64] = np.asarray(bounded.sum(axis=0))  # [6]
    noised += deviation * noise.normal(len(METRIC_COORDINATES))
    return noised.astype(np.float32)
