from __future__ import annotations

import numpy as np
import pytest

from common.errors import DataError, RunFolderError
from simulations.comparison.comparing import compare, entry_record
from simulations.comparison.entries import read_entry
from simulations.comparison.page import comparison_page
from simulations.comparison.result_table import verdict
from simulations.comparison.two_level import two_level_mean
from tests.simulations.comparison.conftest import WriteRun


def test_means_are_over_users_and_seeds(write_run: WriteRun) -> None:
    folders = [write_run(f"r{seed}", seed=seed) for seed in range(3)]
    entry = read_entry("mine", folders)
    found = entry_record(entry, resamples=200)
    values = entry.model.metrics["ndcg_10"]
    assert values.shape == (3, 40)
    assert found.ndcg_10.mean == pytest.approx(values.mean())
    assert (found.seeds, found.users, found.epsilon) == (3, 40, 3.0)
    assert [row.name for row in found.baselines] == ["Pop"]
    (floor,) = found.floors
    assert floor.ndcg_10_difference.mean == pytest.approx(found.ndcg_10.mean - floor.ndcg_10.mean)
    assert floor.ndcg_10_difference.low > 0  # type: ignore[operator]
    assert found.failed_against == ()


def test_a_model_under_dp_pop_has_failed_and_the_page_says_so(write_run: WriteRun) -> None:
    entry = read_entry("weak", [write_run("weak", model=0.1)])
    found = entry_record(entry, resamples=200)
    assert found.failed_against == ("DP-Pop",)
    page = comparison_page("t", "s", [found], resamples=200)
    assert 'class="badge">FAILED' in page
    assert page.count("<svg") == 2
    for outside in ("http://", "https://", "<script", "src="):
        assert outside not in page.replace("http://www.w3.org/2000/svg", "")


def test_differences_are_paired_by_user_and_split(write_run: WriteRun) -> None:
    weak = read_entry("weak", [write_run(f"w{seed}", model=0.2, seed=seed) for seed in (0, 1, 2)])
    strong = read_entry("strong", [write_run(f"s{seed}", model=0.3, seed=seed) for seed in (2, 1)])
    found = compare([weak, strong], resamples=200)
    (difference,) = found.differences
    assert (difference.first, difference.second, difference.seeds) == ("strong", "weak", 2)
    # Their noise is the same, seed by seed, so that the difference is exact.
    assert difference.ndcg_10.low == pytest.approx(0.1)
    assert difference.ndcg_10.high == pytest.approx(0.1)
    assert verdict(difference.ndcg_10) == "above"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"dataset": "else"}, "dataset toy and dataset else"),
        ({"split": "last_fifth"}, "split leave_one_out and split last_fifth"),
        ({"seed": 7}, "data.seed 0 and data.seed 7"),
        ({"sha256": "f" * 64}, "other users, items or interactions"),
    ],
)
def test_runs_of_other_ground_are_refused_in_one_line(
    write_run: WriteRun, other: dict[str, object], said: str
) -> None:
    entries = [read_entry("a", [write_run("a")]), read_entry("b", [write_run("b", **other)])]
    with pytest.raises(DataError, match="b cannot be compared with a: ") as caught:
        compare(entries, resamples=200)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runs_of_other_splits_are_not_averaged(write_run: WriteRun) -> None:
    folders = [write_run("a"), write_run("b", seed=1, split="last_fifth")]
    with pytest.raises(DataError, match="cannot be averaged"):
        read_entry("mixed", folders)


def test_a_run_without_users_metrics_is_refused(write_run: WriteRun) -> None:
    folder = write_run("a")
    (folder / "per_user.parquet").unlink()
    with pytest.raises(RunFolderError, match=r"evaluation\.lab=true"):
        read_entry("a", [folder])


def test_an_interval_covers_the_spread_of_seeds() -> None:
    rng = np.random.default_rng(0)
    users = rng.standard_normal((1, 400))
    narrow = two_level_mean(users + np.zeros((5, 1)))
    wide = two_level_mean(users + rng.standard_normal((5, 1)))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


@pytest.mark.statistical  # false-alarm rate 1e-4: a binomial of 200 at .95 below 170 or at 200
def test_the_interval_over_users_covers_the_truth() -> None:
    rng = np.random.default_rng()
    covered = 0
    for _ in range(200):
        found = two_level_mean(1 + rng.standard_normal((1, 100)), resamples=400)
        covered += found.low <= 1 <= found.high
    assert 170 <= covered < 200


def test_what_is_no_table_of_numbers_is_refused() -> None:
    with pytest.raises(DataError, match="finite values"):
        two_level_mean(np.array([[1.0, np.nan]]))
