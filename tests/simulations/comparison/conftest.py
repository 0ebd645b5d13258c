from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.config import RunConfig
from common.metrics import METRIC_NAMES
from common.run_folder import RunFolder
from simulations.comparison.per_user_file import Ground, write_per_user
from simulations.evaluation.full_ranking import PerUser
from simulations.report.metrics_building import EvaluatedRow

USERS = 40
WriteRun = Callable[..., Path]


def row(name: str, kind: str, level: float, seed: int) -> EvaluatedRow:
    """A row whose users have about `level` in every metric."""
    rng = np.random.default_rng(seed)
    values = np.clip(level + 0.05 * rng.standard_normal(USERS), 0, 1)
    users = tuple(f"user-{n}" for n in range(USERS))
    metrics = PerUser(user_ids=users, ranks=(), **dict.fromkeys(METRIC_NAMES, values))
    private = kind in ("model", "dp_popularity", "text_floor")
    return EvaluatedRow(
        name, kind, metrics, mode="local" if private else "none", epsilon=3.0 if private else None  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write the folder of a run with users' metrics about given levels, without a run."""

    def write(
        name: str, *, model: float = 0.3, floor: float = 0.2, seed: int = 0, **ground: object
    ) -> Path:
        folder = RunFolder.create(tmp_path / "runs" / name)
        folder.write_config(RunConfig())
        standing = {
            "dataset": "toy", "split": "leave_one_out", "tie_seed": seed, "stage": "test",
            "users": USERS, "sha256": f"{seed:064d}",
        } | ground  # fmt: skip
        rows = [
            row("fedrec (local, ε=3)", "model", model, 10 + seed),
            row("Pop", "baseline", 0.25, 20 + seed),
            row("DP-Pop", "dp_popularity", floor, 30 + seed),
        ]
        write_per_user(folder.path, Ground(**standing), rows)  # type: ignore[arg-type]
        return folder.path

    return write
