from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from common.config import DataConfig
from common.errors import RunFolderError
from common.holdout import ItemSequence, UserSplit
from common.metrics import METRIC_NAMES
from simulations.comparison.per_user_file import (
    PER_USER_FILE,
    Ground,
    keep_users,
    read_per_user,
    splits_sha256,
    write_per_user,
)
from simulations.evaluation.full_ranking import PerUser
from simulations.report.metrics_building import EvaluatedRow


def sequence(*items: int) -> ItemSequence:
    array = np.array(items, dtype=np.int64)
    return ItemSequence(array, np.ones(len(items), np.float32), array)


def split(user: str, *items: int) -> UserSplit:
    return UserSplit(user, sequence(*items[:-2]), sequence(items[-2]), sequence(items[-1]))


def ground(splits: list[UserSplit]) -> Ground:
    return Ground("toy", "leave_one_out", 3, "test", len(splits), splits_sha256(splits))


SPLITS = [split("ann", 0, 1, 2), split("bob", 3, 2, 1)]


def evaluated(name: str, *values: float) -> EvaluatedRow:
    array = np.array(values)
    metrics = PerUser(user_ids=("ann", "bob"), ranks=(), **dict.fromkeys(METRIC_NAMES, array))
    return EvaluatedRow(name, "model", metrics, mode="local", epsilon=3.0)


def test_what_was_written_is_read_back_and_names_no_user(tmp_path: Path) -> None:
    rows = [evaluated("ours", 0.25, 1.0), evaluated("theirs", 0.0, 0.5)]
    write_per_user(tmp_path, ground(SPLITS), rows)
    found = read_per_user(tmp_path)
    assert found.ground == ground(SPLITS)
    assert [(r.name, r.kind, r.mode, r.epsilon) for r in found.rows] == [
        ("ours", "model", "local", 3.0),
        ("theirs", "model", "local", 3.0),
    ]
    np.testing.assert_array_equal(found.rows[1].metrics["mrr"], [0.0, 0.5])
    content = (tmp_path / PER_USER_FILE).read_bytes()
    assert b"ann" not in content
    assert pq.read_schema(tmp_path / PER_USER_FILE).names[:2] == ["row", "user"]


def test_a_run_keeps_what_it_was_evaluated_on(tmp_path: Path) -> None:
    keep_users(tmp_path, DataConfig(seed=3), "toy", SPLITS, [evaluated("ours", 0.25, 1.0)])
    assert read_per_user(tmp_path).ground == ground(SPLITS)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([split("ann", 0, 1, 2), split("bob", 3, 1, 2)], "other users, items or interactions"),
        ([split("ann", 0, 1, 2), split("eve", 3, 2, 1)], "other users, items or interactions"),
        ([split("ann", 0, 1, 2)], "users 2 and users 1"),
    ],
)
def test_other_targets_and_other_users_are_another_ground(
    other: list[UserSplit], said: str
) -> None:
    assert ground(SPLITS).difference(ground(other)) == said
    assert ground(SPLITS).difference(ground(list(SPLITS))) is None


def test_another_tie_seed_is_named(tmp_path: Path) -> None:
    other = replace(ground(SPLITS), tie_seed=4)
    assert ground(SPLITS).difference(other) == "data.seed 3 and data.seed 4"


def test_a_run_without_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"has no per_user\.parquet.*evaluation\.lab=true"):
        read_per_user(tmp_path)


@pytest.mark.parametrize("length", [0, 10, -20])
def test_a_damaged_file_is_one_line(tmp_path: Path, length: int) -> None:
    write_per_user(tmp_path, ground(SPLITS), [evaluated("ours", 0.25, 1.0)])
    path = tmp_path / PER_USER_FILE
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RunFolderError, match="is damaged") as caught:
        read_per_user(tmp_path)
    assert "\n" not in str(caught.value)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_per_user(tmp_path, ground(SPLITS), [evaluated("ours", float("nan"), 1.0)])
    with pytest.raises(RunFolderError, match="lacks finite values"):
        read_per_user(tmp_path)
