"""`fedrec privacy`: costs, calibration, and recorded totals held against the releases alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.accounting import epsilon
from common.privacy_events import (
    DistributedGaussianEvent,
    GaussianEvent,
    PrivacyEvent,
    SampledGaussianEvent,
    event_to_dict,
)
from common.release_record import ReleaseRecord
from simulations import cli
from tests.own_process import Command, in_own_process

DELTA = 1e-4
HISTORY: list[PrivacyEvent] = [
    GaussianEvent(3.0),
    SampledGaussianEvent(2.0, 0.2, 5),
    DistributedGaussianEvent(2**20, 8, 2.0**20 + 158.2, 25_000, 0.2, 5),
]


@pytest.fixture
def fedrec(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    return in_own_process(cli.main, "fedrec", "privacy", monkeypatch=monkeypatch, capsys=capsys)


def records(site: str, history: list[PrivacyEvent], **last: object) -> list[dict[str, Any]]:
    """What a site would record for `history`; `last` changes the last line."""
    lines = []
    for number, event in enumerate(history):
        so_far = history[: number + 1]
        fields: dict[str, Any] = {
            "site": site,
            "run": "r",
            "server_round": number,
            "kind": "update" if number else "popularity",
            "mode": "local",
            "mechanism": "sampled_gaussian" if number else "gaussian",
            "noise_multiplier": 2.0,
            "max_grad_norm": 1.0,
            "sample_rate": getattr(event, "sample_rate", 1.0),
            "steps": getattr(event, "steps", 1),
            "sampling": "poisson" if number else "full",
            "divisor": 1.0,
            "tensors": ["t"],
            "bytes": 4,
            "payload_sha256": "0" * 64,
            "event": event_to_dict(event),
            "epsilon_prv": epsilon(so_far, DELTA),
            "epsilon_rdp": epsilon(so_far, DELTA, "rdp"),
            "delta": DELTA,
        }
        lines.append(fields)
    lines[-1].update(last)
    return [ReleaseRecord.model_validate(line).model_dump(mode="json") for line in lines]


def write(path: Path, *sites: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for site in sites for line in site))
    return path


def test_golden_values_with_all_that_an_epsilon_needs(fedrec: Command) -> None:
    code, out, err = fedrec("--sigma=1", "--rate=0.01", "--steps=1000", "--delta=1e-5")
    assert (code, err) == (0, "")
    words = ("one user", "add or remove all", "δ = 1e-5", "secret Poisson sampling at rate 0.01")
    for word in (*words, "PRV │ 1.84", "RDP │ 2.11", "PLD │ 1.83", "privacy profile"):
        assert word in " ".join(out.split()), word


def test_json_names_the_same(fedrec: Command) -> None:
    arguments = ("--sigma=1", "--rate=0.01", "--steps=1000", "--delta=1e-5", "--json")
    found = json.loads(fedrec(*arguments)[1])
    assert found["epsilon"] == pytest.approx({"prv": 1.838, "rdp": 2.101, "pld": 1.828}, abs=1e-3)
    assert (found["unit"], found["neighbouring_relation"]) == ("user", "add_or_remove_one")
    assert (found["sampling"], found["delta"], found["calibrated"]) == ("poisson", 1e-5, None)
    at = {point["delta"]: point["epsilon"] for point in found["profile"]["points"]}
    assert at[1e-5] == found["epsilon"]["prv"]
    assert found["profile"]["accountant"] == "prv"


@pytest.mark.parametrize(
    ("missing", "given"),
    [
        ("sigma", ("--rate=1", "--steps=6")),
        ("steps", ("--sigma=4", "--rate=1")),
        ("rate", ("--sigma=1.2", "--steps=6")),
    ],
)
def test_the_one_left_out_is_found(fedrec: Command, missing: str, given: tuple[str, ...]) -> None:
    code, out, _ = fedrec("--target-epsilon=6", *given, "--json")
    found = json.loads(out)
    assert (code, found["calibrated"], found["target_epsilon"]) == (0, missing, 6)
    event = SampledGaussianEvent(found["noise_multiplier"], found["sample_rate"], found["steps"])
    assert epsilon([event], DELTA) <= 6
    assert epsilon([event], DELTA) >= (4.5 if missing == "steps" else 0.995 * 6)
    code, out, _ = fedrec("--target-epsilon=6", *given)
    assert (code, "found for ε = 6 (PRV, δ = 1e-4, per user" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "none was given; give all of them"),
        (("--sigma=1", "--rate=0.1"), "sigma, rate was given; give all of them"),
        (("--target-epsilon=1", "--sigma=1"), "give all but the one to be found"),
        (("--target-epsilon=1", "--sigma=1", "--rate=1", "--steps=1"), "all but the one"),
        (("--sigma=-1", "--rate=0.1", "--steps=1"), "must be positive and finite, got -1"),
        (("--sigma=1", "--rate=2", "--steps=1"), "sample_rate must be in (0, 1], got 2"),
        (("--sigma=1", "--rate=1", "--steps=1", "--delta=0"), "delta must be in (0, 1), got 0"),
        (("--target-epsilon=1", "--sigma=0.3", "--rate=0.1"), "not even one step fits"),
        (("--releases=no.jsonl",), "there is no file no.jsonl"),
        (("--releases=no.jsonl", "--sigma=1"), "give nothing else"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    fedrec: Command, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = fedrec(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


def test_honest_records_pass(fedrec: Command, tmp_path: Path) -> None:
    lab = records("a", HISTORY, kind="metrics", mechanism="exact_lab_only", event=None)[-1]
    file = write(tmp_path / "releases.jsonl", records("a", HISTORY), [lab], records("b", HISTORY))
    code, out, err = fedrec(f"--releases={tmp_path}", "--json")
    assert (code, err) == (0, "")
    first, second = json.loads(out)["sites"]
    assert (first["site"], first["releases"], first["lab_only"]) == ("a", 3, 1)
    assert (second["releases"], second["fault"]) == (3, None)
    for name in ("prv", "rdp", "pld"):
        assert first["recomputed"][name] == pytest.approx(epsilon(HISTORY, DELTA, name))
    assert first["recorded"]["prv"] == pytest.approx(first["recomputed"]["prv"])
    code, out, _ = fedrec(f"--releases={file}")
    assert code == 0
    for word in ("per user", "add or remove one", "PRV", "RDP", "PLD", "1e-4", "rate 0.2"):
        assert word in out


@pytest.mark.parametrize("name", ["prv", "rdp"])
def test_a_recorded_total_that_is_too_low_is_a_fault(
    fedrec: Command, tmp_path: Path, name: str
) -> None:
    truth = epsilon(HISTORY, DELTA, name)  # type: ignore[arg-type]
    for less, expected in ((0.015, 0), (0.03, 2)):
        changed = records("b", HISTORY, **{f"epsilon_{name}": truth - less})
        file = write(tmp_path / "r.jsonl", records("a", HISTORY), changed)
        code, out, err = fedrec(f"--releases={file}", "--json")
        assert code == expected
        assert json.loads(out)["sites"][0]["fault"] is None
    assert err.count("\n") == 1
    assert "1 of 2 sites recorded less than was spent; b recorded" in err
    assert f"({name.upper()}, δ=0.0001, unit user, add or remove one, secret Poisson" in err


def test_a_total_of_a_longer_life_is_no_fault(fedrec: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", records("a", HISTORY, epsilon_prv=50.0, epsilon_rdp=50.0))
    assert fedrec(f"--releases={file}")[0] == 0


def test_a_claim_beside_a_release_without_noise_is_a_fault(fedrec: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", records("a", HISTORY, event=None, mechanism="none"))
    code, _, err = fedrec(f"--releases={file}")
    assert (code, "its releases cost ε=inf" in err) == (2, True)
    none = [{**line, "epsilon_prv": None, "epsilon_rdp": None} for line in records("a", HISTORY)]
    code, _, err = fedrec(f"--releases={write(tmp_path / 'r.jsonl', none)}")
    assert (code, "a recorded no ε" in err) == (2, True)


def test_mode_none_makes_no_claim_to_be_held_to(fedrec: Command, tmp_path: Path) -> None:
    nothing = {"event": None, "mechanism": "none", "epsilon_prv": None, "epsilon_rdp": None}
    file = write(tmp_path / "r.jsonl", [{**line, **nothing} for line in records("a", HISTORY)])
    code, out, _ = fedrec(f"--releases={file}")
    assert code == 0
    assert "∞" in out


def test_damaged_or_mixed_records_are_one_line(fedrec: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", records("a", HISTORY))
    file.write_text(file.read_text().replace('"gaussian"', '"laplace"'))
    code, out, err = fedrec(f"--releases={file}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "line 1 is damaged" in err
    file = write(tmp_path / "r.jsonl", records("a", HISTORY, delta=1e-6))
    code, _, err = fedrec(f"--releases={file}")
    assert (code, "in several ways (unit user at δ=1e-06" in err) == (2, True)


def test_seeded_noise_is_said(fedrec: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", records("a", HISTORY, insecure_seeded_noise=True))
    assert "SEEDED NOISE: no guarantee" in fedrec(f"--releases={file}")[1]
