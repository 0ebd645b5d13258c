"""What a sweep asks: a scenario, changed keys, values to go through, and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.config_faults import KEYS, shown, suggest_key

SEED_KEYS = ("data.seed", "federation.seed")


@dataclass(frozen=True)
class Dimension:
    """A key and the values that it goes through, as they were written."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A sweep's question.

    Attributes:
        scenario: name of the scenario, for people.
        overrides: ``section.key=value`` each, for every run.
        dimensions: the sweep goes through the product of all of them.
        seeds: runs of each point; seed s adds s to `SEED_KEYS`.
    """

    scenario: str
    overrides: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    seeds: int


def read_dimensions(texts: Sequence[str], faults: list[str]) -> list[Dimension]:
    """Read ``section.key=V1,V2,…`` each, and add what is wrong with any to `faults`."""
    dimensions: list[Dimension] = []
    for text in texts:
        key, equals, listed = text.partition("=")
        key = key.strip()
        values = tuple(value.strip() for value in listed.split(","))
        if not equals or "." not in key or not all(values):
            faults.append(
                f"--sweep {shown(text)} is not of the form section.key=V1,V2,…; "
                "write for instance --sweep privacy.target_epsilon=1,3,8,inf"
            )
        elif key not in KEYS:
            close = suggest_key(key)
            remedy = f"did you mean {close}?" if close else "see fedrec simulate --keys"
            faults.append(f"unknown key {key} in --sweep; {remedy}")
        elif any(dimension.key == key for dimension in dimensions):
            faults.append(f"--sweep {key} is given twice; put all its values into one")
        elif len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            faults.append(f"--sweep {key} has the value {twice} twice; leave one out")
        else:
            dimensions.append(Dimension(key, values))
    return dimensions


def question_faults(question: Question) -> list[str]:
    """Return what does not fit together in a question, one line each."""
    faults = []
    set_keys = {override.partition("=")[0].strip() for override in question.overrides}
    for dimension in question.dimensions:
        key = dimension.key
        if key in set_keys:
            faults.append(f"{key} is given by --set and by --sweep; leave one of them out")
        if key in SEED_KEYS and question.seeds > 1:
            faults.append(
                f"--sweep {key} and --seeds {question.seeds} both change {key}; leave one of them "
                "out"
            )
    return faults
