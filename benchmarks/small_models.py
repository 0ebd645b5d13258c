"""A student of a run's item tower: what it loses in accuracy and what it gains in speed.

::

    PYTHONPATH=. python -m benchmarks.small_models RUN --work FOLDER --write FILE

The student learns from 80% of the catalogue's titles and from made-up texts; a tenth of the titles
says which epoch is best, and the last tenth it never sees. Accuracy: every user's held-out item is
ranked among all items, with *all* text vectors from the student in place of the teacher's, paired
over users. Speed: texts to vectors, tokenizer and all, on one thread, by turns in one process;
`ratio` is the median over the turns of titles a second by those of the teacher in that turn.
FOLDER keeps the training, which goes on where it was cut short.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.base_weights import load_tokenizer, resolve_base_weights
from common.build_recommender import build_recommender
from common.recommender import Recommender
from common.run_folder import RunFolder
from common.student.distilling import Recipe, distil
from common.student.encoding import TextEncoder
from common.student.shrinking import merged_bert, sparsified
from common.student.target_space import TargetSpace
from common.tensor_files import tensors_to_bytes
from simulations.cold_items import ColdItems, draw_cold_items
from simulations.datasets import load_dataset
from simulations.evaluation.full_ranking import PerUser, evaluate_scorer
from simulations.evaluation.intervals import paired_difference
from simulations.lab import held_out
from simulations.run_scorer import run_scorer

TURNS, SINGLES = 3, 40
SPARSITIES = (0.3, 0.6)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("run", type=Path)
    asked.add_argument("--work", type=Path, required=True)
    asked.add_argument("--write", type=Path)
    given = asked.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    lines = measure(given.run, given.work)
    if given.write is not None:
        given.write.parent.mkdir(parents=True, exist_ok=True)
        given.write.write_text("".join(json.dumps(line) + "\n" for line in lines))


def measure(run: Path, work: Path) -> list[dict[str, Any]]:
    folder = RunFolder.open(run)
    config = folder.read_config()
    dataset = load_dataset(config.data)
    recommender = build_recommender(config, dataset.catalogue)
    run_scorer(recommender, folder)
    tokenizer = load_tokenizer(resolve_base_weights(config.model.weights))
    teacher = TextEncoder(merged_bert(recommender), tokenizer, config.model.max_tokens)
    space, texts = TargetSpace(recommender), dataset.catalogue.texts
    cold = draw_cold_items(dataset, 0.1, 0)
    known = np.setdiff1d(np.arange(len(texts)), cold.all)
    recipe = Recipe(batch=48, learning_rate=1e-3, epochs=6)
    student = distil(
        teacher, space, [texts[i] for i in known], [texts[i] for i in cold.validation], recipe, work
    ).encoder
    ways = {"teacher": teacher, "student": student} | {
        f"student, {share:.0%} of weights zero": TextEncoder(
            sparsified(student.bert, share), tokenizer, student.max_tokens
        )
        for share in SPARSITIES
    }
    splits = held_out(config, dataset)
    vectors = {name: encoder.vectors(texts) for name, encoder in ways.items()}
    speeds = _speeds(ways, texts)
    lines = []
    judged = {
        stage: {name: _judged(recommender, found, splits, stage) for name, found in vectors.items()}
        for stage in ("validation", "test")
    }
    for name, encoder in ways.items():
        line: dict[str, Any] = {"run": run.name, "way": name} | speeds[name] | _sizes(encoder)
        for stage, by_way in judged.items():
            line[stage] = _compared(by_way[name], by_way["teacher"])
        line["cosine"] = _cosines(space, vectors[name], vectors["teacher"], known, cold)
        lines.append(line)
        print(json.dumps(line), flush=True)
    return lines


def _judged(recommender: Recommender, vectors: torch.Tensor, splits: Any, stage: Any) -> PerUser:
    recommender.use_text_vectors(vectors)
    return evaluate_scorer(recommender.score_all, splits, stage)


def _compared(found: PerUser, teacher: PerUser) -> dict[str, Any]:
    """NDCG@10, and what is lost of the teacher's, in percent of it."""
    base = float(teacher.ndcg_10.mean())
    lost = paired_difference(teacher.ndcg_10, found.ndcg_10)
    return {
        "ndcg_10": round(float(found.ndcg_10.mean()), 4),
        "hr_10": round(float(found.hr_10.mean()), 4),
        "lost_percent": [round(100 * x / base, 2) for x in (lost.mean, lost.low, lost.high)],
    }


def _cosines(
    space: TargetSpace, found: torch.Tensor, teacher: torch.Tensor, known: Any, cold: ColdItems
) -> dict[str, float]:
    cosines = space.cosines(found, teacher)
    parts = {"seen": known, "unseen": cold.test}
    return {
        name: round(float(cosines[torch.from_numpy(rows)].mean()), 4)
        for name, rows in parts.items()
    }


def _speeds(ways: dict[str, TextEncoder], texts: Any) -> dict[str, dict[str, Any]]:
    some = texts[:256]
    batched: dict[str, list[float]] = {name: [] for name in ways}
    single: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, encoder in ways.items():
            started = time.perf_counter()
            encoder.vectors(some)
            batched[name].append(len(some) / (time.perf_counter() - started))
    for text in texts[:SINGLES]:
        for name, encoder in ways.items():
            started = time.perf_counter()
            encoder.vectors([text])
            single[name].append((time.perf_counter() - started) * 1000)
    first = np.array(batched["teacher"])
    return {
        name: {
            "titles_per_s": round(float(np.median(batched[name]))),
            "ratio": round(float(np.median(np.array(batched[name]) / first)), 2),
            "single_ms": round(float(np.median(single[name])), 2),
        }
        for name in ways
    }


def _sizes(encoder: TextEncoder) -> dict[str, float]:
    """Megabytes: of all weights, of all but the word embeddings, and of these layers compressed."""
    weights = {n: t.numpy() for n, t in encoder.bert.state_dict().items()}
    layers = {n: t for n, t in weights.items() if n.startswith("encoder.")}
    packed = len(gzip.compress(tensors_to_bytes(layers, {}), compresslevel=1))
    return {
        "size_mb": round(sum(t.nbytes for t in weights.values()) / 1e6, 1),
        "layers_mb": round(sum(t.nbytes for t in layers.values()) / 1e6, 1),
        "layers_gzip_mb": round(packed / 1e6, 1),
    }


if __name__ == "__main__":
    main()
