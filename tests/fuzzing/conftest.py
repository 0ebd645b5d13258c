"""Prints what was fuzzed; with `FEDREC_FUZZ_INPUTS`, fewer inputs than wanted are a failure."""

from __future__ import annotations

import os

import pytest

from tests.fuzzing.counting import DOORS, INPUTS, table, total, wanted


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each door, and the most frequent answers of each where many were wanted."""
    if not DOORS:
        return
    terminalreporter.section("inputs at the doors")
    for line in table():
        terminalreporter.write_line(line)
    if INPUTS in os.environ:
        for name, door in sorted(DOORS.items()):
            terminalreporter.write_line(f"\n{name}:")
            for said, count in door.said.most_common(12):
                terminalreporter.write_line(f"  {count:>6}  {said[:140]}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A count that was asked for and not reached is a failure."""
    if INPUTS in os.environ and DOORS and total() < wanted() and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
