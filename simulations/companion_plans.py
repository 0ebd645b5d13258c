"""What each companion changes in a run, and what its row is called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.config import RunConfig
from common.holdout import UserSplit
from common.interactions import Dataset
from simulations.report.metrics_file import RowKind
from simulations.time_cut import find_cut

TIME_CUT = "time_cut"
MOST_UNITS_PER_STEP = 1024
"""More units than this are not put through one plain step: it would not fit into memory."""


@dataclass(frozen=True)
class CompanionPlan:
    """A companion of a run.

    Attributes:
        name: as in `evaluation.companions`.
        row: its name in the table of results.
        kind: of its row.
        note: what a reader must know about it.
        changes: dotted keys that it has other than the run.
        not_needed: why the run has no use for it; empty where it has.
    """

    name: str
    row: str
    kind: RowKind
    note: str
    changes: Mapping[str, object] = field(default_factory=dict)
    not_needed: str = ""


def companion_plans(
    config: RunConfig, dataset: Dataset, splits: Sequence[UserSplit]
) -> list[CompanionPlan]:
    """Plan every companion that there is, whether the run asks for it or not.

    Args:
        config: of the run.
        dataset: the pooled data.
        splits: one per user, of the run.

    Returns:
        The plans; that of `last_fifth` is `simulations.fairness.companion_tables`.

    Raises:
        DataError: a time cut is asked for and the data have none.
    """
    return [_frozen(config), _central(config, _units(config, splits)), _time_cut(config, dataset)]


def _frozen(config: RunConfig) -> CompanionPlan:
    """The same run without LoRA: what the adapter adds."""
    has_head = config.model.item_side == "both"
    return CompanionPlan(
        name="frozen",
        row=f"frozen BERT, {'same' if has_head else 'trained'} head",
        kind="ablation",
        note="the same run with model.item_side=head: what it lacks is what LoRA adds",
        changes=_quiet(config) | {"model.item_side": "head", "model.history_gradient": False},
        not_needed="the run itself trains the head alone"
        if config.model.item_side == "head"
        else "",
    )


def _central(config: RunConfig, units: int) -> CompanionPlan:
    """The same model and recipe on pooled data.

    Each of its steps takes the units that all sites' steps take together, and a round has as
    many steps as a site's: so epochs agree, and so does the number of steps that follow one
    another. For rounds of one step that is what the sites would do without clipping and noise.
    One site's result is taken as it is: there is nothing to average, and no momentum between
    rounds.
    """
    federation = config.federation
    together = (
        units * config.privacy.sample_rate
        if config.is_private
        else federation.units_per_step * config.sites_asked
    )
    per_step = max(1, min(math.ceil(together), units, MOST_UNITS_PER_STEP))
    steps = federation.local_steps
    note = (
        f"pooled data, no clipping, no noise; {federation.rounds} rounds of {steps} "
        f"step{'s' if steps > 1 else ''} of {per_step} {config.privacy.unit}s, which all sites "
        "take together in the run"
    )
    if per_step < math.ceil(together) and per_step < units:
        note += f" (a step is cut from {math.ceil(together)}, so it has fewer epochs)"
    return CompanionPlan(
        name="central",
        row="central (same model and recipe)",
        kind="central",
        note=f"{note}; the recipe is the run's, not tuned for it",
        changes=_quiet(config)
        | {
            "evaluation.metrics": "none",
            "privacy.mode": "none",
            "privacy.clipping": "gradient",
            "data.sites": 1,
            "data.partition": "equal",
            "federation.min_sites": 1,
            "federation.sites_per_round": 0,
            "federation.server_optimizer": "fedavg",
            "federation.server_lr": federation.server_lr
            if federation.server_optimizer == "fedavg"
            else 1.0,
            "federation.units_per_step": per_step,
        },
        not_needed="the run itself is central"
        if config.data.sites == 1 and not config.is_private
        else "",
    )


def _time_cut(config: RunConfig, dataset: Dataset) -> CompanionPlan:
    """The same run on a global time cut: whether the order of rows holds there too."""
    changes: dict[str, object] = {}
    if config.data.split != "time_cut" and "time_cut" in config.companions:
        first, then = find_cut(dataset.interactions.timestamp)
        changes = _quiet(config) | {
            "data.split": "time_cut",
            "data.validation_from": first,
            "data.test_from": then,
        }
    return CompanionPlan(
        name=TIME_CUT,
        row="global time cut",
        kind="model",
        note="the same run, trained on what is older than one moment for all users",
        changes=changes,
        not_needed="the run itself is cut in time" if config.data.split == "time_cut" else "",
    )


def _quiet(config: RunConfig) -> dict[str, object]:
    """No companions of its own, and no validation on the way unless the budget counts it."""
    quiet: dict[str, object] = {"evaluation.companions": ""}
    if config.evaluation.metrics != "private":
        quiet |= {"evaluation.metrics": "none", "evaluation.every": 0}
    return quiet


def _units(config: RunConfig, splits: Sequence[UserSplit]) -> int:
    lengths = [len(split.train) for split in splits if len(split.train)]
    return sum(lengths) if config.privacy.unit == "example" else len(lengths)
