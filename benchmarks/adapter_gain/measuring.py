"""One run of the study: train on what is known, then rank known and cold items."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.build_recommender import build_recommender
from common.config import RunConfig
from common.holdout import UserSplit, hold_out
from common.initial_adapter import initial_adapter
from common.interactions import Dataset
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.cold_items import (
    among,
    cold_events,
    draw_cold_items,
    evaluate_cold,
    without_items,
)
from simulations.engines import run_engine
from simulations.evaluation.full_ranking import Scorer, Scores, evaluate_scorer
from simulations.new_items import with_new_items
from simulations.run_scorer import scorer_of
from simulations.run_statistics import run_statistics
from simulations.simulate import total_epsilon
from simulations.simulated_sites import simulated_sites

Stage = Literal["validation", "test"]
_OF_LORA = ("lora_layers", "lora_rank", "lora_rows", "adapter", "history_gradient")


class Bench:
    """A data set as the study sees it: known items and their users, cold items, their events."""

    def __init__(self, whole: Dataset, config: RunConfig, cold_share: float) -> None:
        """Draws the cold items of `whole` and takes them out; `config` gives seed and split."""
        data = config.data
        self.whole = whole
        self.starts: dict[str, dict[str, Any]] = {}  # figures before training, by what matters
        self.cold = draw_cold_items(whole, cold_share, data.seed)
        self.known = without_items(whole, self.cold.all, data.min_interactions)
        known = self.known
        self.splits: list[UserSplit] = hold_out(
            known.interactions, known.catalogue, split=data.split, seed=data.seed
        )

    def cold_of(self, stage: Stage) -> NDArray[np.int64]:
        """The cold items that this stage looks at."""
        return self.cold.validation if stage == "validation" else self.cold.test


def train(bench: Bench, config: RunConfig, path: Path) -> None:
    """Run the federation of known items in `path`, unless it was run there before."""
    if (path / "done").is_file():
        return
    if path.exists():
        shutil.rmtree(path)  # what an interruption left
    started = time.process_time()
    folder = RunFolder.create(path)
    folder.write_config(config)
    with simulated_sites(bench.known, config, folder) as sited:
        run_engine(sited, folder, SilentListener())
    folder.write_text("done", f"{time.process_time() - started:.0f} processor seconds\n")


def measured(path: Path, stage: Stage) -> dict[str, Any] | None:
    """What `measure` found in `path` before; None: nothing yet."""
    name = f"gain-{stage}.json"
    return RunFolder.open(path).read_json(name) if (path / name).is_file() else None


def measure(bench: Bench, path: Path, stage: Stage) -> dict[str, Any]:
    """Rank for the run in `path` and for its start; kept in ``gain-STAGE.json`` there.

    Returns:
        The run's settings in short, and the figures of each user and each cold item.
    """
    before = measured(path, stage)
    if before is not None:
        return before
    folder = RunFolder.open(path)
    config = folder.read_config()
    adapter = folder.read_adapter()[0]
    items = bench.cold_of(stage)
    events = cold_events(bench.whole, bench.cold, items, seed=config.data.seed)
    found: dict[str, Any] = {
        "schema_version": 1,
        "config_sha256": config.sha256(),
        "parameters": sum(int(tensor.size) for tensor in adapter.values()),
        "epsilon": total_epsilon(folder),
        "events": len(events),
        "cold_items": len(items),
        "catalogue": len(bench.whole.catalogue),
        "start": _start_figures(bench, folder, config, events, stage),
        "run": _figures(bench, folder, config, adapter, events, stage),
    }
    folder.write_json(f"gain-{stage}.json", found)
    return found


def _start_figures(
    bench: Bench, folder: RunFolder, config: RunConfig, events: Sequence[UserSplit], stage: Stage
) -> dict[str, Any]:
    """As `_figures` before training, found once for all runs that start alike.

    LoRA changes nothing at the start, so that its own settings do not count; the released
    popularity does.
    """
    model = config.model.model_dump(exclude=set(_OF_LORA))
    prior = run_statistics(folder).item_prior
    key = f"{stage} {config.federation.seed} {model} {hashlib.sha256(prior.tobytes()).hexdigest()}"
    if key not in bench.starts:
        adapter = initial_adapter(config)
        bench.starts[key] = _figures(bench, folder, config, adapter, events, stage)
    return bench.starts[key]


def _once(scorer: Scorer) -> Scorer:
    """`scorer`, asked but once for the same histories."""
    kept: dict[tuple[bytes, ...], Scores] = {}

    def score(histories: Sequence[NDArray[np.int64]]) -> Scores:
        key = tuple(history.tobytes() for history in histories)
        if key not in kept:
            kept[key] = scorer(histories)
        return kept[key]

    return score


def _figures(
    bench: Bench,
    folder: RunFolder,
    config: RunConfig,
    adapter: dict[str, NDArray[np.float32]],
    events: Sequence[UserSplit],
    stage: Stage,
) -> dict[str, Any]:
    """NDCG@10 and HR@10 of each user and of each cold item, among all and among cold ones."""
    statistics = run_statistics(folder)
    trained = build_recommender(config, bench.known.catalogue)
    users = evaluate_scorer(scorer_of(trained, adapter, statistics), bench.splits, stage)
    whole = build_recommender(config, bench.whole.catalogue)
    scorer = with_new_items(whole, trained, adapter, statistics.item_prior, bench.cold.all)
    scorer = _once(scorer)
    every = evaluate_cold(scorer, events)
    only = evaluate_cold(among(scorer, bench.cold_of(stage)), events)
    return {
        where: {"ndcg_10": found.ndcg_10.tolist(), "hr_10": found.hr_10.tolist()}
        for where, found in (("known", users), ("cold", every), ("cold_only", only))
    }
