"""Which keys a search may change: what trains the model, and nothing that judges or claims it."""

from __future__ import annotations

from collections.abc import Mapping

from common.config import RunConfig
from common.config_faults import KEYS, shown, unknown_key_fault
from simulations.sweeps.question import SEED_KEYS

FORCED: Mapping[str, str] = {
    "evaluation.lab": "false",
    "evaluation.metrics": "none",
    "evaluation.companions": "''",
    "evaluation.personal_steps": "0",
    "evaluation.exposure_penalty": "0.0",
}
"""What every run of a search has, as ``--set`` takes it.

At the end of a run a federation asks its sites for test figures, and the lab computes them. In
a search nobody does: the search itself ranks for the validation part (`search.validation`).
"""

_GROUND = ("dataset", "split", "validation_from", "test_from", "min_interactions", "sites_folder")
_CLAIM = (
    "mode", "unit", "target_epsilon", "target_delta", "max_dropouts", "max_colluders",
    "min_honest", "insecure_seeded_noise",
)  # fmt: skip
_BY_SET = "set it for all points, under [set] or by --set"
_NOT_SEARCHED: Mapping[str, str] = {
    **{f"data.{name}": f"decides what points are judged on; {_BY_SET}" for name in _GROUND},
    **{f"privacy.{name}": f"is what is claimed, not how; {_BY_SET}" for name in _CLAIM},
    **dict.fromkeys(SEED_KEYS, "goes up with the seeds; set seeds = 2"),
}
_NOT_SEARCHED_SECTIONS: Mapping[str, str] = {
    "evaluation": "says how a model is examined, not how it is trained; leave it out",
    "engine": "changes nothing but rounding; set it by --set",
}


def axis_key_faults(key: str, value: object, place: str) -> list[str]:
    """Return what speaks against searching over `key`."""
    if key not in KEYS:
        return [unknown_key_fault(key, value, place)]
    why = _NOT_SEARCHED.get(key) or _NOT_SEARCHED_SECTIONS.get(key.partition(".")[0])
    return [f"{key} cannot be searched over in {place}: it {why}"] if why else []


def set_key_faults(key: str, value: object, place: str) -> list[str]:
    """Return what speaks against setting `key` for all points of a search."""
    if key not in KEYS:
        return [unknown_key_fault(key, value, place)]
    if key in FORCED and not (key == "evaluation.metrics" and value == "exact"):
        return [
            f"{key} (= {shown(value)}) cannot be set in {place}: a search looks at validation "
            "alone, and sees to that itself; leave it out"
        ]
    return []


def config_faults(config: RunConfig) -> list[str]:
    """Return why a scenario's runs cannot be judged by a search.

    Args:
        config: of a point, before `FORCED` is laid over it.
    """
    faults = []
    if config.evaluation.metrics == "private":
        faults.append(
            "evaluation.metrics must be exact in a search, got private: its releases would take "
            "a share of ε that no run of the search spends; set evaluation.metrics=exact"
        )
    if config.federation.weighting == "fair":
        faults.append(
            "federation.weighting must be equal or declared in a search, got fair: it weighs by "
            "figures that the search does not ask sites for; set federation.weighting=equal"
        )
    if config.data.split == "time_cut" and config.data.cut is None:
        faults.append(
            "data.split=time_cut has no times in a search; set data.validation_from and "
            "data.test_from (unix seconds)"
        )
    return faults
