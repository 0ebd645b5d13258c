"""The folder of many planned runs: what was asked, and an ordinary run folder for each.

================================  ========================================================
``scenario.toml``                 the scenario as it was when the first run began
``points/POINT/seed-S/``          an ordinary run folder, with ``outcome.json`` once finished
``points/POINT/seed-S.aside-N/``  what an interrupted or failed run had left
================================  ========================================================

What was asked is a TOML file of the kind's own, with the hash of every run's configuration.
"""

from __future__ import annotations

import fcntl
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import tomli_w

from common.atomic_files import file_errors, read_json, write_text
from common.errors import RunFolderError
from common.schema_version import check_version, versioned
from simulations.sweeps.planning import PlannedRun

SCENARIO_FILE, OUTCOME_FILE = "scenario.toml", "outcome.json"
_LOCK_FILE = ".lock"


class RunsFolder:
    """Reads and writes the folder of many runs; all writes are atomic.

    Attributes:
        KIND: what it is of, as errors name it: `sweep` or `search`.
        QUESTION_FILE: what was asked.
        RESUME: the command that goes on with it, up to the folder's name.
    """

    KIND: ClassVar[str]
    QUESTION_FILE: ClassVar[str]
    RESUME: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def scenario(self) -> Path:
        """The copy of the scenario."""
        return self.path / SCENARIO_FILE

    def run_path(self, run: PlannedRun) -> Path:
        """The folder of one of the runs."""
        return self.path / run.path

    def take_up(
        self, asked: Mapping[str, object], scenario: str, runs: Sequence[PlannedRun]
    ) -> None:
        """Begin, or take up what is there.

        A question may grow (more values, more seeds); a run that was asked for stays as it was.

        Args:
            asked: the question, as its TOML file holds it.
            scenario: the text of its scenario.
            runs: all that it comes to.

        Raises:
            RunFolderError: the folder holds another question.
        """
        hashes = {run.path: run.config.sha256() for run in runs}
        question = self.path / self.QUESTION_FILE
        if question.is_file():
            self._check_same(hashes)
        write_text(self.scenario, scenario)
        write_text(question, tomli_w.dumps(versioned({**asked, "runs": hashes})))

    def outcome(self, run: PlannedRun) -> dict[str, Any] | None:
        """Return what a finished run came to, or None where it is not finished."""
        path = self.run_path(run) / OUTCOME_FILE
        if not path.is_file():
            return None
        content = read_json(path)
        check_version(path, content)
        return dict(content)

    def clear(self, run: PlannedRun) -> None:
        """Move what an interrupted run had left aside, so that it can start over."""
        path = self.run_path(run)
        with file_errors("move aside", path):
            if not path.exists():
                return
            number = 1
            while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
                number += 1
            path.rename(aside)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder where there is none, and keep other processes out of it.

        Raises:
            RunFolderError: another process runs it, or the folder holds something else.
        """
        lock = self.path / _LOCK_FILE
        with file_errors(f"make the {self.KIND}'s folder", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            names = {path.name for path in self.path.iterdir()}
            if names - {_LOCK_FILE} and self.QUESTION_FILE not in names:
                raise RunFolderError(
                    f"{self.path} is not empty and holds no {self.KIND}; choose another name with "
                    "--run"
                )
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(
                    f"{self.path} is being run by another process; wait for it or stop it"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def _check_same(self, hashes: Mapping[str, str]) -> None:
        try:
            before = dict(self.read_asked()["runs"])
        except (KeyError, TypeError, ValueError) as error:
            raise self.damaged(error) from error
        for path, sha256 in before.items():
            if hashes.get(path) != sha256:
                how = "is no longer asked for" if path not in hashes else "has other settings"
                raise RunFolderError(
                    f"{self.path} holds another {self.KIND}: its {path} {how} now; choose another "
                    f"name with --run, or take it up as it was with --resume --run {self.path}"
                )

    def read_asked(self) -> dict[str, Any]:
        """Return the content of the question's file.

        Raises:
            RunFolderError: there is none, or it is damaged.
        """
        path = self.path / self.QUESTION_FILE
        if not path.is_file():
            raise RunFolderError(
                f"{self.path} holds no {self.KIND}: it has no {path.name}; check the name of the "
                f"{self.KIND}"
            )
        with file_errors("read", path):
            text = path.read_bytes()
        try:
            content = tomllib.loads(text.decode("utf-8"))
        except ValueError as error:
            raise self.damaged(error) from error
        check_version(path, content)
        return content

    def damaged(self, error: Exception) -> RunFolderError:
        """Return the error of a question that cannot be read."""
        return RunFolderError(
            f"{self.path / self.QUESTION_FILE} is damaged: {error}; choose another name with --run"
        )
