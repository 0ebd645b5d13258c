"""The peers' training examples: token ids of every film, and per site rows of film numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.engine.workloads import HISTORY, NEGATIVES, ROWS, TOKENS, WORKLOADS
from common.base_weights import MINILM, load_tokenizer, resolve_base_weights
from common.config import DataConfig
from common.holdout import UserSplit, hold_out
from simulations.datasets import load_dataset
from simulations.user_partition import partition_users

IntArray = npt.NDArray[np.int64]
CATALOGUE_FILE = "catalogue.npz"
WEIGHTS_FILE = "weights.txt"


def prepare_examples(folder: Path) -> None:
    """Writes the catalogue's tokens, one file of examples per site, and where BERT lies."""
    dataset = load_dataset(DataConfig())
    weights = resolve_base_weights(MINILM)
    encoded = load_tokenizer(weights)(
        list(dataset.catalogue.texts), padding="max_length", truncation=True, max_length=TOKENS
    )
    np.savez(
        folder / CATALOGUE_FILE,
        ids=np.array(encoded["input_ids"], dtype=np.int64),
        mask=np.array(encoded["attention_mask"], dtype=np.int64),
    )
    (folder / WEIGHTS_FILE).write_text(weights.location, encoding="utf-8")
    splits = hold_out(dataset.interactions, dataset.catalogue, split="leave_one_out", seed=0)
    random = np.random.default_rng(0)
    for sites in sorted({workload.sites for workload in WORKLOADS.values()}):
        parts = partition_users(dataset, DataConfig(sites=sites))
        for site, part in enumerate(parts):
            rows = [_user_examples(splits[user], len(dataset.catalogue), random) for user in part]
            np.save(site_file(folder, sites, site), np.concatenate(rows).astype(np.int16))


def site_file(folder: Path, sites: int, site: int) -> Path:
    """The examples of one of `sites` sites, ``[n, 25]``: 20 history, positive, 4 negatives."""
    return folder / f"site-{sites}-{site}.npy"


def _user_examples(split: UserSplit, films: int, random: np.random.Generator) -> IntArray:
    """One example per target; a history shorter than 20 repeats itself, at the same cost."""
    items = split.train.items
    others = np.setdiff1d(np.arange(films), items)
    rows = np.empty((len(items) - 1, ROWS), dtype=np.int64)
    for row, place in enumerate(range(1, len(items))):
        rows[row, :HISTORY] = np.resize(items[max(0, place - HISTORY) : place], HISTORY)
        rows[row, HISTORY] = items[place]
        rows[row, HISTORY + 1 :] = random.choice(others, NEGATIVES)
    return rows
