"""`fedrec audit`: from a run to a signed report, and a stranger's verification."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from common.errors import EvidenceError
from simulations.audit.audit_file import AuditFile, Opening
from simulations.audit.audit_log import AuditLog
from simulations.audit.auditor_key import load_auditor_key
from simulations.audit.check import Gate, Terms
from simulations.audit.checks import CHECKS, alpha_each, run_check
from simulations.audit.evidence import read_evidence
from simulations.audit.finding import Finding
from simulations.audit.opening import openings
from simulations.audit.verifying import _log
from tests.browser import Browser
from tests.own_process import Command
from tests.page_checks import assert_page_is_sound
from tests.simulations.audit.conftest import MakeRun

RECORDS = ("--checks", "A1,A7")
"""The checks of a run's records alone, which are quick."""


@pytest.mark.slow
def test_the_production_code_is_driven_under_the_runs_configuration(
    make_run: MakeRun, fedrec: Command
) -> None:
    code, out, err = fedrec("audit", str(make_run()), "--json", "--quiet")
    assert (code, err) == (0, "")
    audit = json.loads(out)
    assert audit["verdict"] == "not_refuted"
    assert audit["not_run"] == []
    passed = {each["check"] for each in audit["findings"] if each["verdict"] == "pass"}
    assert passed >= {"A1", "A2", "A3", "A4", "A7"}
    planned = {each["name"] for each in audit["pre_registration"]["gates"]}
    for each in audit["findings"]:
        family = (name for name in planned if f"{each['name']}.".startswith(f"{name}."))
        assert any(family), each["name"]


def test_the_draws_of_an_audit_come_from_its_committed_seed(make_run: MakeRun) -> None:
    evidence = read_evidence(make_run())
    (check,) = (each for each in CHECKS if each.name == "A4")
    one, again, other = (
        run_check(check, evidence, Terms(0.01, float("inf"), seed)) for seed in (b"a", b"a", b"b")
    )
    assert one == again
    assert one != other


def test_a_run_is_audited_signed_and_verified(
    make_run: MakeRun, fedrec: Command, tmp_path: Path
) -> None:
    run = make_run()
    code, out, err = fedrec("audit", str(run), *RECORDS, "--json", "--quiet")
    assert (code, err) == (0, "")
    audit = json.loads(out)
    assert audit == json.loads((run / "audit.json").read_text())
    assert audit["verdict"] == "not_refuted"
    assert audit["sentence"] == "Lower bounds can refute the claim; they cannot prove it."
    assert {each["check"] for each in audit["not_run"]} == {"A2", "A3", "A4", "A5", "A6"}
    key = tmp_path / "state" / "auditor" / "auditor.key"
    assert os.stat(key).st_mode & 0o777 == 0o600
    log = [json.loads(line) for line in (run / "audit-log.jsonl").read_text().splitlines()]
    assert [log[0]["kind"], log[-1]["kind"]] == ["pre_registration", "report"]
    assert {each["kind"] for each in log[1:-2]} == {"finding"}
    assert (log[-2]["kind"], log[-2]["content"]) == ("opening", audit["opening"])
    seed = bytes.fromhex(audit["opening"]["seed"])
    assert audit["pre_registration"]["seed_commitment"] == hashlib.sha256(seed).hexdigest()

    public = str(key.with_suffix(".pub"))
    code, out, err = fedrec("audit", "verify", str(run / "audit.json"), "--key", public)
    assert (code, err) == (0, "")
    assert out.count(": holds: ") == 5  # the sites' keys were not given
    sites = {link["site"]: link["checkpoint"]["public_key"] for link in audit["ledgers"]}
    (tmp_path / "sites.json").write_text(json.dumps(sites))
    options = ("--key", public, "--site-keys", str(tmp_path / "sites.json"), "--json")
    code, out, _ = fedrec("audit", "verify", str(run / "audit.json"), *options)
    assert code == 0
    assert all(each["holds"] for each in json.loads(out)["verified"])


def changed_finding(run: Path) -> None:
    path = run / "audit.json"
    path.write_text(path.read_text().replace('"pass"', '"not_testable"', 1))


def changed_release(run: Path) -> None:
    with (run / "releases.jsonl").open("a") as log:
        log.write("{}\n")


def changed_log(run: Path) -> None:
    path = run / "audit-log.jsonl"
    path.write_text(path.read_text().replace('"family_alpha": 0.05', '"family_alpha": 0.5'))


def shortened_log(run: Path) -> None:
    path = run / "audit-log.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))


def changed_page(run: Path) -> None:
    path = run / "audit.html"
    path.write_text(path.read_text().replace("not refuted", "proven"))


def missing_ledger(run: Path) -> None:
    (run / "ledgers" / "site-0000.json").unlink()


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (changed_finding, "tampered audit: .*audit.json is not what the holder"),
        (changed_release, "changed evidence: .*releases.jsonl was changed"),
        (changed_log, "audit-log.jsonl, line 1 is not what the auditor signed"),
        (shortened_log, "audit-log.jsonl is not the log"),
        (changed_page, "audit.html does not show"),
        (missing_ledger, "changed evidence: .*site-0000.json is missing"),
    ],
)
def test_a_tampered_audit_does_not_verify(
    make_run: MakeRun, fedrec: Command, tamper: object, named: str
) -> None:
    run = make_run()
    assert fedrec("audit", str(run), *RECORDS, "--quiet")[0] == 0
    tamper(run)  # type: ignore[operator]
    code, _, err = fedrec("audit", "verify", str(run / "audit.json"))
    assert code == 2
    assert len(err.splitlines()) == 1
    import re

    assert re.search(named, err), err


def test_an_opened_seed_is_held_against_its_commitment(make_run: MakeRun, fedrec: Command) -> None:
    run = make_run()
    assert fedrec("audit", str(run), *RECORDS, "--quiet")[0] == 0
    audit = AuditFile.model_validate_json((run / "audit.json").read_text())
    assert [each.holds for each in openings(run, audit)] == [True]
    other = audit.model_copy(update={"opening": Opening(seed="0" * 64)})
    with pytest.raises(EvidenceError, match="opens another seed than it committed to"):
        openings(run, other)
    earlier = audit.model_copy(update={"opening": None})
    assert [each.holds for each in openings(run, earlier)] == [False]


def test_a_file_of_before_the_opening_still_verifies(make_run: MakeRun, fedrec: Command) -> None:
    """Its log has no opening, and its plan no canaries: it is compared as it was written."""
    run = make_run()
    assert fedrec("audit", str(run), *RECORDS, "--quiet")[0] == 0
    content = json.loads((run / "audit.json").read_text())
    content["opening"] = None
    with pytest.raises(EvidenceError, match="another opening than audit-log.jsonl has"):
        _log(run / "audit.json", content)
    lines = [json.loads(line) for line in (run / "audit-log.jsonl").read_text().splitlines()]
    (run / "audit-log.jsonl").unlink()
    log = AuditLog(run / "audit-log.jsonl", load_auditor_key())
    del content["opening"], content["pre_registration"]["canaries"]
    del lines[0]["content"]["plan"]["canaries"]
    for line in lines[:-2]:
        place = log.append(line["kind"], line["content"])
    content["audit_log"] |= {"tree_size": place.tree_size, "root": place.root}
    assert _log(run / "audit.json", content).holds


def test_a_report_drawn_again_since_is_named_as_that(make_run: MakeRun, fedrec: Command) -> None:
    run = make_run()
    assert fedrec("audit", str(run), *RECORDS, "--quiet")[0] == 0
    with (run / "report.html").open("a") as page:
        page.write("<!-- drawn again -->")
    code, _, err = fedrec("audit", "verify", str(run / "audit.json"))
    assert code == 2
    assert "report.html was changed since the audit" in err
    assert "if `fedrec report` drew it again, audit again" in err
    with (run / "rounds.jsonl").open("a") as log:
        log.write("{}\n")
    _, _, err = fedrec("audit", "verify", str(run / "audit.json"))
    assert "rounds.jsonl was changed since the audit" in err  # records come first
    assert "drew it again" not in err


def test_another_auditor_s_key_does_not_verify(make_run: MakeRun, fedrec: Command) -> None:
    run = make_run()
    fedrec("audit", str(run), *RECORDS, "--quiet")
    code, _, err = fedrec("audit", "verify", str(run / "audit.json"), "--key", "0" * 64)
    assert (code, "forged audit" in err) == (2, True)


def test_a_refuted_claim_ends_with_2_and_a_signed_report(
    make_run: MakeRun, fedrec: Command
) -> None:
    run = make_run(steps=4)
    code, out, err = fedrec("audit", str(run), *RECORDS, "--quiet")
    assert code == 2
    assert "accounting.steps" in err
    assert "The claim is refuted: 1 of" in out
    assert fedrec("audit", "verify", str(run / "audit.json"))[0] == 0


def test_tampered_evidence_ends_with_2_and_no_report(make_run: MakeRun, fedrec: Command) -> None:
    run = make_run()
    (run / "ledgers" / "site-0000.json").unlink()
    code, out, err = fedrec("audit", str(run), *RECORDS)
    assert (code, out) == (2, "")
    assert err.startswith("error: missing evidence: ")
    assert len(err.splitlines()) == 1
    assert not (run / "audit.json").exists()


def test_without_time_nothing_is_tested_and_says_so(make_run: MakeRun, fedrec: Command) -> None:
    run = make_run()
    code, out, _ = fedrec("audit", str(run), "--budget-minutes", "0", "--json", "--checks", "a1")
    audit = json.loads(out)
    assert code == 0
    assert {each["check"] for each in audit["findings"]} == {"A1"}
    assert {each["verdict"] for each in audit["findings"]} == {"not_testable"}
    assert "--budget-minutes" in audit["findings"][0]["reason"]


def test_an_unknown_check_is_refused(make_run: MakeRun, fedrec: Command) -> None:
    code, _, err = fedrec("audit", str(make_run()), "--checks", "A9")
    assert (code, "there is no check 'A9'" in err) == (2, True)


def test_alpha_is_divided_and_only_planned_gates_decide(make_run: MakeRun) -> None:
    evidence = read_evidence(make_run())
    surprise = Finding(
        check="A1", name="surprise", view="the code", gate=True, verdict="pass", reason="none"
    )
    planned = [
        check.__class__(check.name, check.title, check.needs,
                        (Gate("one", "x", is_statistical=True),), lambda _: 0.0,
                        lambda *_: (surprise,))
        for check in CHECKS[:2]
    ]  # fmt: skip
    assert alpha_each(planned) == pytest.approx(0.025)
    with pytest.raises(ValueError, match="written down"):
        run_check(planned[0], evidence, Terms(0.025, float("inf"), b""))


@pytest.mark.e2e
@pytest.mark.parametrize("steps", [1, 4])
def test_the_page_is_sound(
    make_run: MakeRun, fedrec: Command, browser: Browser, steps: int
) -> None:
    run = make_run(steps=steps)
    fedrec("audit", str(run), *RECORDS, "--quiet")
    assert_page_is_sound(browser, (run / "audit.html").as_uri())
    text = browser.run("return document.body.innerText")
    assert "Lower bounds can refute the claim; they cannot prove it." in text
    assert ("REFUTED" in text) == (steps == 4)
    for title in ("The guarantee", "What could undermine it", "The data's foundation"):
        assert title in text
    data = json.loads((run / "audit.json").read_text())
    marks = browser.run("return document.querySelectorAll('svg .mark').length")
    restated = data["guarantee"]
    assert marks == 1 + len(restated["lines"]) + sum(
        not line["name"].endswith("recorded") for line in restated["beside"]
    )
