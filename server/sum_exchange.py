"""Asking the sites of one sum, stage by stage, and writing down who stayed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, Self, TypeVar

from flwr.app import Message
from flwr.serverapp.grid import Grid

from common.errors import MessageError
from common.messages import SUM_QUERY, SumRequest, SumStage, encode_sum_request
from common.progress import ProgressListener
from server.reply_reading import ReplyReader
from server.roster import Roster
from server.round_record import RoundOutcome, SiteRound
from server.sum_transcript import KeptStage

NOT_SUMMED = "its part is in no sum"
"""Reason of a site that did its part in a sum that came to nothing."""
AWAY = "not connected when the server went on with the sum"
"""Reason of a site that left while the server was down."""
STAGE_ENDS: Mapping[SumStage, float] = {
    "advertise": 0.25,
    "share_keys": 0.35,
    "mask_input": 0.8,
    "sign_survivors": 0.9,
    "unmask": 1.0,
    "exact": 1.0,
}
"""When each stage must be over, as a part of the round's deadline: a site that falls silent is
waited for to the end of its stage, and the others still have time for what follows."""

M = TypeVar("M")


class FromSite(Protocol):
    """A message of secure aggregation, which names the site that it is from."""

    @property
    def site(self) -> str:
        """The site's name."""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Reads the message."""

    def encode(self) -> bytes:
        """The very bytes that it was read from."""


Own = TypeVar("Own", bound=FromSite)


class SumExchange:
    """All messages of one sum; a site's first fault is what the record says of it."""

    def __init__(
        self,
        grid: Grid,
        roster: Roster,
        reader: ReplyReader,
        listener: ProgressListener,
        *,
        deadline_s: float,
        limit: int,
    ) -> None:
        """Starts the round's clock.

        Args:
            grid: carries the messages.
            roster: the invited sites.
            reader: reads the replies.
            listener: hears of each released part.
            deadline_s: seconds for all stages together; each has its part (`STAGE_ENDS`).
            limit: bytes that a site's message may have.
        """
        self._grid, self._roster, self._reader = grid, roster, reader
        self._listener, self._limit = listener, limit
        self._deadline_s, self._start = deadline_s, time.monotonic()
        self._faults: dict[str, SiteRound] = {}
        self._bytes_up: dict[str, int] = dict.fromkeys(roster.members, 0)
        self._epsilons: dict[str, float | None] = {}
        self._left: dict[str, float | None] = {}

    def ask(self, requests: Mapping[str, SumRequest], decode: Callable[[bytes], M]) -> dict[str, M]:
        """Sends each site its request and waits for the decoded answers, by site.

        Args:
            requests: by site; all of one stage.
            decode: reads the stage's message; raises `MessageError`.
        """
        answers: dict[str, M] = {}
        nodes: dict[int, str] = {}
        for name in requests:
            node = self._roster.members[name].node
            if node is None:
                self.fault(SiteRound(name, "error", AWAY))
            else:
                nodes[node] = name
        ends = {STAGE_ENDS[request.stage] for request in requests.values()}
        end = self._start + max(ends, default=1.0) * self._deadline_s
        left = max(end - time.monotonic(), 0.001)
        messages = [
            Message(
                encode_sum_request(requests[site]),
                node,
                SUM_QUERY,
                ttl=left,
                group_id=str(requests[site].server_round),
            )
            for node, site in sorted(nodes.items())
        ]
        for message in self._grid.send_and_receive(messages, timeout=left):
            site = nodes.pop(message.metadata.src_node_id, None)
            if site is None:  # it was not asked, or has answered
                continue
            reply = self._reader.part(message, requests[site], self._limit)
            if isinstance(reply, SiteRound):
                self.fault(reply)
                continue
            self._bytes_up[site] += len(reply.payload)
            if reply.release is not None:
                self._epsilons[site] = reply.release.epsilon_prv
                self._left[site] = reply.release.epsilon_left
                self._listener.site_finished(reply.server_round, site)
            try:
                answers[site] = decode(reply.payload)
            except MessageError as fault:
                self.fault(SiteRound(site, "error", f"MessageError: {fault}"))
        for site in nodes.values():
            stage = requests[site].stage
            reason = (
                f"no reply to {stage} within {STAGE_ENDS[stage]:.0%} of "
                f"federation.round_deadline_s={self._deadline_s:g}"
            )
            self.fault(SiteRound(site, "error", reason))
        return answers

    def ask_for_own(
        self, requests: Mapping[str, SumRequest], decode: Callable[[bytes], Own]
    ) -> list[Own]:
        """As `ask`, for messages that name their site: each may speak for itself alone."""
        own = []
        for site, message in self.ask(requests, decode).items():
            if message.site == site:
                own.append(message)
                continue
            reason = f"MessageError: its message is in the name of {message.site[:100]!a}"
            self.fault(SiteRound(site, "error", reason))
        return own

    def kept(self, answers: Mapping[str, bytes], total: bytes = b"") -> KeptStage:
        """All that was said up to here, for the sum's transcript."""
        state = dict(self._faults), dict(self._bytes_up), dict(self._epsilons)
        releases = tuple(self._reader.releases)
        return KeptStage(dict(answers), *state, releases, total, left=dict(self._left))

    def take_up(self, stage: KeptStage) -> None:
        """Goes on after a stage that was finished before the server was restarted."""
        self._faults, self._bytes_up = dict(stage.faults), dict(stage.bytes_up)
        self._epsilons, self._left = dict(stage.epsilons), dict(stage.left)
        self._reader.releases = list(stage.releases)

    def fault(self, line: SiteRound) -> None:
        """Remembers what went wrong at a site, unless something did before."""
        self._faults.setdefault(line.site, line)

    def outcome(self, summed: frozenset[str]) -> RoundOutcome:
        """What every invited site did; `summed` are those whose part is in the sum."""
        return RoundOutcome(tuple(self._line(site, summed) for site in sorted(self._bytes_up)))

    def _line(self, site: str, summed: frozenset[str]) -> SiteRound:
        line = self._faults.get(site, SiteRound(site, "error", NOT_SUMMED))
        if site in summed:
            line = SiteRound(site, "ok")
        return replace(
            line,
            bytes_up=self._bytes_up[site],
            epsilon_prv=self._epsilons.get(site),
            epsilon_left=self._left.get(site),
        )
