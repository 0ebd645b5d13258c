"""The report of a small run: what must be in it, and what must be impossible to miss."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from common.errors import RunFolderError
from simulations.report import EvaluatedRow, build_report

MakeRun = Callable[..., Path]
Rows = Callable[..., list[EvaluatedRow]]
VOID_TAGS = {"meta", "br", "link", "img", "input", "hr"}


def built(run: Path) -> tuple[str, dict[str, Any], str]:
    """Build the report; return the page with plain spaces, `report.json` and `PRIVACY.md`."""
    page = build_report(run)
    data = json.loads((run / "report.json").read_text(encoding="utf-8"))
    html = page.read_text(encoding="utf-8").replace("\u00a0", " ")
    return html, data, (run / "PRIVACY.md").read_text(encoding="utf-8")


def alerts_of(html: str) -> str:
    """Everything in the two boxes of warnings, the grave ones first."""
    return "".join(re.findall(r'<section class="alerts.*?</section>', html, re.DOTALL))


def graves_of(html: str) -> str:
    return "".join(re.findall(r'<section class="alerts grave.*?</section>', html, re.DOTALL))


class Balance(HTMLParser):
    """Notes every element that is closed wrongly, and every reference to something else."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [f"{k}={v}" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [f"{k}={v}" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def test_page_is_whole_and_refers_to_nothing_outside_itself(make_run: MakeRun) -> None:
    html, _, _ = built(make_run())
    balance = Balance()
    balance.feed(html)
    assert balance.faults == []
    assert balance.open == []
    outside = {r for r in balance.references if not r.startswith("href=#")}
    assert outside == {"href=data:,"}  # no icon, so that no browser asks for one
    anchors = {r.removeprefix("href=#") for r in balance.references} - {"href=data:,"}
    assert anchors
    assert anchors <= set(re.findall(r' id="([^"]+)"', html))
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script", html)
    assert "Undefined" not in html
    assert html.count("<svg") == 13


def test_claim_names_everything_that_epsilon_needs(make_run: MakeRun) -> None:
    html, data, statement = built(make_run())
    claim = data["claim"]
    assert claim["status"] == "private"
    sentence = claim["sentence"]
    for part in ("ε = 2.5", "δ = 1e-4", "unit: user", "add or remove", "Poisson sampling",
                 "rate 0.2", "PRV", "Trusted: only the user's own site", "whole life"):  # fmt: skip
        assert part in sentence
    assert sentence.replace("'", "&#39;") in html
    assert sentence in statement


def test_epsilon_is_the_total_of_the_site_that_spent_most(make_run: MakeRun) -> None:
    _, data, statement = built(make_run())
    spent = {site["site"]: site["recorded_prv"] for site in data["sites"]}
    assert data["claim"]["epsilon"] == pytest.approx(max(spent.values()))
    assert spent["site-0002"] < data["claim"]["epsilon"]
    last = data["epsilon_by_round"]["points"][-1]
    assert last["highest"] == pytest.approx(data["claim"]["epsilon"])
    for label in ("no amplification by sampling", "with Poisson sampling", "(the promise)"):
        assert re.search(rf"{re.escape(label)} \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", statement)


def test_statement_tells_what_is_not_covered(make_run: MakeRun) -> None:
    _, _, statement = built(make_run())
    for part in ("group privacy", "k sites", "tuning", "lambda of EASE", "lab only",
                 "None of them is the ε of a single round", "dp-accounting"):  # fmt: skip
        assert part in statement


def test_a_failed_row_is_marked_in_red_wherever_it_stands(
    make_run: MakeRun, make_rows: Rows
) -> None:
    html, data, statement = built(make_run(rows=make_rows(0.05)))
    assert data["results"]["rows"][0]["failed_against"] == ["DP-Pop (local)"]
    assert "Failed row: fedrec is under DP-Pop (local)" in graves_of(html)
    assert "Failed row: fedrec is under DP-Pop (local)" in statement
    assert html.count('<span class="badge">FAILED</span>') == 2
    assert 'class="mark failed"' in html


def test_a_good_row_is_not_marked(make_run: MakeRun, make_rows: Rows) -> None:
    html, _, _ = built(make_run(rows=make_rows(0.7), refusing=None))
    assert "FAILED" not in html
    assert "not measurable" not in html
    assert html.count('<span class="good">above</span>') == 2


def test_learning_that_adds_nothing_to_the_text_floor_is_said(
    make_run: MakeRun, make_rows: Rows
) -> None:
    html, _, _ = built(make_run(rows=make_rows(0.3)))
    assert "not above text floor (a) by more than chance" in alerts_of(html)


def test_insecure_noise_voids_the_claim(make_run: MakeRun) -> None:
    run = make_run({"privacy": {"insecure_seeded_noise": True}}, insecure_seeded_noise=True)
    html, data, statement = built(run)
    assert data["claim"]["status"] == "void"
    assert data["claim"]["epsilon"] is None
    assert "insecure_seeded_noise" in graves_of(html)
    assert "NO PRIVACY GUARANTEE" in html
    assert 'class="claim broken"' in html
    assert "no privacy guarantee" in data["claim"]["sentence"]
    assert "void<small>no guarantee" in html
    assert "| ε |" not in statement
    assert "Do not publish" in statement


def test_one_seeded_release_is_enough_to_void(make_run: MakeRun) -> None:
    _, data, _ = built(make_run(insecure_seeded_noise=True))
    assert data["claim"]["status"] == "void"


def test_a_release_without_noise_in_a_private_mode_voids(make_run: MakeRun) -> None:
    html, data, _ = built(make_run(mechanism="none", event=None))
    assert data["claim"]["status"] == "void"
    assert "without noise in a private mode" in alerts_of(html)


def test_mode_none_says_plainly_that_nothing_is_guaranteed(
    make_run: MakeRun, make_rows: Rows
) -> None:
    run = make_run(
        {"privacy": {"mode": "none"}},
        rows=make_rows(0.4, "none"),
        mode="none",
        mechanism="none",
        event=None,
        epsilon_prv=None,
        epsilon_rdp=None,
        sampling="none",
    )
    html, data, statement = built(run)
    assert data["claim"]["status"] == "none"
    assert "no privacy guarantee" in data["claim"]["sentence"]
    assert "No privacy guarantee" in alerts_of(html)
    assert "no privacy guarantee" in statement
    assert "exact update" in statement
    assert not re.search(r"ε = \d", html + statement)
    assert "total ε over server rounds" not in html


def test_a_refused_site_is_in_the_alerts_with_its_reason_escaped(make_run: MakeRun) -> None:
    html, data, statement = built(make_run())
    assert "site-0002 refused in round 6: over &lt;b&gt;budget&lt;/b&gt;" in alerts_of(html)
    assert "<b>" not in html + statement
    [site] = [site for site in data["sites"] if site["site"] == "site-0002"]
    assert (site["rounds_ok"], site["rounds_refused"]) == (5, 1)


def test_exact_metrics_are_said_to_be_lab_only(make_run: MakeRun) -> None:
    html, _, _ = built(make_run())
    assert "Lab only" in alerts_of(html)
    assert "Lab only" not in graves_of(html)


def test_a_recorded_total_below_the_recomputed_one_is_not_trusted(make_run: MakeRun) -> None:
    html, data, _ = built(make_run(epsilon_prv=0.5))
    assert "do not trust the recorded figure" in alerts_of(html)
    assert data["claim"]["epsilon"] > 2


def test_a_run_that_ended_early_still_gets_its_report(make_run: MakeRun) -> None:
    html, data, statement = built(make_run(with_metrics=False))
    assert data["results"] is None
    assert "ended before its evaluation" in alerts_of(html)
    assert "ε = 2.5" in statement


def test_a_run_without_any_round_promises_nothing(make_run: MakeRun) -> None:
    run = make_run(with_metrics=False)
    (run / "rounds.jsonl").unlink()
    (run / "releases.jsonl").unlink()
    _, data, _ = built(run)
    assert data["claim"]["status"] == "nothing_released"


def test_every_figure_has_its_numbers_in_the_json(make_run: MakeRun) -> None:
    html, data, _ = built(make_run())
    shown = set(re.findall(r'class="row value"[^>]*>([^<]+)<', html))
    rows = data["results"]["rows"]
    known = {f"{row[name]['mean']:.4f}" for row in rows for name in ("hr_10", "ndcg_10")}
    known |= {f"{group['utility']['mean']:.4f}" for record in data["results"]["groups"]
              for group in record["groups"]}  # fmt: skip
    known |= {f"{found[name]['mean']:+.4f}" for row in rows for found in row["comparisons"]
              for name in ("hr_10", "ndcg_10")}  # fmt: skip
    epsilons = {f"{-(-site['recorded_prv'] * 100 // 1) / 100:.2f}" for site in data["sites"]}
    assert shown <= known | epsilons
    points = [p for one in data["utility_by_epsilon"]["series"] for p in one["points"]]
    assert sorted(p["hr_10"]["mean"] for p in points) == sorted(
        row["hr_10"]["mean"] for row in rows if row["epsilon"] is not None
    )
    assert [point["server_round"] for point in data["utility_by_round"]] == [0, 2, 4, 6]


def test_a_damaged_line_is_one_clear_error(make_run: MakeRun) -> None:
    run = make_run()
    lines = (run / "releases.jsonl").read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2].replace('"noise_multiplier": 3.0', '"noise_multiplier": -3.0')
    (run / "releases.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"releases\.jsonl, line 3.*noise_multiplier") as error:
        build_report(run)
    assert "\n" not in str(error.value)
    assert not (run / "report.html").exists()


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run"):
        build_report(tmp_path)


def test_examples_are_named_and_called_weaker_in_every_output(make_run: MakeRun) -> None:
    html, data, statement = built(make_run({"privacy": {"unit": "example"}}, unit="example"))
    claim = data["claim"]
    assert (claim["status"], claim["unit"]) == ("private", "example")
    for part in ("For every example", "left its site", "unit: example",
                 "Poisson sampling of examples", "add or remove one training example",
                 "histories of the other examples"):  # fmt: skip
        assert part in claim["sentence"]
    note = claim["unit_note"]
    assert note.startswith("Example-level privacy is weaker than user-level privacy")
    assert {"level": "grave", "text": note} in data["alerts"]
    for text in (alerts_of(html), statement, claim["sentence"]):
        assert note in text
    for wrong in ("per user, add or remove one", "For every user", "for a user of", "What a user"):
        assert wrong not in html + statement
    assert "a user with k examples: by group privacy" in statement
    assert "and its ε is per user, which promises more" in html


def test_what_context_brings_into_the_claim_is_said(make_run: MakeRun) -> None:
    _, of_users, statement = built(make_run({"model": {"context": "user,time"}}))
    inputs = "users' attributes and times of interactions were among their inputs"
    assert any(inputs in line for line in of_users["claim"]["covered"])
    assert inputs in statement


def test_what_examples_do_not_protect_of_their_context_is_said(make_run: MakeRun) -> None:
    changes = {"model": {"context": "user"}, "privacy": {"unit": "example"}}
    _, _, statement = built(make_run(changes, unit="example"))
    assert "every example of that user carries them" in statement
    assert "the pause before the next example" not in statement


def test_a_release_of_another_unit_voids_the_claim(make_run: MakeRun) -> None:
    html, data, _ = built(make_run(unit="example"))
    assert data["claim"]["status"] == "void"
    assert "charged for another unit than user" in data["claim"]["sentence"]
    assert "another unit than the run&#39;s, user" in alerts_of(html)


def test_a_report_of_users_has_no_word_of_examples(make_run: MakeRun) -> None:
    html, data, statement = built(make_run())
    assert data["claim"]["unit_note"] == ""
    assert "weaker" not in html + statement
    assert "attributes were" not in statement
    assert "per user, add or remove all data of one user" in " ".join(html.split())
