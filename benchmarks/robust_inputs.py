"""What bad inputs cost a finished run: spoilt item texts, and fake items in histories.

The adapter is as it was trained; texts and histories are spoilt where it serves. Texts of the
whole catalogue or of a share of it are changed and encoded anew; histories get items that the
user never had. Told are NDCG@10 less that of clean inputs, paired over users, and how often
the items stand in lists that somebody would push.

    python -m benchmarks.robust_inputs RUN --out docs/robust-inputs.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.atomic_files import file_errors, write_text
from common.build_recommender import build_recommender
from common.errors import FedrecError
from common.holdout import history_of, is_judged, targets_of
from common.metrics import user_metrics
from common.new_items import new_item_vectors
from common.ranking import worst_ranks
from common.recommender import Recommender
from common.requests import Requests, requests_of
from simulations.datasets import load_dataset
from simulations.evaluation.intervals import mean_interval, paired_difference
from simulations.lab import held_out
from simulations.run_paths import find_run
from simulations.run_scorer import run_scorer

SHARE = 0.1  # of the items, where not all are spoilt
TYPOS = (0.05, 0.1, 0.2)
FAKES = (1, 5, 10)
POPULAR = 10
ZERO_WIDTH = "\u200b"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
HEADING = """# What bad inputs cost

Written by `python -m benchmarks.robust_inputs RUN --out PAGE`; do not edit. Texts and histories are
spoilt where the run serves, after training. `difference` is NDCG@10 less that of clean inputs,
paired over users, with a 95% bootstrap interval; `exposure` is the share of lists of ten that show
a pushed item (for stuffed texts: places of lists that such items have), before and after. One seed.

- **Typos**: each letter is dropped, doubled or replaced with this probability, in all texts.
- **No text**: a tenth of the items, by chance, have "?" for a text. A site refuses an empty text in
  one line, and a new item without a word too ([serving.md](serving.md)).
- **Stuffed**: a tenth of the items, by chance, have the texts of the ten most popular appended.
- **Zero width**: an invisible character after each letter. BERT's tokeniser drops these.
- **Very long**: the text a hundred times over; `model.max_tokens` of it are read.
- **Random fakes**: m items that the user never had, at the end of each history.
- **Push**: one item of middling popularity, and the m items whose texts are most like its own as
  the newest of each history. Whoever can write into a history can do this; at a site that
  is who can write its tables or holds the service's token. A fake
  history reaches its own user's lists alone. What made-up users do to *training* is another matter
  ([poisoning.md](poisoning.md)).
"""

Ints = NDArray[np.int64]


def with_typos(text: str, rate: float, random: np.random.Generator) -> str:
    """`text` with each letter dropped, doubled or replaced with probability `rate`."""
    spoilt = []
    for letter in text:
        if not letter.isalpha() or random.random() >= rate:
            spoilt.append(letter)
            continue
        other = LETTERS[int(random.integers(len(LETTERS)))]
        spoilt.append(("", letter * 2, other)[int(random.integers(3))])
    return "".join(spoilt)


def with_fakes(histories: Sequence[Ints], fakes: Sequence[Ints]) -> list[Ints]:
    """Each history with its fakes as the newest items; what was had before is not repeated."""
    return [
        np.concatenate([history[~np.isin(history, fake)], fake])
        for history, fake in zip(histories, fakes, strict=True)
    ]


class Bench:
    """A finished run with its test users."""

    def __init__(self, run: str, seed: int) -> None:
        """Loads the run and scores clean inputs."""
        folder = find_run(run)
        config = folder.read_config()
        self.dataset = load_dataset(config.data)
        self.recommender: Recommender = build_recommender(config, self.dataset.catalogue)
        run_scorer(self.recommender, folder)
        self.clean_table = self.recommender.table()
        self.texts = list(self.dataset.catalogue.texts)
        splits = [each for each in held_out(config, self.dataset) if is_judged(each, "test")]
        self.asked = requests_of(splits, "test")
        self.had = [history_of(split, "test") for split in splits]
        self.targets = [targets_of(split, "test") for split in splits]
        self.random = np.random.default_rng(seed)
        self.clean = self.recommender.score_all(self.asked)

    def scored_with(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Scores where the catalogue's texts are these."""
        beside = self.recommender.beside
        self.recommender.replace_table(new_item_vectors(self.recommender, texts, beside=beside))
        scores = self.recommender.score_all(self.asked)
        self.recommender.replace_table(self.clean_table)
        return scores

    def scored_after(self, histories: Sequence[Ints]) -> NDArray[np.float32]:
        """Scores where the histories are these."""
        asked = self.asked
        return self.recommender.score_all(
            Requests(histories, asked.moments, asked.previous, asked.attributes)
        )

    def ndcg(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """NDCG@10 of each user; what they had is no candidate, fakes are."""
        return user_metrics(worst_ranks(scores, self.targets, self.had))["ndcg_10"]

    def lists(self, scores: NDArray[np.float32]) -> Ints:
        """Int64 ``[U, 10]``."""
        left = scores.copy()
        for row, history in enumerate(self.had):
            left[row, history] = -np.inf
        return np.argsort(-left, axis=1, kind="stable")[:, :10]

    def row(
        self, name: str, scores: NDArray[np.float32], pushed: Ints | None = None
    ) -> dict[str, Any]:
        """A line of the result file."""
        clean, found = self.ndcg(self.clean), self.ndcg(scores)
        row: dict[str, Any] = {
            "input": name,
            "users": len(found),
            "ndcg_10": mean_interval(found).to_dict(),
            "difference": paired_difference(found, clean).to_dict(),
        }
        if pushed is not None:
            shown = [np.isin(self.lists(each), pushed) for each in (self.clean, scores)]
            single = len(pushed) == 1
            before, after = (float((s.any(axis=1) if single else s).mean()) for s in shown)
            row |= {"exposure_before": before, "exposure_after": after}
        return row


def text_rows(bench: Bench, listen: Callable[[dict[str, Any]], None]) -> None:
    """Spoilt texts."""
    texts, random = bench.texts, bench.random
    for rate in TYPOS:
        spoilt = [with_typos(text, rate, random) for text in texts]
        listen(bench.row(f"typos, {rate:g} of letters", bench.scored_with(spoilt)))
    some = random.choice(len(texts), size=round(SHARE * len(texts)), replace=False)
    gone = ["?" if item in set(some.tolist()) else text for item, text in enumerate(texts)]
    listen(bench.row("no text, a tenth of items", bench.scored_with(gone)))
    prior = bench.recommender.item_prior.cpu().numpy()
    words = " ".join(texts[item] for item in np.argsort(-prior)[:POPULAR])
    stuffed = list(texts)
    for item in some:
        stuffed[item] = f"{texts[item]} {words}"
    listen(bench.row("stuffed, a tenth of items", bench.scored_with(stuffed), some))
    hidden = ["".join(letter + ZERO_WIDTH for letter in text) for text in texts]
    listen(bench.row("zero width, all items", bench.scored_with(hidden)))
    listen(bench.row("very long, all items", bench.scored_with([f"{t} " * 100 for t in texts])))


def history_rows(bench: Bench, listen: Callable[[dict[str, Any]], None]) -> None:
    """Fake items in histories."""
    items = len(bench.texts)
    held = [np.concatenate(pair) for pair in zip(bench.had, bench.targets, strict=True)]
    for count in FAKES:
        fakes = [
            bench.random.choice(np.setdiff1d(np.arange(items), each), count, replace=False)
            for each in held
        ]
        scores = bench.scored_after(with_fakes(bench.had, fakes))
        listen(bench.row(f"{count} random fakes a user", scores))
    prior = bench.recommender.item_prior.cpu().numpy()
    pushed = int(np.argsort(prior, kind="stable")[items // 2])
    terms = bench.recommender.score
    directions = terms.directions(bench.clean_table).detach().cpu().numpy()
    alike = np.argsort(-(directions @ directions[pushed]), kind="stable")
    alike = alike[alike != pushed]
    for count in FAKES:
        fakes = [alike[:count][::-1] for _ in bench.had]
        scores = bench.scored_after(with_fakes(bench.had, fakes))
        listen(bench.row(f"push by {count} fakes a user", scores, np.array([pushed])))


def page(run: str, rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown page."""
    lines = [HEADING, f"## Run {run}, test part, {rows[0]['users']} users\n"]
    lines += ["| input | NDCG@10 | difference | exposure |", "|---|---|---|---|"]
    for row in rows:
        ndcg, gain = row["ndcg_10"], row["difference"]
        exposure = ""
        if "exposure_after" in row:
            exposure = f"{row['exposure_before']:.3f} → {row['exposure_after']:.3f}"
        lines.append(
            f"| {row['input']} | {ndcg['mean']:.4f} [{ndcg['low']:.4f}, {ndcg['high']:.4f}] | "
            f"{gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}] | {exposure} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, and write the page and its lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robust_inputs")
    parser.add_argument("run", help="a finished run's name or folder")
    parser.add_argument("--out", type=Path, help="Markdown page; lines go beside it")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        bench = Bench(given.run, given.seed)
        rows = [bench.row("clean", bench.clean)]

        def listen(row: dict[str, Any]) -> None:
            rows.append(row)
            print(json.dumps(row), flush=True)

        text_rows(bench, listen)
        history_rows(bench, listen)
        if given.out is not None:
            name = find_run(given.run).path.name
            head = {"schema_version": 1, "run": name, "seed": given.seed}
            with file_errors("write", given.out):
                lines = [json.dumps(line) for line in (head, *rows)]
                write_text(given.out.with_suffix(".jsonl"), "\n".join([*lines, ""]))
                write_text(given.out, page(name, rows))
    except FedrecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
