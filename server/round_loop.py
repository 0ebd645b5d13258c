"""The federation, on one screen: wait for sites, popularity, rounds, evaluation, stop."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord
from flwr.serverapp.grid import Grid

from common.adapters import adapter_sha256
from common.cooccurrence import cell_count
from common.errors import FederationError
from common.flat_adapter import Floats
from common.item_prior import item_prior_from_counts
from common.message_records import write_arrays
from common.messages import POPULARITY_ROUND, Stage
from common.metrics_plan import stages_due
from common.noise_plan import popularity_deviation
from common.progress import ProgressListener
from server.cooccurrence import weights_of
from server.participants import count
from server.round_record import (
    EvaluationOutcome,
    RoundClock,
    RoundOutcome,
    RoundRecord,
    SiteRound,
    after_metrics,
    too_few_sites,
)
from server.run_records import RunRecords
from server.strategy import STAGE_KEY, FederatedAdapters
from server.summed_steps import SummedSteps

NODE_POLL_S = 0.2


def run_rounds(
    grid: Grid, strategy: FederatedAdapters, records: RunRecords, listener: ProgressListener
) -> None:
    """Runs all rounds; after each, everything so far is on disk.

    Raises:
        FederationError: Fewer than `federation.min_sites` good replies in a round, or no round
            gave a new adapter. The round's record, with every site's fault, is written before.
    """
    config, steps = strategy.config, 0
    strategy.summary()
    listener.run_started(config.federation.rounds)
    keep = records.write_sum if config.evaluation.audit_canaries else None
    summed = SummedSteps(strategy, listener, keep) if config.is_summed else None
    if summed is not None:
        _enrol(grid, strategy, records, summed)
    if config.model.popularity_prior:
        release_popularity(grid, strategy, records, listener, summed)
    if config.model.item_to_item:
        release_cooccurrence(grid, strategy, records, listener, summed)
    for server_round in range(1, config.federation.rounds + 1):
        clock = RoundClock()
        listener.round_started(server_round)
        with records.releases_of(strategy):
            if summed is not None:
                stepped = summed.train(grid, server_round)
            else:
                stepped = _averaged_step(grid, strategy, server_round)
        outcome, evaluations = strategy.outcome, {}
        steps += stepped
        if strategy.fault is None:
            records.write_adapter(strategy.adapter, server_round)
            records.write_checkpoint(strategy, server_round)
            is_last = server_round == config.federation.rounds
            for stage in stages_due(server_round, config) if stepped or is_last else ():
                evaluations[stage] = _evaluate(grid, strategy, records, server_round, stage)
        record = _record(strategy, server_round, clock, outcome, evaluations)
        records.write_round(record)
        listener.round_finished(record.to_json())
        if strategy.fault is not None:
            raise strategy.fault
    if not steps:
        raise FederationError(
            f"none of {config.federation.rounds} rounds gave a new adapter; rounds.jsonl says why "
            f"for each (the last: {strategy.outcome.fault})"
        )


def _enrol(
    grid: Grid, strategy: FederatedAdapters, records: RunRecords, summed: SummedSteps
) -> None:
    """Finds out who can be summed over.

    Raises:
        FederationError: too few sites; each one's reason is on record as that of round 0.
    """
    clock = RoundClock()
    summed.enrol(grid)
    if strategy.fault is not None:
        records.write_round(_record(strategy, POPULARITY_ROUND, clock, strategy.outcome, {}))
        raise strategy.fault


def _averaged_step(grid: Grid, strategy: FederatedAdapters, server_round: int) -> bool:
    """Every site trains and releases its own update; the server averages them."""
    arrays, deadline = write_arrays(strategy.adapter), strategy.config.federation.round_deadline_s
    messages = strategy.configure_train(server_round, arrays, ConfigRecord(), grid)
    replies = grid.send_and_receive(messages, timeout=deadline)
    new_arrays, _ = strategy.aggregate_train(server_round, replies)
    return new_arrays is not None


def release_popularity(
    grid: Grid,
    strategy: FederatedAdapters,
    records: RunRecords,
    listener: ProgressListener,
    summed: SummedSteps | None = None,
) -> None:
    """Asks for the popularity release once and keeps the item prior (round 0).

    Raises:
        FederationError: Fewer than `federation.min_sites` good replies; recorded before.
    """
    federation, clock = strategy.config.federation, RoundClock()
    listener.message("asking for the popularity release")
    counts: npt.NDArray[np.float64] | None
    with records.releases_of(strategy):
        if summed is not None:
            counts = summed.popularity(grid)
        else:
            messages = strategy.configure_popularity(grid)
            replies = grid.send_and_receive(messages, timeout=federation.round_deadline_s)
            counts = strategy.aggregate_popularity(replies)
    outcome = strategy.outcome
    records.write_round(_record(strategy, POPULARITY_ROUND, clock, outcome, {}))
    if counts is None or outcome.ok < strategy.least_sites:
        raise too_few_sites(outcome, POPULARITY_ROUND, strategy.least_sites)
    deviation = popularity_deviation(strategy.config, outcome.ok)
    strategy.item_prior = item_prior_from_counts(counts, deviation)


def release_cooccurrence(
    grid: Grid,
    strategy: FederatedAdapters,
    records: RunRecords,
    listener: ProgressListener,
    summed: SummedSteps | None = None,
) -> None:
    """Asks for the co-occurrence of items once and keeps the weights (round 0, its second line).

    Raises:
        ConfigError: The catalogue is too large for all of its pairs; nobody was asked.
        FederationError: Fewer than `federation.min_sites` good replies; recorded before.
    """
    config, clock, items = strategy.config, RoundClock(), len(strategy.item_prior)
    cells = cell_count(items, config.model.item_to_item_items)
    listener.message("asking for the co-occurrence release")
    total: Floats | None
    with records.releases_of(strategy):
        if summed is not None:
            total = summed.cooccurrence(grid, cells)
        else:
            messages = strategy.configure_cooccurrence(grid)
            timeout = config.federation.round_deadline_s
            replies = grid.send_and_receive(messages, timeout=timeout)
            total = strategy.aggregate_cooccurrence(replies, cells)
    outcome = strategy.outcome
    records.write_round(_record(strategy, POPULARITY_ROUND, clock, outcome, {}))
    if total is None or outcome.ok < strategy.least_sites:
        least = strategy.least_sites
        raise too_few_sites(outcome, POPULARITY_ROUND, least, statistic="co-occurrence")
    strategy.item_to_item = weights_of(total, config, items, outcome.ok)
    records.write_item_to_item(strategy)


def wait_for_sites(grid: Grid, sites: int, deadline_s: float) -> None:
    """Waits until `sites` nodes are connected; Flower alone would wait for ever.

    Args:
        grid: the grid of the run.
        sites: `data.sites`.
        deadline_s: seconds to wait at most.

    Raises:
        FederationError: Another number of nodes is there at the deadline.
    """
    end = time.monotonic() + deadline_s
    while (nodes := count(grid.get_node_ids())) < sites and time.monotonic() < end:
        time.sleep(min(NODE_POLL_S, deadline_s))
    if nodes != sites:
        within = f" within {deadline_s:g} s" if nodes < sites else ""
        raise FederationError(
            f"{nodes} of data.sites={sites} sites appeared{within}; connect as many nodes as "
            f"data.sites says (flwr run . --federation-config 'num-supernodes={sites}')"
        )


def _evaluate(
    grid: Grid,
    strategy: FederatedAdapters,
    records: RunRecords,
    server_round: int,
    stage: Stage,
) -> EvaluationOutcome:
    """Evaluation of the current adapter; sites that fail are recorded, no more."""
    config = ConfigRecord({STAGE_KEY: stage})
    arrays = write_arrays(strategy.adapter)
    messages = strategy.configure_evaluate(server_round, arrays, config, grid)
    timeout = strategy.config.federation.round_deadline_s
    replies = grid.send_and_receive(messages, timeout=timeout)
    with records.releases_of(strategy):
        strategy.aggregate_evaluate(server_round, replies)
    return strategy.evaluation


def _record(
    strategy: FederatedAdapters,
    server_round: int,
    clock: RoundClock,
    outcome: RoundOutcome,
    evaluations: dict[Stage, EvaluationOutcome],
) -> RoundRecord:
    means = {stage: evaluation.means for stage, evaluation in evaluations.items()}
    faults: list[SiteRound] = [
        site
        for evaluation in evaluations.values()
        for site in evaluation.answers.sites
        if site.status != "ok"
    ]
    has_adapter = server_round != POPULARITY_ROUND and strategy.fault is None
    return RoundRecord(
        run=strategy.run,
        server_round=server_round,
        started_at=clock.started_at,
        seconds=clock.seconds(),
        sites=after_metrics(outcome.sites, evaluations.values()),
        update_norm=outcome.update_norm,
        fault=outcome.fault,
        metrics=strategy.config.evaluation.metrics,
        validation=means.get("validation"),
        test=means.get("test"),
        evaluation_faults=tuple(faults),
        adapter_sha256=adapter_sha256(strategy.adapter) if has_adapter else None,
    )
