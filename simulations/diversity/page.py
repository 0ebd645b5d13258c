"""The curve as a page: a table, and a plot of accuracy against each kind of variety."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from common.atomic_files import file_errors, write_text
from simulations.diversity.curve import CurvePoint
from simulations.evaluation.intervals import Interval
from simulations.report.diversity_file import CurveRecord
from simulations.report.figures_lists import AXES, WAYS, curve_figure
from simulations.report.interval_record import IntervalRecord
from simulations.results_page import standalone_svg

HEADING = """# What variety of lists costs

Written by `fedrec diversity RUN --out PAGE`; do not edit. Lists of ten from each user's hundred
best items, varied where they are made: nothing leaves the site, so none of it costs ε. Each way and
strength is a row; `difference` is NDCG@10 less that of the plain lists, over the same users, with a
95% interval. A strength is chosen on validation, and never on a page of the test part.

- **MMR** (Carbonell & Goldstein, 1998): the next item is good and unlike those before it, by the
  cosine of their texts.
- **Calibrated genres** (Steck, 2018): the list's genres are like those of the user's history.
- **Less popular**: score less strength × the run's released popularity, as
  `evaluation.exposure_penalty` does.
- **Exposure cap**: no item stands in more than this share of the site's lists. Decided over all
  users of a site together, so it is for lists that are made in one go.
"""


def write_page(path: Path, title: str, points: Sequence[CurvePoint]) -> None:
    """Write the Markdown page, and its plots into a folder of its name beside it.

    Raises:
        RunFolderError: a file cannot be written.
    """
    plots = path.with_suffix("")
    with file_errors("make", plots):
        plots.mkdir(parents=True, exist_ok=True)
    images = []
    for figure, label in AXES.items():
        drawing = str(curve_figure(records_of(points), figure).drawing)
        write_text(plots / f"{figure}.svg", standalone_svg(drawing))
        images.append(f"![{label}]({plots.name}/{figure}.svg)")
    write_text(path, "\n".join([HEADING, f"## {title}\n", *images, "", *table(points), ""]))


def records_of(points: Sequence[CurvePoint]) -> tuple[CurveRecord, ...]:
    """The points as `diversity.json` and the run's report hold them."""
    return tuple(_record(point) for point in points)


def _record(point: CurvePoint) -> CurveRecord:
    values = {field.name: getattr(point, field.name) for field in fields(point)}
    return CurveRecord.model_validate(
        {
            name: IntervalRecord.of(value) if isinstance(value, Interval) else value
            for name, value in values.items()
        }
    )


def table(points: Sequence[CurvePoint]) -> list[str]:
    """The lines of the Markdown table."""
    head = "| way | strength | NDCG@10 | difference | distance | miscalibration | coverage | Gini |"
    return [head, "|---|---|---|---|---|---|---|---|", *map(_row, points)]


def _row(point: CurvePoint) -> str:
    figures = (point.ndcg, point.difference, point.distance, point.miscalibration)
    cells = [
        WAYS[point.method],
        f"{point.strength:g}" if point.strength else "",
        *map(_text, figures),
        _text(point.coverage, 3),
        _text(point.exposure_gini, 3),
    ]
    return f"| {' | '.join(cells)} |"


def _text(found: Interval, digits: int = 4) -> str:
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
