"""The releases before training: popularity, and co-occurrence where the run mixes it in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from flwr.serverapp.grid import Grid

from common.cooccurrence import cell_count
from common.flat_adapter import Floats
from common.item_prior import item_prior_from_counts
from common.messages import POPULARITY_ROUND
from common.noise_plan import popularity_deviation
from common.progress import ProgressListener
from server.cooccurrence import weights_of
from server.recoding import recoded_start
from server.round_record import RoundClock, too_few_sites
from server.run_records import RunRecords
from server.strategy import FederatedAdapters
from server.summed_steps import SummedSteps
from server.warm_start import start_folder


def release_statistics(
    grid: Grid,
    strategy: FederatedAdapters,
    records: RunRecords,
    listener: ProgressListener,
    summed: SummedSteps | None,
) -> None:
    """The releases before training, as far as they are asked for and not there yet."""
    model = strategy.config.model
    if model.popularity_prior and not len(strategy.item_prior):
        release_popularity(grid, strategy, records, listener, summed)
    if model.item_to_item and not len(strategy.item_to_item):
        release_cooccurrence(grid, strategy, records, listener, summed)


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
    outcome, record = strategy.outcome, records.record_of(strategy, POPULARITY_ROUND, clock)
    if counts is None or outcome.ok < strategy.least_sites:
        records.write_round(record)
        raise too_few_sites(outcome, POPULARITY_ROUND, strategy.least_sites)
    deviation = popularity_deviation(strategy.config, outcome.ok)
    strategy.item_prior = item_prior_from_counts(counts, deviation)
    if strategy.config.federation.warm_start:
        source = start_folder(strategy.config)
        strategy.adapter = recoded_start(
            strategy.config, strategy.adapter, source, strategy.item_prior
        )
    records.write_checkpoint(strategy, POPULARITY_ROUND, record)
    records.write_round(record)


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
    outcome, record = strategy.outcome, records.record_of(strategy, POPULARITY_ROUND, clock)
    if total is None or outcome.ok < strategy.least_sites:
        records.write_round(record)
        least = strategy.least_sites
        raise too_few_sites(outcome, POPULARITY_ROUND, least, statistic="co-occurrence")
    strategy.item_to_item = weights_of(total, config, items, outcome.ok)
    records.write_checkpoint(strategy, POPULARITY_ROUND, record)
    records.write_files(strategy)
    records.write_round(record)
