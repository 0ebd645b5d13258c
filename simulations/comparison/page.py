"""Compared results as one self-contained page, and its charts."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from simulations.comparison.records import DifferenceRecord, EntryRecord, OtherRow
from simulations.comparison.result_table import verdict
from simulations.report.metrics_file import IntervalRecord
from simulations.report.number_text import metric_text
from simulations.report.page import page_style
from simulations.report.svg_charts import IntervalRow, interval_chart
from simulations.report.templating import templates

CHARTED = (("hr_10", "HR@10"), ("ndcg_10", "NDCG@10"))


def comparison_page(
    title: str,
    subtitle: str,
    entries: Sequence[EntryRecord],
    *,
    resamples: int,
    differences: Sequence[DifferenceRecord] = (),
    warnings: Sequence[str] = (),
    sections: Sequence[Markup] = (),
) -> str:
    """Render the page.

    Args:
        title: its heading.
        subtitle: one line below.
        entries: those that have results; the baselines of the first are shown.
        resamples: of every interval.
        differences: from one reference, if any.
        warnings: what a reader must see first.
        sections: further parts of the page, below.

    Returns:
        HTML without any reference to another file or host.
    """
    baselines = entries[0].baselines if entries else ()
    records = [entry.model_dump(mode="json") for entry in entries]
    return (
        templates()
        .get_template("comparison.html.j2")
        .render(
            title=title,
            subtitle=subtitle,
            style=Markup(page_style()),
            charts=[Markup(chart) for chart in _charts(entries, differences)],
            entries=records,
            baselines=[row.model_dump(mode="json") for row in baselines],
            differences=[row.model_dump(mode="json") for row in differences],
            reference=differences[0].second if differences else "",
            resamples=resamples,
            warnings=list(warnings),
            sections=list(sections),
            verdict=_verdict,
        )
    )


def accuracy_chart(entries: Sequence[EntryRecord], metric: str, name: str) -> str:
    """Draw the models of all entries, their floors, and the baselines of the first.

    Args:
        entries: at least one.
        metric: `hr_10` or `ndcg_10`.
        name: of the metric, for people.

    Returns:
        An `<svg>` element.
    """
    rows = []
    for entry in entries:
        style = "failed" if entry.failed_against else "a"
        rows.append(_row(entry.label, getattr(entry, metric), style))
        beside = (*entry.floors, *entry.variants)
        rows += [_other(f"{entry.label}: {row.name}", row, metric) for row in beside]
    rows += [_other(row.name, row, metric) for row in entries[0].baselines]
    return interval_chart(
        f"{name}, mean and 95% interval over users and seeds", f"{name}, {entries[0].stage}", rows
    )


def _charts(entries: Sequence[EntryRecord], differences: Sequence[DifferenceRecord]) -> list[str]:
    if not entries:
        return []
    charts = [accuracy_chart(entries, metric, name) for metric, name in CHARTED]
    if differences:
        charts += [
            interval_chart(
                f"{name} less that of {differences[0].second}",
                f"Δ{name}, paired",
                [
                    IntervalRow(f"{differences[0].second} (reference)", 0.0, None, None, "", "b"),
                    *(
                        _row(row.first, getattr(row, metric), "a", signed=True)
                        for row in differences
                    ),
                ],
            )
            for metric, name in CHARTED
        ]
    return charts


def _other(label: str, row: OtherRow, metric: str) -> IntervalRow:
    return _row(label, getattr(row, metric), "b")


def _row(label: str, interval: IntervalRecord, style: str, *, signed: bool = False) -> IntervalRow:
    text = metric_text(interval.mean, signed=signed)
    return IntervalRow(label, interval.mean, interval.low, interval.high, text, style)


def _verdict(interval: dict[str, float | None]) -> str:
    return verdict(IntervalRecord.model_validate(interval))
