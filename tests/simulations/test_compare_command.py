from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulations import cli
from tests.own_process import Command, in_own_process
from tests.simulations.comparison.conftest import WriteRun, write_run

__all__ = ["write_run"]


@pytest.fixture
def fedrec(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run the command in this process, beside the runs: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    return in_own_process(cli.main, "fedrec", monkeypatch=monkeypatch, capsys=capsys)


def finished(folder: Path) -> Path:
    (folder / "outcome.json").write_text('{"schema_version": 1}')
    return folder


def test_two_runs(fedrec: Command, write_run: WriteRun, tmp_path: Path) -> None:
    write_run("weak", model=0.1)
    write_run("strong", model=0.4)
    code, out, err = fedrec("compare", "weak", "strong", "--resamples", "200")
    assert (code, err) == (0, "")
    assert "weak FAILED" in out
    assert "above" in out
    assert "page:  comparison.html" in out
    assert "<svg" in (tmp_path / "comparison.html").read_text()
    code, out, _ = fedrec("compare", "weak", "runs/strong", "--out", "x.html", "--json")
    found = json.loads(out)
    assert found["reference"] == "weak"
    assert found["differences"][0]["hr_10"]["mean"] == pytest.approx(0.3, abs=1e-3)
    assert Path(found["page"]).is_file()


def test_a_sweep_stands_for_its_finished_points(fedrec: Command, write_run: WriteRun) -> None:
    for level in (1, 2):
        for seed in (0, 1):
            name = f"all/points/x={level}/seed-{seed}"
            finished(write_run(name, model=level / 4, seed=seed))
    write_run("all/points/x=2/seed-2", seed=2)  # interrupted
    finished(write_run("all/points/x=2/seed-0.aside-1"))
    code, out, _ = fedrec("compare", "all", "--json", "--resamples", "200")
    assert code == 0
    found = json.loads(out)
    assert [(e["label"], e["seeds"]) for e in found["entries"]] == [("all/x=1", 2), ("all/x=2", 2)]
    code, out, _ = fedrec("compare", "runs/all/points/x=2", "runs/all/points/x=1", "--json")
    assert json.loads(out)["reference"] == "all/x=2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["one"], "needs two runs or points, got one"),
        (["one", "one"], "one is named twice"),
        (["one", "onne"], "there is no run 'onne' here or under runs/; did you mean one?"),
        (["one", "other"], "other cannot be compared with one: dataset toy and dataset else"),
    ],
)
def test_a_mistake_is_one_line(
    fedrec: Command, write_run: WriteRun, tmp_path: Path, arguments: list[str], said: str
) -> None:
    write_run("one")
    write_run("other", dataset="else")
    code, out, err = fedrec("compare", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "comparison.html").exists()
