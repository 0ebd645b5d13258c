"""A run's checkpoint: everything that a restarted server needs to go on bit for bit.

One file that is replaced as a whole: the point at which a round is done. What follows it (the
adapter's own file, the evaluation, the line of ``rounds.jsonl``) can be made again from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from common.adapters import Adapter, shapes
from common.errors import RunFolderError
from server.known_sites import KnownSites
from server.round_record import RoundRecord
from server.server_optimizer import OptimizerState
from server.strategy import FederatedAdapters

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        run: its name, as in the sites' ledgers.
        config_sha256: of its configuration.
        server_round: the last round that is done; 0 before training.
        lines: of ``rounds.jsonl``, once `record` stands there.
        record: the last line, as far as it is known; None at the very start.
        is_evaluated: whether the round's evaluation is in it.
    """

    run: str
    config_sha256: str
    server_round: int = 0
    lines: int = 0
    record: RoundRecord | None = None
    is_evaluated: bool = False

    def to_json(self) -> dict[str, object]:
        """Plain values by name."""
        record = None if self.record is None else self.record.to_json()
        return {**vars(self), "record": record}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        names = ("run", "config_sha256", "server_round", "lines", "is_evaluated")
        record = values["record"]
        fields = {name: values[name] for name in names}
        return cls(**fields, record=None if record is None else RoundRecord.from_json(record))


def checkpoint_of(
    strategy: FederatedAdapters, progress: Progress
) -> tuple[Arrays, dict[str, object]]:
    """The tensors and the state to be kept: adapter, statistics, moments, and what is known."""
    state = strategy.state
    tensors: Arrays = {
        **{f"adapter/{name}": array for name, array in strategy.adapter.items()},
        **{f"first/{name}": array for name, array in state.first.items()},
        **{f"second/{name}": array for name, array in state.second.items()},
        "item_prior": strategy.item_prior,
    }
    if len(strategy.item_to_item):
        tensors["item_to_item"] = strategy.item_to_item
    return tensors, {
        **progress.to_json(),
        "optimizer_steps": state.steps,
        "sites": strategy.reader.known.to_json(),
    }


def read_progress(path: Path, state: Mapping[str, Any]) -> Progress:
    """How far the run of a checkpoint's `state` has come.

    Raises:
        RunFolderError: it is none that a run can be resumed from; `path` is named.
    """
    try:
        return Progress.from_json(state)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, repr(error)) from error


def restore(
    path: Path, tensors: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any],
    strategy: FederatedAdapters,
) -> None:  # fmt: skip
    """Puts `strategy` where the checkpoint in `path` was written.

    Raises:
        RunFolderError: it does not fit the run's model.
    """
    adapter: Adapter = _under("adapter/", tensors)
    try:
        known = KnownSites.from_json(state["sites"])
        steps = int(state["optimizer_steps"])
        prior = np.asarray(tensors["item_prior"], dtype=np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, repr(error)) from error
    if shapes(adapter) != shapes(strategy.adapter):
        raise _damaged(path, "its adapter is not the run's")
    strategy.adapter = adapter
    strategy.state = OptimizerState(steps, _under("first/", tensors), _under("second/", tensors))
    strategy.item_prior = prior
    pairs = tensors.get("item_to_item", np.zeros(0))
    strategy.item_to_item = np.asarray(pairs, dtype=np.float32)
    strategy.remember(known)


def _under(prefix: str, tensors: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    return {
        name.removeprefix(prefix): array
        for name, array in sorted(tensors.items())
        if name.startswith(prefix)
    }


def _damaged(path: Path, reason: str) -> RunFolderError:
    return RunFolderError(f"{path} is no checkpoint to resume from: {reason}; restore the file")
