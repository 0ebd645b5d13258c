from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from common.config import RunConfig
from common.errors import ConfigError, RunFolderError
from common.progress import SilentListener
from simulations import cli
from simulations.simulate import SimulationResult
from simulations.tracking import Tracking, TrackingListener, asked_tracking, run_label, tracked

ROUND = {
    "server_round": 1,
    "seconds": 2.0,
    "update_norm": None,
    "validation": {"users": 5.0, "hr_10": 0.25, "ndcg_10": 0.125, "noise_std": 0.0},
}
METRICS = {
    "rows": [{name: {"mean": 0.5} for name in ("hr_10", "hr_20", "ndcg_10", "ndcg_20", "mrr")}]
}


def told_run(tracking: Tracking | None, folder: Path) -> TrackingListener:
    folder.mkdir(parents=True, exist_ok=True)
    if tracking is not None:
        tracking.prepare(folder)
    with tracked(tracking, RunConfig(), folder, SilentListener()) as listener:
        listener.run_started(1)
        listener.round_started(1)
        listener.site_finished(1, "site-0000")
        listener.round_finished(ROUND)
        listener.finished(SimulationResult(folder, METRICS, 2.5, 1e-4, 9.0))
    return listener


def test_what_is_asked_for() -> None:
    assert asked_tracking(None, None) is None
    assert asked_tracking("mlflow", "here") == Tracking("mlflow", "here")
    for kind, place, said in (("wandb", None, "must be one of"), (None, "here", "needs --track")):
        with pytest.raises(ConfigError, match=said):
            asked_tracking(kind, place)


def test_a_sweeps_runs_are_told_apart(tmp_path: Path) -> None:
    assert run_label(tmp_path / "runs" / "mine") == "mine"
    point = tmp_path / "runs" / "all" / "points" / "a.b=1"
    assert run_label(point / "seed-0") == "all/a.b=1/seed-0"
    assert Tracking("mlflow").of_sweep(Path("runs/all")).options() == [
        "--track", "mlflow", "--track-to", "runs/all",
    ]  # fmt: skip
    assert Tracking("tensorboard").of_sweep(Path("runs/all")).options() == [
        "--track",
        "tensorboard",
    ]


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_an_absent_library_is_one_line_and_no_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("tensorboard", "tensorboard.compat", "mlflow", "mlflow.tracking"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "argv", ["fedrec", "simulate", "--run", "mine", "--track", kind])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 2
    error = capsys.readouterr().err
    assert f"--track {kind} needs" in error
    assert "pip install 'fedrec[tracking]'" in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs" / "mine").exists()


def test_a_tracker_that_fails_does_not_stop_the_run(tmp_path: Path) -> None:
    class Failing:
        def settings(self, values: Mapping[str, object]) -> None:
            return

        def figures(self, values: Mapping[str, float], step: int) -> None:
            raise RunFolderError("the server has gone")

        def end(self, *, finished: bool) -> None:
            raise AssertionError("it was given up")

    class Keeping(SilentListener):
        said: str = ""

        def message(self, text: str) -> None:
            self.said += text

    shown = Keeping()
    listener = TrackingListener(shown, Failing())
    listener.round_finished(ROUND)
    listener.finished(SimulationResult(tmp_path, METRICS, None, 1e-4, 9.0))
    assert shown.said == "tracking ended: the server has gone"


def test_without_tracking_nothing_is_written(tmp_path: Path) -> None:
    assert told_run(None, tmp_path / "run").is_finished
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow  # TensorBoard's libraries take seconds to load
def test_tensorboard_for_real(tmp_path: Path) -> None:
    told_run(Tracking("tensorboard"), tmp_path / "run")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    assert {"validation/ndcg_10", "test/hr_10", "epsilon"} <= set(found.Tags()["scalars"])
    (point,) = found.Scalars("validation/ndcg_10")
    assert (point.step, point.value) == (1, 0.125)
    text = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "privacy.target_epsilon = 8.0" in text


@pytest.mark.slow  # MLflow makes its database
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_mlflow_for_real(tmp_path: Path) -> None:
    told_run(Tracking("mlflow"), tmp_path / "run")
    told_run(Tracking("mlflow", str(tmp_path)), tmp_path / "other")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fedrec")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"run", "other"}
    run = runs["run"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/mrr"] == 0.5
    assert run.data.params["privacy.target_epsilon"] == "8.0"
    (point,) = client.get_metric_history(run.info.run_id, "validation/hr_10")
    assert (point.step, point.value) == (1, 0.25)
    with pytest.raises(RunFolderError, match="MLflow cannot track to nowhere://x"):
        Tracking("mlflow", "nowhere://x").prepare(tmp_path)
