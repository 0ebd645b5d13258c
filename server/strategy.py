"""The one Flower Strategy of fedrec: all sites or a draw of them each round, public weights.

It asks, reads and hands over to pure functions (`aggregation`, `server_optimizer`). A site
that errs, refuses, breaks the message contract, sends non-finite numbers or misses the
deadline is written into `outcome` and left out; it is never averaged in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.grid import Grid
from flwr.serverapp.strategy import Strategy

from common.adapters import Adapter, all_finite, shapes
from common.config import RunConfig
from common.errors import FederationError
from common.flat_adapter import Floats
from common.message_records import read_arrays, write_arrays
from common.messages import (
    COOCCURRENCE_QUERY,
    POPULARITY_QUERY,
    CooccurrenceRequest,
    EvaluateRequest,
    PopularityRequest,
    Stage,
    TrainReply,
    TrainRequest,
    encode_cooccurrence_request,
    encode_evaluate_request,
    encode_popularity_request,
    encode_train_request,
)
from common.metrics_plan import metrics_event
from common.progress import ProgressListener
from common.release_record import ReleaseRecord
from server.aggregation import WeightedSum, l2_norm
from server.cooccurrence import sum_cells
from server.known_sites import KnownSites
from server.metric_means import exact_means, noised_means
from server.participants import count, participants
from server.popularity import sum_counts
from server.reply_reading import ReplyReader
from server.round_record import EvaluationOutcome, RoundOutcome, SiteRound, too_few_sites
from server.server_optimizer import OptimizerState, server_step
from server.site_weights import SiteWeights

logger = logging.getLogger(__name__)

STAGE_KEY = "stage"
AWAY = "not connected when the round was asked, or at a node that has not told its name"
"""Reason of a site of the run that no node answered for."""


class FederatedAdapters(Strategy):
    """Averages adapter updates and steps a server optimiser.

    Attributes:
        adapter: the global adapter after the last aggregated round.
        state: the server optimiser's state.
        item_prior: ``[V]``, or ``[0]`` when the run has none.
        item_to_item: the triangle of weights between items, or ``[0]`` when the run has none.
        outcome: what came back of the last question (popularity, co-occurrence or train).
        evaluation: what came back of the last evaluation.
        fault: why the run cannot go on after the last round, if it cannot.
        reader: reads all replies of the run.
    """

    def __init__(
        self, config: RunConfig, run: str, adapter: Adapter, listener: ProgressListener
    ) -> None:
        """Starts at `adapter`.

        Args:
            config: the run's configuration.
            run: name of the run, unique for ever (ledgers are keyed by it).
            adapter: the initial global adapter.
            listener: hears of each reply.
        """
        self.config = config
        self.run = run
        self.adapter = adapter
        self.state = OptimizerState()
        self.item_prior: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self.item_to_item: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self.outcome = RoundOutcome(())
        self.evaluation = EvaluationOutcome(None, RoundOutcome(()))
        self.fault: FederationError | None = None
        self._listener = listener
        self._sha256 = config.sha256()
        self.reader = ReplyReader(run, self._sha256, shapes(adapter))
        self._weights = SiteWeights(config.federation, self.reader.known.utility)
        self._unanswered: set[int] = set()
        self._asks_all = True
        self._stage: Stage = "validation"

    def remember(self, known: KnownSites) -> None:
        """Takes up what the run had learnt of its sites before the server was restarted."""
        self.reader.known = known
        self._weights = SiteWeights(self.config.federation, known.utility)

    @property
    def least_sites(self) -> int:
        """Sites without which no round can be."""
        return self.config.least_sites

    def configure_popularity(self, grid: Grid) -> Iterable[Message]:
        """Asks every site, or a draw as in any round, for its popularity release."""
        content = encode_popularity_request(PopularityRequest(self.run, self._sha256))
        return self._ask(grid, content, POPULARITY_QUERY, 0)

    def aggregate_popularity(self, replies: Iterable[Message]) -> npt.NDArray[np.float64]:
        """Sums the counts ``[V]`` of the good replies; `outcome` tells of all."""
        counts, outcome = sum_counts(self._heard(replies, 0), self.reader)
        self.outcome = self._with_missing(outcome)
        return counts

    def configure_cooccurrence(self, grid: Grid) -> Iterable[Message]:
        """Asks the sites that were asked for popularity for their co-occurrence of items."""
        request = CooccurrenceRequest(self.run, self._sha256, self.item_prior)
        return self._ask(grid, encode_cooccurrence_request(request), COOCCURRENCE_QUERY, 0)

    def aggregate_cooccurrence(self, replies: Iterable[Message], cells: int) -> Floats:
        """Sums the good replies' cells ``[N (N + 1) / 2]``; `outcome` tells of all."""
        summed, outcome = sum_cells(self._heard(replies, 0), self.reader, cells)
        self.outcome = self._with_missing(outcome)
        return summed

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Asks the round's sites to train from `arrays`; `config` holds nothing."""
        adapter = read_arrays(arrays, self.reader.shapes)
        request = TrainRequest(self.run, server_round, self._sha256, adapter, self.item_prior)
        return self._ask(grid, encode_train_request(request), MessageType.TRAIN, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Averages the good updates and steps; (None, None) and a `fault` if it cannot."""
        total = WeightedSum()
        sites = []
        for message in self._heard(replies, server_round):
            reply = self.reader.train(message, server_round)
            if isinstance(reply, TrainReply):
                sites.append(self._added(reply, total))
            else:
                sites.append(reply)
        self.outcome = self._with_missing(RoundOutcome(tuple(sites)))
        federation = self.config.federation
        if self.outcome.ok < federation.min_sites:
            self.fault = too_few_sites(self.outcome, server_round, federation.min_sites)
            return None, None
        if not self.step(total.mean()):
            return None, None
        norm = float(self.outcome.update_norm or 0.0)
        metrics = MetricRecord({"sites": len(total.weights), "update_norm": norm})
        return write_arrays(self.adapter), metrics

    def step(self, update: Adapter) -> bool:
        """Moves the global adapter by the mean `update`; False, and a `fault`, if it cannot."""
        self.outcome = replace(self.outcome, update_norm=l2_norm(update))
        federation = self.config.federation
        try:
            self.adapter, self.state = server_step(self.adapter, update, self.state, federation)
        except FederationError as fault:
            self.fault = fault
            return False
        return True

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Asks the round's sites to evaluate `arrays` on ``config["stage"]``."""
        self._stage = cast(Stage, config[STAGE_KEY])
        request = EvaluateRequest(
            self.run,
            server_round,
            self._sha256,
            read_arrays(arrays, self.reader.shapes),
            self.item_prior,
            self._stage,
            self.item_to_item,
        )
        content = encode_evaluate_request(request)
        return self._ask(grid, content, MessageType.EVALUATE, server_round)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Means over all users, exact (lab only) or noised, as `evaluation.metrics` says."""
        replies, event = self._noted(replies), metrics_event(self.config)
        utility: dict[str, float] = {}
        if event is not None:
            means, outcome = noised_means(
                replies, self.reader, server_round, self._stage, event, utility.__setitem__
            )
        else:
            means, outcome = exact_means(replies, self.reader, server_round, utility.__setitem__)
        if self._stage == "validation":  # nothing may be chosen by test figures
            for site, value in utility.items():
                self._weights.heard(site, value)
        self.evaluation = EvaluationOutcome(means, self._with_missing(outcome))
        return None if means is None else MetricRecord(dict(means))

    def take_releases(self) -> list[ReleaseRecord]:
        """The releases received since the last call, also of a round that was cut short."""
        return self.reader.take_releases()

    def summary(self) -> None:
        """Logs one line."""
        federation = self.config.federation
        logger.info(
            "run %s: %d rounds, %s, %s weights, at least %d sites a round",
            self.run,
            federation.rounds,
            federation.server_optimizer,
            federation.weighting,
            federation.min_sites,
        )

    def _ask(
        self, grid: Grid, content: RecordDict, message_type: str, server_round: int
    ) -> list[Message]:
        here = grid.get_node_ids()
        nodes = participants(here, self.config, server_round)
        self._unanswered, self._asks_all = set(nodes), len(nodes) == count(here)
        ttl = self.config.federation.round_deadline_s
        group = str(server_round)
        # A list: Flower's own grid goes through the messages twice.
        return [Message(content, node, message_type, ttl=ttl, group_id=group) for node in nodes]

    def _noted(self, replies: Iterable[Message]) -> Iterator[Message]:
        for message in replies:
            self._unanswered.discard(message.metadata.src_node_id)
            yield message

    def _heard(self, replies: Iterable[Message], server_round: int) -> Iterator[Message]:
        for message in self._noted(replies):
            yield message
            site = self.reader.site_name(message.metadata.src_node_id)
            self._listener.site_finished(server_round, site)

    def _added(self, reply: TrainReply, total: WeightedSum) -> SiteRound:
        if reply.site in total.weights:
            return SiteRound.of(reply.release, "error", "a second update in one round")
        if not all_finite(reply.update):
            return SiteRound.of(reply.release, "non_finite", "the update is not finite")
        weight = self._weights.weight(reply.site, reply.declared_units)
        total.add(reply.site, reply.update, weight)
        return SiteRound.of(reply.release, weight=weight)

    def _with_missing(self, outcome: RoundOutcome) -> RoundOutcome:
        """`outcome` with those who did not reply in time, or were not there; sorted by site.

        A site that paid and then lost its connection stands in the record of its round so, also
        when the round was asked again after a restart of the server.
        """
        deadline = self.config.federation.round_deadline_s
        reason = f"no reply within federation.round_deadline_s={deadline:g}"
        missing = [
            SiteRound(self.reader.site_name(node), "error", reason) for node in self._unanswered
        ]
        told = {line.site for line in (*outcome.sites, *missing)}
        away = sorted(self.reader.known.declared_units.keys() - told) if self._asks_all else []
        missing += [SiteRound(site, "error", AWAY) for site in away]
        sites = tuple(sorted([*outcome.sites, *missing], key=lambda site: site.site))
        return RoundOutcome(sites)
