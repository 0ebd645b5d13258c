"""One round of a run with noise on the sum: sum, divide by public figures, step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from flwr.serverapp.grid import Grid

from common.adapters import Adapter
from common.config import RunConfig
from common.errors import FederationError
from common.flat_adapter import Floats, size, unflatten
from common.message_records import Shapes
from common.messages import POPULARITY_ROUND, SumPurpose, SumRequest
from common.progress import ProgressListener
from common.secagg.quantisation import QuantisationPlan
from common.step_size import learning_rate, lora_learning_rate
from common.sum_plan import cooccurrence_plan, popularity_plan, update_plan
from server.enrolment import can_carry
from server.round_record import RoundOutcome, too_few_sites
from server.strategy import FederatedAdapters
from server.sum_rounds import SumRounds


class SummedSteps:
    """Asks for sums and hands what follows from them to the strategy."""

    def __init__(
        self,
        strategy: FederatedAdapters,
        listener: ProgressListener,
        run_folder: Path | None = None,
        keep: Callable[[SumRequest, Floats], None] | None = None,
    ) -> None:
        """Binds the steps to the run's strategy.

        Args:
            strategy: of the run.
            listener: hears of each released part.
            run_folder: where open sums are kept; None: nowhere.
            keep: gets every noised sum with the request that it answers (audit runs).
        """
        self._strategy, self._keep = strategy, keep
        self._sums = SumRounds(strategy.config, strategy.reader, listener, run_folder)

    def enrol(self, grid: Grid) -> None:
        """Asks every site what it declares; `strategy.fault` is set where too few enrolled."""
        outcome = self._sums.enrol(grid)
        self._strategy.outcome = outcome
        if not self._can_go_on():
            least = self._strategy.least_sites
            self._strategy.fault = too_few_sites(outcome, POPULARITY_ROUND, least)

    def popularity(self, grid: Grid) -> Floats | None:
        """The noised popularity counts ``[V]`` summed over all sites; None if abandoned."""
        plan = popularity_plan(self._strategy.config, self._sums.roster.items)
        request = self._request(POPULARITY_ROUND, "popularity")
        total, self._strategy.outcome = self._added(grid, request, plan)
        return total

    def cooccurrence(self, grid: Grid, cells: int) -> Floats | None:
        """The noised co-occurrence ``[cells]`` summed over all sites; None if abandoned."""
        strategy = self._strategy
        plan = cooccurrence_plan(strategy.config, cells)
        request = replace(
            self._request(POPULARITY_ROUND, "cooccurrence"), item_prior=strategy.item_prior
        )
        total, strategy.outcome = self._added(grid, request, plan)
        return total

    def train(self, grid: Grid, server_round: int) -> bool:
        """One step of the global adapter; a site that has come since the last one may enrol.

        Returns:
            Whether there was one. An abandoned round leaves the adapter as it is and costs
            what was charged; `strategy.fault` is set where no round can follow it.
        """
        strategy = self._strategy
        self._sums.enrol(grid)
        shapes = strategy.reader.shapes
        plan = update_plan(strategy.config, size(shapes))
        request = replace(
            self._request(server_round, "update"),
            adapter=strategy.adapter,
            item_prior=strategy.item_prior,
        )
        total, outcome = self._added(grid, request, plan)
        strategy.outcome = outcome
        if total is None:
            if self._sums.has_too_few or not self._can_go_on():
                strategy.fault = too_few_sites(outcome, server_round, strategy.least_sites)
            return False
        expected = self._sums.declared_units(outcome) * strategy.config.privacy.sample_rate
        return strategy.step(update_of_sum(total, shapes, strategy.config, server_round, expected))

    def _added(
        self, grid: Grid, request: SumRequest, plan: QuantisationPlan
    ) -> tuple[Floats | None, RoundOutcome]:
        total, outcome = self._sums.add_up(grid, request, plan)
        if total is not None and self._keep is not None:
            self._keep(request, total)
        return total, outcome

    def _request(self, server_round: int, purpose: SumPurpose) -> SumRequest:
        strategy = self._strategy
        return SumRequest(
            run=strategy.run,
            server_round=server_round,
            config_sha256=strategy.reader.config_sha256,
            purpose=purpose,
            stage="advertise",
            participants=(),
            payload=b"",
            adapter={},
            item_prior=np.zeros(0, dtype=np.float32),
        )

    def _can_go_on(self) -> bool:
        """Whether the sites that are left can carry the noise of a sum together."""
        return can_carry(self._strategy.config, len(self._sums.roster.members))


def update_of_sum(
    total: Floats,
    shapes: Shapes,
    config: RunConfig,
    server_round: int,
    expected_units: float,
) -> Adapter:
    """The adapter's update from the noised sum of clipped unit updates.

    Args:
        total: float64 ``[d]``, in the order of `common.flat_adapter`.
        shapes: the adapter's tensor shapes by name.
        config: the run's configuration; it sets the step size.
        server_round: from 1.
        expected_units: declared units of the summed sites × sample rate; public.

    Raises:
        FederationError: no units are declared.
    """
    if not expected_units > 0:
        raise FederationError(f"the summed sites declare {expected_units} expected units")
    return {
        name: (_rate(name, config, server_round) * tensor / expected_units).astype(np.float32)
        for name, tensor in unflatten(total, shapes).items()
    }


def _rate(name: str, config: RunConfig, server_round: int) -> float:
    """Gradients still need a step size; whole updates were made with it."""
    if config.privacy.clipping == "update":
        return 1.0
    rate = lora_learning_rate if name.startswith("lora.") else learning_rate
    return rate(config, server_round)
