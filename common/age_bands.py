"""Bands of ages in years: fixed and public, for group figures and for context features."""

from __future__ import annotations

UNKNOWN = "unknown"
AGE_BANDS: tuple[tuple[int, str], ...] = (
    (18, "under 18"),
    (25, "18-24"),
    (35, "25-34"),
    (45, "35-44"),
    (50, "45-49"),
    (56, "50-55"),
)
OLDEST_BAND = "56 and over"


def age_band(age: str) -> str:
    """Name the age band of an age in years; anything that is no whole number is unknown."""
    if not age.strip().isdigit():
        return UNKNOWN
    years = int(age)
    return next((name for limit, name in AGE_BANDS if years < limit), OLDEST_BAND)
