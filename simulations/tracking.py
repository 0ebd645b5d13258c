"""``--track``: what a run's rounds and its evaluation find, told to a tracker as well.

Tracking is no part of a run's configuration: it changes neither the run nor its hash. The
figures are the lab's exact ones, so that a tracker is told what no deployment would release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.config import RunConfig
from common.errors import ConfigError, RunFolderError
from common.metrics import METRIC_NAMES
from common.progress import ProgressListener
from simulations.sweeps.planning import POINTS_FOLDER
from simulations.trackers import KINDS, Tracker, TrackerKind, open_tracker, prepare

if TYPE_CHECKING:
    from simulations.simulate import SimulationResult


@dataclass(frozen=True)
class Tracking:
    """Which tracker, and where to; `place` is empty for its own place beside the run."""

    kind: TrackerKind
    place: str = ""

    def prepare(self, folder: Path) -> None:
        """Make the place of a run in `folder`, or of a sweep's, before it starts.

        Raises:
            ConfigError: the tracker's library is not installed.
            RunFolderError: the place cannot be used.
        """
        prepare(self.kind, self._place(folder))

    def open(self, folder: Path) -> Tracker:
        """Open the tracker of the run in `folder`."""
        return open_tracker(self.kind, self._place(folder), run_label(folder))

    def of_sweep(self, folder: Path) -> Tracking:
        """Return how the runs of the sweep in `folder` are tracked: in one place of its own."""
        if self.kind == "mlflow" and not self.place:
            return Tracking(self.kind, str(folder))
        return self

    def options(self) -> list[str]:
        """Return what a sweep hands to each of its runs."""
        return ["--track", self.kind, *(["--track-to", self.place] if self.place else [])]

    def _place(self, folder: Path) -> str:
        if self.kind == "mlflow":
            return self.place or str(folder.parent)
        return str(Path(self.place) / run_label(folder) if self.place else folder / "tensorboard")


def asked_tracking(kind: str | None, place: str | None) -> Tracking | None:
    """Return what ``--track`` and ``--track-to`` ask for.

    Raises:
        ConfigError: there is no such tracker, or a place without one.
    """
    if not kind:
        if place:
            raise ConfigError(["--track-to needs --track tensorboard or --track mlflow"])
        return None
    for known in KINDS:
        if kind == known:
            return Tracking(known, place or "")
    raise ConfigError([f"--track must be one of {', '.join(KINDS)}, got {kind}; name one of them"])


def run_label(folder: Path) -> str:
    """Return a run's name, with its point where it is a sweep's."""
    parts = folder.absolute().parts
    if len(parts) > 3 and parts[-3] == POINTS_FOLDER:
        return "/".join((parts[-4], *parts[-2:]))
    return folder.name


@contextmanager
def tracked(
    tracking: Tracking | None, config: RunConfig, folder: Path, listener: ProgressListener
) -> Iterator[TrackingListener]:
    """Open the listener that tells `listener` everything, and the tracker its figures.

    Args:
        tracking: None: nothing is tracked.
        config: of the run.
        folder: of the run.
        listener: shows progress.

    Raises:
        ConfigError: the tracker's library is not installed.
        RunFolderError: its place cannot be used.
    """
    tracker = tracking.open(folder) if tracking else None
    hearing = TrackingListener(listener, tracker)
    try:
        hearing.tell(lambda tracker: tracker.settings(config.to_flat()))
        yield hearing
    finally:
        hearing.tell(lambda tracker: tracker.end(finished=hearing.is_finished))


class TrackingListener:
    """Passes everything on to another listener, and the figures to a tracker."""

    def __init__(self, listener: ProgressListener, tracker: Tracker | None) -> None:
        self._listener = listener
        self._tracker = tracker
        self._step = 0
        self.is_finished = False

    def run_started(self, total_rounds: int) -> None:
        """Pass it on."""
        self._listener.run_started(total_rounds)

    def round_started(self, server_round: int) -> None:
        """Pass it on."""
        self._listener.round_started(server_round)

    def site_finished(self, server_round: int, site: str) -> None:
        """Pass it on."""
        self._listener.site_finished(server_round, site)

    def round_finished(self, record: Mapping[str, object]) -> None:
        """Pass it on, and track validation, time and the size of the update."""
        self._listener.round_finished(record)
        number = record.get("server_round")
        step = number if isinstance(number, int) else self._step + 1
        figures = {
            name: float(value)
            for name in ("seconds", "update_norm")
            if isinstance(value := record.get(name), int | float)
        }
        self._step, figures = step, figures | _means(record, "validation")
        self.tell(lambda tracker: tracker.figures(figures, step))

    def message(self, text: str) -> None:
        """Pass it on."""
        self._listener.message(text)

    def finished(self, result: SimulationResult) -> None:
        """Track what the run came to: its ε, its time, and the lab's test figures."""
        self.is_finished = True
        figures = {"run_seconds": result.seconds, "delta": result.delta}
        if result.epsilon is not None:
            figures["epsilon"] = result.epsilon
        if result.metrics is not None:
            model = result.metrics["rows"][0]
            figures |= {f"test/{name}": float(model[name]["mean"]) for name in METRIC_NAMES}
        self.tell(lambda tracker: tracker.figures(figures, self._step))

    def tell(self, what: Callable[[Tracker], None]) -> None:
        """Tell the tracker something; one that fails is told no more, and the run goes on."""
        if self._tracker is None:
            return
        try:
            what(self._tracker)
        except RunFolderError as error:
            self._tracker = None
            self._listener.message(f"tracking ended: {error}")


def _means(record: Mapping[str, object], stage: str) -> dict[str, float]:
    means = record.get(stage)
    if not isinstance(means, Mapping):
        return {}
    return {f"{stage}/{name}": float(means[name]) for name in METRIC_NAMES if name in means}
