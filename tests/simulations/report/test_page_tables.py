"""Tables that a run need not have: drawn from `report.json` where they are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.atomic_files import write_text
from common.errors import RunFolderError
from simulations.report import build_report
from simulations.report.page import report_page
from tests.browser import Browser
from tests.page_checks import assert_page_is_sound

MakeRun = Callable[..., Path]
HALF = {"mean": 0.1, "low": 0.05, "high": 0.15}
GROUPS = [{"group": name, "n": 50, "utility": HALF} for name in ("low", "middle", "high")]


def fairness_row(row: str, kind: str) -> dict[str, Any]:
    names = ("utility", "user_gini", "worst_tenth_auc", "worst_tenth_mrr", "coverage",
             "exposure_gini", "popularity", "long_tail_share")  # fmt: skip
    difference = None if kind == "model" else HALF
    row_of = {"row": row, "kind": kind, "users": 150, "note": "", "difference": difference}
    return row_of | dict.fromkeys(names, HALF)


def later_tables(model: str) -> dict[str, Any]:
    """What companions and the fairness tables add to `results`."""
    group = {"group": "Drama", "items": 9, "relevant": 30, "probability": HALF}
    loss = {"group": "F", "n": 50, "loss": HALF, "relative_loss": None}
    fairness = {
        "split": "last_fifth",
        "source": "companion",
        "rows": [fairness_row(model, "model"), fairness_row("re-ranked", "mitigation")],
        "providers": [{"row": model, "by": "genre", "groups": [group], "dispersion": HALF}],
        "niche": [{"row": model, "by": by, "groups": GROUPS, "gap": HALF}
                  for by in ("profile popularity", "history length")],
        "sites": [{"row": model, "sites": GROUPS, "worst_site": "low", "spread": HALF,
                   "chance": HALF}],
        "impact": [{"row": model, "reference": "fedrec", "epsilon": 8.0, "attribute": "gender",
                    "groups": [loss], "spread": HALF, "relative_spread": None}],
        "notes": ["A note on fairness."],
    }  # fmt: skip
    sampled_row = {"name": model, "kind": "model", "hr_10": HALF, "ndcg_10": HALF}
    return {
        "fairness": fairness,
        "sampled": {"label": "comparability only", "negatives": 99, "draws": 5,
                    "note": "Published code leaks.", "rows": [sampled_row]},
        "companions": [{"name": "frozen", "row": "frozen BERT, same head", "status": "failed",
                        "reason": "out of memory", "seconds": None}],
    }  # fmt: skip


@pytest.fixture
def later_data(make_run: MakeRun) -> dict[str, Any]:
    """`report.json` of a run with every table there can be."""
    run = make_run()
    build_report(run)
    data: dict[str, Any] = json.loads((run / "report.json").read_text(encoding="utf-8"))
    results = data["results"]
    model = results["rows"][0]
    results |= later_tables(model["name"])
    results["time_cut"] = {"validation_from": 1, "test_from": 2, "users": 150, "left_out": 7,
                           "rows": results["rows"]}  # fmt: skip
    model["differences"] = [
        {"other": "frozen BERT, same head", "other_kind": "ablation", "hr_10": HALF,
         "ndcg_10": HALF},
    ]  # fmt: skip
    return data


def test_tables_of_companions_and_fairness_are_shown(later_data: dict[str, Any]) -> None:
    html = report_page(later_data)
    for told in ("comparability only", "Published code leaks.", "out of memory", "Companion runs",
                 "one cut in time", "150 users, 7 left out", "Niche users", "A note on fairness.",
                 "NDCG@10 by site", "lost to privacy at ε = 8, by gender",
                 "from frozen BERT, same head"):  # fmt: skip
        assert told in html, told
    assert html.index("Companion runs</summary>") - html.rindex("<details open>") < 200


def test_without_them_the_page_has_no_word_of_them(make_run: MakeRun) -> None:
    html = build_report(make_run()).read_text(encoding="utf-8")
    for told in ("sampled negatives", "Companion runs", "one cut in time", "Niche users"):
        assert told not in html


@pytest.mark.e2e
def test_a_page_with_every_table_is_sound(
    browser: Browser, later_data: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    write_text(page, report_page(later_data))
    assert_page_is_sound(browser, page.as_uri())


def swept_point(epsilon: float | None, mean: float, **changes: object) -> dict[str, Any]:
    interval = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}
    figures = {"hr_10": interval, "ndcg_10": interval}
    floor = {"name": "DP-Pop (local)", "kind": "dp_popularity"} | figures
    result = {"epsilon": epsilon, "seeds": 3, "floors": [floor] if epsilon else []} | figures
    name = "inf" if epsilon is None else f"{epsilon:g}"
    return {
        "settings": {"privacy.target_epsilon": name},
        "runs": [{"path": f"points/{name}/seed-0"}],
        "result": result,
    } | changes


def move_into_sweep(run: Path, points: list[dict[str, Any]]) -> Path:
    root = run.parent / "sweep"
    path = root / "points" / "8" / "seed-0"
    path.parent.mkdir(parents=True)
    run.rename(path)
    write_text(root / "sweep.json", json.dumps({"schema_version": 1, "points": points}))
    return path


def test_a_run_of_a_sweep_shows_its_siblings_budgets(make_run: MakeRun) -> None:
    points = [
        swept_point(None, 0.3),
        swept_point(8.0, 0.25),
        swept_point(1.0, 0.1),
        swept_point(3.0, 0.2, insecure_seeded_noise=True),
        swept_point(2.0, 0.2, settings={"privacy.target_epsilon": "2", "data.sites": "9"}),
        swept_point(4.0, 0.2, result=None),
    ]
    run = move_into_sweep(make_run(), points)
    html = build_report(run).read_text(encoding="utf-8")
    against = json.loads((run / "report.json").read_text(encoding="utf-8"))["utility_by_epsilon"]
    assert against["is_sweep"]
    model, floor, text = against["series"]
    assert [point["epsilon"] for point in model["points"]] == [1.0, 8.0, None]
    assert [point["epsilon"] for point in floor["points"]] == [1.0, 8.0]
    assert text["name"] == "text floor (a)"  # the run's own row; the sweep has none
    assert "fedrec: 0.1000 at ε 1, 0.2500 at ε 8, 0.3000 at ε ∞" in html
    assert "This run has one budget" not in html


def test_a_damaged_sweep_is_one_clear_error(make_run: MakeRun) -> None:
    run = move_into_sweep(make_run(), [{"settings": {}}])
    with pytest.raises(RunFolderError, match=r"sweep\.json is damaged: points\.0\.runs"):
        build_report(run)


@pytest.mark.e2e
def test_a_page_of_a_sweep_is_sound(browser: Browser, make_run: MakeRun) -> None:
    points = [swept_point(e, m) for e, m in ((1.0, 0.1), (3.0, 0.2), (8.0, 0.25), (None, 0.3))]
    assert_page_is_sound(browser, build_report(move_into_sweep(make_run(), points)).as_uri())
