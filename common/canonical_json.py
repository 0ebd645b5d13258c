"""One text per JSON value: what hashes and signatures are taken over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Mapping[str, Any]) -> str:
    """Sorted keys, no spaces, no NaN.

    Raises:
        ValueError: the value is not JSON, or holds a NaN or infinite number.
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except TypeError as error:
        raise ValueError(str(error)) from error
