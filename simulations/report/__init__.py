"""The report of a run: `report.html`, `report.json`, `PRIVACY.md` and `metrics.json`."""

from simulations.report.metrics_building import EvaluatedRow, RunCost, build_metrics
from simulations.report.metrics_file import MetricsFile
from simulations.report.report_building import build_report
from simulations.report.run_files import write_metrics

__all__ = [
    "EvaluatedRow",
    "MetricsFile",
    "RunCost",
    "build_metrics",
    "build_report",
    "write_metrics",
]
