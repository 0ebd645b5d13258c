"""A sweep's folder: what was asked, one run folder for each run, and what they came to.

================================  ========================================================
``sweep.toml``                    the question, and the hash of every run's configuration
``scenario.toml``                 the scenario as it was when the sweep began
``points/POINT/seed-S/``          an ordinary run folder, with ``outcome.json`` once finished
``points/POINT/seed-S.aside-N/``  what an interrupted or failed run had left
``sweep.json``, ``sweep.html``    the results, written at the end
================================  ========================================================
"""

from __future__ import annotations

import fcntl
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from common.atomic_files import file_errors, read_json, write_text
from common.errors import RunFolderError
from common.schema_version import check_version, versioned
from simulations.sweeps.planning import PlannedRun
from simulations.sweeps.question import Dimension, Question

QUESTION_FILE, SCENARIO_FILE, RESULT_FILE = "sweep.toml", "scenario.toml", "sweep.json"
OUTCOME_FILE = "outcome.json"
_LOCK_FILE = ".lock"


class SweepFolder:
    """Reads and writes one sweep's folder; all writes are atomic."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def scenario(self) -> Path:
        """The copy of the scenario."""
        return self.path / SCENARIO_FILE

    def run_path(self, run: PlannedRun) -> Path:
        """The folder of one of the sweep's runs."""
        return self.path / run.path

    def read_question(self) -> Question:
        """Return what was asked.

        Raises:
            RunFolderError: there is no sweep here, or its question is damaged.
        """
        content = self._read()
        try:
            return Question(
                scenario=str(content["scenario"]),
                overrides=tuple(content["set"]),
                dimensions=tuple(Dimension(k, tuple(v)) for k, v in content["sweep"].items()),
                seeds=int(content["seeds"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(self.path / QUESTION_FILE, error) from error

    def begin(self, question: Question, scenario: str, runs: Sequence[PlannedRun]) -> None:
        """Begin the sweep, or take up the one that is there.

        A question may grow (more values, more seeds); a run that was asked for stays as it was.

        Args:
            question: what is asked.
            scenario: the text of its scenario.
            runs: all that it comes to.

        Raises:
            RunFolderError: the folder holds another question.
        """
        hashes = {run.path: run.config.sha256() for run in runs}
        if (self.path / QUESTION_FILE).is_file():
            self._check_same(hashes)
        write_text(self.scenario, scenario)
        content = {
            "scenario": question.scenario,
            "set": list(question.overrides),
            "seeds": question.seeds,
            "sweep": {d.key: list(d.values) for d in question.dimensions},
            "runs": hashes,
        }
        write_text(self.path / QUESTION_FILE, tomli_w.dumps(versioned(content)))

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
        """Make the folder where there is none, and keep other processes from the same sweep.

        Raises:
            RunFolderError: another process runs it, or the folder holds something else.
        """
        lock = self.path / _LOCK_FILE
        with file_errors("make the sweep's folder", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            names = {path.name for path in self.path.iterdir()}
            if names - {_LOCK_FILE} and QUESTION_FILE not in names:
                raise RunFolderError(
                    f"{self.path} is not empty and holds no sweep; choose another name with --run"
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
            before = dict(self._read()["runs"])
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self.path / QUESTION_FILE, error) from error
        for path, sha256 in before.items():
            if hashes.get(path) != sha256:
                how = "is no longer asked for" if path not in hashes else "has other settings"
                raise RunFolderError(
                    f"{self.path} holds another sweep: its {path} {how} now; choose another name "
                    f"with --run, or take it up as it was with --resume --run {self.path}"
                )

    def _read(self) -> dict[str, Any]:
        path = self.path / QUESTION_FILE
        if not path.is_file():
            raise RunFolderError(
                f"{self.path} holds no sweep: it has no {QUESTION_FILE}; check the name of the "
                "sweep"
            )
        with file_errors("read", path):
            text = path.read_bytes()
        try:
            content = tomllib.loads(text.decode("utf-8"))
        except ValueError as error:
            raise _damaged(path, error) from error
        check_version(path, content)
        return content


def _damaged(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(f"{path} is damaged: {error}; choose another name with --run")
