"""New items among all, on fresh held-out items: the rule of `common/new_items.py`, judged.

The rule was chosen on the validation items of one split; that split's test items were looked at
since. Runs of other `data.seed`s hold out other items. Make them, then pool them:

    fedrec cold-start distributed --run cold-102 --set data.seed=102
    python -m benchmarks.cold_items cold-102 … --chosen-on cold-8 --out docs/cold-items.md

All items that a run of `--chosen-on` held out are left out. Run once for each ε; a file for each
lies in the folder beside the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.atomic_files import file_errors, write_text
from common.errors import DataError, FedrecError
from common.new_items import rule_of
from common.run_folder import RunFolder
from simulations.cold_start.new_items import LARGEST_LOSS
from simulations.cold_start.pooled import held_out_items, pool
from simulations.run_paths import find_run

HEADING = f"""# New items among all, on fresh held-out items

Written by `python -m benchmarks.cold_items RUN… --chosen-on RUN… --out PAGE`; do not edit. The
lines are in the folder beside this page.

- Runs of other `data.seed`s hold out other items (both their parts, a tenth of the catalogue
  each, one part at a time beside the known items) than those that the rule of new items was
  chosen on. All items that a run of `--chosen-on` held out, its test items too, are left out of
  the figures. Settings and baselines are those of [cold-start.md](cold-start.md).
- An item that several runs held out counts once, by its mean over them; so does a user. `gain` is
  fedrec's NDCG@10 less that of the row, paired, with a 95% bootstrap interval over items (over
  users for known items).
- *Known items' loss*: what the rule takes from trained users who wanted a known item (their test
  item), as a share, against new items by the mean prior alone. The aim: {LARGEST_LOSS:.0%} at most.
- Users and items of one data set only, and users of several runs are the same people in part.
- Tried on validation items and left out, since none gained clearly at an equal loss for known
  items: similarity of words (TF-IDF) to the recent history or to its nearest item, the nearest
  text instead of their mean, scores of known items alike in words or text, scores in units of a
  user's own spread or from the user's own best scores on, and a lift by length of history.
"""
SETTINGS = {
    "among_all": "New items among all",
    "among_new": "New items among new",
    "known": "Trained users' known items, new items beside them",
}


def measure(folders: Sequence[RunFolder], chosen_on: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """A line about the runs, then those of `PooledFigures.rows`.

    Raises:
        DataError: the runs differ in more than their seed, or `chosen_on` has one of them.
    """
    configs = [folder.read_config() for folder in folders]
    first, seeds = configs[0], [config.data.seed for config in configs]
    for folder, config in zip(folders, configs, strict=True):
        data = config.data.model_copy(update={"seed": first.data.seed})
        if config.model_copy(update={"data": data}) != first:
            raise DataError(f"{folder.path} differs from {folders[0].path} in more than data.seed")
    seen = {folder.read_config().data.seed for folder in chosen_on}
    if len(set(seeds)) < len(seeds) or seen & set(seeds):
        raise DataError(f"data.seed must be another in every run; got {seeds} and {sorted(seen)}")
    left_out: set[str] = set()
    for folder in chosen_on:
        left_out |= held_out_items(folder)
    head = {
        "schema_version": 1,
        "epsilon": first.privacy.target_epsilon if first.is_private else None,
        "context": first.model.context,
        "head": first.model.head,
        "rule": asdict(rule_of(first.model)),
        "data_seeds": seeds,
        "chosen_on_seeds": sorted(seen),
        "items_left_out": len(left_out),
    }
    return [head, *pool(folders, left_out).rows()]


def page(files: Sequence[Sequence[dict[str, Any]]]) -> str:
    """The Markdown page."""
    lines = [HEADING]
    for head, *rows in files:
        epsilon = "∞" if head["epsilon"] is None else f"{head['epsilon']:g}"
        lines.append(
            f"## ε = {epsilon}, head `{head['head']}`: data seeds {_list(head['data_seeds'])}\n\n"
            f"Rule {head['rule']}; {head['items_left_out']} items of seeds "
            f"{_list(head['chosen_on_seeds'])} left out.\n"
        )
        for setting, title in SETTINGS.items():
            some = [row for row in rows if row["setting"] == setting and "method" in row]
            lines += [
                f"**{title}** ({some[0]['units']})\n",
                "| | NDCG@10 | gain |",
                "|---|---|---|",
            ]
            for row in some:
                gain = "" if row["method"] == "fedrec" else _text(row["gain"], "+.4f")
                lines.append(f"| {row['method']} | {_text(row['ndcg_10'], '.4f')} | {gain} |")
            lines.append("")
        lost = next(row["loss"] for row in rows if "loss" in row)
        lines.append(f"Known items' loss: {_text(lost, '.1%')}.\n")
    return "\n".join(lines)


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _text(found: dict[str, float], form: str) -> str:
    mean, low, high = (format(found[part], form) for part in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def write(out: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Keep `lines` in the page's folder, and make the page of all files there.

    Raises:
        RunFolderError: a file cannot be written.
    """
    head = lines[0]
    folder = out.with_suffix("")
    name = "inf" if head["epsilon"] is None else f"{head['epsilon']:g}"
    with file_errors("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(folder / f"{name}{'-ctx' if head['context'] else ''}.jsonl", content)
    files = [
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    ]
    write_text(out, page(files))


def main() -> None:
    """Pool the runs, print a line for each figure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_items")
    parser.add_argument("runs", nargs="+", help="finished runs of `fedrec cold-start`")
    parser.add_argument("--chosen-on", nargs="+", required=True, help="runs of seen items")
    parser.add_argument("--out", type=Path, help="Markdown page; lines go into a folder beside it")
    given = parser.parse_args()
    try:
        lines = measure([find_run(r) for r in given.runs], [find_run(r) for r in given.chosen_on])
        if given.out is not None:
            write(given.out, lines)
    except FedrecError as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(2)
    for line in lines:
        print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main()
