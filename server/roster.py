"""The sites that a run can sum over: who they are, by what they declare in public."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import Message

from common.messages import EnrolReply
from server.reply_reading import ReplyReader
from server.round_record import RoundOutcome, SiteRound


@dataclass(frozen=True)
class Member:
    """One enrolled site.

    Attributes:
        site: its name.
        node: Flower's node that answers for it; None where it is away.
        identity: its Ed25519 public key, 32 bytes.
        declared_units: number of its units.
    """

    site: str
    node: int | None
    identity: bytes
    declared_units: int


@dataclass(frozen=True)
class Roster:
    """The enrolled sites by name, and the size of the catalogue that they share."""

    members: dict[str, Member]
    items: int

    def without(self, sites: Iterable[str]) -> Roster:
        """The roster less `sites`, which left the run for good."""
        gone = set(sites)
        kept = {name: member for name, member in self.members.items() if name not in gone}
        return Roster(kept, self.items)


def enrolled(replies: Iterable[Message], reader: ReplyReader) -> tuple[Roster, RoundOutcome]:
    """Reads the sites' declarations.

    A site whose catalogue is not that of the run (of most sites, when the first ones enrol)
    is left out: sums over different items mean nothing.

    Args:
        replies: replies to the enrol request.
        reader: the run's reader.

    Returns:
        The roster, and what every site that replied did.
    """
    lines: list[SiteRound] = []
    declared: list[tuple[int, EnrolReply]] = []
    for message in replies:
        reply = reader.enrolment(message)
        if isinstance(reply, SiteRound):
            lines.append(reply)
        else:
            declared.append((message.metadata.src_node_id, reply))
    catalogues = Counter((reply.catalogue_sha256, reply.catalogue_size) for _, reply in declared)
    usual = max(catalogues, key=lambda catalogue: (catalogues[catalogue], catalogue), default=None)
    known = reader.known
    if known.catalogue:
        usual = (known.catalogue, known.items)
    elif usual is not None:
        known.catalogue, known.items = usual
    members: dict[str, Member] = {}
    for node, reply in sorted(declared, key=lambda pair: pair[1].site):
        if (reply.catalogue_sha256, reply.catalogue_size) != usual:
            reason = "its catalogue is not that of most sites; give all sites the same catalogue"
            lines.append(SiteRound(reply.site, "error", reason))
            continue
        identity = bytes.fromhex(reply.identity)
        members[reply.site] = Member(reply.site, node, identity, reply.declared_units)
        lines.append(SiteRound(reply.site, "ok"))
    items = usual[1] if usual else 0
    return Roster(members, items), RoundOutcome(tuple(sorted(lines, key=lambda line: line.site)))
