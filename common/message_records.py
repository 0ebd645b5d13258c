"""Strict reading and writing of Flower records: exact keys, types, shapes and sizes.

Every message is one `meta` ConfigRecord with a `kind` and a `schema_version`, plus named
ArrayRecords. A tensor travels as little-endian float32 bytes and nothing else, so that
reading it parses no header and can allocate no more than the receiver expects. Whatever
differs from what the receiver expects raises `MessageError`; the numbers' finiteness is
the caller's concern.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from common.adapters import Adapter, check_same_shapes
from common.errors import MessageError

SCHEMA_VERSION = 1
META = "meta"
TENSOR_FORMAT = "fedrec.float32.le"
MAX_ITEMS = 10_000_000
MAX_TEXT = 65_536

_SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Shapes = Mapping[str, tuple[int, ...]]
Scalar = str | int | float | bytes | list[str]
_T = TypeVar("_T", str, int, float, bytes)


def write_record(
    kind: str, meta: Mapping[str, Scalar], arrays: Mapping[str, Adapter]
) -> RecordDict:
    """Builds the record of one message.

    Raises:
        MessageError: A tensor is not float32.
    """
    content = RecordDict(
        {META: ConfigRecord({"kind": kind, "schema_version": SCHEMA_VERSION, **meta})}
    )
    for name, adapter in arrays.items():
        content[name] = write_arrays(adapter)
    return content


def write_arrays(adapter: Adapter) -> ArrayRecord:
    """Named float32 tensors as an ArrayRecord, sorted by name."""
    return ArrayRecord({name: _write_array(name, adapter[name]) for name in sorted(adapter)})


def _write_array(name: str, array: npt.NDArray[np.float32]) -> Array:
    if array.dtype != np.float32:
        raise MessageError(
            f"tensor {name} to be sent has dtype {array.dtype}; convert it to float32 first"
        )
    data = np.asarray(array, dtype="<f4", order="C").tobytes()
    return Array("float32", tuple(int(n) for n in array.shape), TENSOR_FORMAT, data)


def kind_of(content: RecordDict) -> str:
    """The message's kind, or an empty string when it states none."""
    meta = content.config_records.get(META)
    kind = meta.get("kind") if meta is not None else None
    return kind if isinstance(kind, str) else ""


def read_meta(
    content: RecordDict, kind: str, fields: Collection[str], arrays: Collection[str] = ()
) -> ConfigRecord:
    """The meta record, after checking the names of records, its keys, kind and version.

    Args:
        content: the record that arrived.
        kind: the kind that the receiver expects.
        fields: keys of the meta record beside `kind` and `schema_version`.
        arrays: names of the ArrayRecords.

    Raises:
        MessageError: Any of them differs.
    """
    if kind_of(content) != kind:
        raise MessageError(f"expected a {kind!r} message, got {_short(kind_of(content))}")
    _check_names(f"{kind} message", {META, *arrays}, set(content.keys()))
    if set(content.array_records) != set(arrays):
        raise MessageError(f"{kind} message: {sorted(arrays)} must be array records")
    meta = content.config_records[META]
    _check_names(f"{kind} message's meta", {"kind", "schema_version", *fields}, set(meta))
    version = read(meta, "schema_version", int)
    if version != SCHEMA_VERSION:
        raise MessageError(
            f"{kind} message has schema_version {version}, this side reads {SCHEMA_VERSION}; "
            "install the same fedrec version on server and sites"
        )
    return meta


def read(meta: ConfigRecord, key: str, kind: type[_T]) -> _T:
    """The value at `key`, exactly of type `kind` (a bool is no int)."""
    value = meta[key]
    if type(value) is not kind:
        raise MessageError(f"message field {key} must be {kind.__name__}, got {_short(value)}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise MessageError(f"message field {key} has {len(value)} characters, limit {MAX_TEXT}")
    return value


def read_payload(meta: ConfigRecord, limit: int) -> bytes:
    """The bytes at ``payload``, at most `limit`."""
    payload = read(meta, "payload", bytes)
    if len(payload) > limit:
        raise MessageError(f"message field payload has {len(payload)} bytes, limit {limit}")
    return payload


def read_expected(meta: ConfigRecord, key: str, expected: _T) -> _T:
    """The value at `key`, which must equal `expected`."""
    value = read(meta, key, type(expected))
    if value != expected:
        raise MessageError(
            f"message field {key} is {_short(value)}, expected {_short(expected)}; "
            "server and site must be in the same run, round and configuration"
        )
    return value


def read_site(meta: ConfigRecord) -> str:
    """The site's name: letters, digits, dot, dash, underscore (it names files)."""
    return check_site_name(read(meta, "site", str))


def check_site_name(site: object) -> str:
    """`site`, if a site may be called so."""
    if not isinstance(site, str) or _SITE_NAME.fullmatch(site) is None:
        raise MessageError(
            f"site name {_short(site)} is not allowed; use at most 100 letters, digits, . _ -"
        )
    return site


def read_arrays(arrays: ArrayRecord, shapes: Shapes) -> Adapter:
    """The tensors of `arrays`, whose names, shapes, dtype and sizes must be as expected."""
    check_same_shapes(shapes, {name: tuple(array.shape) for name, array in arrays.items()})
    return {name: _read_array(name, arrays[name], shapes[name]) for name in sorted(shapes)}


def read_vector(content: RecordDict, record: str, name: str) -> npt.NDArray[np.float32]:
    """The one tensor `name` of `record`: a vector over the catalogue, of any length."""
    arrays = content.array_records[record]
    _check_names(record, {name}, set(arrays))
    shape = tuple(arrays[name].shape)
    if len(shape) != 1 or not 0 <= shape[0] <= MAX_ITEMS:
        raise MessageError(
            f"{record} has shape {_short(shape)}; it must be a vector of at most {MAX_ITEMS} items"
        )
    return _read_array(name, arrays[name], shape)


def _read_array(name: str, array: Array, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    if array.dtype != "float32" or array.stype != TENSOR_FORMAT:
        raise MessageError(
            f"tensor {name} is {_short(array.dtype)} in format {_short(array.stype)}, "
            f"expected float32 in format {TENSOR_FORMAT}"
        )
    if len(array.data) != 4 * math.prod(shape):
        raise MessageError(
            f"tensor {name} has {len(array.data)} bytes, shape {shape} needs {4 * math.prod(shape)}"
        )
    values = np.frombuffer(array.data, dtype="<f4").reshape(shape)
    return values.astype(np.float32, copy=True)


def _check_names(where: str, expected: set[str], got: set[str]) -> None:
    if expected != got:
        raise MessageError(
            f"{where} has missing keys {sorted(expected - got)[:3]} "
            f"and surplus keys {_short(sorted(got - expected)[:3])}"
        )


def _short(value: object) -> str:
    """A value from outside, cut and quoted so that an error stays one line."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
