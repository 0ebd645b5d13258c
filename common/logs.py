"""What a long-running process logs: lines for people, or one JSON object a line for machines.

``FEDREC_LOG=json`` chooses the second; the unit files set it. An object has ``time`` (UTC, ISO
8601), ``level``, ``logger`` and ``message``, and of `FIELDS` what the line is about. Nothing else
that hangs on a record is written. Of an unexpected error both forms say its type and where it was
raised, never its text: that could hold any value. A path that must not be shown (a site's folder)
is replaced by a word in everything that is written.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import structlog

from common.errors import ConfigError
from common.hidden_paths import without_paths

LOG_VARIABLE = "FEDREC_LOG"
JSON_LOG = {LOG_VARIABLE: "json"}
"""The environment of a unit whose log goes to a machine."""

FIELDS = frozenset(
    {
        *("run", "server_round", "rounds", "site", "code", "seconds", "error", "at"),
        *("status", "reason", "message_type", "outcome", "http_status"),
        *("sites_ok", "sites_asked"),
    }
)
"""What a record may carry (`extra=`) beside its message; all of it is public."""

_TEXT = "%(asctime)s %(levelname)s %(message)s"
_FRAMES = 12


class HidingFormatter(logging.Formatter):
    """Lines for people, without the text of unexpected errors and without hidden paths."""

    def __init__(self, hidden: Mapping[Path, str], line: str = _TEXT) -> None:
        super().__init__(line)
        self._hidden = hidden

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        return without_paths(super().format(record), self._hidden)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Type and places of an error, for ours to find; nothing of its text."""
        error, at = told_error(ei)
        return f"{error} at {at}; its text is withheld, since it could hold values"


class JsonFormatter(structlog.stdlib.ProcessorFormatter):
    """One JSON object a line; see the module's docstring."""

    def __init__(self, hidden: Mapping[Path, str]) -> None:
        stdlib = structlog.stdlib
        self._hidden = hidden
        super().__init__(
            foreign_pre_chain=[
                stdlib.add_log_level,
                stdlib.add_logger_name,
                stdlib.ExtraAdder(allow=FIELDS),
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            ],
            processors=[
                stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
            ],
            keep_exc_info=True,
            keep_stack_info=False,
        )

    def format(self, record: logging.LogRecord) -> str:
        """One record; an error's text is left out."""
        copied = logging.makeLogRecord(record.__dict__)
        copied.msg, copied.args = without_paths(record.getMessage(), self._hidden), ()
        if record.exc_info and record.exc_info[1] is not None:
            copied.error, copied.at = told_error(record.exc_info)
        copied.exc_info = copied.exc_text = copied.stack_info = None
        return super().format(copied)


class _CurrentStream(logging.StreamHandler[TextIO]):
    """Writes to whatever stdout or stderr is now: Flower replaces them."""

    def __init__(self, name: str) -> None:
        logging.Handler.__init__(self)
        self._name_of_stream = name

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The stream."""
        found: TextIO = getattr(sys, self._name_of_stream)
        return found


def log_is_json() -> bool:
    """Whether ``FEDREC_LOG`` asks for JSON.

    Raises:
        ConfigError: it names no form.
    """
    form = os.environ.get(LOG_VARIABLE, "text")
    if form not in ("text", "json"):
        raise ConfigError([f"{LOG_VARIABLE} must be text or json, got {form[:40]!a}; set it so"])
    return form == "json"


def configure_log(*ours: str, hidden: Mapping[Path, str] | None = None) -> None:
    """Sets this process's log up: warnings of everybody, and all of `ours`, on stderr.

    Args:
        ours: names of loggers.
        hidden: paths that must not be shown, and the word for each.

    Raises:
        ConfigError: as `log_is_json`.
    """
    paths = hidden or {}
    handler = _CurrentStream("stderr")
    handler.setFormatter(JsonFormatter(paths) if log_is_json() else HidingFormatter(paths))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(log_is_json())  # or a library's warning is no JSON
    for name in ours:
        logging.getLogger(name).setLevel(logging.INFO)
    sys.excepthook = _tell_unexpected
    threading.excepthook = lambda raised: _tell_unexpected(
        raised.exc_type, raised.exc_value, raised.exc_traceback
    )


def is_configured() -> bool:
    """Whether `configure_log` was called in this process."""
    return any(isinstance(handler, _CurrentStream) for handler in logging.getLogger().handlers)


def configure_flower_log() -> None:
    """Lets Flower's own logger, in a process that Flower started, write JSON if that is asked for.

    Raises:
        ConfigError: as `log_is_json`.
    """
    if not log_is_json():
        return
    flower = logging.getLogger("flwr")
    if any(isinstance(handler, _CurrentStream) for handler in flower.handlers):
        return
    for handler in list(flower.handlers):
        if isinstance(handler, logging.StreamHandler):
            flower.removeHandler(handler)
    ours = _CurrentStream("stdout")
    ours.setFormatter(JsonFormatter({}))
    ours.setLevel(logging.INFO)
    flower.addHandler(ours)


def _tell_unexpected(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    raised = (kind, error or kind(), trace)
    logging.getLogger("fedrec").critical("unexpected fault; please report it", exc_info=raised)


def told_error(
    raised: tuple[type[BaseException] | None, BaseException | None, TracebackType | None],
) -> tuple[str, str]:
    """Type of an error, and where it was raised: modules and lines, innermost last."""
    kind, _, trace = raised
    frames = [
        f"{frame.f_globals.get('__name__', '?')}:{line}" for frame, line in traceback.walk_tb(trace)
    ]
    return "unknown" if kind is None else kind.__name__, " > ".join(frames[-_FRAMES:])
