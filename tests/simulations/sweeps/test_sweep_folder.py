from __future__ import annotations

from pathlib import Path

import pytest

from common.atomic_files import write_json
from common.errors import RunFolderError
from simulations.sweeps.planning import PlannedRun
from simulations.sweeps.runs_folder import OUTCOME_FILE
from simulations.sweeps.sweep_folder import SweepFolder
from tests.simulations.sweeps.conftest import Planned


def finish(folder: SweepFolder, run: PlannedRun) -> None:
    folder.run_path(run).mkdir(parents=True)
    write_json(folder.run_path(run) / OUTCOME_FILE, {"schema_version": 1, "epsilon": 2.0})


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "sweep")


def test_the_question_is_read_back(folder: SweepFolder, planned: Planned) -> None:
    question, runs = planned()
    with folder.locked():
        folder.begin(question, "text", runs)
    assert folder.read_question() == question
    assert folder.scenario.read_text() == "text"


def test_only_what_is_finished_counts(folder: SweepFolder, planned: Planned) -> None:
    question, runs = planned()
    with folder.locked():
        folder.begin(question, "", runs)
    finish(folder, runs[0])
    folder.run_path(runs[1]).mkdir(parents=True)
    outcomes = [folder.outcome(run) for run in runs]
    assert outcomes[0] is not None
    assert outcomes[0]["epsilon"] == 2.0
    assert outcomes[1:] == [None, None, None]


def test_a_question_may_grow(folder: SweepFolder, planned: Planned) -> None:
    for rounds, seeds in ((("1", "2"), 2), (("1", "2"), 2), (("1", "2", "3"), 3)):
        question, runs = planned(rounds, seeds)
        with folder.locked():
            folder.begin(question, "", runs)
        assert folder.read_question().seeds == seeds


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rounds": ("1", "3")}, "rounds=2/seed-0 is no longer asked for now"),
        ({"seeds": 1}, "rounds=1/seed-1 is no longer asked for now"),
        ({"text": "[data]\nsites = 4\n"}, "rounds=1/seed-0 has other settings now"),
    ],
)
def test_a_changed_question_is_refused_in_one_line(
    folder: SweepFolder, planned: Planned, change: dict[str, object], said: str
) -> None:
    question, runs = planned()
    with folder.locked():
        folder.begin(question, "", runs)
    before = (folder.path / folder.QUESTION_FILE).read_bytes()
    other, other_runs = planned(**change)
    with pytest.raises(RunFolderError, match="holds another sweep") as caught, folder.locked():
        folder.begin(other, "", other_runs)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (folder.path / folder.QUESTION_FILE).read_bytes() == before


def test_what_an_interrupted_run_left_is_moved_aside(folder: SweepFolder, planned: Planned) -> None:
    _, runs = planned()
    path = folder.run_path(runs[0])
    folder.clear(runs[0])  # there is nothing yet
    for number in (1, 2):
        path.mkdir(parents=True)
        (path / "rounds.jsonl").write_text(str(number))
        folder.clear(runs[0])
        assert not path.exists()
        assert (path.parent / f"seed-0.aside-{number}" / "rounds.jsonl").read_text() == str(number)


def test_a_folder_of_something_else_stays_as_it_is(folder: SweepFolder) -> None:
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("x")
    with pytest.raises(RunFolderError, match="is not empty and holds no sweep"), folder.locked():
        pass
    assert [path.name for path in folder.path.iterdir()] == ["thesis.tex"]


def test_one_process_at_a_time(folder: SweepFolder) -> None:
    with folder.locked():
        other = SweepFolder(folder.path)
        with pytest.raises(RunFolderError, match="by another process"), other.locked():
            pass
    with folder.locked():
        pass


@pytest.mark.parametrize(
    "text", ["", "schema_version = 2\n", "schema_version = 1\nsweep = 3\n", "="]
)
def test_a_damaged_question_is_one_line(folder: SweepFolder, planned: Planned, text: str) -> None:
    folder.path.mkdir()
    (folder.path / folder.QUESTION_FILE).write_text(text)
    question, runs = planned()
    for act in (folder.read_question, lambda: folder.begin(question, "", runs)):
        with pytest.raises(RunFolderError) as caught:
            act()
        assert "\n" not in str(caught.value)


def test_no_sweep_here(folder: SweepFolder) -> None:
    with pytest.raises(RunFolderError, match=r"holds no sweep: it has no sweep\.toml"):
        folder.read_question()
