"""From a Flower reply to a typed one, or to the line that says why there is none.

Nothing that a site sends can raise here: an error reply, a refusal and a broken message
each become a `SiteRound` that is recorded, and the site is left out of the round.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from flwr.app import Message, RecordDict

from common.errors import MessageError
from common.messages import (
    POPULARITY_ROUND,
    CooccurrenceReply,
    EnrolReply,
    EvaluateReply,
    NoisedMetricsReply,
    PopularityReply,
    Stage,
    SumReply,
    SumRequest,
    TrainReply,
    decode_cooccurrence_reply,
    decode_enrol_reply,
    decode_evaluate_reply,
    decode_noised_metrics_reply,
    decode_popularity_reply,
    decode_refusal,
    decode_sum_reply,
    decode_train_reply,
    is_refusal,
)
from common.one_line import one_line
from common.release_record import ReleaseRecord
from server.known_sites import KnownSites
from server.round_record import SiteRound, SiteStatus

Reply = TypeVar(
    "Reply",
    TrainReply,
    PopularityReply,
    CooccurrenceReply,
    EvaluateReply,
    NoisedMetricsReply,
    EnrolReply,
    SumReply,
)


class ReplyReader:
    """Reads the replies of one run and remembers which node is which site.

    Attributes:
        known: what the sites have told of themselves.
        releases: the records of what was read since they were last taken.
    """

    def __init__(self, run: str, config_sha256: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Binds the reader to what every reply of the run must state.

        Args:
            run: name of the run.
            config_sha256: hash of the run's configuration.
            shapes: the global adapter's tensor shapes by name.
        """
        self.run = run
        self.config_sha256 = config_sha256
        self.shapes = dict(shapes)
        self._site_of_node: dict[int, str] = {}
        self._node_of_site: dict[str, int] = {}
        self.known = KnownSites()
        self.releases: list[ReleaseRecord] = []

    def take_releases(self) -> list[ReleaseRecord]:
        """The releases read since the last call, sorted by site: each goes on record once."""
        releases, self.releases = self.releases, []
        return sorted(releases, key=lambda release: release.site)

    def site_name(self, node_id: int) -> str:
        """The site at a node, or ``node-ID`` while it has not told."""
        return self._site_of_node.get(node_id, f"node-{node_id}")

    def forget_absent(self, nodes: Collection[int]) -> None:
        """Forgets which site was at a node that is not among `nodes`: it may come back at another.

        For enrolled sites alone, whose messages carry an identity of their own.
        """
        for node in [node for node in self._site_of_node if node not in nodes]:
            del self._node_of_site[self._site_of_node.pop(node)]

    def popularity(self, message: Message) -> PopularityReply | SiteRound:
        """Reads the reply to a popularity request."""

        def decode(content: RecordDict) -> PopularityReply:
            return decode_popularity_reply(content, run=self.run, config_sha256=self.config_sha256)

        return self._read(message, POPULARITY_ROUND, decode)

    def cooccurrence(self, message: Message, cells: int) -> CooccurrenceReply | SiteRound:
        """Reads the reply to a co-occurrence request, of `cells` cells."""

        def decode(content: RecordDict) -> CooccurrenceReply:
            return decode_cooccurrence_reply(
                content, run=self.run, config_sha256=self.config_sha256, cells=cells
            )

        return self._read(message, POPULARITY_ROUND, decode)

    def train(self, message: Message, server_round: int) -> TrainReply | SiteRound:
        """Reads the reply to a train request."""

        def decode(content: RecordDict) -> TrainReply:
            return decode_train_reply(
                content,
                run=self.run,
                server_round=server_round,
                config_sha256=self.config_sha256,
                shapes=self.shapes,
            )

        return self._read(message, server_round, decode)

    def evaluate(self, message: Message, server_round: int) -> EvaluateReply | SiteRound:
        """Reads the reply to an evaluate request."""

        def decode(content: RecordDict) -> EvaluateReply:
            return decode_evaluate_reply(
                content,
                run=self.run,
                server_round=server_round,
                config_sha256=self.config_sha256,
            )

        return self._read(message, server_round, decode)

    def noised_metrics(
        self, message: Message, server_round: int, stage: Stage
    ) -> NoisedMetricsReply | SiteRound:
        """Reads the reply to an evaluate request of a run with private metrics."""

        def decode(content: RecordDict) -> NoisedMetricsReply:
            return decode_noised_metrics_reply(
                content,
                run=self.run,
                server_round=server_round,
                config_sha256=self.config_sha256,
                stage=stage,
            )

        return self._read(message, server_round, decode)

    def enrolment(self, message: Message) -> EnrolReply | SiteRound:
        """Reads the reply to an enrol request."""

        def decode(content: RecordDict) -> EnrolReply:
            return decode_enrol_reply(content, config_sha256=self.config_sha256)

        return self._read(message, POPULARITY_ROUND, decode)

    def part(self, message: Message, asked: SumRequest, limit: int) -> SumReply | SiteRound:
        """Reads a site's message in a sum, of at most `limit` bytes."""

        def decode(content: RecordDict) -> SumReply:
            return decode_sum_reply(content, asked=asked, limit=limit)

        return self._read(message, asked.server_round, decode)

    def _read(
        self, message: Message, server_round: int, decode: Callable[[RecordDict], Reply]
    ) -> Reply | SiteRound:
        node = message.metadata.src_node_id
        if message.has_error():
            reason = one_line(message.error.reason or f"error {message.error.code}")
            return SiteRound(self.site_name(node), "error", reason)
        try:
            if is_refusal(message.content):
                return self._refusal(message, node, server_round)
            reply = decode(message.content)
            self._remember_site(node, reply.site)
            if not isinstance(reply, EvaluateReply | NoisedMetricsReply | SumReply):
                self.known.declare(reply.site, reply.declared_units)
            if isinstance(reply, EnrolReply):
                self.known.identify(reply.site, reply.identity)
        except MessageError as fault:
            return SiteRound(self.site_name(node), "error", one_line(f"MessageError: {fault}"))
        if not isinstance(reply, EnrolReply) and reply.release is not None:
            self.releases.append(reply.release)
        return reply

    def _refusal(self, message: Message, node: int, server_round: int) -> SiteRound:
        refusal = decode_refusal(message.content, server_round=server_round)
        if refusal.site:
            self._remember_site(node, refusal.site)
        status: SiteStatus = "refused" if refusal.code.endswith("Refusal") else "error"
        reason = one_line(f"{refusal.code}: {refusal.reason}")
        return SiteRound(self.site_name(node), status, reason)

    def _remember_site(self, node: int, site: str) -> None:
        known_site = self._site_of_node.get(node, site)
        known_node = self._node_of_site.get(site, node)
        if known_site != site or known_node != node:
            raise MessageError(
                f"node {node} answers as site {site}, but {known_site} is at node {node} "
                f"and {site} at node {known_node}; give every node its own site"
            )
        self._site_of_node[node], self._node_of_site[site] = site, node
