"""The page of an experiment: tables, and the plot of regret."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.atomic_files import file_errors, write_text
from simulations.bandits.measuring import TEST_FILE, VALIDATION_FILE, Worlds
from simulations.bandits.summary import FIGURES, Summary
from simulations.evaluation.intervals import Interval
from simulations.report.svg_charts import Line, line_chart
from simulations.results_page import standalone_svg

STYLES = {"greedy": "limit", "epsilon_greedy": "a", "ucb": "b", "thompson": "c"}
HEADING = """# Explore and exploit

Written by `fedrec bandits RUN --out PAGE`; do not edit. What a site gains when its lists explore,
in simulated worlds over MovieLens. How the policies are used at a site: [serving.md](serving.md).

## The world
- **New users.** The users are ones that the run held out of training (`data.held_out_users`). Each
  begins with nothing and gets {lists} lists of {k}, in consecutive rounds of {rounds}, from a
  random round on. An item is shown to a user once. What a user takes enters their history at
  once, so the run's own score follows them under every policy.
- **New items.** {new:.0%} of the catalogue, drawn anew for each seed, are new: the score knows
  their text and the mean prior; no count, no item code, no item-to-item weight. The run itself was
  trained with them in its catalogue, which can only help the score, and so greedy.
- **Rewards.** A user takes a shown item if and only if their record in the data holds it. No model
  fills in what users never met, because such a model is itself a recommender; so an item that
  a user would have liked but never met counts as not taken, which is against new and rare items.
- **Learning.** At the end of a round all policies learn alike from what they showed: a
  Bayesian linear model with an offset for each item (`client/serving/reward_model.py`), which
  begins at the run's score through a take rate fitted on the run's own users. `greedy` learns
  too: it takes the largest mean.
- **Choosing.** Each policy, greedy too, got the best of a grid of beliefs × strengths by reward on
  {chosen} validation worlds. Validation and reported worlds share no user and no new item. The
  {seeds} reported worlds were looked at once; intervals are 95% bootstrap intervals over them, and
  differences are paired by world. All worlds draw on one data set and one half of its users: the
  intervals speak of other arrivals and other new items there, not of other data.
- The lab reads users' records here. At a site, nothing of it leaves the site, and it costs no ε.
"""


def write_page(path: Path, run: str, worlds: Worlds, summaries: Sequence[Summary]) -> None:
    """Write the page, and the plot into a folder of its name beside it.

    Raises:
        RunFolderError: a file cannot be written.
    """
    folder = path.with_suffix("")
    with file_errors("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "regret.svg", standalone_svg(regret_chart(summaries)))
    plan = worlds.plan
    heading = HEADING.format(
        lists=plan.lists,
        k=plan.k,
        rounds=plan.rounds,
        new=plan.new_items,
        chosen=worlds.chosen_on,
        seeds=worlds.reported,
    )
    parts = [
        heading,
        f"## Run {run}\n",
        f"![mean regret over rounds]({folder.name}/regret.svg)\n",
        "Regret: what whoever knows every record would have had, less what was taken.\n",
        *_table(summaries, "means", "mean"),
        "",
        "### Difference from greedy, paired by world\n",
        *_table(summaries, "differences", "difference"),
        "",
        "### Settings, as validation chose them\n",
        *_settings(summaries),
        "",
        f"Every world is a line of [{TEST_FILE}]({folder.name}/{TEST_FILE}) or "
        f"[{VALIDATION_FILE}]({folder.name}/{VALIDATION_FILE}).",
        "",
    ]
    write_text(path, "\n".join(parts))


def regret_chart(summaries: Sequence[Summary]) -> str:
    """Mean regret over rounds, a line for each policy."""
    lines = [
        Line(
            each.name.replace("_", " "),
            [(moment, value) for moment, value in enumerate(each.regret, start=1)],
            STYLES[each.name],
        )
        for each in summaries
    ]
    return line_chart("Regret over rounds", "round", lines, "regret, items")


def _table(summaries: Sequence[Summary], part: str, what: str) -> list[str]:
    shown = [each for each in summaries if getattr(each, part)]
    rows = [
        f"| {what} | {' | '.join(each.name for each in shown)} |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for figure, label in FIGURES.items():
        cells = [_text(getattr(each, part)[figure], signed=part == "differences") for each in shown]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return rows


def _settings(summaries: Sequence[Summary]) -> list[str]:
    rows = [
        "| policy | start | floor | half-life, lists | known | new | shared |",
        "|---" * 7 + "|",
    ]
    for each in summaries:
        policy, beliefs = each.setting.policy, each.setting.beliefs
        cells = (policy.start, policy.floor, policy.half_life)
        spreads = (beliefs.known, beliefs.new, beliefs.shared)
        rows.append(f"| {each.name} | {' | '.join(f'{value:g}' for value in (*cells, *spreads))} |")
    return rows


def _text(found: Interval, *, signed: bool) -> str:
    digits, sign = 0 if abs(found.mean) >= 20 else 3, "+" if signed else ""
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"
