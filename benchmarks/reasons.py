"""Which account of a score is to be trusted: attention, gradients, or leaving things out.

::

    PYTHONPATH=. python -m benchmarks.reasons RUN… [--users N] --write docs/reasons.jsonl

Each user, with their history before the validation item, is offered ten items; one of them, drawn
by lot, is explained. Every way ranks the items of the history, or the words of the text. Two
judges: rank agreement with exact leave-one-out occlusion, and deletion: the things that a way
names first are taken out together, and the score is computed anew. Leaving one out is what
occlusion itself measures, so for one thing nothing can beat it; for three together it is only a
guess like the others, and that is the fair judge. The lab's measurement: it reads all users.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.reason_ways import Floats, TokenWays, agreement, best, lag_attention
from client.serving.words import WORD, without
from common.atomic_files import write_text
from common.base_weights import load_tokenizer, resolve_base_weights
from common.bilinear_head import ItemRows
from common.build_recommender import build_recommender
from common.holdout import history_of, targets_of
from common.interactions import Catalogue, Int64Array
from common.item_index import ItemIndex, build_index
from common.recommender import Recommender
from common.run_folder import RunFolder
from common.student.encoding import TextEncoder
from common.student.shrinking import merged_bert
from simulations.datasets import load_dataset
from simulations.evaluation.intervals import mean_interval
from simulations.lab import held_out
from simulations.run_scorer import run_scorer

LIST, TOGETHER, LEAST = 10, 3, 4
OCCLUSION, CHANCE = "occlusion", "by lot"


class Judged(NamedTuple):
    """What one way made of one explained score.

    Attributes:
        spearman: with the effects of occlusion; of their sizes, where the way knows no sign.
        same_first: whether it names first what occlusion names first.
        fall_1: of the score, without the thing named first.
        fall_3: of the score, without the three named first.
        moved_3: by how much the score moved, up or down, without the three of largest size; this
            judges ways that know no sign by what they can know.
    """

    spearman: float
    same_first: float
    fall_1: float
    fall_3: float
    moved_3: float


UNSIGNED = ("lag weights", "attention, last layer", "attention, rollout")


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("runs", type=Path, nargs="+")
    asked.add_argument("--users", type=int, default=300)
    asked.add_argument("--write", type=Path)
    given = asked.parse_args()
    torch.set_num_threads(1)
    lines: list[dict[str, Any]] = []
    for run in given.runs:
        lines += measure(run, given.users)
        print(
            *(json.dumps(line) for line in lines if line["run"] == run.name), sep="\n", flush=True
        )
        if given.write is not None:
            write_text(given.write, "".join(json.dumps(line) + "\n" for line in lines))


def measure(run: Path, users: int, seed: int = 0) -> list[dict[str, Any]]:
    """One line per way, for histories and for words."""
    folder = RunFolder.open(run)
    config = folder.read_config()
    dataset = load_dataset(config.data)
    recommender = build_recommender(config, dataset.catalogue)
    run_scorer(recommender, folder)
    splits = [s for s in held_out(config, dataset) if len(targets_of(s, "validation"))]
    draw = np.random.default_rng(seed)
    histories = [history_of(splits[i], "validation") for i in draw.permutation(len(splits))]
    explained = Explained(recommender, dataset.catalogue, draw)
    found: dict[str, list[dict[str, Judged]]] = {"history": [], "words": []}
    for history in [h for h in histories if len(h) >= LEAST][:users]:
        item = explained.offered(history)
        found["history"].append(explained.history(history, item))
        words = explained.words(history, item)
        if words:
            found["words"].append(words)
    return [line for of, each in found.items() for line in summary(run.name, of, each)]


class Explained:
    """Scores of one run, each way's account of them, and its judgement."""

    def __init__(
        self, recommender: Recommender, catalogue: Catalogue, draw: np.random.Generator
    ) -> None:
        """Of a recommender with the run loaded."""
        self._index, self._draw, self._catalogue = build_index(recommender), draw, catalogue
        tokenizer = load_tokenizer(resolve_base_weights(recommender.config.weights))
        most, self._whitening = recommender.config.max_tokens, recommender.whitening
        self._encoder = TextEncoder(merged_bert(recommender), tokenizer, most)
        self._tokens = TokenWays(merged_bert(recommender), tokenizer, most)
        self._index.head.add_items(1)  # for texts that are no item's
        self._index.head.requires_grad_(False)
        self._index.terms.requires_grad_(False)

    def offered(self, history: Int64Array) -> int:
        """One of the ten best items that are not in the history."""
        scores = self._index.scores([history])
        scores[history] = -np.inf
        return int(self._draw.choice(np.argsort(-scores, kind="stable")[:LIST]))

    def history(self, history: Int64Array, item: int) -> dict[str, Judged]:
        """Each way's account of the history's items."""
        left = [np.delete(history, place) for place in range(len(history))]
        scores = self._index.scores_of_item([history, *left], item)
        exact = (scores[0] - scores[1:]).astype(np.float64)
        ways = {
            OCCLUSION: exact,
            "lag weights": lag_attention(len(history), self._index),
            CHANCE: self._draw.random(len(history)),
        }

        def without_all(places: list[int]) -> float:
            rest = np.delete(history, places)
            return float(self._index.scores_of_item([rest], item)[0])

        return judged(ways, exact, float(scores[0]), without_all)

    def words(self, history: Int64Array, item: int) -> dict[str, Judged]:
        """Each way's account of the words of the item's text; none where it has few."""
        text = self._catalogue.texts[item]
        places = list(WORD.finditer(text))
        if len(places) < LEAST:
            return {}
        spans = [place.span() for place in places]
        (query,) = self._index.queries([history]).detach()

        def score(vectors: torch.Tensor) -> torch.Tensor:
            return text_scores(self._index, self._whitening(vectors), query)

        texts = [text, *(without(text, [span]) for span in spans)]
        with torch.no_grad():
            scores = score(self._encoder.vectors(texts)).double().numpy()
        exact = scores[0] - scores[1:]
        ways = {OCCLUSION: exact, **self._tokens.of(text, spans, score)}
        ways[CHANCE] = self._draw.random(len(spans))

        def without_all(chosen: list[int]) -> float:
            rest = without(text, [spans[place] for place in chosen])
            with torch.no_grad():
                return float(score(self._encoder.vectors([rest]))[0])

        return judged(ways, exact, float(scores[0]), without_all)


def text_scores(index: ItemIndex, vectors: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """``[N]``: the part of the score that is of the text, from whitened ``[N, d]``.

    The code of the item, its prior and its item-to-item weights are no matter of its words.
    """
    bare = torch.full((1, len(vectors)), len(index))  # the place past the last has no code
    side = index.head.item_side(ItemRows(vectors[None], bare))
    offered = torch.cat([side.offered, index.terms.directions(vectors)], dim=1)
    scores: torch.Tensor = offered @ query + side.bias
    return scores


def judged(
    ways: dict[str, Floats],
    exact: Floats,
    score: float,
    without_all: Callable[[list[int]], float],
) -> dict[str, Judged]:
    """Judges each way of ranking the same things.

    Args:
        ways: by name, what each gives the things.
        exact: effects by occlusion.
        score: with all of them there.
        without_all: from places to the score without them.
    """
    found = {}
    for name, values in ways.items():
        size = np.abs(exact) if name in UNSIGNED else exact
        named = best(values, TOGETHER)
        found[name] = Judged(
            agreement(values, size),
            float(best(values, 1) == best(size, 1)),
            score - without_all(named[:1]),
            score - without_all(named),
            abs(score - without_all(best(np.abs(values), TOGETHER))),
        )
    return found


def summary(run: str, of: str, found: list[dict[str, Judged]]) -> list[dict[str, Any]]:
    """Means with 95% intervals over users, and how much less the score falls than by occlusion."""
    lines = []
    for way in found[0]:
        line: dict[str, Any] = {"run": run, "of": of, "way": way, "users": len(found)}
        for name in Judged._fields:
            values = np.array([getattr(each[way], name) for each in found])
            line[name] = _rounded(values)
        for name in ("fall_3", "moved_3"):
            theirs = [getattr(each[way], name) - getattr(each[OCCLUSION], name) for each in found]
            line[f"{name}_less_occlusion"] = _rounded(np.array(theirs))
        lines.append(line)
    return lines


def _rounded(values: Floats) -> list[float]:
    found = mean_interval(values)
    return [round(x, 4) for x in (found.mean, found.low, found.high)]


if __name__ == "__main__":
    main()
