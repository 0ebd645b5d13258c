"""Codecs of what the server asks: popularity, train, evaluate."""

from __future__ import annotations

from typing import cast

import numpy as np
from flwr.app import ConfigRecord, RecordDict

from common.errors import MessageError
from common.message_records import (
    Scalar,
    Shapes,
    read,
    read_arrays,
    read_expected,
    read_meta,
    read_vector,
    write_record,
)
from common.message_types import EvaluateRequest, PopularityRequest, Stage, TrainRequest

_ADAPTER = "adapter"
_PRIOR = "item_prior"
_WEIGHTS = "item_to_item"
_ARRAYS = (_ADAPTER, _PRIOR)
_NO_WEIGHTS = np.zeros(0, dtype=np.float32)


def encode_popularity_request(request: PopularityRequest) -> RecordDict:
    """The record of a popularity request."""
    meta: dict[str, Scalar] = {"run": request.run, "config_sha256": request.config_sha256}
    return write_record("popularity_request", meta, {})


def decode_popularity_request(content: RecordDict, *, config_sha256: str) -> PopularityRequest:
    """Reads a popularity request.

    Raises:
        MessageError: The record is not one, or comes from another configuration.
    """
    meta = read_meta(content, "popularity_request", ("run", "config_sha256"))
    return PopularityRequest(read_run(meta), read_expected(meta, "config_sha256", config_sha256))


def encode_train_request(request: TrainRequest) -> RecordDict:
    """The record of a train request."""
    meta: dict[str, Scalar] = {
        "run": request.run,
        "server_round": request.server_round,
        "config_sha256": request.config_sha256,
    }
    arrays = {_ADAPTER: request.adapter, _PRIOR: {_PRIOR: request.item_prior}}
    return write_record("train_request", meta, arrays)


def decode_train_request(
    content: RecordDict, *, config_sha256: str, shapes: Shapes
) -> TrainRequest:
    """Reads a train request.

    Args:
        content: the record that arrived.
        config_sha256: hash of the site's own view of the configuration.
        shapes: the adapter's tensor shapes by name, from the site's own model.

    Raises:
        MessageError: Keys, shapes, dtypes, sizes or the configuration differ.
    """
    fields = ("run", "server_round", "config_sha256")
    meta = read_meta(content, "train_request", fields, _ARRAYS)
    return TrainRequest(
        run=read_run(meta),
        server_round=_round(meta),
        config_sha256=read_expected(meta, "config_sha256", config_sha256),
        adapter=read_arrays(content.array_records[_ADAPTER], shapes),
        item_prior=read_vector(content, _PRIOR, _PRIOR),
    )


def encode_evaluate_request(request: EvaluateRequest) -> RecordDict:
    """The record of an evaluate request."""
    meta: dict[str, Scalar] = {
        "run": request.run,
        "server_round": request.server_round,
        "config_sha256": request.config_sha256,
        "stage": request.stage,
    }
    arrays = {_ADAPTER: request.adapter, _PRIOR: {_PRIOR: request.item_prior}}
    if len(request.item_to_item):
        arrays[_WEIGHTS] = {_WEIGHTS: request.item_to_item}
    return write_record("evaluate_request", meta, arrays)


def decode_evaluate_request(
    content: RecordDict, *, config_sha256: str, shapes: Shapes
) -> EvaluateRequest:
    """Reads an evaluate request; arguments and errors as in `decode_train_request`."""
    fields = ("run", "server_round", "config_sha256", "stage")
    weighted = _WEIGHTS in content.array_records
    arrays = (*_ARRAYS, _WEIGHTS) if weighted else _ARRAYS
    meta = read_meta(content, "evaluate_request", fields, arrays)
    stage = read(meta, "stage", str)
    if stage not in ("validation", "test"):
        raise MessageError(f"stage must be validation or test, got {stage[:40]!a}")
    return EvaluateRequest(
        run=read_run(meta),
        server_round=_round(meta),
        config_sha256=read_expected(meta, "config_sha256", config_sha256),
        adapter=read_arrays(content.array_records[_ADAPTER], shapes),
        item_prior=read_vector(content, _PRIOR, _PRIOR),
        stage=cast(Stage, stage),
        item_to_item=read_vector(content, _WEIGHTS, _WEIGHTS) if weighted else _NO_WEIGHTS,
    )


def read_run(meta: ConfigRecord) -> str:
    """The name of the run that a request is of."""
    run = read(meta, "run", str)
    if not 0 < len(run) <= 200:
        raise MessageError(f"run must have 1 to 200 characters, got {len(run)}")
    return run


def _round(meta: ConfigRecord) -> int:
    server_round = read(meta, "server_round", int)
    if server_round < 1:
        raise MessageError(f"server_round must be at least 1, got {server_round}")
    return server_round
