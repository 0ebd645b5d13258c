"""A million items behind the site's recommender: time of a request, recall, memory.

::

    PYTHONPATH=. python -m benchmarks.serving.million RUN --write docs/small/million.jsonl

RUN is a finished run over MovieLens-100K; its head, prior and item-to-item weights score. The items
beside its films are made up: each is a mix of the text vectors of a film and of one or two others
and some noise, with the prior of a film, so that they have the clusters of texts. Histories are
those of MovieLens' users, each film exchanged (two times of three) for an item made of it.
Requests go through `SiteRecommender` one after another on one thread; what gRPC adds is in
`benchmarks.serving.load`. Recall is of the exact full score's best ten outside the history.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from client.serving.catalogue import OfferedItems
from client.serving.histories import Histories
from client.serving.recommending import SiteRecommender, Visitor
from client.serving.served import Served
from common.adapter_export import Manifest
from common.approximate_index import approximate_index
from common.build_recommender import build_recommender
from common.interactions import Catalogue
from common.item_index import ItemIndex, build_index
from common.requests import requests_of
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.lab import held_out
from simulations.run_scorer import run_scorer

LIST, WARM, RECALLED, SEED = 10, 10, 60, 0


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("run", type=Path)
    asked.add_argument("--items", type=int, default=1_000_000)
    asked.add_argument("--requests", type=int, default=400)
    asked.add_argument("--probes", type=int, nargs="*", default=[], help="also time these")
    asked.add_argument("--write", type=Path)
    given = asked.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lines = measure(given.run, given.items, given.requests, given.probes, Path(folder))
    for line in lines:
        print(json.dumps(line))
    if given.write is not None:
        given.write.parent.mkdir(parents=True, exist_ok=True)
        given.write.write_text("".join(json.dumps(line) + "\n" for line in lines))


def measure(
    run: Path, items: int, requests: int, probes: list[int], folder: Path
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(SEED)
    index, catalogue, histories = made_index(run, items, requests + WARM, rng)
    about = {"items": items, "width": index.vectors.shape[1], "cpus": os.cpu_count()}
    started = time.perf_counter()
    approximate = approximate_index(index, folder)
    if approximate is None:
        raise SystemExit("install faiss-cpu")
    about["build_s"] = round(time.perf_counter() - started, 1)
    about["file_mb"] = round(sum(f.stat().st_size for f in folder.iterdir()) / 1e6)
    started = time.perf_counter()
    approximate = approximate_index(index, folder)
    about["load_s"] = round(time.perf_counter() - started, 1)
    about["rows_mb"] = round(index.vectors.nbytes / 1e6)
    print(json.dumps(about), flush=True)
    if approximate is None:
        raise SystemExit("install faiss-cpu")
    lines = [{"way": "exact, all items"} | through(index, catalogue, histories[: WARM + 20])]
    print(lines[-1], flush=True)
    exact = [best_ten(index, history) for history in histories[WARM : WARM + RECALLED]]
    ready = replace(index, approximate=approximate)
    inverted = approximate.found
    for probe in [inverted.nprobe, *probes]:
        inverted.nprobe = probe
        line = {"way": "candidates", "probes": probe} | through(ready, catalogue, histories)
        found = [best_ten(ready, history) for history in histories[WARM : WARM + RECALLED]]
        shares = [len(np.intersect1d(a, b)) / LIST for a, b in zip(exact, found, strict=True)]
        line |= {"recall_10": round(float(np.mean(shares)), 4), "recall_users": len(shares)}
        line["full"] = all(len(items) == LIST for items in found)
        lines.append(line)
        print(line, flush=True)
    about["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
    return [about, *lines, *whole_products(index)]


def made_index(
    run: Path, items: int, users: int, rng: np.random.Generator
) -> tuple[ItemIndex, Catalogue, list[np.ndarray[Any, Any]]]:
    folder = RunFolder.open(run)
    config = folder.read_config()
    dataset = load_dataset(config.data)
    recommender = build_recommender(config, dataset.catalogue)
    run_scorer(recommender, folder)
    films = len(dataset.catalogue)
    with torch.no_grad():
        raw = recommender.item_tower.table().numpy()
        parents = rng.integers(films, size=(items - films, 3))
        shares = rng.dirichlet([4.0, 1.0, 1.0], size=len(parents)).astype(np.float32)
        made = np.einsum("nk,nkd->nd", shares, raw[parents], optimize=False)
        made += 0.3 * raw.std(0) * rng.standard_normal(made.shape, dtype=np.float32)
        index = build_index(recommender, recommender.whitening(torch.from_numpy(made)))
        prior = recommender.item_prior.numpy()[rng.integers(films, size=len(made))]
        index.bias[films:] += float(index.terms.prior.weight[0, 0]) * torch.from_numpy(prior)
    first = np.argsort(parents[:, 0], kind="stable")
    starts = np.searchsorted(parents[first, 0], np.arange(films + 1))
    splits = [split for split in held_out(config, dataset) if len(split.test.items)]
    histories = []
    for place in rng.integers(len(splits), size=users):
        (history,) = requests_of([splits[place]], "test")
        drawn = [first[rng.integers(starts[film], starts[film + 1])] + films for film in history]
        kept = rng.random(len(history)) < 1 / 3
        histories.append(np.array(list(dict.fromkeys(np.where(kept, history, drawn).tolist()))))
    ids = tuple(str(number) for number in range(items))
    return index, Catalogue(ids, ids, ((),) * items), histories


def through(
    index: ItemIndex, catalogue: Catalogue, histories: list[np.ndarray[Any, Any]]
) -> dict[str, Any]:
    """Each request through the site's recommender, the first ones not counted."""
    nothing = np.zeros(0, dtype=np.int64)
    known = Histories(nothing, nothing, nothing, nothing, {}, {})
    served = Served(
        "site", "adapter", cast(Manifest, None), OfferedItems(catalogue), index, known, None
    )
    recommender = SiteRecommender(served)
    times = []
    for history in histories:
        visitor = Visitor([catalogue.item_ids[item] for item in history])
        times.append(timed(lambda visitor=visitor: recommender.recommend(visitor, LIST)))
    return percentiles(times[WARM:])


def whole_products(index: ItemIndex) -> list[dict[str, Any]]:
    """What one query times all rows takes, in each precision, and nothing else."""
    lines = []
    for dtype in (torch.float32, torch.bfloat16):
        rows = index.vectors.to(dtype)
        query = torch.randn(rows.shape[1]).to(dtype)
        times = [timed(lambda rows=rows, query=query: rows @ query) for _ in range(20)]
        name = str(dtype).removeprefix("torch.")
        lines.append({"way": f"one product, {name}"} | percentiles(times[3:]))
        print(lines[-1], flush=True)
    return lines


def best_ten(index: ItemIndex, history: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    items, scores = index.best([history], LIST)
    scores[np.isin(items, history)] = -np.inf
    best = np.argpartition(-scores, LIST)[:LIST]
    return items[best[np.isfinite(scores[best])]]


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def percentiles(times: list[float]) -> dict[str, Any]:
    cuts = {f"p{cut}_ms": round(float(np.percentile(times, cut)), 2) for cut in (50, 99)}
    return {"requests": len(times), **cuts, "max_ms": round(max(times), 2)}


if __name__ == "__main__":
    main()
