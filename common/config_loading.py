"""Read a `RunConfig` from a TOML scenario, from Flower's run config and from ``--set``.

The three are laid over each other in that order, so that the most specific wins; a
scenario's ``[[budget]]`` table that fits the run's ε lies over its sections. All faults of
all are collected and raised as one `ConfigError`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from common.budget_tables import BUDGET, BudgetTable, budget_table_for, read_budget_tables
from common.config import RunConfig, Section
from common.config_faults import (
    KEYS,
    SECTIONS,
    field_fault,
    refused_names,
    shown,
    unknown_key_fault,
    unknown_section_fault,
)
from common.cross_faults import cross_faults
from common.errors import ConfigError
from common.run_keys import without_run_keys

SCHEMA_VERSION = 1
"""Version of the layout of a configuration in TOML; a file may name it, or leave it out."""
FLAT_SOURCE = "the run config"


class _Given(NamedTuple):
    value: object
    source: str


def load_config(
    *,
    scenario: Path | None = None,
    flat: Mapping[str, object] | None = None,
    overrides: Sequence[str] = (),
    flat_source: str = FLAT_SOURCE,
) -> RunConfig:
    """Return the configuration that scenario, flat config and overrides give together.

    Args:
        scenario: TOML file with the sections of `RunConfig`; None: the defaults.
        flat: dotted keys with plain values, Flower's run config; laid over the scenario.
            Keys of `common.run_keys` are none of the configuration and are passed over.
        overrides: ``section.key=value`` each, laid over the two; the value is read as
            TOML, and as plain text where it is no TOML scalar.
        flat_source: where `flat` stands, as faults name it.

    Returns:
        The checked, frozen configuration; what nobody gave has its default.

    Raises:
        ConfigError: with *all* faults, each with its name, its value and the remedy.
    """
    flat = without_run_keys(flat or {})
    plain = all(isinstance(value, int | float | str) for value in flat.values())
    if scenario is None and flat and plain and not overrides:
        return _from_flat(tuple(sorted((key, type(v), v) for key, v in flat.items())))
    return _loaded(scenario, flat, overrides, flat_source)


@lru_cache(maxsize=16)
def _from_flat(items: tuple[tuple[str, type, Any], ...]) -> RunConfig:
    """Remembered by keys, types and values: every message of a run carries the same ones."""
    flat = {key: value for key, _, value in items}
    return _loaded(None, flat, (), FLAT_SOURCE)


def _loaded(
    scenario: Path | None,
    flat: Mapping[str, object] | None,
    overrides: Sequence[str],
    flat_source: str,
) -> RunConfig:
    faults: list[str] = []
    given: dict[str, _Given] = {}
    tables: list[BudgetTable] = []
    if scenario is not None:
        given, tables = _from_scenario(scenario, faults)
    over = {key: _Given(value, flat_source) for key, value in (flat or {}).items()}
    over |= _from_overrides(overrides, faults)
    table = budget_table_for(tables, {key: entry.value for key, entry in (given | over).items()})
    if table is not None:
        given |= {key: _Given(value, table.source) for key, value in table.settings.items()}
    given |= over
    config, bad_keys = _validate(given, faults)
    faults.extend(fault.text for fault in cross_faults(config) if bad_keys.isdisjoint(fault.keys))
    if faults:
        raise ConfigError(faults)
    return config


def config_to_toml(config: RunConfig) -> str:
    """Return `config` as TOML that `load_config` reads back to an equal configuration."""
    return tomli_w.dumps({"schema_version": SCHEMA_VERSION, **config.model_dump()})


def _validate(given: Mapping[str, _Given], faults: list[str]) -> tuple[RunConfig, set[str]]:
    """Return the configuration of all valid keys, and the known keys that are at fault.

    A key at fault has its default in the configuration, so that the checks across keys
    can still run on what is valid.
    """
    by_section: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for key, (value, source) in given.items():
        section, _, name = key.partition(".")
        if key in KEYS:
            by_section[section][name] = value
        else:
            faults.append(unknown_key_fault(key, value, source))
    sections: dict[str, Section] = {}
    bad_keys: set[str] = set()
    for section, model in SECTIONS.items():
        bad_names = refused_names(model, by_section[section])
        for name in bad_names:
            key = f"{section}.{name}"
            faults.append(field_fault(key, *given[key]))
            bad_keys.add(key)
            del by_section[section][name]
        sections[section] = model.model_validate(by_section[section])
    values: dict[str, Any] = dict(sections)
    return RunConfig.model_construct(**values), bad_keys


def _from_scenario(path: Path, faults: list[str]) -> tuple[dict[str, _Given], list[BudgetTable]]:
    document = _document(path, faults)
    tables = document.pop(BUDGET, [])
    return _from_sections(document, path.name, faults), read_budget_tables(
        tables, path.name, faults
    )


def _document(path: Path, faults: list[str]) -> dict[str, Any]:
    """What is in the scenario file; nothing, where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        faults.append(f"scenario {path} cannot be read: {reason}; check its path")
    except UnicodeDecodeError:
        faults.append(f"scenario {path} is not UTF-8 text; save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        faults.append(f"scenario {path} is not valid TOML: {error}; correct that line")
    return {}


def _from_sections(
    document: Mapping[str, Any], source: str, faults: list[str]
) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for section, keys in document.items():
        if section == "schema_version":
            faults.extend(_schema_fault(keys, source))
        elif not isinstance(keys, dict):
            faults.append(
                f"{section} = {shown(keys)} stands outside any section in {source}; "
                f"put it under one of {', '.join(f'[{name}]' for name in SECTIONS)}"
            )
        elif section not in SECTIONS:
            faults.append(unknown_section_fault(section, source))
        else:
            given.update({f"{section}.{key}": _Given(v, source) for key, v in keys.items()})
    return given


def _schema_fault(version: object, source: str) -> list[str]:
    if version == SCHEMA_VERSION and not isinstance(version, bool):
        return []
    return [
        f"schema_version must be {SCHEMA_VERSION}, got {shown(version)} in {source}; "
        "it was written by another version of fedrec: use that version, or rewrite it"
    ]


def _from_overrides(overrides: Sequence[str], faults: list[str]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals or "." not in key:
            faults.append(
                f"--set {shown(override)} is not of the form section.key=value; "
                "write for instance --set privacy.target_epsilon=4"
            )
            continue
        given[key] = _Given(_scalar(text.strip()), "--set")
    return given


def _scalar(text: str) -> int | float | str | bool:
    """Return `text` read as one TOML scalar; as it stands, if it is none."""
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = document.get("value")
    is_one_scalar = len(document) == 1 and isinstance(value, int | float | str | bool)
    return value if is_one_scalar else text  # type: ignore[return-value]  # checked above
