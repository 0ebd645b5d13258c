"""What may and what may not stand in a log, in both forms."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from common import logs
from common.command_line import run_command_line
from common.errors import ConfigError, LedgerError
from common.logs import LOG_VARIABLE, configure_flower_log, configure_log

PLANTED = "alice.planted@example.org"
logger = logging.getLogger("fedrec-test-log")


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test sets up is taken down."""
    root, flower = logging.getLogger(), logging.getLogger("flwr")
    before = (root.handlers[:], root.level, flower.handlers[:])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    root.handlers[:], flower.handlers[:] = before[0], before[2]
    root.setLevel(before[1])
    logging.captureWarnings(False)


def log_of_a_failure(folder: Path) -> None:
    """Lines as an agent writes them, among them an error whose text holds a user's id."""
    about = {"run": "week-1", "server_round": 3, "site": "north", "user": PLANTED}
    logger.info("ledger %s/ledger.sqlite is open", folder, extra=about)
    try:
        {}[PLANTED]
    except KeyError:
        logger.exception("unexpected failure while answering %a", "train")


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_value_and_no_hidden_path_is_written(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LOG_VARIABLE, form)
    configure_log(logger.name, hidden={tmp_path: "SITE"})
    log_of_a_failure(tmp_path)
    threading.excepthook(
        threading.ExceptHookArgs((KeyError, KeyError(PLANTED), None, threading.current_thread()))
    )
    sys.excepthook(ValueError, ValueError(PLANTED), None)
    written = capsys.readouterr().err
    assert "SITE/ledger.sqlite is open" in written
    assert f"{__name__}:" in written  # where, for ours to find
    assert PLANTED not in written
    assert str(tmp_path) not in written


def test_json_is_an_object_a_line_with_typed_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LOG_VARIABLE, "json")
    configure_log(logger.name)
    log_of_a_failure(tmp_path)
    logger.debug("not asked for")
    opened, failed = map(json.loads, capsys.readouterr().err.splitlines())
    time = datetime.fromisoformat(opened.pop("time"))
    assert time.utcoffset() == timedelta(0)
    assert opened == {
        "level": "info",
        "logger": logger.name,
        "message": f"ledger {tmp_path}/ledger.sqlite is open",
        "run": "week-1",
        "server_round": 3,
        "site": "north",
    }
    assert (failed["level"], failed["error"]) == ("error", "KeyError")
    assert failed["at"].startswith(f"{__name__}:")


def test_flowers_own_lines_become_json_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("flwr.common.logger")
    flower = logging.getLogger("flwr")
    before = flower.handlers[:]
    configure_flower_log()
    assert flower.handlers == before  # text by default
    monkeypatch.setenv(LOG_VARIABLE, "json")
    for _ in range(2):
        configure_flower_log()
    logging.getLogger("flwr.fedrec").info("round %d", 1, extra={"server_round": 1})
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["server_round"] == 1


def test_a_commands_error_is_json_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise LedgerError("ledger is damaged")

    monkeypatch.setenv(LOG_VARIABLE, "json")
    with pytest.raises(SystemExit) as leaving:
        run_command_line(fail)
    assert leaving.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["message"], told["error"]) == ("ledger is damaged", "LedgerError")


def test_another_form_is_one_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG_VARIABLE, "xml")
    with pytest.raises(ConfigError, match="FEDREC_LOG must be text or json, got 'xml'"):
        configure_log()
    assert logs.FIELDS.isdisjoint({"user", "user_id", "path", "history"})
