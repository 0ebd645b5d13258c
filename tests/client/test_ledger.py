from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.ledger import Ledger
from common.accounting import epsilon
from common.errors import BudgetRefusal, LedgerError
from common.privacy_events import GaussianEvent, PrivacyEvent, SampledGaussianEvent

EVENT = GaussianEvent(4.0)
RECORD = {"delta": 1e-4, "kind": "update"}


def key(server_round: int, run: str = "run-a", kind: str = "update") -> tuple[str, int, str]:
    return (run, server_round, kind)


def open_ledger(path: Path, **changes: Any) -> Ledger:
    return Ledger(path, **({"unit": "user", "dataset_fingerprint": "f00"} | changes))


def spend(ledger: Ledger, server_round: int, event: PrivacyEvent = EVENT) -> bytes:
    ledger.enforce(event, 1e-4, 1e9)
    return ledger.charge(key(server_round), event, b"bytes %d" % server_round, RECORD)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_charge_is_one_record_of_cost_and_bytes(path: Path) -> None:
    ledger = open_ledger(path)
    assert ledger.find(key(1)) is None
    assert spend(ledger, 1) == b"bytes 1"
    assert ledger.find(key(1)) == b"bytes 1"
    assert ledger.history() == (EVENT,)


def test_total_is_over_all_runs_and_restarts(path: Path) -> None:
    events: list[PrivacyEvent] = [EVENT, SampledGaussianEvent(2.0, 0.1, 5), EVENT]
    for number, event in enumerate(events):
        ledger = open_ledger(path)
        ledger.enforce(event, 1e-4, 100)
        ledger.charge(key(1, run=f"run-{number}"), event, b"x", RECORD)
    reopened = open_ledger(path)
    assert reopened.history() == tuple(events)
    assert reopened.epsilon(1e-4) == epsilon(events, 1e-4)
    assert reopened.epsilon(1e-4, "rdp") == epsilon(events, 1e-4, "rdp")
    projected = reopened.projected_epsilon(EVENT, 1e-4)
    assert projected == epsilon([*events, EVENT], 1e-4) > reopened.epsilon(1e-4)
    assert reopened.projected_epsilon(None, 1e-4) == reopened.epsilon(1e-4)


def test_retry_returns_the_first_bytes_and_charges_nothing(path: Path) -> None:
    ledger = open_ledger(path)
    spend(ledger, 1)
    for retry in (ledger, open_ledger(path)):
        retry.enforce(EVENT, 1e-4, 100)
        assert retry.charge(key(1), EVENT, b"other noise", RECORD) == b"bytes 1"
    assert len(ledger.history()) == 1


def test_release_without_a_claim_stores_bytes_and_no_event(path: Path) -> None:
    ledger = open_ledger(path)
    assert ledger.charge(key(1), None, b"exact", RECORD) == b"exact"
    assert ledger.find(key(1)) == b"exact"
    assert ledger.history() == ()
    assert ledger.epsilon(1e-4) == 0


def test_budget_is_refused_before_it_is_passed(path: Path) -> None:
    ledger = open_ledger(path)
    spend(ledger, 1)
    limit = ledger.projected_epsilon(EVENT, 1e-4)
    assert ledger.enforce(EVENT, 1e-4, limit) == limit
    with pytest.raises(BudgetRefusal, match=rf"ε={limit:.4f} at δ=0.0001, .* ε=0\.5;"):
        ledger.enforce(EVENT, 1e-4, 0.5)
    with pytest.raises(LedgerError, match="budget was not checked"):
        ledger.charge(key(2), EVENT, b"x", RECORD)
    assert len(ledger.history()) == 1


def test_charge_without_a_check_of_this_event_is_refused(path: Path) -> None:
    ledger = open_ledger(path)
    with pytest.raises(LedgerError, match="budget was not checked"):
        ledger.charge(key(1), EVENT, b"x", RECORD)
    ledger.enforce(EVENT, 1e-4, 100)
    with pytest.raises(LedgerError, match="budget was not checked"):
        ledger.charge(key(1), GaussianEvent(1.0), b"x", RECORD)
    ledger.charge(key(1), EVENT, b"x", RECORD)
    with pytest.raises(LedgerError, match="budget was not checked"):
        ledger.charge(key(2), EVENT, b"x", RECORD)  # one check, one charge
    assert ledger.history() == (EVENT,)


def test_a_check_is_void_once_another_process_has_charged(path: Path) -> None:
    first, second = open_ledger(path), open_ledger(path)
    limit = first.projected_epsilon(EVENT, 1e-4)
    first.enforce(EVENT, 1e-4, limit)
    second.enforce(EVENT, 1e-4, limit)
    first.charge(key(1), EVENT, b"first", RECORD)
    with pytest.raises(LedgerError, match="another process charged it"):
        second.charge(key(2), EVENT, b"second", RECORD)
    with pytest.raises(BudgetRefusal):
        second.enforce(EVENT, 1e-4, limit)
    assert first.epsilon(1e-4) <= limit


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["run-a", "run-b"]),
            st.integers(0, 3),
            st.sampled_from([GaussianEvent(2.0), GaussianEvent(5.0), None]),
        ),
        max_size=12,
    )
)
def test_what_left_the_site_never_costs_more_than_the_limit(
    tmp_path_factory: pytest.TempPathFactory,
    requests: list[tuple[str, int, GaussianEvent | None]],
) -> None:
    path, limit = tmp_path_factory.mktemp("site") / "ledger.sqlite", 3.0
    left: dict[tuple[str, int], tuple[bytes, GaussianEvent | None]] = {}
    for number, (run, server_round, event) in enumerate(requests):
        ledger = open_ledger(path)
        try:
            if event is not None:
                ledger.enforce(event, 1e-4, limit)
        except BudgetRefusal:
            continue
        payload = ledger.charge(key(server_round, run), event, b"%d" % number, RECORD)
        first = left.setdefault((run, server_round), (payload, event))
        assert payload == first[0]
    released = [event for _, event in left.values() if event is not None]
    assert epsilon(released, 1e-4) <= limit
    assert sorted(map(repr, open_ledger(path).history())) == sorted(map(repr, released))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes"])
def test_a_record_that_is_not_json_is_refused(path: Path, value: object) -> None:
    ledger = open_ledger(path)
    ledger.enforce(EVENT, 1e-4, 100)
    with pytest.raises(LedgerError, match="finite JSON"):
        ledger.charge(key(1), EVENT, b"x", {"delta": value})
    assert ledger.history() == ()


def test_export_is_json_from_which_epsilon_follows(path: Path) -> None:
    ledger = open_ledger(path)
    spend(ledger, 1)
    ledger.charge(key(2), None, b"exact", RECORD)
    exported = json.loads(json.dumps(ledger.export()))
    assert (exported["schema_version"], exported["unit"]) == (1, "user")
    first, second = exported["releases"]
    assert first["event"] == {"event": "gaussian", "noise_multiplier": 4.0, "count": 1}
    assert first["payload_sha256"] == hashlib.sha256(b"bytes 1").hexdigest()
    assert (first["seq"], first["run"], first["server_round"]) == (1, "run-a", 1)
    assert (first["bytes"], first["record"]) == (7, RECORD)
    assert second["event"] is None
