"""From the sites' sums of metrics to means over all users: exact (lab only), or noised."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import Message

from common.messages import NoisedMetricsReply, Stage
from common.metrics import METRIC_NAMES, MetricSums
from common.metrics_plan import METRIC_COORDINATES, METRICS_SENSITIVITY
from common.privacy_events import GaussianEvent
from server.reply_reading import ReplyReader
from server.round_record import RoundOutcome, SiteRound
from server.site_weights import UTILITY

_PLACE = METRIC_COORDINATES.index(UTILITY)
COUNT_IS_CLEAR = 10.0
"""The noised count of users is the divisor if it is this many deviations of its noise.

The noise then moves the means by a tenth at most, as a rule; below, the sizes that the sites
declare in public divide. Both are post-processing of what was released.
"""

Means = dict[str, float]
Heard = Callable[[str, float], None]
"""Hears a site's name and its mean utility, as far as it is released."""


def _not_heard(_site: str, _utility: float) -> None:
    """The default: nobody weighs sites by their utility."""


def exact_means(
    replies: Iterable[Message], reader: ReplyReader, server_round: int, heard: Heard = _not_heard
) -> tuple[Means | None, RoundOutcome]:
    """Adds up exact sums, in the order of the sites' names: for the lab only.

    `heard` gets each site's mean utility.

    Returns:
        ``users`` and the mean of each metric (None when no user was evaluated), and what
        every site that replied did.
    """
    sites: list[SiteRound] = []
    sums: dict[str, MetricSums] = {}
    for message in replies:
        reply = reader.evaluate(message, server_round)
        if isinstance(reply, SiteRound):
            sites.append(reply)
            continue
        sums[reply.site] = reply.sums
        sites.append(SiteRound(reply.site, "ok", bytes_up=reply.release.bytes))
    total = MetricSums.zero()
    for site in sorted(sums):
        total += sums[site]
        heard(site, sums[site].means()[UTILITY])
    means = {"users": float(total.users), **total.means()} if total.users else None
    return means, RoundOutcome(tuple(sites))


def noised_means(
    replies: Iterable[Message],
    reader: ReplyReader,
    server_round: int,
    stage: Stage,
    event: GaussianEvent,
    heard: Heard = _not_heard,
) -> tuple[Means | None, RoundOutcome]:
    """Adds up the sites' private releases and divides by the number of users.

    `heard` gets each site's mean utility: its noised sum over the size it declares.

    Returns:
        ``users`` (the divisor: the noised count, or the declared sizes where its noise is too
        large; see `COUNT_IS_CLEAR`), the mean of each metric, which noise may carry out of
        [0, 1], and ``noise_std``, the standard deviation of the noise in each mean. None when
        no site answered. And what every site that replied did.
    """
    sites: list[SiteRound] = []
    good: dict[str, NoisedMetricsReply] = {}
    for message in replies:
        reply = reader.noised_metrics(message, server_round, stage)
        if isinstance(reply, SiteRound):
            sites.append(reply)
            continue
        if not np.isfinite(reply.sums).all():
            sites.append(SiteRound.of(reply.release, "non_finite", "the metrics are not finite"))
            continue
        good[reply.site] = reply
        heard(reply.site, float(reply.sums[_PLACE]) / max(reply.declared_units, 1))
        sites.append(SiteRound.of(reply.release))
    outcome = RoundOutcome(tuple(sites))
    return (_means(list(good.values()), event) if good else None), outcome


def _means(replies: list[NoisedMetricsReply], event: GaussianEvent) -> Means:
    ordered = sorted(replies, key=lambda reply: reply.site)
    total = [math.fsum(column) for column in np.stack([reply.sums for reply in ordered]).T]  # [6]
    deviation = event.noise_multiplier * METRICS_SENSITIVITY * math.sqrt(len(ordered))
    users = total[0]
    if users < COUNT_IS_CLEAR * deviation:
        users = float(sum(reply.declared_units for reply in ordered))
    means = {name: each / users for name, each in zip(METRIC_NAMES, total[1:], strict=True)}
    return {"users": users, **means, "noise_std": deviation / users}
