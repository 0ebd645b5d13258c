"""Where runs can be tracked: TensorBoard and MLflow, through their own libraries.

Both are optional: ``pip install 'fedrec[tracking]'``. Nothing leaves this machine unless
``--track-to`` names a server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from common.atomic_files import file_errors
from common.errors import ConfigError, RunFolderError

TrackerKind = Literal["tensorboard", "mlflow"]
KINDS: tuple[TrackerKind, ...] = ("tensorboard", "mlflow")
EXPERIMENT = "fedrec"
MLFLOW_FILE = "mlflow.db"


class Tracker(Protocol):
    """Takes one run's settings and figures."""

    def settings(self, values: Mapping[str, object]) -> None:
        """Keep the run's configuration, by dotted key."""

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """Keep figures of a server round."""

    def end(self, *, finished: bool) -> None:
        """Close; `finished` is whether the run came to its end."""


def open_tracker(kind: TrackerKind, place: str, name: str) -> Tracker:
    """Open the tracker of one run.

    Args:
        kind: which.
        place: TensorBoard: a folder. MLflow: a folder for its database, or the address of a
            tracking server or database (with ``://``).
        name: of the run.

    Raises:
        ConfigError: its library is not installed.
        RunFolderError: the place cannot be used.
    """
    return _TensorBoard(place) if kind == "tensorboard" else _MLflow(place, name)


def prepare(kind: TrackerKind, place: str) -> None:
    """Make the place before several runs use it at once.

    Raises:
        ConfigError: the library is not installed.
        RunFolderError: the place cannot be used.
    """
    if kind == "tensorboard":
        _summary_writer()
    else:
        _experiment(_mlflow_client(place), place)


class _TensorBoard:
    def __init__(self, place: str) -> None:
        self._place = Path(place)
        writer = _summary_writer()
        with file_errors("write", self._place):
            self._writer = writer(place)

    def settings(self, values: Mapping[str, object]) -> None:
        lines = "\n".join(f"    {key} = {value}" for key, value in values.items())
        with file_errors("write", self._place):
            self._writer.add_text("config", lines)

    def figures(self, values: Mapping[str, float], step: int) -> None:
        with file_errors("write", self._place):
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def end(self, *, finished: bool) -> None:
        with file_errors("write", self._place):
            self._writer.close()


class _MLflow:
    def __init__(self, place: str, name: str) -> None:
        self._place = place
        self._client = _mlflow_client(place)
        experiment = _experiment(self._client, place)
        with _mlflow_errors(place):
            self._run: str = self._client.create_run(experiment, run_name=name).info.run_id
            self._client.set_tag(self._run, "lab_only", "true")

    def settings(self, values: Mapping[str, object]) -> None:
        with _mlflow_errors(self._place):
            for key, value in values.items():
                self._client.log_param(self._run, key, value)

    def figures(self, values: Mapping[str, float], step: int) -> None:
        with _mlflow_errors(self._place):
            for name, value in values.items():
                self._client.log_metric(self._run, name, value, step=step)

    def end(self, *, finished: bool) -> None:
        with _mlflow_errors(self._place):
            self._client.set_terminated(self._run, status="FINISHED" if finished else "FAILED")


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise _missing("tensorboard", error) from error
    return SummaryWriter


def _mlflow_client(place: str) -> Any:
    # Read once, when the library is first imported: it would phone home.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise _missing("mlflow", error) from error
    with _mlflow_errors(place):
        return MlflowClient(tracking_uri=_mlflow_uri(place))


def _mlflow_uri(place: str) -> str:
    if "://" in place:
        return place
    folder = Path(place)
    with file_errors("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(folder / MLFLOW_FILE).absolute()}"


def _experiment(client: Any, place: str) -> str:
    with _mlflow_errors(place):
        found = client.get_experiment_by_name(EXPERIMENT)
        return str(found.experiment_id if found else client.create_experiment(EXPERIMENT))


@contextmanager
def _mlflow_errors(place: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        reason = " ".join(str(error).split())
        raise RunFolderError(
            f"MLflow cannot track to {place}: {reason}; check --track-to"
        ) from error


def _missing(kind: str, error: ImportError) -> ConfigError:
    what = error.name or error
    return ConfigError(
        [f"--track {kind} needs {what}, which is not installed; pip install 'fedrec[tracking]'"]
    )
