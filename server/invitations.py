"""Who takes part in a sum: whoever is connected when it begins, and nobody who comes later."""

from __future__ import annotations

from flwr.serverapp.grid import Grid

from server.enrolment import Enrolment
from server.roster import Member, Roster
from server.round_record import RoundOutcome, SiteRound
from server.sum_exchange import NOT_SUMMED
from server.sum_transcript import Invited, SumTranscript

NOT_HERE = "not connected when the sum was to begin"


def invited_now(grid: Grid, enrolment: Enrolment, transcript: SumTranscript) -> Roster | None:
    """The sum's sites, written down before any is asked; or those of a sum that was begun.

    A site of a begun sum that has left since is among them without a node: it is one that
    vanished.

    Returns:
        The sites; None where too few came, within the round's deadline, for any sum.

    Raises:
        RunFolderError: the transcript cannot be read or written.
    """
    begun = transcript.invited()
    if begun is None:
        return _begin(grid, enrolment, transcript)
    roster = enrolment.online(grid)
    members = {
        name: roster.members.get(name)
        or Member(name, None, bytes.fromhex(each.identity), each.declared_units)
        for name, each in begun.items()
    }
    return Roster(members, roster.items)


def _begin(grid: Grid, enrolment: Enrolment, transcript: SumTranscript) -> Roster | None:
    roster = enrolment.gather(grid)
    if roster is None:
        return None
    transcript.invite(
        {
            name: Invited(member.identity.hex(), member.declared_units)
            for name, member in roster.members.items()
        }
    )
    return roster


def too_few_for_a_sum(grid: Grid, enrolment: Enrolment) -> RoundOutcome:
    """What the record says of a sum that could not begin: nobody was asked or charged."""
    here = enrolment.online(grid).members
    lines = tuple(
        SiteRound(name, "error", NOT_SUMMED if name in here else NOT_HERE)
        for name in sorted(enrolment.roster.members)
    )
    fault = f"{len(here)} of {len(lines)} enrolled sites are connected, too few for a sum"
    return RoundOutcome(lines, fault=fault)
