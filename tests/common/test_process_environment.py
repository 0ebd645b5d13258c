from __future__ import annotations

import os

import pytest

from common.process_environment import QUIET_ENVIRONMENT, quiet_third_parties


def test_nothing_phones_home_unless_the_operator_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    quiet_third_parties()
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"
    for name in QUIET_ENVIRONMENT:
        monkeypatch.delenv(name)
