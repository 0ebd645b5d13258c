from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from common.atomic_files import write_json
from common.errors import RunFolderError
from simulations.results_page import results_page
from simulations.sweeps.planning import plan
from simulations.sweeps.question import Dimension, Question
from simulations.sweeps.result_view import show_sweep, sweep_page, warnings_of
from simulations.sweeps.run_pool import RunEnd
from simulations.sweeps.summary import read_sweep, summarise
from simulations.sweeps.sweep_file import SweepFile
from simulations.sweeps.sweep_folder import SweepFolder
from tests.simulations.comparison.conftest import WriteRun, write_run

__all__ = ["write_run"]

TABLES = "[[budget]]\nepsilon_at_most = 2\nfederation.rounds = 1\n"


@pytest.fixture
def swept(
    tmp_path: Path, write_run: WriteRun, write_scenario: Callable[[str], Path]
) -> tuple[SweepFolder, SweepFile]:
    """A sweep of ε over two seeds, made by hand: ε=1 is weak, and one run of ε=8 failed."""
    question = Question("toy", (), (Dimension("privacy.target_epsilon", ("8", "1")),), 2)
    runs = plan(question, write_scenario(TABLES))
    folder = SweepFolder(tmp_path / "runs" / "all")
    for run in runs[:1] + runs[2:]:
        weak = run.settings["privacy.target_epsilon"] == "1"
        path = write_run(f"all/{run.path}", model=0.1 if weak else 0.4, seed=run.seed)
        outcome = {"schema_version": 1, "epsilon": 0.9, "delta": 1e-4, "seconds": 3.0}
        write_json(path / "outcome.json", outcome)
        write_json(path / "metrics.json", metrics())
    found = summarise(folder, question, runs, {runs[1].path: RunEnd(2, "too few sites")})
    write_json(folder.path / "sweep.json", found.model_dump(mode="json"))
    return folder, found


def metrics() -> dict[str, object]:
    return {
        "schema_version": 1, "dataset": "toy", "split": "leave_one_out", "stage": "test",
        "rows": [], "groups_split": "leave_one_out", "seconds": 1.0, "bootstrap_resamples": 100,
        "tuned": ["λ was chosen on validation."],
    }  # fmt: skip


def test_points_over_the_seeds_that_finished(swept: tuple[SweepFolder, SweepFile]) -> None:
    folder, found = swept
    assert read_sweep(folder.path) == found
    strong, weak = found.points
    assert (strong.target_epsilon, strong.epsilon, weak.target_epsilon) == (8.0, 0.9, 1.0)
    assert strong.result is not None
    assert weak.result is not None
    assert (strong.result.label, strong.result.seeds, weak.result.seeds) == ("ε=8", 1, 2)
    assert [run.status for run in strong.runs] == ["finished", "failed"]
    assert weak.differs == {"federation.rounds": 1}
    assert weak.result.failed_against == ("DP-Pop",)
    assert strong.result.failed_against == ()
    assert found.tuned == ("λ was chosen on validation.",)
    assert all((folder.path / run.path).is_dir() for run in weak.runs)


def test_what_failed_is_seen_in_table_page_and_warnings(
    swept: tuple[SweepFolder, SweepFile],
) -> None:
    _, found = swept
    console = Console(width=120, record=True, quiet=False)
    with console.capture() as shown:
        show_sweep(console, found)
    page = sweep_page("all", found)
    for text in (shown.get(), page, "\n".join(warnings_of(found))):
        assert "FAILED" in text
        assert "seed 1 failed: too few sites" in text
        assert "federation.rounds=1" in text
    assert "ε=1 FAILED" in shown.get()


def test_the_results_page_has_tables_and_plots_of_its_own(
    swept: tuple[SweepFolder, SweepFile], tmp_path: Path
) -> None:
    folder, found = swept
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "results.md"
    results_page([folder.path], page)
    text = page.read_text()
    assert found.points[0].result is not None
    assert f"| ε=8 | 8 | 0.90 | leave_one_out | 1 | {found.points[0].result.hr_10.mean:.4f}" in text
    assert "| **FAILED** ε=1 | 1 |" in text
    assert "fedrec simulate toy --sweep privacy.target_epsilon=8,1 --seeds 2 --run all" in text
    assert "tuned: λ was chosen on validation." in text
    widths = {line.count("|") for line in text.split("## all")[1].splitlines() if line[:1] == "|"}
    assert widths == {8}  # seven columns in each line of both tables
    plots = sorted((tmp_path / "docs" / "results").glob("*.svg"))
    assert [plot.name for plot in plots] == ["all-hr_10.svg", "all-ndcg_10.svg"]
    for plot in plots:
        assert f"results/{plot.name}" in text
        assert ET.parse(plot).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_an_unfinished_sweep_has_no_results(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="the sweep is not over; run it again with --resume"):
        results_page([tmp_path], tmp_path / "results.md")
    (tmp_path / "sweep.json").write_text('{"schema_version": 1}')
    with pytest.raises(RunFolderError, match="is damaged") as caught:
        read_sweep(tmp_path)
    assert "\n" not in str(caught.value)
