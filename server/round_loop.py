"""The federation, on one screen: wait for sites, popularity, rounds, evaluation, stop."""

from __future__ import annotations

from dataclasses import replace

from flwr.app import ConfigRecord
from flwr.serverapp.grid import Grid

from common.errors import FederationError
from common.message_records import write_arrays
from common.messages import POPULARITY_ROUND, Stage
from common.metrics_plan import stages_due
from common.progress import ProgressListener
from server.early_stop import METRIC, has_stopped, stop_reason, validations
from server.round_record import (
    EvaluationOutcome,
    RoundClock,
    RoundRecord,
)
from server.run_records import RunRecords
from server.statistics_rounds import release_statistics
from server.strategy import STAGE_KEY, FederatedAdapters
from server.summed_steps import SummedSteps


def run_rounds(
    grid: Grid, strategy: FederatedAdapters, records: RunRecords, listener: ProgressListener
) -> None:
    """Runs all rounds; after each, everything so far is on disk.

    Raises:
        FederationError: Fewer than `federation.min_sites` good replies in a round, or no round
            gave a new adapter. The round's record, with every site's fault, is written before.
    """
    rounds = strategy.config.federation.rounds
    strategy.summary()
    listener.run_started(rounds)
    records.begin(strategy)
    if records.unwritten is not None:
        _finish_round(grid, strategy, records, records.unwritten, listener)
    if records.next_round <= rounds:
        summed = _summed_steps(grid, strategy, records, listener)
        release_statistics(grid, strategy, records, listener, summed)
        for server_round in range(records.next_round, rounds + 1):
            if has_stopped(records.folder.read_rounds()):
                break
            _train(grid, strategy, records, listener, summed, server_round)
    if not strategy.state.steps:
        raise FederationError(
            f"none of {rounds} rounds gave a new adapter; rounds.jsonl says why for each "
            f"(the last: {strategy.outcome.fault})"
        )


def _train(
    grid: Grid,
    strategy: FederatedAdapters,
    records: RunRecords,
    listener: ProgressListener,
    summed: SummedSteps | None,
    server_round: int,
) -> None:
    """One round: with its checkpoint it is done, then come its evaluation and its line."""
    clock = RoundClock()
    listener.round_started(server_round)
    with records.releases_of(strategy):
        if summed is not None:
            summed.train(grid, server_round)
        else:
            _averaged_step(grid, strategy, server_round)
    record = records.record_of(strategy, server_round, clock)
    if strategy.fault is not None:
        records.write_round(record)
        listener.round_finished(record.to_json())
        raise strategy.fault
    records.write_checkpoint(strategy, server_round, record)
    records.write_files(strategy)
    _finish_round(grid, strategy, records, record, listener)


def _finish_round(
    grid: Grid,
    strategy: FederatedAdapters,
    records: RunRecords,
    record: RoundRecord,
    listener: ProgressListener,
) -> None:
    """Evaluates the adapter that a round left, and writes the round's line."""
    server_round, clock = record.server_round, RoundClock(record)
    is_last = server_round == strategy.config.federation.rounds
    is_due = server_round > 0 and not records.progress.is_evaluated
    stages = stages_due(server_round, strategy.config) if is_due else ()
    if stages and (record.has_stepped or is_last):
        found = {s: _evaluate(grid, strategy, records, server_round, s) for s in stages}
        reason = "" if is_last else _stop_reason(strategy, records, found["validation"])
        if reason:
            found["test"] = _evaluate(grid, strategy, records, server_round, "test")
        record = replace(record.evaluated(found, clock.seconds()), stopped=reason or None)
        records.write_checkpoint(strategy, server_round, record, is_evaluated=True)
    records.write_round(record)
    if server_round > 0:
        listener.round_finished(record.to_json())


def _stop_reason(strategy: FederatedAdapters, records: RunRecords, found: EvaluationOutcome) -> str:
    """Why the run ends with the round that `found` is of; empty: it goes on."""
    if found.means is None:
        return ""
    before = validations(records.folder.read_rounds())
    return stop_reason([*before, found.means[METRIC]], strategy.config)


def _summed_steps(
    grid: Grid, strategy: FederatedAdapters, records: RunRecords, listener: ProgressListener
) -> SummedSteps | None:
    """What asks for sums, with the sites enrolled; None in a mode without sums."""
    if not strategy.config.is_summed:
        return None
    keep = records.write_sum if strategy.config.evaluation.audit_canaries else None
    summed = SummedSteps(strategy, listener, records.folder.path, keep)
    _enrol(grid, strategy, records, summed)
    return summed


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
        records.write_round(records.record_of(strategy, POPULARITY_ROUND, clock))
        raise strategy.fault


def _averaged_step(grid: Grid, strategy: FederatedAdapters, server_round: int) -> bool:
    """Every site trains and releases its own update; the server averages them."""
    arrays, deadline = write_arrays(strategy.adapter), strategy.config.federation.round_deadline_s
    messages = strategy.configure_train(server_round, arrays, ConfigRecord(), grid)
    replies = grid.send_and_receive(messages, timeout=deadline)
    new_arrays, _ = strategy.aggregate_train(server_round, replies)
    return new_arrays is not None


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
