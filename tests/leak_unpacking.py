"""What is packed in bytes: archives, compressed streams, databases, Flower's objects, base64."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from flwr.app import ConfigRecord, MetricRecord
from google.protobuf.message import DecodeError

SQLITE = b"SQLite format 3\0"
ZIP = b"PK\x03\x04"
APART = b"\xff" * 16
RECORD_OBJECT = re.compile(rb"(ConfigRecord|MetricRecord) [0-9a-f,]* (\d+)\0")
_STREAM = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_WRAPPED = re.compile(rb"(?<![A-Za-z0-9+/])(?:[A-Za-z0-9+/]{40,}\r?\n)+[A-Za-z0-9+/]*={0,2}")
_WIDE = re.compile(rb"(?:[\t\n\r -~]\0(?:\0\0)?){12,}|(?:\0(?:\0\0)?[\t\n\r -~]){12,}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){12,}")
_MOST = 1 << 26
_SMALL = 1 << 16
_RECORDS = {b"ConfigRecord": ConfigRecord, b"MetricRecord": MetricRecord}

Unpacking = Callable[[bytes], Iterator[bytes]]


def unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Everything that is packed in `data`, one layer deep, each with a word for how."""
    for name, unpack in UNPACKINGS.items():
        for part in together(part for part in unpack(data) if part != data):
            yield name, part


def together(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The parts, small ones in one: many small searches are slow."""
    small = []
    for part in parts:
        if is_for_itself(part):
            yield part
        elif part:
            small.append(part)
    if small:
        yield APART.join(small)


def is_for_itself(content: bytes) -> bool:
    """Whether it is large, or is unpacked only when it stands alone."""
    return len(content) > _SMALL or content.startswith((SQLITE, b"PAR1")) or ZIP in content


def rows_of_database(path: Path) -> Iterator[bytes]:
    """Every value of an SQLite database, its write-ahead log counted in."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for end in ("", "-wal"):
            if path.with_name(path.name + end).is_file():
                copy.with_name(copy.name + end).write_bytes(
                    path.with_name(path.name + end).read_bytes()
                )
        with closing(sqlite3.connect(copy)) as connection:
            connection.text_factory = bytes
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                words: list[bytes] = []
                for row in connection.execute(f'SELECT * FROM "{table.decode()}"'):
                    for value in row:
                        if isinstance(value, bytes) and len(value) > 64:
                            yield value
                        else:
                            words.append(value if isinstance(value, bytes) else b"%r" % (value,))
                yield b" ".join(words)


def _databases(data: bytes) -> Iterator[bytes]:
    if data.startswith(SQLITE):
        with tempfile.NamedTemporaryFile() as file, suppress(sqlite3.DatabaseError):
            file.write(data)
            file.flush()
            yield from rows_of_database(Path(file.name))


def _archives(data: bytes) -> Iterator[bytes]:
    if ZIP not in data:
        return
    with (
        suppress(zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError),
        zipfile.ZipFile(io.BytesIO(data)) as archive,
    ):
        for name in archive.namelist():
            yield name.encode() + b"\n" + archive.read(name)


def _streams(data: bytes) -> Iterator[bytes]:
    """Of zlib and gzip, wherever they begin."""
    for found in _STREAM.finditer(data):
        with suppress(zlib.error):
            rest = memoryview(data)[found.start() :]
            yield zlib.decompressobj(wbits=47).decompress(rest, _MOST)


def _tables(data: bytes) -> Iterator[bytes]:
    if data.startswith(b"PAR1"):
        with suppress(pa.ArrowException):
            columns = pq.read_table(io.BytesIO(data)).to_pydict()
            yield json.dumps(columns, default=str).encode()


def _objects(data: bytes) -> Iterator[bytes]:
    """Flower's records as text, and the bytes in them; arrays lie bare already."""
    for found in RECORD_OBJECT.finditer(data):
        content = data[found.start() : found.end() + int(found[2])]
        with suppress(ValueError, TypeError, DecodeError):  # one that a page of a database cut
            record = dict(_RECORDS[found[1]].inflate(content))
            yield json.dumps(record, default=_shown, ensure_ascii=False).encode()
            yield from (each for each in record.values() if isinstance(each, bytes))


def _shown(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _base64(data: bytes) -> Iterator[bytes]:
    found = []
    wrapped = [b"".join(run.split()) for run in _WRAPPED.findall(data)]
    for run in (*_BASE64.findall(data), *wrapped):
        text = run.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        with suppress(binascii.Error):
            found.append(base64.b64decode(text[: len(text) - (len(text) % 4 == 1)] + b"=="))
    yield APART.join(found)


def _hexadecimal(data: bytes) -> Iterator[bytes]:
    yield APART.join(bytes.fromhex(run.decode()) for run in _HEX.findall(data))


def _wide_text(data: bytes) -> Iterator[bytes]:
    """UTF-16 and UTF-32 of plain letters and digits, made narrow, wherever it begins."""
    yield APART.join(run.replace(b"\0", b"") for run in _WIDE.findall(data))


UNPACKINGS: dict[str, Unpacking] = {
    "a database": _databases,
    "an archive": _archives,
    "a compressed stream": _streams,
    "a Parquet file": _tables,
    "a Flower record": _objects,
    "base64": _base64,
    "hexadecimal": _hexadecimal,
    "wide text": _wide_text,
}
