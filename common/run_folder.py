"""A run's folder: the contract between training, report, audit and serving.

====================  =====================================================================
``config.toml``       the resolved configuration
``rounds.jsonl``      one object per server round
``releases.jsonl``    one object per release of a site
``ledgers/SITE.json`` the export of a site's ledger
``adapter/``          the trained adapter: ``adapter.safetensors`` and its description;
                      ``item_to_item.safetensors`` where the scores mix it in
``checkpoint/``       everything that is needed to resume, in one file
``metrics.json``      what the evaluation found; other ``*.json`` by `write_json`
====================  =====================================================================

Every file is whole or absent, and names its ``schema_version``.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from common.atomic_files import (
    append_json_lines,
    file_errors,
    read_json,
    replace_json_lines,
    write_bytes,
    write_json,
    write_text,
)
from common.config import RunConfig
from common.config_loading import config_to_toml, load_config
from common.errors import RunFolderError
from common.schema_version import (
    check_version,
    read_versioned_lines,
    read_versioned_tensors,
    versioned,
    versioned_text,
)
from common.tensor_files import Tensors, tensors_to_bytes

CONFIG_FILE = "config.toml"
ITEM_TO_ITEM_FILE = "item_to_item.safetensors"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def new_run_name(scenario: str) -> str:
    """Return a fresh name: scenario, UTC time and four random hexadecimal digits."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", scenario).strip("-.") or "run"
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{stem}-{moment}-{secrets.token_hex(2)}"


class RunFolder:
    """Reads and writes one run's folder; all writes are atomic."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, *, resume: bool = False) -> RunFolder:
        """Make the folder of a new run, or take up the run in it.

        Args:
            path: where; parents are made.
            resume: whether the run that is there is taken up again.

        Raises:
            RunFolderError: the folder is not empty, or holds no run to be resumed, or cannot
                be made.
        """
        if not resume:
            with file_errors("make the run folder", path):
                path.mkdir(parents=True, exist_ok=True)
                is_empty = not any(path.iterdir())
            if not is_empty:
                raise RunFolderError(f"{path} is not empty; choose another name with --run")
            return cls(path)
        folder = cls.open(path)
        if not folder.checkpoint_file.is_file():
            raise RunFolderError(
                f"{path} has no checkpoint to resume from: no site was asked for anything yet; "
                "start a new run under another name"
            )
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of a run that was made before.

        Raises:
            RunFolderError: there is no run at `path`.
        """
        if not (path / CONFIG_FILE).is_file():
            reason = f"it has no {CONFIG_FILE}" if path.is_dir() else "there is no such folder"
            raise RunFolderError(f"{path} is not a run: {reason}; check the name of the run")
        return cls(path)

    def discard_if_unused(self) -> None:
        """Remove the folder of a run that ended before it wrote more than its config."""
        with file_errors("remove", self.path):
            if {path.name for path in self.path.iterdir()} <= {CONFIG_FILE}:
                (self.path / CONFIG_FILE).unlink(missing_ok=True)
                self.path.rmdir()

    @property
    def checkpoint_file(self) -> Path:
        """The one file that holds the checkpoint."""
        return self.path / "checkpoint" / "checkpoint.safetensors"

    def write_config(self, config: RunConfig) -> None:
        """Write the resolved configuration; `fedrec simulate` can run it again."""
        write_text(self.path / CONFIG_FILE, config_to_toml(config))

    def read_config(self) -> RunConfig:
        """Return the configuration of the run.

        Raises:
            ConfigError: the file was edited into something that is no configuration.
        """
        return load_config(scenario=self.path / CONFIG_FILE)

    def append_round(self, record: Mapping[str, object]) -> None:
        """Append what happened in one server round."""
        append_json_lines(self.path / "rounds.jsonl", [versioned(record)])

    def append_release(self, record: Mapping[str, object]) -> None:
        """Append one release of one site."""
        self.append_releases([record])

    def append_releases(self, records: Sequence[Mapping[str, object]]) -> None:
        """Append the releases of many sites, all of them or none."""
        append_json_lines(self.path / "releases.jsonl", [versioned(r) for r in records])

    def read_rounds(self) -> list[dict[str, Any]]:
        """Return the record of every finished server round, oldest first."""
        return read_versioned_lines(self.path / "rounds.jsonl")

    def replace_rounds(self, records: Sequence[Mapping[str, object]]) -> None:
        """Write the log of rounds anew, all of it or nothing."""
        replace_json_lines(self.path / "rounds.jsonl", [versioned(r) for r in records])

    def read_releases(self) -> list[dict[str, Any]]:
        """Return every release of every site, oldest first."""
        return read_versioned_lines(self.path / "releases.jsonl")

    def write_json(self, name: str, content: Mapping[str, object]) -> None:
        """Write `content` as the file `name`, such as ``metrics.json``."""
        write_json(self.path / _plain(name), versioned(content))

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the object in the file `name`.

        Raises:
            RunFolderError: it is missing, damaged or of another version.
        """
        path = self.path / _plain(name)
        content = read_json(path)
        check_version(path, content)
        return dict(content)

    def write_text(self, name: str, content: str) -> None:
        """Write `content` as the file `name`, such as ``PRIVACY.md``."""
        write_text(self.path / _plain(name), content)

    def write_ledger(self, site: str, export: Mapping[str, object]) -> None:
        """Write the export of the ledger of `site`."""
        path = self._folder("ledgers") / _plain(f"{site}.json")
        write_json(path, versioned(export))

    def read_ledgers(self) -> dict[str, dict[str, Any]]:
        """Return the exported ledgers by site, in the order of their names."""
        ledgers = {}
        for path in sorted((self.path / "ledgers").glob("*.json")):
            content = read_json(path)
            check_version(path, content)
            ledgers[path.stem] = dict(content)
        return ledgers

    def write_adapter(self, adapter: Tensors, metadata: Mapping[str, str]) -> None:
        """Write the adapter with its metadata, and a description of it to be read by people.

        Args:
            adapter: the tensors by name.
            metadata: plain text by name; it travels inside the tensor file as well.
        """
        folder = self._folder("adapter")
        content = tensors_to_bytes(adapter, versioned_text(metadata))
        write_bytes(folder / "adapter.safetensors", content)
        tensors = {
            name: {"shape": list(array.shape), "dtype": str(array.dtype)}
            for name, array in sorted(adapter.items())
        }
        description = {"metadata": dict(metadata), "tensors": tensors}
        write_json(folder / "adapter.json", versioned(description))

    def read_adapter(self) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
        """Return the adapter's tensors by name, and its metadata.

        Raises:
            RunFolderError: the file is missing, damaged or of another version.
        """
        return read_versioned_tensors(self.path / "adapter" / "adapter.safetensors")

    def write_item_to_item(self, tensors: Tensors, metadata: Mapping[str, str]) -> None:
        """Write what the scores mix in beside the adapter (`common.item_to_item`).

        Args:
            tensors: `items` ``[N]`` and `weights` ``[N (N + 1) / 2]``.
            metadata: plain text by name; it travels inside the file.
        """
        content = tensors_to_bytes(tensors, versioned_text(metadata))
        write_bytes(self._folder("adapter") / ITEM_TO_ITEM_FILE, content)

    def read_item_to_item(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return what `write_item_to_item` wrote; empty where the run has no such component.

        Raises:
            RunFolderError: the file is damaged or of another version.
        """
        path = self.path / "adapter" / ITEM_TO_ITEM_FILE
        return read_versioned_tensors(path)[0] if path.is_file() else {}

    def write_sum(self, name: str, tensors: Tensors, metadata: Mapping[str, str]) -> None:
        """Write what the server saw of one sum of an audit run.

        Args:
            name: of the sum, plain; names sort in the order of the sums within a round.
            tensors: arrays by name.
            metadata: plain text by name.
        """
        content = tensors_to_bytes(tensors, versioned_text(metadata))
        write_bytes(self._folder("sums") / _plain(f"{name}.safetensors"), content)

    def read_sums(self) -> list[tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]]:
        """Return tensors and metadata of every sum that was kept, in the order of their names.

        Raises:
            RunFolderError: a file is damaged or of another version.
        """
        files = sorted((self.path / "sums").glob("*.safetensors"))
        return [read_versioned_tensors(file) for file in files]

    def write_checkpoint(self, tensors: Tensors, state: Mapping[str, object]) -> None:
        """Write all that is needed to resume, in one file that is replaced as a whole.

        Args:
            tensors: arrays by name.
            state: JSON values by name.
        """
        self._folder("checkpoint")
        text = json.dumps(dict(state), allow_nan=False)
        digest = _digest(tensors, text)
        content = tensors_to_bytes(tensors, versioned_text({"state": text, "sha256": digest}))
        write_bytes(self.checkpoint_file, content)

    def read_checkpoint(self) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
        """Return the tensors and the state of the last checkpoint.

        Raises:
            RunFolderError: the file is missing, damaged or of another version.
        """
        tensors, metadata = read_versioned_tensors(self.checkpoint_file)
        text = metadata.get("state", "")
        if metadata.get("sha256", digest := _digest(tensors, text)) != digest:  # older: none
            raise RunFolderError(f"{self.checkpoint_file} is damaged; restore it from a backup")
        state: dict[str, Any] = json.loads(text)
        return tensors, state

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        with file_errors("make", folder):
            folder.mkdir(exist_ok=True)
        return folder


def _digest(tensors: Tensors, state: str) -> str:
    """SHA-256 over a checkpoint's content: one flipped bit would go on with a wrong run."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        array = np.asarray(tensors[name], order="C")
        digest.update(f"\n{name} {array.dtype} {list(array.shape)}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _plain(name: str) -> str:
    if not _PLAIN_NAME.fullmatch(name):
        raise RunFolderError(
            f"{name!r} cannot name a file in a run; use letters, digits, '.', '_' and '-'"
        )
    return name
