"""Reads ``source.toml``; all faults at once, each with its remedy and without a secret."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from client.source.settings import SourceSettings
from client.source.settings_faults import cross_faults
from common.atomic_files import os_error_line
from common.errors import ConfigError

SOURCE_FILE = "source.toml"
_SHOWN_TYPES = (bool, int, float)


def read_source(folder: Path) -> SourceSettings:
    """The ``source.toml`` of a site's folder.

    Raises:
        ConfigError: with *all* faults, each with its key and the remedy.
    """
    try:
        document = tomllib.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([os_error_line(f"cannot read {SOURCE_FILE}", error)]) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        fault = f"{SOURCE_FILE} is not valid TOML ({_place(error)}); correct it"
        raise ConfigError([fault]) from None  # the parser's words may show a part of the file
    return parse_source(document)


def read_name(folder: Path) -> str:
    """The site's name alone, also where the rest of ``source.toml`` is not filled in yet.

    Raises:
        ConfigError: it is not there.
    """
    try:
        site = tomllib.loads((folder / SOURCE_FILE).read_text(encoding="utf-8")).get("site")
    except OSError as error:
        raise ConfigError([os_error_line(f"cannot read {SOURCE_FILE}", error)]) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        fault = f"{SOURCE_FILE} is not valid TOML ({_place(error)}); correct it"
        raise ConfigError([fault]) from None
    name = site.get("name") if isinstance(site, dict) else None
    if not isinstance(name, str) or not name:
        raise ConfigError([f"site.name is missing; add it ({SOURCE_FILE})"])
    return name


def parse_source(document: Mapping[str, Any]) -> SourceSettings:
    """The settings in a TOML document.

    Raises:
        ConfigError: with *all* faults, each with its key and the remedy.
    """
    faults: dict[str, str] = {}
    settings = None
    try:
        # Through JSON, in which a list of TOML can strictly be a tuple.
        settings = SourceSettings.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False):
            key = ".".join(str(part) for part in _plain(fault["loc"]))
            faults.setdefault(key, _fault(key, fault))
    for key, text in cross_faults(document).items():
        faults.setdefault(key, text)
    if settings is None or faults:
        raise ConfigError([f"{text} ({SOURCE_FILE})" for text in faults.values()])
    return settings


def _fault(key: str, fault: ErrorDetails) -> str:
    model, field = _field(tuple(_plain(fault["loc"])))
    what = "" if field is None else f" ({field.description})"
    if fault["type"] == "missing":
        return f"{key}{what} is missing; add it"
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key.rpartition(".")[2], model.model_fields, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"known: {', '.join(model.model_fields)}"
        return f"unknown key {key}; {remedy}"
    must = fault["msg"][0].lower() + fault["msg"][1:]
    shown = f" = {fault['input']}" if isinstance(fault["input"], _SHOWN_TYPES) else ""
    return f"{key}{what}{shown}: {must}; correct it"


def _plain(location: tuple[int | str, ...]) -> list[int | str]:
    """Without the names of a union's members."""
    return [part for part in location if part not in ("str", "int", "float", "bool", "[key]")]


def _field(location: tuple[int | str, ...]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The section and the field at a location; no field where the key is unknown."""
    model: type[BaseModel] = SourceSettings
    field: FieldInfo | None = None
    for part in location:
        if isinstance(part, int):
            continue
        if field is not None:
            inner = _section(field.annotation)
            if inner is None:
                return model, field
            model = inner
        field = model.model_fields.get(part)
        if field is None:
            return model, None
    return model, field


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)


def _place(error: Exception) -> str:
    """Where TOML is malformed, without the text that stands there."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    _, at, place = str(error).rpartition("(at ")
    return place.rstrip(")") if at else "at its end"
