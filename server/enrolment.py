"""Who can be summed over now: sites enrol when they come, also late, and may leave for good."""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.app import Message
from flwr.serverapp.grid import Grid

from common.config import RunConfig
from common.errors import PrivacyError
from common.messages import ENROL_QUERY, EnrolRequest, encode_enrol_request
from common.sum_plan import dropouts_among
from server.reply_reading import ReplyReader
from server.roster import Roster, enrolled
from server.round_record import RoundOutcome, SiteRound
from server.site_waiting import NODE_POLL_S
from server.sum_exchange import NOT_SUMMED

LEAST_IN_A_SUM = 3
"""Fewer sites are no round of secure aggregation."""

_LASTING = ("BudgetRefusal", "PolicyRefusal")
"""Refusals after which a site is not asked again in the run."""


def can_carry(config: RunConfig, sites: int) -> bool:
    """Whether a sum over so many sites can be, with the noise that it was planned with."""
    if config.privacy.mode == "central":
        return sites >= config.federation.min_sites
    try:
        dropouts_among(config, sites)
    except PrivacyError:
        return False
    return sites >= LEAST_IN_A_SUM


class Enrolment:
    """The roster of one run, kept up from round to round.

    Attributes:
        roster: the enrolled sites that have not left.
    """

    def __init__(self, config: RunConfig, reader: ReplyReader) -> None:
        """Starts with nobody.

        Args:
            config: the run's configuration; no more than `data.sites` may enrol, since grid,
                modulus and noise are planned for that many.
            reader: reads the replies; what it knows of the sites outlives the server.
        """
        self._config, self._reader = config, reader
        self.roster = Roster({}, 0)
        self._asked: set[int] = set()
        self._left_out: list[SiteRound] = []

    def ask(self, grid: Grid) -> RoundOutcome:
        """Asks every node that has come since the last time what its site declares.

        A node that was away is asked again: its site may have changed, or moved to it.

        Returns:
            What every site that was asked now did.
        """
        online = set(grid.get_node_ids())
        self._asked &= online
        self._reader.forget_absent(online)
        new = sorted(online - self._asked)
        if not new:
            return RoundOutcome(())
        self._asked.update(new)
        content = encode_enrol_request(EnrolRequest(self._reader.run, self._reader.config_sha256))
        deadline = self._config.federation.round_deadline_s
        messages = [Message(content, node, ENROL_QUERY, ttl=deadline, group_id="0") for node in new]
        replies = list(grid.send_and_receive(messages, timeout=deadline))
        found, outcome = enrolled(replies, self._reader)
        silent = set(new) - {reply.metadata.src_node_id for reply in replies}
        reason = f"no reply to enrolment within federation.round_deadline_s={deadline:g}"
        lines = [SiteRound(self._reader.site_name(node), "error", reason) for node in silent]
        lines += self._admit(found, outcome.sites)
        self._left_out += [line for line in lines if line.status != "ok"]
        return RoundOutcome(tuple(sorted(lines, key=lambda line: line.site)))

    def gather(self, grid: Grid) -> Roster | None:
        """Whom the next sum is over: as `online`, once those are enough for a sum.

        Those who may come back are waited for, for the round's deadline at most; None where
        that was in vain.
        """
        config = self._config
        end = time.monotonic() + config.federation.round_deadline_s
        while True:
            here = self.online(grid)
            is_hopeless = not can_carry(config, config.data.sites - len(self._reader.known.gone))
            if can_carry(config, len(here.members)):
                return here
            if is_hopeless or time.monotonic() >= end:
                return None
            time.sleep(NODE_POLL_S)
            self.ask(grid)

    def online(self, grid: Grid) -> Roster:
        """The enrolled sites whose nodes are connected now.

        A site that is away is not invited: a sum over fewer sites bears as many fewer
        dropouts, so that the same sites are sure to carry the noise.
        """
        nodes = set(grid.get_node_ids())
        away = [name for name, each in self.roster.members.items() if each.node not in nodes]
        return self.roster.without(away)

    def take_left_out(self) -> tuple[SiteRound, ...]:
        """The sites that could not enrol since the last call: each goes on record once."""
        lines, self._left_out = tuple(self._left_out), []
        return lines

    def note(self, outcome: RoundOutcome, *, abandoned: bool) -> None:
        """Sites whose budget or policy said no are not invited again.

        Nor are those that gave no answer in two abandoned sums in a row, until they come
        back: each further sum would wait for them, be abandoned too, and charge the others.
        """
        known = self._reader.known
        known.gone |= {
            line.site
            for line in outcome.sites
            if line.status == "refused" and str(line.reason).startswith(_LASTING)
        }
        silent = {
            line.site
            for line in outcome.sites
            if abandoned and line.status == "error" and line.reason != NOT_SUMMED
        }
        self.roster = self.roster.without(known.gone | (silent & known.silent))
        known.silent = silent

    def _admit(self, found: Roster, lines: Iterable[SiteRound]) -> list[SiteRound]:
        """Takes up those who enrolled, as far as there is room."""
        self.roster = self.roster.without(found.members)
        room = self._config.data.sites - len(self.roster.members)
        fresh = found.without(self._reader.known.gone).members
        names = sorted(fresh)[: max(room, 0)]
        members = {**self.roster.members, **{name: fresh[name] for name in names}}
        self.roster = Roster(dict(sorted(members.items())), self._reader.known.items)
        reason = f"the run is planned for data.sites={self._config.data.sites}, which are here"
        over = set(fresh) - set(names)
        return [
            SiteRound(line.site, "error", reason) if line.site in over else line for line in lines
        ]
