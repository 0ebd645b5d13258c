"""Names of the companions that a run may have in the lab (`simulations.companion_rows`)."""

from __future__ import annotations

COMPANIONS = ("frozen", "central", "time_cut", "last_fifth")


def companion_names(text: str) -> tuple[str, ...]:
    """The names in a comma list, as they stand in it; of an empty text none."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


def unknown_companions(text: str) -> tuple[str, ...]:
    """Those names in a comma list that are no companion's, each once."""
    return tuple(dict.fromkeys(name for name in companion_names(text) if name not in COMPANIONS))
