"""The co-occurrence release: one question before the first round, summed and made into weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from flwr.app import Message

from common.config import RunConfig
from common.cooccurrence import Floats, item_count
from common.item_to_item import item_weights
from common.messages import CooccurrenceReply, cells_payload
from common.noise_plan import cooccurrence_deviation
from common.release_record import COOCCURRENCE_TENSOR
from server.aggregation import WeightedSum
from server.reply_reading import ReplyReader
from server.round_record import RoundOutcome, SiteRound


def sum_cells(
    replies: Iterable[Message], reader: ReplyReader, cells: int
) -> tuple[Floats, RoundOutcome]:
    """Adds up the sites' (noised) cells, one reply at a time.

    A reply that is broken, not finite, or over a catalogue of another size than the released
    popularity is recorded and left out.

    Args:
        replies: replies to the co-occurrence request.
        reader: the run's reader.
        cells: N (N + 1) / 2.

    Returns:
        Cells ``[N (N + 1) / 2]`` summed over the good replies, and what every site that
        replied did.
    """
    total, sites = WeightedSum(), list[SiteRound]()
    for message in replies:
        reply = reader.cooccurrence(message, cells)
        if isinstance(reply, SiteRound):
            sites.append(reply)
            continue
        line = _judged(reply, total)
        sites.append(line)
        if line.status == "ok":
            total.add(reply.site, cells_payload(reply.cells), 1)
    summed = total.totals().get(COOCCURRENCE_TENSOR, np.zeros(cells))
    return summed, RoundOutcome(tuple(sites))


def weights_of(
    summed: Floats, config: RunConfig, catalogue_size: int, sites: int
) -> npt.NDArray[np.float32]:
    """The weights between items that the summed statistic of `sites` sites gives."""
    model = config.model
    return item_weights(
        summed,
        item_count(catalogue_size, model.item_to_item_items),
        ridge=model.item_to_item_ridge,
        deviation=cooccurrence_deviation(config, sites),
    )


def _judged(reply: CooccurrenceReply, total: WeightedSum) -> SiteRound:
    if reply.site in total.weights:
        return SiteRound.of(reply.release, "error", "a second co-occurrence")
    if not np.isfinite(reply.cells).all():
        return SiteRound.of(reply.release, "non_finite", "co-occurrence is not finite")
    return SiteRound.of(reply.release)
