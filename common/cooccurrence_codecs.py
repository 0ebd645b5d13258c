"""Codecs of the co-occurrence release of a site by itself (modes `none` and `local`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from flwr.app import RecordDict

from common.adapters import Adapter
from common.errors import MessageError
from common.message_records import (
    Scalar,
    read_expected,
    read_meta,
    read_site,
    read_vector,
    write_record,
)
from common.message_types import POPULARITY_ROUND, CooccurrenceReply, CooccurrenceRequest
from common.release_record import COOCCURRENCE_TENSOR
from common.reply_codecs import check_payload, read_declared_units, read_release
from common.request_codecs import read_run

_PRIOR = "item_prior"


def cells_payload(cells: npt.NDArray[np.float32]) -> Adapter:
    """Cells as the named tensor that a release record's hash covers."""
    return {COOCCURRENCE_TENSOR: np.ascontiguousarray(cells, dtype=np.float32)}


def encode_cooccurrence_request(request: CooccurrenceRequest) -> RecordDict:
    """The record of a co-occurrence request."""
    meta: dict[str, Scalar] = {"run": request.run, "config_sha256": request.config_sha256}
    return write_record("cooccurrence_request", meta, {_PRIOR: {_PRIOR: request.item_prior}})


def decode_cooccurrence_request(content: RecordDict, *, config_sha256: str) -> CooccurrenceRequest:
    """Reads a co-occurrence request.

    Raises:
        MessageError: The record is not one, or comes from another configuration.
    """
    meta = read_meta(content, "cooccurrence_request", ("run", "config_sha256"), (_PRIOR,))
    config = read_expected(meta, "config_sha256", config_sha256)
    return CooccurrenceRequest(read_run(meta), config, read_vector(content, _PRIOR, _PRIOR))


def encode_cooccurrence_reply(reply: CooccurrenceReply) -> RecordDict:
    """The record of a co-occurrence reply."""
    meta: dict[str, Scalar] = {
        "site": reply.site,
        "config_sha256": reply.config_sha256,
        "declared_units": reply.declared_units,
        "release": reply.release.model_dump_json(),
    }
    arrays = {COOCCURRENCE_TENSOR: cells_payload(reply.cells)}
    return write_record("cooccurrence_reply", meta, arrays)


def decode_cooccurrence_reply(
    content: RecordDict, *, run: str, config_sha256: str, cells: int
) -> CooccurrenceReply:
    """Reads a co-occurrence reply of `cells` cells; its record must describe these bytes.

    Raises:
        MessageError: Anything differs. Cells that are not finite are *not* a fault of the
            message: the caller records them and leaves them out.
    """
    fields = ("site", "config_sha256", "declared_units", "release")
    meta = read_meta(content, "cooccurrence_reply", fields, (COOCCURRENCE_TENSOR,))
    site = read_site(meta)
    read_expected(meta, "config_sha256", config_sha256)
    values = read_vector(content, COOCCURRENCE_TENSOR, COOCCURRENCE_TENSOR)
    if len(values) != cells:
        raise MessageError(
            f"co-occurrence of {site} has {len(values)} cells, {cells} are expected; "
            "give all sites the same catalogue"
        )
    release = read_release(
        meta, kind="cooccurrence", site=site, run=run, server_round=POPULARITY_ROUND
    )
    check_payload(release, cells_payload(values))
    return CooccurrenceReply(site, config_sha256, values, release, read_declared_units(meta))
