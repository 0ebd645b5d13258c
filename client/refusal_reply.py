"""The message that says no: what a site answers where it has nothing to give."""

from __future__ import annotations

from flwr.app import RecordDict

from common.messages import RefusalReply, encode_refusal
from common.one_line import one_line
from common.reply_codecs import MAX_REASON

WITHHELD = "failed at the site; the site's log has the details"


def refusal_reply(group: str, site: str, fault: Exception, reason: str = WITHHELD) -> RecordDict:
    """The record of a refusal.

    Args:
        group: of the message that is answered, the number of its round.
        site: the site's name, or empty where it is not known.
        fault: names the refusal's code by its class.
        reason: the one line that may leave the site.
    """
    server_round = int(group) if group.isdecimal() and len(group) < 18 else 0
    line = one_line(reason, MAX_REASON)
    return encode_refusal(RefusalReply(site, server_round, type(fault).__name__, line))
