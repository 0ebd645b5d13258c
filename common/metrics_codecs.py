"""Codec of a site's private metrics: a noised sum, which may be negative or of parts."""

from __future__ import annotations

from flwr.app import RecordDict

from common.errors import MessageError
from common.message_records import (
    Scalar,
    read_arrays,
    read_expected,
    read_meta,
    read_site,
    write_record,
)
from common.message_types import NoisedMetricsReply, Stage
from common.metrics_plan import METRIC_COORDINATES, metrics_tensor
from common.reply_codecs import check_payload, read_declared_units, read_release

_KIND = "noised_metrics_reply"
_SUMS = "sums"


def encode_noised_metrics_reply(reply: NoisedMetricsReply) -> RecordDict:
    """The record of a private metrics reply."""
    meta: dict[str, Scalar] = {
        "site": reply.site,
        "server_round": reply.server_round,
        "config_sha256": reply.config_sha256,
        "declared_units": reply.declared_units,
        "release": reply.release.model_dump_json(),
    }
    return write_record(_KIND, meta, {_SUMS: {metrics_tensor(reply.stage): reply.sums}})


def decode_noised_metrics_reply(
    content: RecordDict, *, run: str, server_round: int, config_sha256: str, stage: Stage
) -> NoisedMetricsReply:
    """Reads a private metrics reply; its release record must describe exactly these bytes.

    Raises:
        MessageError: Anything differs from what was asked for, or the record states no
            Gaussian release. Numbers that are not finite are the caller's concern.
    """
    fields = ("site", "server_round", "config_sha256", "declared_units", "release")
    meta = read_meta(content, _KIND, fields, (_SUMS,))
    site = read_site(meta)
    read_expected(meta, "server_round", server_round)
    read_expected(meta, "config_sha256", config_sha256)
    name = metrics_tensor(stage)
    payload = read_arrays(content.array_records[_SUMS], {name: (len(METRIC_COORDINATES),)})
    release = read_release(meta, kind="metrics", site=site, run=run, server_round=server_round)
    check_payload(release, payload)
    if release.mechanism != "gaussian" or release.event is None:
        raise MessageError(
            f"metrics of {site} were released by mechanism {release.mechanism}, expected "
            "gaussian; server and site must agree on evaluation.metrics"
        )
    units = read_declared_units(meta)
    return NoisedMetricsReply(
        site, server_round, config_sha256, stage, payload[name], release, units
    )
