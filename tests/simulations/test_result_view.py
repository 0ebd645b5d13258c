from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.config import PrivacyConfig
from simulations.report.metrics_file import IntervalRecord, MetricsFile, MetricsRow
from simulations.result_view import RunSummary, privacy_line, result_json, show_result


def metrics() -> dict[str, Any]:
    interval = IntervalRecord(mean=0.1504, low=0.13, high=0.17)
    alone = IntervalRecord(mean=0.04, low=None, high=None)
    rows = tuple(
        MetricsRow(
            name=name, kind=kind, mode="local", epsilon=8.0, users=943,
            hr_10=interval, hr_20=interval, ndcg_10=alone, ndcg_20=alone, mrr=alone,
        )
        for name, kind in (("fedrec", "model"), ("DP-Pop", "dp_popularity"))
    )  # fmt: skip
    return MetricsFile(
        dataset="movielens-100k", split="leave_one_out", stage="test", rows=rows,
        groups_split="leave_one_out", seconds=245.0, bootstrap_resamples=100,
    ).model_dump(mode="json")  # fmt: skip


def summary(**changes: Any) -> RunSummary:
    content: dict[str, Any] = {
        "run_folder": Path("runs/demo"),
        "metrics": metrics(),
        "privacy": PrivacyConfig(),
        "epsilon": 7.9876,
        "delta": 1e-4,
        "seconds": 245.3,
    }
    return RunSummary(**{**content, **changes})


def shown(content: RunSummary) -> str:
    stream = io.StringIO()
    show_result(Console(file=stream, width=80), content)
    return stream.getvalue()


def test_the_table_has_figures_with_intervals_privacy_time_and_report() -> None:
    text = shown(summary())
    for part in (
        "0.1504 [0.1300, 0.1700]",
        "0.0400",
        "DP-Pop",
        "test, 943 users",
        "ε = 7.99 at δ = 1e-4 for each user, add or remove one",
        "4 min 05 s",
        "runs/demo/report.html",
    ):
        assert part in text


def test_without_privacy_the_line_says_so() -> None:
    line = privacy_line(PrivacyConfig(mode="none"), None, 1e-4)
    assert line == "none (privacy.mode = none): the server saw exact updates"


def test_seeded_noise_voids_the_claim() -> None:
    line = privacy_line(PrivacyConfig(insecure_seeded_noise=True), 8.0, 1e-4)
    assert line.startswith("none: the noise came from a seed")
    assert "ε" not in line


def test_epsilon_is_never_rounded_down() -> None:
    assert "ε = 8.01 " in privacy_line(PrivacyConfig(), 8.0012, 1e-4)
    assert "ε = 0.02 " in privacy_line(PrivacyConfig(), 0.01231, 1e-4)


@pytest.mark.parametrize(("rate", "words"), [(0.5, "Poisson sampling"), (1.0, "all users")])
def test_the_claim_names_its_sampling(rate: float, words: str) -> None:
    assert words in privacy_line(PrivacyConfig(sample_rate=rate), 8.0, 1e-4)


def test_json_is_one_line_with_the_same_figures() -> None:
    text = result_json(summary())
    assert "\n" not in text
    content = json.loads(text)
    assert content["hr_10"] == {"mean": 0.1504, "low": 0.13, "high": 0.17}
    assert content["epsilon"] == 7.9876
    assert content["report"] == "runs/demo/report.html"
    assert content["metrics"] == metrics()


def test_examples_are_named_and_called_weaker() -> None:
    privacy = PrivacyConfig(unit="example", sample_rate=1.0)
    line = privacy_line(privacy, 8.0, 1e-4)
    assert "for each example, add or remove one" in line
    assert "all examples in every step" in line
    assert line.endswith("in the histories of other examples.")
    assert "\n" not in line
    content = json.loads(result_json(summary(privacy=privacy)))
    assert content["unit"] == "example"
    assert "weaker than user-level" in content["unit_note"]
    assert "weaker" not in privacy_line(PrivacyConfig(), 8.0, 1e-4)


def test_what_stands_beside_the_table_is_told() -> None:
    content = metrics()
    alone = {"mean": 0.5, "low": None, "high": None}
    row = {"name": "fedrec", "kind": "model", "hr_10": alone, "ndcg_10": alone}
    content["sampled"] = {"negatives": 99, "draws": 5, "note": "leaks", "rows": [row]}
    content["time_cut"] = {
        "validation_from": 5, "test_from": 9, "users": 70, "left_out": 873,
        "rows": content["rows"][:1],
    }  # fmt: skip
    content["companions"] = [
        {"name": "central", "row": "central", "status": "not_run", "reason": "not asked for"},
        {"name": "frozen", "row": "frozen BERT", "status": "run"},
    ]
    text = shown(summary(metrics=content))
    assert "sampled:  HR@10 0.5000, NDCG@10 0.5000 among 99 negatives (comparability only)" in text
    assert "of 70 users (873 left out)" in text
    assert "not run:  central (not asked for)" in text
    assert "frozen" not in text
