"""Results of the positive control over seeds, as files that can be committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common.atomic_files import file_errors, write_json, write_text
from simulations.audit.attacks.positive_control import ControlOutcome, positive_control, table
from simulations.audit.provenance import provenance

NAME = "positive-control"


@dataclass(frozen=True)
class ControlResult:
    """One trained and attacked control.

    Attributes:
        seed: of people, partition and start.
        cpu_seconds: that this process spent on it.
        outcomes: one for each attack.
    """

    seed: int
    cpu_seconds: float
    outcomes: tuple[ControlOutcome, ...]

    @property
    def as_it_should_be(self) -> bool:
        """Whether every attack found what is there, and nothing where there is nothing."""
        return all(each.as_it_should_be for each in self.outcomes)


def controls(
    seeds: Sequence[int], out: Path | None, notify: Callable[[str], None]
) -> tuple[ControlResult, ...]:
    """Train and attack a control for each seed.

    Args:
        seeds: at least one.
        out: a folder that gets `positive-control.json` and `.md`, anew after each seed; or None.
        notify: hears each line of the table.
    """
    found: list[ControlResult] = []
    for seed in seeds:
        started = time.process_time()
        outcomes = positive_control(seed)
        found.append(ControlResult(seed, round(time.process_time() - started, 1), outcomes))
        notify(f"seed {seed}")
        for line in table(outcomes):
            notify(line)
        if out is not None:
            write_controls(found, out)
    return tuple(found)


def write_controls(results: Sequence[ControlResult], out: Path) -> None:
    """Write both files.

    Raises:
        RunFolderError: the file system refuses.
    """
    with file_errors("make", out):
        out.mkdir(parents=True, exist_ok=True)
    code = provenance()
    content = {
        "schema_version": 1,
        "fedrec": code.fedrec,
        "source_sha256": code.source_sha256,
        "controls": [asdict(each) for each in results],
    }
    write_json(out / f"{NAME}.json", content)
    write_text(out / f"{NAME}.md", markdown(results, code.fedrec, code.source_sha256))


def markdown(results: Sequence[ControlResult], version: str, source: str) -> str:
    """The page: a row for each seed and attack.

    Args:
        results: at least one.
        version: of fedrec.
        source: SHA-256 of its sources.
    """
    seeds = " ".join(f"--seed {each.seed}" for each in results)
    lines = [
        "# The positive control",
        "",
        f"Written by `fedrec audit positive-control {seeds} --out FOLDER`,",
        f"fedrec {version}, sources {source[:16]}…. A federation that leaks on purpose, and what",
        "each attack found; [the audit](../audit.md) says how it is made. Every membership attack",
        "must be above one half, and reconstruction from an exact update above what popularity",
        "alone gives; from a private release it must not be.",
        "",
        "| seed | attack | AUC [95%] | true positives at 1% | popularity alone | as it should be |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(each.seed, outcome) for each in results for outcome in each.outcomes]
    lines += ["", "| attack | AUC over seeds: mean (least to most) |", "|---|---|"]
    lines += [_summary(place, results) for place in range(len(results[0].outcomes))]
    spent = ", ".join(f"{each.cpu_seconds:.0f}" for each in results)
    lines += ["", f"CPU seconds for each seed: {spent}. Popularity alone: the AUC that a user's"]
    lines += ["items have when items are ordered by the public popularity, without any update."]
    return "\n".join(lines) + "\n"


def _row(seed: int, outcome: ControlOutcome) -> str:
    figures = outcome.statistic
    area = "{:.3f} [{:.3f}, {:.3f}]".format(
        *(figures[f"auc{end}"] for end in ("", "_low", "_high"))
    )
    rate, popularity = figures.get("tpr_at_1_percent"), figures.get("popularity_auc")
    cells = (
        str(seed),
        outcome.name,
        area,
        _number(rate),
        _number(popularity),
        "yes" if outcome.as_it_should_be else "**NO**",
    )
    return f"| {' | '.join(cells)} |"


def _summary(place: int, results: Sequence[ControlResult]) -> str:
    outcomes = [each.outcomes[place] for each in results]
    areas = [float(each.statistic["auc"] or 0.0) for each in outcomes]
    mean = sum(areas) / len(areas)
    return f"| {outcomes[0].name} | {mean:.3f} ({min(areas):.3f} to {max(areas):.3f}) |"


def _number(value: float | int | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.3f}"
