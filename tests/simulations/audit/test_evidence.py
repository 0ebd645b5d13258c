"""Tampered evidence is refused, by name, and whole evidence is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import EvidenceError
from common.run_folder import RunFolder
from common.tensor_files import read_tensors, tensors_to_bytes
from simulations.audit.evidence import read_evidence
from simulations.audit.same_run import config_sha256
from tests.simulations.audit.conftest import MakeRun

Tamper = Callable[[Path], None]


def edit_lines(path: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in change(lines)), "utf-8")


def edit_json(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def less_noise_claimed(run: Path) -> None:
    def change(lines: list[dict]) -> list[dict]:
        lines[4]["epsilon_prv"] /= 2
        return lines

    edit_lines(run / "releases.jsonl", change)


def event_swapped(run: Path) -> None:
    def change(lines: list[dict]) -> list[dict]:
        lines[4]["event"]["noise_multiplier"] *= 2
        lines[4]["noise_multiplier"] *= 2
        return lines

    edit_lines(run / "releases.jsonl", change)


def line_dropped(run: Path) -> None:
    edit_lines(run / "releases.jsonl", lambda lines: lines[:-1])


def made_lab_only(run: Path) -> None:
    def change(lines: list[dict]) -> list[dict]:
        lines[4] |= {"mechanism": "exact_lab_only", "kind": "metrics", "event": None}
        return lines

    edit_lines(run / "releases.jsonl", change)


def checkpoint_removed(run: Path) -> None:
    def change(lines: list[dict]) -> list[dict]:
        lines[4]["ledger_checkpoint"] = None
        return lines

    edit_lines(run / "releases.jsonl", change)


def checkpoint_of_another(run: Path) -> None:
    def change(lines: list[dict]) -> list[dict]:
        lines[4]["ledger_checkpoint"] = lines[5]["ledger_checkpoint"]
        return lines

    edit_lines(run / "releases.jsonl", change)


def ledger_missing(run: Path) -> None:
    (run / "ledgers" / "site-0001.json").unlink()


def ledger_edited(run: Path) -> None:
    def change(export: dict) -> None:
        export["releases"][1]["event"]["noise_multiplier"] = 9.0

    edit_json(run / "ledgers" / "site-0001.json", change)


def ledger_cut(run: Path) -> None:
    edit_json(run / "ledgers" / "site-0001.json", lambda export: export["releases"].pop())


def ledger_of_another_site(run: Path) -> None:
    shutil.copy(run / "ledgers" / "site-0002.json", run / "ledgers" / "site-0001.json")


def adapter_swapped(run: Path) -> None:
    path = run / "adapter" / "adapter.safetensors"
    tensors, metadata = read_tensors(path)
    swapped = {name: np.ascontiguousarray(array + 1) for name, array in tensors.items()}
    path.write_bytes(tensors_to_bytes(swapped, metadata))


def adapter_and_checkpoint_swapped(run: Path) -> None:
    adapter_swapped(run)
    tensors, state = RunFolder(run).read_checkpoint()
    for name in [name for name in tensors if name.startswith("adapter/")]:
        tensors[name] = np.ascontiguousarray(tensors[name] + 1)
    RunFolder(run).write_checkpoint(tensors, state)


def checkpoint_edited(run: Path) -> None:
    path = RunFolder(run).checkpoint_file
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def config_edited(run: Path) -> None:
    path = run / "config.toml"
    path.write_text(path.read_text("utf-8").replace("sample_rate = 0.2", "sample_rate = 0.1"))


def rounds_edited(run: Path) -> None:
    def change(lines: list[dict]) -> list[dict]:
        lines[1]["sites"][0]["epsilon_prv"] = 0.01
        return lines

    edit_lines(run / "rounds.jsonl", change)


TAMPERED: dict[str, tuple[Tamper, str]] = {
    "total lowered": (less_noise_claimed, r"releases.jsonl, line 5 .* is not what the site's"),
    "event swapped": (event_swapped, r"releases.jsonl, line 5 .* is not what the site's"),
    "line dropped": (line_dropped, r"releases.jsonl: round 2 used a release of site-0002"),
    "made lab only": (made_lab_only, r"releases.jsonl: round 1 used a release of site-0001"),
    "no checkpoint": (checkpoint_removed, r"line 5 .* has no readable ledger checkpoint"),
    "foreign checkpoint": (checkpoint_of_another, r"line 5 .* that its site did not sign"),
    "no ledger": (ledger_missing, r"ledgers/site-0001.json is not there"),
    "ledger edited": (ledger_edited, r"site-0001.json: its 3 entries are not the 3"),
    "ledger cut": (ledger_cut, r"site-0001.json: its 2 entries are not the 3"),
    "another ledger": (ledger_of_another_site, r"the ledger of site-0002, not of site-0001"),
    "adapter swapped": (adapter_swapped, r"swapped adapter: .* not those of the run's checkpoint"),
    "both swapped": (adapter_and_checkpoint_swapped, r"not the one that rounds.jsonl records"),
    "checkpoint edited": (checkpoint_edited, r"no checkpoint of a run .*is damaged"),
    "config edited": (config_edited, r"config.toml: it is not the configuration"),
    "rounds edited": (rounds_edited, r"rounds.jsonl: line 2 states another total of site-0000"),
}


def test_a_whole_run_is_read(make_run: MakeRun) -> None:
    run = make_run()
    evidence = read_evidence(run)
    assert set(evidence.ledgers) == {"site-0000", "site-0001", "site-0002"}
    assert evidence.adapter is not None
    assert evidence.adapter.bound_by == "recorded"
    assert evidence.config_is_bound
    assert evidence.report["adapter_sha256"] == evidence.adapter.sha256
    assert {"config.toml", "releases.jsonl", "ledgers/site-0002.json"} <= set(evidence.sha256)


def test_the_hash_of_a_file_is_that_of_the_configuration(make_run: MakeRun) -> None:
    run = make_run()
    assert config_sha256(run / "config.toml") == read_evidence(run).config.sha256()


@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_tampered_with_is_named(make_run: MakeRun, how: str) -> None:
    tamper, named = TAMPERED[how]
    run = make_run()
    tamper(run)
    with pytest.raises(EvidenceError, match=named) as refusal:
        read_evidence(run)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["report.json", "PRIVACY.md", "report.html"])
def test_the_report_of_another_run_is_refused(make_run: MakeRun, name: str) -> None:
    run, other = make_run(), make_run("other", seed=1, privacy={"target_epsilon": 7.0})
    shutil.copy(other / name, run / name)
    text = "the report of another run|does not state what report.json states"
    if name == "PRIVACY.md":  # the same claim is the same statement
        read_evidence(run)
        sentence = json.loads((run / "report.json").read_text())["claim"]["sentence"]
        (run / name).write_text((run / name).read_text().replace(sentence, "Safe."))
    with pytest.raises(EvidenceError, match=text):
        read_evidence(run)


def test_the_report_of_a_twin_with_the_same_configuration_is_refused(make_run: MakeRun) -> None:
    run, twin = make_run(), make_run("twin", seed=1)
    shutil.copy(twin / "report.json", run / "report.json")
    with pytest.raises(EvidenceError, match="its adapter_sha256 is not this run's"):
        read_evidence(run)


def test_an_older_folder_is_read_and_its_adapter_is_bound_by_the_checkpoint(
    make_run: MakeRun,
) -> None:
    evidence = read_evidence(make_run(forgets_hash=True))
    assert evidence.adapter is not None
    assert evidence.adapter.bound_by == "checkpoint"


def test_a_ledger_of_another_key_than_the_pinned_is_refused(make_run: MakeRun) -> None:
    run = make_run()
    key = read_evidence(run).ledgers["site-0000"].checkpoint.public_key
    assert read_evidence(run, pinned={"site-0000": key}).pinned == {"site-0000": key}
    with pytest.raises(EvidenceError, match="site-0000 has the key 0000"):
        read_evidence(run, pinned={"site-0000": "0" * 64})
