"""``policy.toml``: the site's limits as its operator writes them."""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from client.policy import SitePolicy
from common.atomic_files import os_error_line
from common.errors import ConfigError

POLICY_FILE = "policy.toml"


def read_policy(path: Path) -> SitePolicy:
    """The policy in `path`; what it leaves out has its default.

    Raises:
        ConfigError: with *all* faults, each with its key, its value and the remedy.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([os_error_line(f"cannot read {path}", error)]) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([f"{path} is not valid TOML: {error}; correct it"]) from error
    faults = [
        f"{key} must be finite, got {value} in {path}; give a finite limit"
        for key, value in values.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    try:
        # Through JSON, in which a list of TOML can strictly be a set.
        policy = SitePolicy.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        faults += _faults(error, path, faults)
        raise ConfigError(faults) from error
    if faults:
        raise ConfigError(faults)
    return policy


def _faults(error: ValidationError, path: Path, told: list[str]) -> list[str]:
    by_key: dict[str, str] = {}
    for fault in error.errors(include_url=False):
        key = str(fault["loc"][0])
        if not any(each.startswith(f"{key} ") for each in told):
            by_key.setdefault(key, _fault(key, fault, path))
    return list(by_key.values())


def _fault(key: str, fault: ErrorDetails, path: Path) -> str:
    shown = json.dumps(fault["input"], ensure_ascii=False, default=str)
    fields = SitePolicy.model_fields
    if key not in fields:
        close = difflib.get_close_matches(key, fields, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(fields)}"
        return f"unknown key {key} (= {shown}) in {path}; {remedy}"
    must = fault["msg"][0].lower() + fault["msg"][1:]
    what = fields[key].description or "version of the layout"
    return f"{key} ({what}) = {shown} in {path}: {must}; correct it, or leave it out"
