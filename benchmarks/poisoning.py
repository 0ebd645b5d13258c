"""What made-up users do to training: they push items of their choice, with and without privacy.

::

    PYTHONPATH=. python -m benchmarks.poisoning docs/poisoning.jsonl --page docs/poisoning.md

Adds one JSON line for each ε, seed and share of fakes that the file lacks, so that it can be cut
short, and renews the table. A fake is a whole user (the unit of privacy) at an honest site, with
the pushed items and popular ones around them ("bandwagon"). Pushed are films that few have had.
All runs of a seed differ in the fakes and, under privacy, in the noise. Told are, of the real
users' lists before their validation items: NDCG@10 less that without fakes, paired over users, and
the share of lists of ten in which a pushed item stands. The test part is not looked at.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.by_epsilon import fill
from common.build_recommender import build_recommender
from common.config_loading import load_config
from common.metrics import user_metrics
from common.progress import SilentListener
from common.ranking import worst_ranks
from common.requests import requests_of
from common.run_folder import RunFolder
from simulations.datasets import fetch_movielens_100k, load_dataset, read_movielens_100k
from simulations.engines import run_engine
from simulations.evaluation.intervals import mean_interval, paired_difference
from simulations.lab import held_out
from simulations.raw_tables import RawTables
from simulations.run_scorer import run_scorer
from simulations.scenario_files import find_scenario
from simulations.simulated_sites import simulated_sites

Floats = npt.NDArray[np.float64]
SETTINGS: dict[str, list[str]] = {
    "8": [],
    "inf": ["privacy.mode=none", "model.head=bilinear", "privacy.negatives_per_unit=200"],
}
SHARES = (0.0, 0.01, 0.05, 0.1)
PUSHED, AROUND = 5, 25
FEW, MANY = (5, 20), 100
"""Interactions of a pushed item, at least and at most; the most popular items, around it."""
FAKE = "fake-"
DAY_S = 86_400


class Lists(NamedTuple):
    """What the real users got, by user id.

    Attributes:
        ndcg: NDCG@10 of the validation item, ``[U]``.
        shown: whether a list of ten has each pushed item, ``[U, 5]``; NaN where the user had it.
    """

    ndcg: dict[str, float]
    shown: Floats


def measured(epsilon: str, seed: int) -> list[dict[str, Any]]:
    """A line for each share of fakes, of one ε and seed."""
    raw = read_movielens_100k(fetch_movielens_100k())
    real = len(raw.users)
    pushed = pushed_items(raw, np.random.default_rng(seed))
    lines, clean = [], None
    for share in SHARES:
        fakes = round(share * real)
        with tempfile.TemporaryDirectory() as temporary:
            tables = Path(temporary) / "movielens"
            write_tables(with_fakes(raw, pushed, fakes, seed), tables)
            found = trained(epsilon, seed, tables, pushed, Path(temporary) / "run")
        clean = clean or found
        users = list(clean.ndcg)
        here, there = (np.array([each.ndcg[user] for user in users]) for each in (found, clean))
        gain = paired_difference(here, there)
        exposure = mean_interval(np.nanmean(found.shown, axis=1))
        lines.append(
            {
                "epsilon": epsilon,
                "seed": seed,
                "fakes": fakes,
                "users": len(users),
                "ndcg_10": round(float(here.mean()), 4),
                "difference": [round(v, 4) for v in (gain.mean, gain.low, gain.high)],
                "exposure": [round(v, 4) for v in (exposure.mean, exposure.low, exposure.high)],
            }
        )
        print(json.dumps(lines[-1]), flush=True)
    return lines


def pushed_items(raw: RawTables, random: np.random.Generator) -> list[str]:
    """Ids of items that few have had, by lot."""
    counts = raw.interactions.column("item_id").value_counts().to_pylist()
    few = sorted(each["values"] for each in counts if FEW[0] <= each["counts"] <= FEW[1])
    return [few[at] for at in random.choice(len(few), PUSHED, replace=False)]


def with_fakes(raw: RawTables, pushed: list[str], fakes: int, seed: int) -> RawTables:
    """The tables with `fakes` more users, who came last.

    The last two of a fake's items are popular ones, so that no pushed item is held out of training.
    """
    random = np.random.default_rng([seed, 1])
    counts = raw.interactions.column("item_id").value_counts().to_pylist()
    popular = [e["values"] for e in sorted(counts, key=lambda e: -e["counts"])[:MANY]]
    newest = pc.max(raw.interactions.column("timestamp")).as_py()
    rows: dict[str, list[Any]] = {name: [] for name in ("user_id", "item_id", "timestamp")}
    for fake in range(fakes):
        around = [popular[at] for at in random.choice(MANY, AROUND, replace=False)]
        had = [*pushed, *around[:-2]]
        order = [*(had[at] for at in random.permutation(len(had))), *around[-2:]]
        rows["user_id"] += [f"{FAKE}{fake}"] * len(order)
        rows["item_id"] += order
        rows["timestamp"] += [newest + fake * DAY_S + at * 60 for at in range(len(order))]
    wanted = raw.interactions.schema
    columns = {
        field.name: pa.array(rows.get(field.name, [5] * len(rows["user_id"])), field.type)
        for field in wanted
    }
    like = random.integers(len(raw.users), size=fakes)
    names = pa.array([f"{FAKE}{fake}" for fake in range(fakes)], pa.string())
    at = raw.users.column_names.index("user_id")
    users = raw.users.take(pa.array(like)).set_column(at, "user_id", names)
    return RawTables(
        pa.concat_tables([raw.interactions, pa.table(columns, schema=wanted)]),
        raw.items,
        pa.concat_tables([raw.users, users.cast(raw.users.schema)]),
    )


def write_tables(raw: RawTables, folder: Path) -> None:
    """As `data.dataset` reads them."""
    folder.mkdir()
    tables = {"interactions": raw.interactions, "items": raw.items, "users": raw.users}
    for name, each in tables.items():
        pq.write_table(each, folder / f"{name}.parquet")


def trained(epsilon: str, seed: int, tables: Path, pushed: list[str], place: Path) -> Lists:
    """What a run on these tables gives the real users."""
    seeds = [f"federation.seed={seed}", f"data.seed={seed}", f"data.dataset={tables}"]
    config = load_config(
        scenario=find_scenario("distributed"),
        overrides=[*SETTINGS[epsilon], *seeds, "evaluation.every=0", "evaluation.companions="],
    )
    dataset = load_dataset(config.data)
    folder = RunFolder.create(place)
    folder.write_config(config)
    with simulated_sites(dataset, config, folder) as sited:
        run_engine(sited, folder, SilentListener())
    recommender = build_recommender(config, dataset.catalogue)
    scorer = run_scorer(recommender, folder)
    splits = [each for each in held_out(config, dataset) if len(each.validation.items)]
    real = [each for each in splits if not each.user_id.startswith(FAKE)]
    scores = np.array(scorer(requests_of(real, "validation")))
    had = [split.train.items for split in real]
    ranks = worst_ranks(scores, [split.validation.items[:1] for split in real], had)
    ndcg = user_metrics(ranks)["ndcg_10"]
    ids = [split.user_id for split in real]
    items = np.array([dataset.catalogue.item_ids.index(item) for item in pushed])
    return Lists(dict(zip(ids, ndcg.tolist(), strict=True)), shown_in(scores, had, items))


def shown_in(
    scores: npt.NDArray[np.float32],
    had: list[npt.NDArray[np.int64]],
    items: npt.NDArray[np.int64],
) -> Floats:
    """Which lists of ten have which of `items`; NaN for who had it."""
    left = scores.copy()
    for row, history in enumerate(had):
        left[row, history] = -np.inf
    tenth = np.partition(left, -10, axis=1)[:, -10]
    shown = (left[:, items] >= tenth[:, None]).astype(np.float64)
    shown[np.isneginf(left[:, items])] = np.nan
    return shown


def table(lines: list[dict[str, Any]]) -> str:
    """The page's table."""
    rows = [
        "| ε | seed | fakes beside real users | NDCG@10 | less that without fakes | "
        "a pushed item in a list |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        epsilon = "∞" if line["epsilon"] == "inf" else line["epsilon"]
        gain = "{:+.4f} [{:+.4f}, {:+.4f}]".format(*line["difference"])
        shown = "{:.4f} [{:.4f}, {:.4f}]".format(*line["exposure"])
        rows.append(
            f"| {epsilon} | {line['seed']} | {line['fakes']} of {line['users']} | "
            f"{line['ndcg_10']:.4f} | {gain} | {shown} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    fill(__doc__, SETTINGS, measured, table, "poisoning")
