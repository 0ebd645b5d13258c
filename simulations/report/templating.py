"""The Jinja environment of the report: strict about names, escaping everything in HTML."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from simulations.report.metrics_file import IntervalRecord
from simulations.report.number_text import (
    bytes_text,
    delta_text,
    epsilon_text,
    interval_text,
    metric_text,
    seconds_text,
)


@lru_cache(maxsize=1)
def templates() -> Environment:
    """Return the environment; a name that a template misspells is an error."""
    environment = Environment(
        loader=PackageLoader("simulations.report"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "bytes": bytes_text,
        "delta": delta_text,
        "eps": epsilon_text,
        "metric": metric_text,
        "bounds": _bounds,
        "seconds": seconds_text,
        "unbroken": _unbroken,
    }
    return environment


def _bounds(interval: dict[str, float | None], *, signed: bool = False) -> str:
    return interval_text(IntervalRecord.model_validate(interval), signed=signed)


def _unbroken(sentence: str) -> str:
    """Keep a symbol and its value on one line."""
    return sentence.replace(" = ", "\u00a0=\u00a0")
