"""The result files of cold-start runs, and the page made of all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from common.atomic_files import file_errors, write_text
from common.config import RunConfig
from simulations.cold_start.bench import COLD_SHARE, TARGETS, ColdStartBench
from simulations.cold_start.measuring import ColdStartRow

HEADING = f"""# Cold start: new users and new items

Written by `fedrec cold-start SCENARIO --run NAME --stage test --out PAGE`; do not edit. The rows
are in the folder beside this page, a file for each run.

- **New users** (`data.held_out_users`) are at no site of the run. Of each, the first n items are
  the history and the next {TARGETS} are to be found among all items of training's catalogue. The
  same users stand at every n. Intervals are over users.
- With **no item at all** all new users get one list, but for context: the released count, in
  which every user has an equal say, against the plain count. That is no personal recommendation;
  the aim is judged for short histories.
- **New items** (a seeded share of {COLD_SHARE:g} of the catalogue for validation, as many for
  test) are not even in training's catalogue. They come back with their text alone, as
  `--new-items` serves them, and each interaction with one is an event
  ([adapter.md](adapter.md)). Figures are means over items and intervals are over items. *Among
  new* the text decides; *among all* a new item stands with every known one.
- **Popularity** is the exact count at the sites, without privacy; equal counts, such as those of
  new items, in random order. **TF-IDF** is over titles with genres, scikit-learn, fitted on new
  items too; *recent first* weighs the last items of a history more. **Frozen text cosine** is
  BERT's, without training.
- *Trained users' known items*: what lifting new items takes from users who wanted a known one. The
  rule of `common/new_items.py` was chosen for new items on validation, where known items may lose
  5% of their NDCG@10 at most (`fedrec cold-start SCENARIO --run NAME --try-rules`).
- `gain` is NDCG@10 of fedrec less that of the row, paired, with a 95% bootstrap interval.
- One seed of data, partition and noise. Settings were chosen on non-private validation, which ε
  does not cover; users and items of the test part took no part in any choice.
- A tenth of the items is few for a gain *among all*: fresh items of other seeds, pooled, are in
  [cold-items.md](cold-items.md).
"""


def result_lines(
    name: str, config: RunConfig, bench: ColdStartBench, stage: str, rows: Sequence[ColdStartRow]
) -> str:
    """The content of a result file: a line about the run, then one for each row."""
    privacy = config.privacy
    head: dict[str, Any] = {
        "schema_version": 1,
        "run": name,
        "mode": privacy.mode,
        "epsilon": privacy.target_epsilon if config.is_private else None,
        "context": config.model.context,
        "head": config.model.head,
        "stage": stage,
        "config_sha256": config.sha256(),
        "trained_users": len(bench.known.users.user_ids),
        "known_items": len(bench.known.catalogue),
    }
    return "".join(
        json.dumps(line, ensure_ascii=False) + "\n" for line in (head, *(r.to_dict() for r in rows))
    )


def write_page(page: Path, name: str, lines: str) -> None:
    """Keep a run's `lines` in the page's folder, and make the page of all that are there.

    Raises:
        RunFolderError: a file cannot be written.
    """
    folder = page.with_suffix("")
    with file_errors("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.jsonl", lines)
    parts = [HEADING]
    for path in sorted(folder.glob("*.jsonl")):
        head, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        parts.append(_section(head, rows))
    write_text(page, "\n".join(parts))


def _section(head: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    epsilon = "∞" if head["epsilon"] is None else f"{head['epsilon']:g}"
    context = f", context {head['context']}" if head["context"] else ""
    lines = [
        f"## ε = {epsilon}{context}: run {head['run']}, {head['stage']} part\n",
        f"{head['trained_users']:,} users and {head['known_items']:,} items were trained on; "
        f"mode {head['mode']}, head `{head['head']}`.\n",
    ]
    for setting, found in groupby(rows, key=lambda row: str(row["setting"])):
        some = list(found)
        lines += [f"**{setting}** ({some[0]['units']})\n", "| | NDCG@10 | gain |", "|---|---|---|"]
        lines += [
            f"| {row['method']} | {_text(row['ndcg'])} | "
            f"{'' if row['method'] == 'fedrec' else _text(row['gain'], sign='+')} |"
            for row in some
        ]
        lines.append("")
    return "\n".join(lines)


def _text(found: dict[str, float], sign: str = "") -> str:
    mean, low, high = (format(found[part], f"{sign}.4f") for part in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
