"""New items of several runs, pooled: each counts once, and what was looked at is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cold_items
from common.config import RunConfig
from common.errors import DataError
from common.initial_adapter import initial_adapter
from common.run_folder import RunFolder
from simulations.cold_start.bench import DONE_FILE, ColdStartBench
from simulations.cold_start.pooled import UnitMeans, held_out_items, relative_loss
from tests.own_process import in_own_process

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def test_an_item_of_several_runs_counts_once() -> None:
    means = UnitMeans()
    means.add(["b", "a"], {"fedrec": np.array([0.2, 1.0]), "other": np.array([0.1, 0.0])})
    means.add(["b"], {"fedrec": np.array([0.6]), "other": np.array([0.3])})
    found = means.figures()
    assert found["fedrec"] == pytest.approx([1.0, 0.4])
    assert found["other"] == pytest.approx([0.0, 0.2])
    with pytest.raises(DataError, match="no new item is left"):
        UnitMeans().figures()


def test_the_loss_is_a_share_with_an_interval_over_pairs() -> None:
    plain = np.tile([0.0, 0.5, 1.0], 40)
    same = relative_loss(0.9 * plain, plain)
    assert (same.mean, same.low, same.high) == pytest.approx((0.1, 0.1, 0.1))
    uneven = relative_loss(plain * (np.arange(120) % 4 > 0), plain)
    assert uneven.low < uneven.mean < uneven.high
    assert uneven.mean == pytest.approx(0.25)


def _finished(path: Path, seed: int) -> RunFolder:
    """A run whose adapter is the first one, as `fedrec cold-start` leaves it."""
    config = RunConfig.model_validate(
        {
            "data": {"dataset": "synthetic", "sites": 2, "held_out_users": 0.4, "seed": seed},
            "model": {"head_dim": 4, "head_items": 0, "lora_layers": 1, "lora_rank": 2},
            "privacy": {"mode": "none"},
        }
    )
    folder = RunFolder.create(path)
    folder.write_config(config)
    known = ColdStartBench.of(config).known.catalogue
    prior = np.linspace(-1, 1, len(known), dtype=np.float32)
    folder.write_adapter(initial_adapter(config), {})
    folder.write_checkpoint({"item_prior": prior}, {})
    folder.write_json(DONE_FILE, {"config_sha256": config.sha256()})
    return folder


@pytest.mark.slow
def test_the_command_leaves_out_what_was_chosen_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = in_own_process(cold_items.main, "pool", monkeypatch=monkeypatch, capsys=capsys)
    seen, *fresh = (_finished(tmp_path / f"run-{seed}", seed) for seed in range(3))
    left_out = held_out_items(seen)
    offered: set[str] = set()
    for folder in fresh:
        bench = ColdStartBench.of(folder.read_config())
        for events in bench.events.values():
            ids = bench.whole.catalogue.item_ids
            offered |= {ids[int(event.test.items[0])] for event in events}
    assert offered & left_out
    page = tmp_path / "cold-items.md"
    paths = [folder.path for folder in fresh]
    code, out, err = pool(*paths, "--chosen-on", seen.path, "--out", page)
    assert code == 0, err
    head, *rows = [json.loads(line) for line in out.splitlines()]
    assert (head["data_seeds"], head["chosen_on_seeds"]) == ([1, 2], [0])
    counts = {row["setting"]: row["units"] for row in rows if "units" in row}
    assert counts["among_all"] == counts["among_new"] == len(offered - left_out)
    assert {"fedrec", "TF-IDF, recent first"} <= {row.get("method") for row in rows}
    assert (tmp_path / "cold-items" / "inf.jsonl").read_text() == out
    assert page.read_text().count("| fedrec |") == 3
    code, _, err = pool(*paths, "--chosen-on", fresh[0].path)
    assert (code, err.count("\n")) == (2, 1)
    assert "data.seed must be another" in err
    (fresh[1].path / DONE_FILE).unlink()
    code, _, err = pool(fresh[1].path, "--chosen-on", seen.path)
    assert code == 2
    assert "no finished run" in err
