"""The popularity release: one question before the first round, summed to an item prior."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from flwr.app import Message

from common.messages import PopularityReply
from common.release_record import COUNTS_TENSOR, counts_payload
from server.aggregation import WeightedSum
from server.reply_reading import ReplyReader
from server.round_record import RoundOutcome, SiteRound


def sum_counts(
    replies: Iterable[Message], reader: ReplyReader
) -> tuple[npt.NDArray[np.float64], RoundOutcome]:
    """Adds up the sites' (noised) counts.

    A reply that is broken, not finite, or over a catalogue of another size than most
    sites have is recorded and left out.

    Args:
        replies: replies to the popularity request.
        reader: the run's reader.

    Returns:
        Counts ``[V]`` summed over the good replies (``[0]`` when there is none), and what
        every site that replied did.
    """
    sites: list[SiteRound] = []
    good: dict[str, PopularityReply] = {}
    for message in replies:
        reply = reader.popularity(message)
        if isinstance(reply, SiteRound):
            sites.append(reply)
        else:
            good[reply.site] = reply
    usual = _usual_length([len(reply.counts) for reply in good.values()])
    total = WeightedSum()
    for site, reply in sorted(good.items()):
        line = _judged(reply, usual)
        sites.append(line)
        if line.status == "ok":
            total.add(site, counts_payload(reply.counts), 1)
    counts = total.totals().get(COUNTS_TENSOR, np.zeros(0))
    return counts, RoundOutcome(tuple(sites))


def _usual_length(lengths: list[int]) -> int:
    """The most frequent length; the longest of those in a tie."""
    return max(Counter(lengths).items(), key=lambda item: (item[1], item[0]), default=(0, 0))[0]


def _judged(reply: PopularityReply, usual: int) -> SiteRound:
    if len(reply.counts) != usual:
        reason = (
            f"counts over {len(reply.counts)} items, most sites have {usual}; "
            "give all sites the same catalogue"
        )
        return SiteRound.of(reply.release, "error", reason)
    if not np.isfinite(reply.counts).all():
        return SiteRound.of(reply.release, "non_finite", "counts are not finite")
    return SiteRound.of(reply.release)
