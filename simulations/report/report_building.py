"""Writes the report of a run, from its folder alone."""

from __future__ import annotations

from pathlib import Path

from common.run_folder import RunFolder
from simulations.report.page import report_page
from simulations.report.privacy_statement import privacy_statement
from simulations.report.report_data import report_data
from simulations.report.run_files import read_run


def build_report(run_folder: Path) -> Path:
    """Write `report.json`, `report.html` and `PRIVACY.md` into a run's folder.

    Each file is written whole or not at all; those of an earlier report are replaced.

    Args:
        run_folder: `runs/NAME`.

    Returns:
        Path of `report.html`.

    Raises:
        RunFolderError: there is no run, one of its files is damaged, or the disk refuses.
        ConfigError: its `config.toml` is no configuration.
    """
    data = report_data(read_run(run_folder))
    folder = RunFolder.open(run_folder)
    folder.write_json("report.json", data)
    folder.write_text("report.html", report_page(data))
    folder.write_text("PRIVACY.md", privacy_statement(data))
    return run_folder / "report.html"
