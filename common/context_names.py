"""Which context features a model may read beside the history (`common.context`)."""

from __future__ import annotations

CONTEXTS = ("user", "time")


def context_names(text: str) -> tuple[str, ...]:
    """The names in a comma list, as they stand in it; of an empty text none."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()
