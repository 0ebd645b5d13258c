"""Settings of a scenario that follow the privacy budget: its ``[[budget]]`` tables.

A recipe tuned for one ε is a bad one at another: fewer rounds, longer steps and fewer item
codes suit a small budget. A table says up to which ε its settings hold, or that they are for
runs without privacy::

    [[budget]]
    epsilon_at_most = 4.5
    federation.rounds = 1

    [[budget]]
    no_privacy = true
    federation.local_optimizer = "adam"

One table at most is used: the tightest that the run's ε fits. Mode and ε themselves are no
settings of a table, because they choose it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from common.config import PrivacyConfig
from common.config_faults import (
    KEYS,
    SECTIONS,
    field_fault,
    refused_names,
    shown,
    unknown_key_fault,
)

BUDGET = "budget"
BOUND, NO_PRIVACY = "epsilon_at_most", "no_privacy"
CHOOSING_KEYS = ("privacy.mode", "privacy.target_epsilon")

KEYS_TEXT = """\
# A scenario may hold settings that follow the budget. The tightest table that the run's ε fits is
# used; its keys lie over the scenario's sections and under --set. `flwr run` has no such tables.
# [[budget]]
# epsilon_at_most = 4.5      # used in a private mode where privacy.target_epsilon <= this
# federation.rounds = 1      # any keys but privacy.mode and privacy.target_epsilon
# [[budget]]
# no_privacy = true          # used where privacy.mode is none"""


class BudgetTable(NamedTuple):
    """One ``[[budget]]`` table.

    Attributes:
        epsilon_at_most: its bound; None: it is for runs without privacy.
        source: where it stands, as faults name it.
        settings: dotted keys with values that their fields take.
    """

    epsilon_at_most: float | None
    source: str
    settings: Mapping[str, object]


def read_budget_tables(tables: object, source: str, faults: list[str]) -> list[BudgetTable]:
    """Return the tables that can be used, and add what is wrong with any to `faults`.

    Args:
        tables: what a scenario holds under ``budget``.
        source: the scenario's name.
        faults: gets one line for each fault, also of tables that no run would use.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        faults.append(
            f"budget must be written as tables in {source}; begin each with [[budget]] "
            f"and {BOUND} = 4.5, say"
        )
        return []
    read: list[BudgetTable] = []
    for number, table in enumerate(tables, start=1):
        place = f"[[budget]] {number} of {source}"
        found = len(faults)
        bound = _bound(table, place, faults)
        settings = _settings(table, place, faults)
        if len(faults) > found:
            continue
        if any(other.epsilon_at_most == bound for other in read):
            what = f"{NO_PRIVACY} = true" if bound is None else f"{BOUND} = {bound:g}"
            faults.append(f"{what} in {place} stands in another table too; put them into one")
        else:
            read.append(BudgetTable(bound, place, settings))
    return read


def budget_table_for(
    tables: Sequence[BudgetTable], given: Mapping[str, object]
) -> BudgetTable | None:
    """Return the table that a run uses, or None.

    Args:
        tables: of the scenario.
        given: what all other sources together say, by dotted key; where mode or ε is at
            fault, no table is used.
    """
    chosen = {key.partition(".")[2]: given[key] for key in CHOOSING_KEYS if key in given}
    if refused_names(PrivacyConfig, chosen):
        return None
    privacy = PrivacyConfig.model_validate(chosen)
    if privacy.mode == "none":
        return next((table for table in tables if table.epsilon_at_most is None), None)
    fitting = [
        (table.epsilon_at_most, table)
        for table in tables
        if table.epsilon_at_most is not None and privacy.target_epsilon <= table.epsilon_at_most
    ]
    return min(fitting, default=(None, None), key=lambda entry: entry[0] or 0.0)[1]


def _bound(table: Mapping[str, object], place: str, faults: list[str]) -> float | None:
    """The table's bound on ε; None where it is for runs without privacy, or at fault."""
    if (BOUND in table) == (NO_PRIVACY in table):
        got = "both" if BOUND in table else "neither"
        faults.append(
            f"{place} must hold {BOUND} or {NO_PRIVACY} = true, got {got}; "
            "say for which budget its settings are"
        )
        return None
    if NO_PRIVACY in table:
        if table[NO_PRIVACY] is not True:
            faults.append(
                f"{NO_PRIVACY} must be true, got {shown(table[NO_PRIVACY])} in {place}; "
                f"set it to true, or give {BOUND}"
            )
        return None
    bound = table[BOUND]
    is_number = isinstance(bound, int | float) and not isinstance(bound, bool)
    if is_number and 0 < bound <= sys.float_info.max:  # type: ignore[operator]  # a number
        return float(bound)  # type: ignore[arg-type]  # checked above
    faults.append(
        f"{BOUND} must be a number above 0, finite, got {shown(bound)} in {place}; "
        f"for runs without privacy write {NO_PRIVACY} = true"
    )
    return None


def _settings(table: Mapping[str, object], place: str, faults: list[str]) -> dict[str, object]:
    settings: dict[str, object] = {}
    for section, keys in table.items():
        if section in (BOUND, NO_PRIVACY):
            continue
        if isinstance(keys, dict):
            settings |= {f"{section}.{key}": value for key, value in keys.items()}
        else:
            faults.append(unknown_key_fault(section, keys, place))
    for key, value in settings.items():
        if key not in KEYS:
            faults.append(unknown_key_fault(key, value, place))
        elif key in CHOOSING_KEYS:
            faults.append(
                f"{key} (= {shown(value)}) cannot stand in {place}, because it chooses the table; "
                f"put it under [privacy]"
            )
        else:
            faults.extend(_value_fault(key, value, place))
    return settings


def _value_fault(key: str, value: object, place: str) -> list[str]:
    section, _, name = key.partition(".")
    is_refused = refused_names(SECTIONS[section], {name: value})
    return [field_fault(key, value, place)] if is_refused else []
