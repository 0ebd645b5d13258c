"""What the server keeps of a run, through the run's folder: after every round, whole files.

The checkpoint comes first: with it a round is done. The adapter's own file, the round's
evaluation and its line follow, and are made up for where the server was killed in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from common.adapters import Adapter, adapter_sha256
from common.atomic_files import remove_leftovers
from common.config import RunConfig
from common.cooccurrence import related_items
from common.errors import RunFolderError
from common.flat_adapter import Floats
from common.messages import SumRequest
from common.run_folder import CONFIG_FILE, RunFolder
from server.checkpoint import Progress, checkpoint_of, restore
from server.release_log import ReleaseLog
from server.resuming import check_config, take_up
from server.round_record import RoundClock, RoundRecord
from server.strategy import FederatedAdapters
from server.sum_transcript import discard_transcripts


class RunRecords:
    """Writes config, rounds, releases, adapter and checkpoint of one run.

    Attributes:
        folder: the run's.
        config: the run's configuration.
        run: its name, as in the sites' ledgers.
        progress: how far the run has come.
        next_round: the first round that is still to be asked for.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, run: str) -> None:
        """Binds the records of a run without any to its folder."""
        self.folder, self.config, self.run = folder, config, run
        self.progress = Progress(run, config.sha256())
        self.next_round = 1
        self._lines = len(folder.read_rounds())
        self._releases = ReleaseLog(folder)

    @classmethod
    def start(cls, path: Path, config: RunConfig, run: str) -> RunRecords:
        """Starts the records of a new run in the folder `path`; a config in it stays.

        Raises:
            RunFolderError: The folder already holds a run's records, or cannot be written.
        """
        checkpoint = RunFolder(path).checkpoint_file
        for made in (path / "rounds.jsonl", path / "releases.jsonl", checkpoint):
            if made.exists():
                raise RunFolderError(
                    f"{made} already exists; choose another name for the new run, or resume that "
                    "one"
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

    @classmethod
    def resume(cls, path: Path, config: RunConfig) -> RunRecords:
        """Takes up the run in the folder `path` where its server ended.

        Raises:
            RunFolderError: there is no run, it is finished, it was started with another
                configuration, or a file of it is missing or damaged.
        """
        folder = RunFolder.create(path, resume=True)
        remove_leftovers(folder.path)
        check_config(folder, config)
        progress, next_round = take_up(folder, config)
        records = cls(folder, config, progress.run)
        records.progress, records.next_round = progress, next_round
        return records

    def begin(self, strategy: FederatedAdapters) -> None:
        """Writes the first checkpoint, before any site is asked; or restores the last one.

        Raises:
            RunFolderError: the checkpoint does not fit the run's model, or the file system
                refuses.
        """
        if not self.folder.checkpoint_file.is_file():
            self.write_checkpoint(strategy, 0)
            return
        restore(self.folder.checkpoint_file, *self.folder.read_checkpoint(), strategy)
        self.write_files(strategy)

    @property
    def unwritten(self) -> RoundRecord | None:
        """The record of a round that is done and has no line yet, if there is one."""
        return self.progress.record if self._lines < self.progress.lines else None

    @staticmethod
    def record_of(strategy: FederatedAdapters, server_round: int, clock: RoundClock) -> RoundRecord:
        """What the server's last question came to, without an evaluation."""
        outcome = strategy.outcome
        has_adapter = server_round > 0 and strategy.fault is None
        return RoundRecord(
            run=strategy.run,
            server_round=server_round,
            started_at=clock.started_at,
            seconds=clock.seconds(),
            sites=outcome.sites,
            update_norm=outcome.update_norm,
            fault=outcome.fault,
            metrics=strategy.config.evaluation.metrics,
            adapter_sha256=adapter_sha256(strategy.adapter) if has_adapter else None,
        )

    def write_checkpoint(
        self,
        strategy: FederatedAdapters,
        server_round: int,
        record: RoundRecord | None = None,
        *,
        is_evaluated: bool = False,
    ) -> None:
        """Replaces the checkpoint: with it, `server_round` is done.

        Args:
            strategy: holds adapter, statistics, the optimiser's moments, and the sites.
            server_round: the last round that is done.
            record: of what was done last, whose line is still to be written.
            is_evaluated: whether the round's evaluation is in `record`.
        """
        sha256, lines = self.config.sha256(), self._lines + (record is not None)
        progress = Progress(self.run, sha256, server_round, lines, record, is_evaluated)
        self.folder.write_checkpoint(*checkpoint_of(strategy, progress))
        self.progress = progress

    def write_files(self, strategy: FederatedAdapters) -> None:
        """Writes what others read of the checkpoint: the adapter, and what goes beside it."""
        if len(strategy.item_to_item):
            self.write_item_to_item(strategy)
        if self.progress.server_round > 0:
            self.write_adapter(strategy.adapter, self.progress.server_round)

    def write_round(self, record: RoundRecord) -> None:
        """Appends the round's line; written last, it says that the round is complete."""
        self.folder.append_round(record.to_json())
        self._lines += 1
        discard_transcripts(self.folder.path)

    @contextmanager
    def releases_of(self, strategy: FederatedAdapters) -> Iterator[None]:
        """Appends what was released while replies were read, even if that is cut short."""
        try:
            yield
        finally:
            self._releases.append(strategy.take_releases())

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
