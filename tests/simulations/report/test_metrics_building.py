"""`metrics.json`: which rows fail, what is compared, and faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from common.errors import DataError
from simulations.report import EvaluatedRow, MetricsFile, RunCost, build_metrics

Rows = Callable[..., list[EvaluatedRow]]


def built(rows: list[EvaluatedRow], **changes: Any) -> MetricsFile:
    fields: dict[str, Any] = {
        "dataset": "example",
        "split": "leave_one_out",
        "stage": "test",
        "cost": RunCost(1.0),
        "resamples": 200,
    }
    return build_metrics(rows, **fields | changes)


def test_a_private_row_under_dp_popularity_is_failed(make_rows: Rows) -> None:
    assert built(make_rows(0.05)).rows[0].failed_against == ("DP-Pop (local)",)
    assert built(make_rows(0.6)).rows[0].failed_against == ()


def test_under_in_one_of_the_two_metrics_is_failed(make_rows: Rows) -> None:
    model, popularity, *others = make_rows(0.6)
    weaker = replace(model.metrics, ndcg_10=popularity.metrics.ndcg_10 - 1e-6)
    rows = [replace(model, metrics=weaker), popularity, *others]
    assert built(rows).rows[0].failed_against == ("DP-Pop (local)",)


def test_only_private_models_are_judged(make_rows: Rows) -> None:
    metrics = built(make_rows(0.05, "none"))
    assert all(row.failed_against == () for row in metrics.rows)
    assert all(row.comparisons == () for row in metrics.rows)
    others = built(make_rows(0.05)).rows[1:]
    assert all(row.comparisons == () for row in others)


def test_private_learning_is_compared_with_both_floors_in_pairs(make_rows: Rows) -> None:
    rows = make_rows(0.6)
    [popularity, text] = built(rows).rows[0].comparisons
    assert (popularity.other_kind, text.other_kind) == ("dp_popularity", "text_floor")
    expected = (rows[0].metrics.ndcg_10 - rows[2].metrics.ndcg_10).mean()
    assert text.ndcg_10.mean == pytest.approx(expected)
    assert text.ndcg_10.low is not None
    assert text.ndcg_10.low < expected


def test_means_have_intervals_around_them(make_rows: Rows) -> None:
    for row in built(make_rows()).rows:
        assert row.hr_10.low is not None
        assert row.hr_10.high is not None
        assert row.hr_10.low < row.hr_10.mean < row.hr_10.high
        assert row.users == 200


def test_the_file_is_strict_json_and_reads_back(make_rows: Rows) -> None:
    metrics = built(make_rows())
    text = json.dumps(metrics.model_dump(mode="json"), allow_nan=False)
    assert MetricsFile.model_validate_json(text) == metrics


def test_rows_must_hold_the_same_users(make_rows: Rows) -> None:
    first, second, *_ = make_rows()
    other = replace(second.metrics, user_ids=tuple(reversed(second.metrics.user_ids)))
    with pytest.raises(DataError, match="evaluated on other users"):
        built([first, replace(second, metrics=other)])


def test_rows_must_have_different_names(make_rows: Rows) -> None:
    first = make_rows()[0]
    with pytest.raises(DataError, match="different names"):
        built([first, first])
    with pytest.raises(DataError, match="different names"):
        built([])


def test_every_row_is_compared_with_the_reference_rows(make_rows: Rows) -> None:
    model, popularity, text, *others = make_rows(0.6)
    frozen = replace(model, name="frozen", kind="ablation", is_reference=True)
    found = {row.name: row for row in built([model, frozen, popularity, text, *others]).rows}
    floors = {popularity.name, text.name}
    assert {c.other for c in found[model.name].differences} == {"frozen", *floors}
    assert {c.other for c in found["frozen"].differences} == {model.name, *floors}
    for other in others:
        assert {c.other for c in found[other.name].differences} == {model.name, "frozen", *floors}
    [against] = [c for c in found["frozen"].differences if c.other == model.name]
    assert against.ndcg_10.mean == 0.0


def test_an_older_file_is_still_read(make_rows: Rows) -> None:
    content = built(make_rows()).model_dump(mode="json")
    for name in ("sampled", "time_cut", "companions"):
        del content[name]
    for row in content["rows"]:
        del row["differences"]
    assert MetricsFile.model_validate(content).companions == ()
