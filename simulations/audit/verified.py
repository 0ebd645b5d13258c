"""What a stranger looked at in a signed audit."""

from __future__ import annotations

from typing import NamedTuple


class Verified(NamedTuple):
    """One thing that was looked at: it holds, or it could not be seen.

    What does not hold raises.
    """

    what: str
    holds: bool
    text: str
