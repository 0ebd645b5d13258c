"""Codecs of what a site answers: releases, metric sums, refusals."""

from __future__ import annotations

import math

from flwr.app import ConfigRecord, RecordDict
from pydantic import ValidationError

from common.adapters import Adapter
from common.errors import MessageError
from common.message_records import (
    Scalar,
    Shapes,
    kind_of,
    read,
    read_arrays,
    read_expected,
    read_meta,
    read_site,
    read_vector,
    write_record,
)
from common.message_types import (
    POPULARITY_ROUND,
    EvaluateReply,
    PopularityReply,
    RefusalReply,
    TrainReply,
)
from common.metrics import METRIC_NAMES, MetricSums
from common.release_record import (
    COUNTS_TENSOR,
    ReleaseKind,
    ReleaseRecord,
    counts_payload,
    payload_sha256,
)

MAX_DECLARED_UNITS = 10**12
MAX_REASON = 2000

_UPDATE = "update"
_REFUSAL = "refusal"


def encode_train_reply(reply: TrainReply) -> RecordDict:
    """The record of a train reply."""
    meta: dict[str, Scalar] = {
        "site": reply.site,
        "server_round": reply.server_round,
        "config_sha256": reply.config_sha256,
        "declared_units": reply.declared_units,
        "release": reply.release.model_dump_json(),
    }
    return write_record("train_reply", meta, {_UPDATE: reply.update})


def decode_train_reply(
    content: RecordDict, *, run: str, server_round: int, config_sha256: str, shapes: Shapes
) -> TrainReply:
    """Reads a train reply; its release record must describe exactly these bytes.

    Args:
        content: the record that arrived.
        run: the server's run.
        server_round: the round that was asked for.
        config_sha256: the server's configuration hash.
        shapes: the global adapter's tensor shapes by name.

    Raises:
        MessageError: Anything differs. A non-finite update is *not* a fault of the
            message: the caller records it and leaves it out.
    """
    fields = ("site", "server_round", "config_sha256", "declared_units", "release")
    meta = read_meta(content, "train_reply", fields, (_UPDATE,))
    site = read_site(meta)
    read_expected(meta, "server_round", server_round)
    read_expected(meta, "config_sha256", config_sha256)
    update = read_arrays(content.array_records[_UPDATE], shapes)
    release = read_release(meta, kind="update", site=site, run=run, server_round=server_round)
    check_payload(release, update)
    return TrainReply(site, server_round, config_sha256, update, release, read_declared_units(meta))


def encode_popularity_reply(reply: PopularityReply) -> RecordDict:
    """The record of a popularity reply."""
    meta: dict[str, Scalar] = {
        "site": reply.site,
        "config_sha256": reply.config_sha256,
        "declared_units": reply.declared_units,
        "release": reply.release.model_dump_json(),
    }
    return write_record("popularity_reply", meta, {COUNTS_TENSOR: {COUNTS_TENSOR: reply.counts}})


def decode_popularity_reply(
    content: RecordDict, *, run: str, config_sha256: str
) -> PopularityReply:
    """Reads a popularity reply; arguments and errors as in `decode_train_reply`."""
    fields = ("site", "config_sha256", "declared_units", "release")
    meta = read_meta(content, "popularity_reply", fields, (COUNTS_TENSOR,))
    site = read_site(meta)
    read_expected(meta, "config_sha256", config_sha256)
    counts = read_vector(content, COUNTS_TENSOR, COUNTS_TENSOR)
    if not len(counts):
        raise MessageError(f"popularity reply of {site} has no counts; its catalogue is empty")
    release = read_release(
        meta, kind="popularity", site=site, run=run, server_round=POPULARITY_ROUND
    )
    check_payload(release, counts_payload(counts))
    return PopularityReply(site, config_sha256, counts, release, read_declared_units(meta))


def encode_evaluate_reply(reply: EvaluateReply) -> RecordDict:
    """The record of an evaluate reply."""
    sums = {name: float(getattr(reply.sums, name)) for name in METRIC_NAMES}
    meta: dict[str, Scalar] = {
        "site": reply.site,
        "server_round": reply.server_round,
        "config_sha256": reply.config_sha256,
        "users": int(reply.sums.users),
        "release": reply.release.model_dump_json(),
        **sums,
    }
    return write_record("evaluate_reply", meta, {})


def decode_evaluate_reply(
    content: RecordDict, *, run: str, server_round: int, config_sha256: str
) -> EvaluateReply:
    """Reads an evaluate reply; each sum must lie in [0, users].

    Raises:
        MessageError: Keys, types, round, configuration or ranges are wrong.
    """
    fields = ("site", "server_round", "config_sha256", "users", "release", *METRIC_NAMES)
    meta = read_meta(content, "evaluate_reply", fields)
    site = read_site(meta)
    read_expected(meta, "server_round", server_round)
    read_expected(meta, "config_sha256", config_sha256)
    users = read(meta, "users", int)
    sums = {name: read(meta, name, float) for name in METRIC_NAMES}
    for name, total in sums.items():
        if not (math.isfinite(total) and 0 <= total <= users * (1 + 1e-9)):
            raise MessageError(
                f"{site} sent {name}={total} over {users} users; it must be 0..users"
            )
    release = read_release(meta, kind="metrics", site=site, run=run, server_round=server_round)
    return EvaluateReply(site, server_round, config_sha256, MetricSums(users, **sums), release)


def encode_refusal(reply: RefusalReply) -> RecordDict:
    """The record of a refusal."""
    meta: dict[str, Scalar] = {
        "site": reply.site,
        "server_round": reply.server_round,
        "code": reply.code,
        "reason": reply.reason[:MAX_REASON],
    }
    return write_record(_REFUSAL, meta, {})


def is_refusal(content: RecordDict) -> bool:
    """Whether the record says that it is a refusal."""
    return kind_of(content) == _REFUSAL


def decode_refusal(content: RecordDict, *, server_round: int) -> RefusalReply:
    """Reads a refusal.

    Raises:
        MessageError: The record is not one, or answers another round.
    """
    meta = read_meta(content, _REFUSAL, ("site", "server_round", "code", "reason"))
    site = read_site(meta) if meta["site"] != "" else ""
    code, reason = read(meta, "code", str), read(meta, "reason", str)
    if not code.isidentifier() or len(code) > 80 or len(reason) > MAX_REASON:
        raise MessageError(f"refusal has code {code[:40]!a} and {len(reason)} characters of reason")
    return RefusalReply(site, read_expected(meta, "server_round", server_round), code, reason)


def read_declared_units(meta: ConfigRecord) -> int:
    """The number of units that a site declares."""
    units = read(meta, "declared_units", int)
    if not 1 <= units <= MAX_DECLARED_UNITS:
        raise MessageError(f"declared_units must be 1..{MAX_DECLARED_UNITS}, got {units}")
    return units


def read_release(
    meta: ConfigRecord, *, kind: ReleaseKind, site: str, run: str, server_round: int
) -> ReleaseRecord:
    """The release record, which must name this site, run, round and kind."""
    try:
        release = ReleaseRecord.model_validate_json(read(meta, "release", str))
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MessageError(
            f"release record of {site} is invalid at {where!a}: {first['msg']}"
        ) from None
    stated = (release.kind, release.site, release.run, release.server_round)
    if stated != (kind, site, run, server_round):
        raise MessageError(
            f"release record of {site} describes {stated!a}, expected {(kind, site, run)!a} "
            f"in round {server_round}"
        )
    return release


def check_payload(release: ReleaseRecord, payload: Adapter) -> None:
    """Raises `MessageError` unless the record describes exactly this payload."""
    if release.tensors != sorted(payload):
        raise MessageError(f"release record of {release.site} names other tensors than were sent")
    if release.payload_sha256 != payload_sha256(payload):
        raise MessageError(
            f"release record of {release.site} states payload_sha256 "
            f"{release.payload_sha256[:12]}…, which is not the hash of what was sent"
        )
