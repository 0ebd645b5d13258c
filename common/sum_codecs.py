"""Codecs of what a sum over all sites needs: enrolment, and the stages of its protocol."""

from __future__ import annotations

import hashlib
import re
from typing import cast, get_args

import numpy as np
from flwr.app import ConfigRecord, RecordDict

from common.adapters import Adapter
from common.errors import MessageError
from common.message_records import (
    Scalar,
    Shapes,
    check_site_name,
    read,
    read_arrays,
    read_expected,
    read_meta,
    read_payload,
    read_site,
    read_vector,
    write_record,
)
from common.message_types import (
    EnrolReply,
    EnrolRequest,
    SumPurpose,
    SumReply,
    SumRequest,
    SumStage,
)
from common.release_record import ReleaseRecord
from common.reply_codecs import read_declared_units, read_release
from common.request_codecs import read_run

RELEASING: tuple[SumStage, ...] = ("mask_input", "exact")
"""The stages whose answer is a release; before it, a site trains."""

MAX_PAYLOAD = 2**30
MAX_SITES = 1000
MAX_ITEMS = 10_000_000

_ADAPTER = "adapter"
_PRIOR = "item_prior"
_NO_PRIOR = np.zeros(0, dtype=np.float32)
_KEY = re.compile(r"[0-9a-f]{64}")
_SUM_FIELDS = ("run", "server_round", "config_sha256", "purpose", "stage", "participants")


def encode_enrol_request(request: EnrolRequest) -> RecordDict:
    """The record of an enrol request."""
    meta: dict[str, Scalar] = {"run": request.run, "config_sha256": request.config_sha256}
    return write_record("enrol_request", meta, {})


def decode_enrol_request(content: RecordDict, *, config_sha256: str) -> EnrolRequest:
    """Reads an enrol request.

    Raises:
        MessageError: The record is not one, or comes from another configuration.
    """
    meta = read_meta(content, "enrol_request", ("run", "config_sha256"))
    return EnrolRequest(read_run(meta), read_expected(meta, "config_sha256", config_sha256))


def encode_enrol_reply(reply: EnrolReply) -> RecordDict:
    """The record of an enrol reply."""
    return write_record("enrol_reply", dict(vars(reply)), {})


def decode_enrol_reply(content: RecordDict, *, config_sha256: str) -> EnrolReply:
    """Reads an enrol reply.

    Raises:
        MessageError: The record is not one, or comes from another configuration.
    """
    meta = read_meta(content, "enrol_reply", tuple(EnrolReply.__dataclass_fields__))
    size = read(meta, "catalogue_size", int)
    if not 1 <= size <= MAX_ITEMS:
        raise MessageError(f"catalogue_size must be 1..{MAX_ITEMS}, got {size}")
    return EnrolReply(
        site=read_site(meta),
        config_sha256=read_expected(meta, "config_sha256", config_sha256),
        identity=_hex_key(meta, "identity"),
        declared_units=read_declared_units(meta),
        catalogue_size=size,
        catalogue_sha256=_hex_key(meta, "catalogue_sha256"),
    )


def encode_sum_request(request: SumRequest) -> RecordDict:
    """The record of a sum request; adapter and prior travel where the site works with them."""
    meta: dict[str, Scalar] = {
        "run": request.run,
        "server_round": request.server_round,
        "config_sha256": request.config_sha256,
        "purpose": request.purpose,
        "stage": request.stage,
        "participants": list(request.participants),
        "payload": request.payload,
    }
    arrays: dict[str, Adapter] = {
        _ADAPTER: request.adapter,
        _PRIOR: {_PRIOR: request.item_prior},
    }
    arrays = {name: arrays[name] for name in _carried(request.purpose, request.stage)}
    return write_record("sum_request", meta, arrays)


def decode_sum_request(content: RecordDict, *, config_sha256: str, shapes: Shapes) -> SumRequest:
    """Reads a sum request.

    Args:
        content: the record that arrived.
        config_sha256: hash of the site's own view of the configuration.
        shapes: the adapter's tensor shapes by name, from the site's own model.

    Raises:
        MessageError: Keys, types, shapes, sizes or the configuration differ.
    """
    arrays = tuple(name for name in (_ADAPTER, _PRIOR) if name in content.array_records)
    meta = read_meta(content, "sum_request", (*_SUM_FIELDS, "payload"), arrays)
    purpose, stage = read(meta, "purpose", str), read(meta, "stage", str)
    if purpose not in get_args(SumPurpose) or stage not in get_args(SumStage):
        raise MessageError(f"no sum has purpose {purpose[:40]!a} and stage {stage[:40]!a}")
    due = _carried(purpose, stage)
    if arrays != due:
        must = " and ".join(due) or "no arrays"
        raise MessageError(f"stage {stage} of a sum of purpose {purpose} must carry {must}")
    server_round = read(meta, "server_round", int)
    if server_round < 0 or (server_round == 0) != (purpose != "update"):
        raise MessageError(f"server_round {server_round} does not fit purpose {purpose}")
    return SumRequest(
        run=read_run(meta),
        server_round=server_round,
        config_sha256=read_expected(meta, "config_sha256", config_sha256),
        purpose=cast(SumPurpose, purpose),
        stage=cast(SumStage, stage),
        participants=_participants(meta),
        payload=read_payload(meta, MAX_PAYLOAD),
        adapter=read_arrays(content.array_records[_ADAPTER], shapes) if _ADAPTER in due else {},
        item_prior=read_vector(content, _PRIOR, _PRIOR) if _PRIOR in due else _NO_PRIOR,
    )


def encode_sum_reply(reply: SumReply) -> RecordDict:
    """The record of a sum reply."""
    meta: dict[str, Scalar] = {
        "site": reply.site,
        "server_round": reply.server_round,
        "config_sha256": reply.config_sha256,
        "stage": reply.stage,
        "payload": reply.payload,
        "release": "" if reply.release is None else reply.release.model_dump_json(),
    }
    return write_record("sum_reply", meta, {})


def decode_sum_reply(content: RecordDict, *, asked: SumRequest, limit: int) -> SumReply:
    """Reads a sum reply; a release record must describe exactly these bytes.

    Args:
        content: the record that arrived.
        asked: the request that it answers.
        limit: bytes that the stage's message can have at most.

    Raises:
        MessageError: Anything differs from what was asked for.
    """
    fields = ("site", "server_round", "config_sha256", "stage", "payload", "release")
    meta = read_meta(content, "sum_reply", fields)
    site, payload = read_site(meta), read_payload(meta, limit)
    read_expected(meta, "server_round", asked.server_round)
    read_expected(meta, "config_sha256", asked.config_sha256)
    read_expected(meta, "stage", asked.stage)
    release: ReleaseRecord | None = None
    if asked.stage in RELEASING:
        release = read_release(
            meta, kind=asked.purpose, site=site, run=asked.run, server_round=asked.server_round
        )
        if release.payload_sha256 != hashlib.sha256(payload).hexdigest():
            raise MessageError(f"release record of {site} is not of the bytes that it sent")
    else:
        read_expected(meta, "release", "")
    return SumReply(site, asked.server_round, asked.config_sha256, asked.stage, payload, release)


def _carried(purpose: str, stage: str) -> tuple[str, ...]:
    """What a site needs at this stage to make its part."""
    if stage not in RELEASING:
        return ()
    return {"update": (_ADAPTER, _PRIOR), "cooccurrence": (_PRIOR,)}.get(purpose, ())


def _participants(meta: ConfigRecord) -> tuple[str, ...]:
    listed = meta["participants"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_SITES:
        raise MessageError(f"participants must be a list of 1 to {MAX_SITES} sites")
    names = [check_site_name(name) for name in listed]
    if names != sorted(set(names)):
        raise MessageError("participants must be sorted, and each named once")
    return tuple(names)


def _hex_key(meta: ConfigRecord, field: str) -> str:
    key = read(meta, field, str)
    if _KEY.fullmatch(key) is None:
        raise MessageError(f"message field {field} must be 64 hexadecimal digits")
    return key
