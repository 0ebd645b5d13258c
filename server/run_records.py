"""What the server keeps of a run, through the run's folder: after every round, whole files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from common.adapters import Adapter
from common.config import RunConfig
from common.cooccurrence import related_items
from common.errors import RunFolderError
from common.flat_adapter import Floats
from common.messages import SumRequest
from common.run_folder import CONFIG_FILE, RunFolder
from server.round_record import RoundRecord
from server.strategy import FederatedAdapters


class RunRecords:
    """Writes config, rounds, releases, adapter and checkpoint of one run."""

    def __init__(self, folder: RunFolder, config: RunConfig, run: str) -> None:
        self.folder = folder
        self.config = config
        self.run = run

    @classmethod
    def start(cls, path: Path, config: RunConfig, run: str) -> RunRecords:
        """Starts the records of a new run in the folder `path`; a config in it stays.

        Raises:
            RunFolderError: The folder already holds a run's records, or cannot be written.
        """
        for name in ("rounds.jsonl", "releases.jsonl"):
            if (path / name).exists():
                raise RunFolderError(
                    f"{path / name} already exists; choose another name for the new run"
                )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(
                f"cannot make the run folder {path}: {error.strerror}; choose another place"
            ) from error
        records = cls(RunFolder(path), config, run)
        if not (path / CONFIG_FILE).exists():
            records.folder.write_config(config)
        return records

    @contextmanager
    def releases_of(self, strategy: FederatedAdapters) -> Iterator[None]:
        """Appends what was released while replies were read, even if that is cut short."""
        try:
            yield
        finally:
            releases = strategy.take_releases()
            if releases:
                self.folder.append_releases([r.model_dump(mode="json") for r in releases])

    def write_round(self, record: RoundRecord) -> None:
        """Appends the round's line; written last, it says that the round is complete."""
        self.folder.append_round(record.to_json())

    def write_adapter(self, adapter: Adapter, server_round: int) -> None:
        """Replaces the global adapter."""
        metadata = {
            "run": self.run,
            "server_round": str(server_round),
            "config_sha256": self.config.sha256(),
        }
        self.folder.write_adapter(adapter, metadata)

    def write_sum(self, request: SumRequest, total: Floats) -> None:
        """Keeps what the server saw of one sum, and what the sites made their parts from.

        Of an audit run alone: a site with real users refuses to be in one.
        """
        tensors: dict[str, npt.NDArray[Any]] = {
            **{f"adapter/{name}": array for name, array in request.adapter.items()},
            "item_prior": request.item_prior,
            "total": total,
        }
        metadata = {
            "run": self.run,
            "config_sha256": self.config.sha256(),
            "purpose": request.purpose,
            "server_round": str(request.server_round),
        }
        self.folder.write_sum(f"{request.server_round:04d}-{request.purpose}", tensors, metadata)

    def write_item_to_item(self, strategy: FederatedAdapters) -> None:
        """Writes the weights between items, and which items they are between."""
        model, prior = self.config.model, strategy.item_prior
        items = related_items(prior, len(prior), model.item_to_item_items)
        tensors: dict[str, npt.NDArray[Any]] = {
            "items": items, "weights": strategy.item_to_item
        }  # fmt: skip
        metadata = {"run": self.run, "config_sha256": self.config.sha256()}
        self.folder.write_item_to_item(tensors, metadata)

    def write_checkpoint(self, strategy: FederatedAdapters, server_round: int) -> None:
        """Replaces the checkpoint: adapter, statistics, and the optimiser's moments."""
        state = strategy.state
        tensors: dict[str, npt.NDArray[Any]] = {
            **{f"adapter/{name}": array for name, array in strategy.adapter.items()},
            **{f"first/{name}": array for name, array in state.first.items()},
            **{f"second/{name}": array for name, array in state.second.items()},
            "item_prior": strategy.item_prior,
        }
        if len(strategy.item_to_item):
            tensors["item_to_item"] = strategy.item_to_item
        values = {
            "run": self.run,
            "server_round": server_round,
            "optimizer_steps": state.steps,
            "config_sha256": self.config.sha256(),
        }
        self.folder.write_checkpoint(tensors, values)
