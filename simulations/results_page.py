"""``python -m simulations.results_page SWEEP…``: sweeps as Markdown with SVG plots, for the docs.

The page holds what `sweep.json` holds and nothing else; ``make results`` runs the sweeps and
writes it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from common.atomic_files import file_errors, write_text
from common.command_line import run_command_line
from simulations.comparison.page import CHARTED, accuracy_chart
from simulations.report.page import page_style
from simulations.sweeps.markdown import sweep_markdown
from simulations.sweeps.result_view import entries_of, impact_charts
from simulations.sweeps.summary import read_sweep
from simulations.sweeps.sweep_file import SweepFile

HEADING = """# Results

Written by `make results`, which runs the sweeps below and this page's tables and plots; do not
edit. How to read them: [sweeps.md](sweeps.md). Exact metrics are for the lab only.
"""


def results_page(sweeps: Sequence[Path], page: Path) -> None:
    """Write the page, and its plots into a folder of its name beside it.

    Args:
        sweeps: folders of finished sweeps.
        page: the Markdown file.

    Raises:
        RunFolderError: a sweep is not over, or a file cannot be written.
    """
    plots = page.with_suffix("")
    with file_errors("make", plots):
        plots.mkdir(parents=True, exist_ok=True)
    parts = [HEADING]
    for sweep in sweeps:
        found = read_sweep(sweep)
        name = re.sub(r"[^A-Za-z0-9_-]", "-", sweep.resolve().name)
        images = []
        for plot, svg in _plots(found).items():
            write_text(plots / f"{name}-{plot}.svg", standalone_svg(svg))
            images.append(f"![{plot}]({plots.name}/{name}-{plot}.svg)")
        parts.append(sweep_markdown(name, found, images))
    write_text(page, "\n".join(parts))


def standalone_svg(svg: str) -> str:
    """Return an inline `<svg>` of the report as a file of its own, with its styles."""
    style = page_style()
    opening, rest = svg.split(">", 1)
    opening = opening.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg" width="720"', 1)
    background = "svg { background: var(--paper); font-family: system-ui, sans-serif; }"
    return f"{opening}><style><![CDATA[{style}\n{background}]]></style>{rest}\n"


def _plots(found: SweepFile) -> dict[str, str]:
    entries = entries_of(found)
    plots = {m: accuracy_chart(entries, m, name) for m, name in CHARTED} if entries else {}
    return plots | {f"impact-{name}": svg for name, svg in impact_charts(found).items()}


def main() -> None:
    """Write the page of the sweeps that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweeps", nargs="+", type=Path, metavar="SWEEP")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    arguments = parser.parse_args()
    run_command_line(lambda: results_page(arguments.sweeps, arguments.out))
    print(f"page:  {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
