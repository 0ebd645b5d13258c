"""Words for what is wrong with a configuration: what was asked, what was given, the remedy."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from common.config import RunConfig, Section

SECTIONS: Mapping[str, type[Section]] = {
    name: field.annotation  # type: ignore[misc]  # every field of RunConfig is a Section
    for name, field in RunConfig.model_fields.items()
}
KEYS: tuple[str, ...] = tuple(
    f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields
)

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_BOUNDS = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}


def refused_names(model: type[Section], values: Mapping[str, object]) -> list[str]:
    """Return the names in `values` that `model` refuses, each once, in the model's order."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        refused = {str(fault["loc"][0]) for fault in error.errors(include_url=False)}
        return [name for name in model.model_fields if name in refused]
    return []


def field_fault(key: str, value: object, source: str) -> str:
    """Say that the known key `key` (``section.name``) got a value it cannot take."""
    section, _, name = key.partition(".")
    field = SECTIONS[section].model_fields[name]
    must = requirement(field)
    if isinstance(value, float) and not math.isfinite(value):
        must += ", finite"
    hint = _closest(value, _choices(field.annotation)) if isinstance(value, str) else None
    remedy = f"did you mean {hint}?" if hint else _default_remedy(field)
    return f"{key} must be {must}, got {shown(value)} in {source}; {remedy}"


def unknown_section_fault(section: str, source: str) -> str:
    """Say that no section is called `section`."""
    hint = _closest(section, SECTIONS)
    remedy = f"did you mean [{hint}]?" if hint else f"the sections are {', '.join(SECTIONS)}"
    return f"unknown section [{section}] in {source}; {remedy}"


def unknown_key_fault(key: str, value: object, source: str) -> str:
    """Say that no key is called `key` (dotted), and which one was probably meant."""
    hint = suggest_key(key)
    section = key.partition(".")[0]
    keys = SECTIONS[section].model_fields if section in SECTIONS else SECTIONS
    what = "keys" if section in SECTIONS else "sections"
    remedy = f"did you mean {hint}?" if hint else f"the {what} are {', '.join(keys)}"
    return f"unknown key {key} (= {shown(value)}) in {source}; {remedy}"


def suggest_key(key: str) -> str | None:
    """Return the known dotted key that `key` most probably stands for, or None."""
    section, _, name = key.rpartition(".")
    elsewhere = [known for known in KEYS if known.endswith(f".{name}")]
    if elsewhere:
        return elsewhere[0]
    in_section = [known for known in KEYS if known.startswith(f"{section}.")]
    close = _closest(key, in_section) or _closest(key, KEYS)
    if close:
        return close
    parts = [known for known in in_section or KEYS if name and name in known.split(".")[1]]
    return parts[0] if len(parts) == 1 else None


def requirement(field: FieldInfo) -> str:
    """Return what a value of `field` must be, such as ``a number above 0 and below 1``."""
    if any(getattr(limit, "pattern", None) for limit in field.metadata):
        return field.description or "text of a certain form"
    return _requirement(field.annotation, field.metadata)


def shown(value: object) -> str:
    """Return `value` as it would stand in a TOML file."""
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _requirement(annotation: Any, limits: Iterable[object]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _requirement(arguments[0], _flat_limits(arguments[1:]))
    if origin in (Union, UnionType):
        return " or ".join(_requirement(argument, ()) for argument in arguments)
    if origin is Literal:
        names = ", ".join(str(choice) for choice in arguments)
        return f"one of {names}" if len(arguments) > 1 else names
    bounds = [
        f"{word} {getattr(limit, name)}"
        for limit in limits
        for name, word in _BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    not_empty = " that is not empty" if annotation is str and _has_minimum(limits) else ""
    return f"{_KINDS[annotation]}{not_empty}{' ' if bounds else ''}{' and '.join(bounds)}"


def _has_minimum(limits: Iterable[object]) -> bool:
    return any(getattr(limit, "min_length", None) for limit in limits)


def _flat_limits(metadata: Iterable[object]) -> list[object]:
    limits: list[object] = []
    for entry in metadata:
        limits.extend(entry.metadata if isinstance(entry, FieldInfo) else [entry])
    return limits


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for argument in get_args(annotation) for choice in _choices(argument)]


def _closest(word: object, known: Iterable[str]) -> str | None:
    matches = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def _default_remedy(field: FieldInfo) -> str:
    return f"correct it, or leave it out for the default {shown(field.default)}"
