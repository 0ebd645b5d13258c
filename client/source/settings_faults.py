"""What is wrong across the keys of ``source.toml``; worked out on the bare document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from client.source.settings import WHERE_KEYS
from client.source.text_template import template_columns

SCHEMES = ("postgresql", "postgresql+psycopg", "sqlite")
TIME_FORMATS = ("auto", "unix", "unix_ms", "iso")
_DIRECTIVES = re.compile(r"%([YmdHMSyjbBpIeTDFRz%])")
_BUILT_IN = ("user_id",)


def cross_faults(document: Mapping[str, Any]) -> dict[str, str]:
    """Faults by key, of a document that may have other faults, too."""
    source = _section(document, "source")
    kind = source.get("kind")
    faults = dict(_connection_faults(source, kind))
    for name in ("interactions", "users", "items"):
        if name in document:
            faults |= _place_faults(name, _section(document, name), kind)
    faults |= _items_faults(_section(document, "items"))
    faults |= _time_faults(source, _section(document, "interactions"))
    faults |= _filter_faults(document)
    attributes = _section(document, "users").get("attributes")
    if isinstance(attributes, dict) and any(name in attributes for name in _BUILT_IN):
        faults["users.attributes"] = (
            "users.attributes names an attribute user_id; an id is no attribute: leave it out"
        )
    return faults


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _text(section: Mapping[str, Any], key: str) -> str:
    found = section.get(key)
    return found if isinstance(found, str) else ""


def _connection_faults(source: Mapping[str, Any], kind: object) -> Iterator[tuple[str, str]]:
    url = _text(source, "url")
    if kind == "sql" and not url:
        yield (
            "source.url",
            "source.url is missing; for instance postgresql+psycopg://reader@db.internal:5432/shop",
        )
    if kind != "sql":
        for key in ("url", "password_env", "password_file"):
            if _text(source, key):
                yield f"source.{key}", f"source.{key} is for kind = sql; leave it out"
    if url:
        yield from _url_faults(url)
    if _text(source, "password_env") and _text(source, "password_file"):
        yield (
            "source.password_file",
            "source.password_env and source.password_file are both given; keep one of them",
        )


def _url_faults(url: str) -> Iterator[tuple[str, str]]:
    """The address itself is never shown: it may hold a password."""
    try:
        parts = urlsplit(url)
        has_password = parts.password is not None
    except ValueError:
        yield "source.url", "source.url is no address; write SCHEME://USER@HOST:PORT/DATABASE"
        return
    if parts.scheme not in SCHEMES:
        yield (
            "source.url",
            "source.url must begin with postgresql+psycopg:// or sqlite:///; export other "
            "databases to Parquet",
        )
    elif has_password or any("pass" in key.lower() for key, _ in parse_qsl(parts.query)):
        yield (
            "source.url",
            "source.url holds a password; take it out, change it at the database, and name "
            "password_env or password_file instead",
        )


def _place_faults(name: str, section: Mapping[str, Any], kind: object) -> dict[str, str]:
    given = [key for key in WHERE_KEYS if _text(section, key)]
    wanted = ("table", "query") if kind == "sql" else ("file",)
    if name == "items" and _text(section, "catalogue"):
        return {f"items.{key}": f"items.{key} stands beside catalogue; keep one" for key in given}
    faults = {
        f"{name}.{key}": f"{name}.{key} is not for kind = {kind}; use {' or '.join(wanted)}"
        for key in given
        if key not in wanted and kind in ("csv", "parquet", "sql")
    }
    if not given:
        also = " or catalogue" if name == "items" else ""
        faults[f"{name}.{wanted[0]}"] = f"{name} has no place; give {' or '.join(wanted)}{also}"
    elif len(given) > 1 and not faults:
        faults[f"{name}.{given[-1]}"] = f"{name} has both {' and '.join(given)}; keep one of them"
    return faults


def _items_faults(items: Mapping[str, Any]) -> dict[str, str]:
    if not items or _text(items, "catalogue"):
        return {}
    faults = {}
    if not _text(items, "item_id"):
        faults["items.item_id"] = "items.item_id (the column of the items' ids) is missing; add it"
    try:
        columns = template_columns(_text(items, "text"))
    except ValueError as error:
        faults["items.text"] = f"items.text is no template: {error}; write for instance {{title}}"
    else:
        if not columns:
            faults["items.text"] = "items.text names no column; write for instance {title}. {brand}"
    return faults


def _time_faults(source: Mapping[str, Any], interactions: Mapping[str, Any]) -> dict[str, str]:
    faults = {}
    zone = source.get("time_zone", "UTC")
    try:
        ZoneInfo(str(zone))
    except (KeyError, ValueError, OSError):
        faults["source.time_zone"] = (
            "source.time_zone is not known on this machine; write for instance Europe/Berlin, "
            "or install tzdata"
        )
    form = interactions.get("time_format", "auto")
    if isinstance(form, str) and form not in TIME_FORMATS:
        rest = _DIRECTIVES.sub("", form)
        if "%" in rest or rest == form:
            faults["interactions.time_format"] = (
                f"interactions.time_format must be one of {', '.join(TIME_FORMATS)}, or a pattern "
                "such as %d.%m.%Y %H:%M:%S; correct it"
            )
    return faults


def _filter_faults(document: Mapping[str, Any]) -> dict[str, str]:
    faults = {}
    for name in ("interactions", "users", "items"):
        filters = _section(document, name).get("filters", [])
        for number, each in enumerate(filters if isinstance(filters, list) else []):
            if isinstance(each, dict) and set(each) <= {"column"}:
                key = f"{name}.filters.{number}"
                faults[key] = f"{key} has no condition; add for instance equals or present"
    return faults
