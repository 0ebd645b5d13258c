from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import RunFolderError
from simulations.search.markdown import write_section
from simulations.search.result_view import show_search
from simulations.search.search_file import SearchFile
from simulations.search.statements import finding_lines, ground_text, point_rows
from tests.simulations.search.conftest import Searched

OWN, LOW, HIGH = "own", "federation.local_lr=0.5", "federation.local_lr=2.0"
ALL = {
    (OWN, 0): 0.3, (OWN, 1): 0.3, (LOW, 0): 0.2, (LOW, 1): 0.2, (HIGH, 0): 0.31, (HIGH, 1): 0.31
}  # fmt: skip


def test_the_best_is_first_and_ties_are_told(searched: Searched) -> None:
    _, found = searched(ALL)
    assert [point.name for point in found.points] == [HIGH, OWN, LOW]
    assert found.best == HIGH
    assert [row.verdict for row in point_rows(found)] == ["best", "below", "below"]
    assert found.best_less_own is not None
    assert found.best_less_own.ndcg_10.mean == pytest.approx(0.01)
    assert found.own == {"federation.local_lr": "1.0"}
    assert SearchFile.model_validate(json.loads(found.model_dump_json())) == found


def test_points_that_cannot_be_told_apart_are_within_noise(searched: Searched) -> None:
    _, found = searched(ALL | {(OWN, 0): 0.32, (OWN, 1): 0.299})
    rows = {row.label: row.verdict for row in point_rows(found)}
    assert rows["local_lr=0.5"] == "below"
    assert rows["the scenario's own settings"] == "within noise"
    first, second = finding_lines(found)
    assert first.startswith("best: local_lr=2.0, NDCG@10 +0.0005 [")
    assert first.endswith("over the scenario's own: within noise")
    assert second == "within noise of the best: the scenario's own settings"


def test_a_point_without_all_seeds_is_never_the_best(searched: Searched) -> None:
    levels = {key: level for key, level in ALL.items() if key != (HIGH, 1)}
    _, found = searched(levels)
    assert found.best == OWN
    assert finding_lines(found)[0] == (
        "best: the scenario's own settings: no other point is above it"
    )
    rows = {row.label: row for row in point_rows(found)}
    assert (rows["local_lr=2.0"].seeds, rows["local_lr=2.0"].verdict) == ("1 of 2", "incomplete")


def test_without_a_finished_run_that_is_said(searched: Searched) -> None:
    _, nothing = searched({})
    assert ground_text(nothing) == "no run is finished"
    _, found = searched({(OWN, 0): 0.3})
    assert found.best is None
    assert finding_lines(found) == ["best: none, because no point has all its seeds"]


def test_the_terminal_says_stage_failures_and_what_is_not_covered(searched: Searched) -> None:
    _, found = searched({key: level for key, level in ALL.items() if key != (LOW, 1)})
    console = Console(width=140)
    with console.capture() as captured:
        show_search(console, found)
    shown = captured.get()
    for said in (
        "validation, toy, leave_one_out, 40 users, 2 seeds; lab only",
        f"{LOW} seed 1 failed: too few sites",
        "Settings chosen on non-private validation are not covered by ε.",
        "The scenario's own: local_lr=1.0",
    ):
        assert said in shown
    assert "test" not in shown.replace("estimate for the test part", "")


def test_a_section_is_written_again_in_its_place(searched: Searched, tmp_path: Path) -> None:
    page = tmp_path / "search.md"
    _, found = searched(ALL)
    write_section(page, found)
    other = found.model_copy(update={"overrides": ("privacy.target_epsilon=3",)})
    write_section(page, other)
    page.write_text(page.read_text() + "\nBy hand.\n")
    first = page.read_text()
    assert first.startswith("# Searches")
    assert first.count("| **local_lr=2.0** | **2** | **0.3") == 2
    assert "$ fedrec search toy --set privacy.target_epsilon=3 --seeds 2\n" in first
    assert "Settings chosen on non-private validation are not covered by ε." in first
    write_section(page, found.model_copy(update={"note": "Once more."}))
    again = page.read_text()
    assert again.replace("Once more.\n\n", "") == first
    assert again.index("Once more.") < again.index("--set privacy")
    write_section(page, found)
    assert page.read_text() == first
    page.write_text(first.replace("<!-- end of search: toy -->", ""))
    with pytest.raises(RunFolderError, match="the comments around search toy do not match"):
        write_section(page, found)
