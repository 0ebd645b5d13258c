"""The ledger under real processes: killed at any statement, racing, on a full disk.

One process imports what it needs and forks a child per case, so that the imports are paid
for once; each child has its own ledger file and its own fate.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.anchor import Anchor
from client.ledger import Ledger
from client.ledger_file import LedgerFile
from client.ledger_verify import Fault, read_state, reference_faults, table_faults
from client.site_identity import load_identity
from common.accounting import epsilon
from common.privacy_events import GaussianEvent

EVENT = GaussianEvent(4.0)
KEY = ("run", 1, "update")
PAYLOAD = b"payload" * 10_000
AFFORDABLE = 12

DURING_A_CHARGE = [
    ("BEGIN IMMEDIATE", "before", False),
    ("BEGIN IMMEDIATE", "after", False),
    ("SELECT payload", "after", False),
    ("SELECT coalesce", "after", False),
    ("INSERT INTO releases", "before", False),
    ("INSERT INTO releases", "after", False),
    ("INSERT INTO checkpoints", "before", False),
    ("INSERT INTO checkpoints", "after", False),
    ("COMMIT", "before", False),
    ("COMMIT", "after", True),
    ("SELECT checkpoint_json FROM checkpoints WHERE id", "after", True),  # for the anchor
    ("fsync", "before", True),  # of the anchor
    ("fsync", "after", True),
]
WHILE_BEGINNING = [
    "CREATE TABLE releases",
    "CREATE TRIGGER",
    "INSERT INTO site",
    "INSERT INTO checkpoints",
    "COMMIT",
    "PRAGMA journal_mode",
    "fsync",
]

CHILDREN = r"""
import json, os, resource, signal, sqlite3, sys, time
from pathlib import Path
from client.ledger import Ledger
from common.errors import BudgetRefusal, LedgerError
from common.privacy_events import GaussianEvent

EVENT, RECORD = GaussianEvent(4.0), {"delta": 1e-4}
folder, plan = Path(sys.argv[1]), json.loads(sys.argv[2])
connect, deadly = sqlite3.connect, None

class Deadly(sqlite3.Connection):
    def execute(self, statement, *values):
        hit = deadly and statement.startswith(deadly[0])
        if hit and deadly[1] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = super().execute(statement, *values)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

fsync = os.fsync

def deadly_fsync(descriptor):
    if deadly == ("fsync", "before"):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
    if deadly == ("fsync", "after"):
        os.kill(os.getpid(), signal.SIGKILL)

os.fsync = deadly_fsync
sqlite3.connect = lambda *a, **k: connect(*a, factory=Deadly, **k)

def say(who, what):
    os.write(1, (json.dumps([who, what]) + "\n").encode())  # one write, never interleaved

def ledger_of(name):
    (folder / name).mkdir(exist_ok=True)
    path = folder / name / "ledger.sqlite"
    return Ledger(path, unit="user", dataset_fingerprint="f00", busy_timeout_s=60)

def charge(name, word, when, at_start):
    global deadly
    deadly = (word, when) if at_start else None
    ledger = ledger_of(name)
    ledger.enforce(EVENT, 1e-4, 100)
    deadly = (word, when)
    ledger.charge(("run", 1, "update"), EVENT, b"payload" * 10_000, RECORD)

def full_disk(name):
    ledger = ledger_of(name)
    ledger.enforce(EVENT, 1e-4, 100)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        ledger.charge(("run", 1, "update"), EVENT, bytes(1_000_000), RECORD)
    except LedgerError as error:
        say("full disk", str(error))

def race(name, run, limit):
    ledger, charged = ledger_of(name), 0
    while True:
        try:
            ledger.enforce(EVENT, 1e-4, limit)
            time.sleep(0.02)  # the training
            ledger.charge((run, charged, "update"), EVENT, run.encode(), RECORD)
            charged += 1
        except LedgerError as error:
            assert "another process charged" in str(error), error
        except BudgetRefusal:
            break
    say(run, charged)

children = {}
for call, *arguments in plan:
    child = os.fork()
    if child == 0:
        globals()[call](*arguments)
        os._exit(0)
    children[child] = arguments[0]
for _ in children:
    child, status = os.wait()
    say(children[child], os.waitstatus_to_exitcode(status))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the ledgers of every case, and in `said` what the children said."""
    folder = tmp_path_factory.mktemp("ledgers")
    limit = epsilon([GaussianEvent(4.0, AFFORDABLE)], 1e-4)
    plan: list[list[Any]] = [
        *(["charge", f"{word}-{when}", word, when, False] for word, when, _ in DURING_A_CHARGE),
        *(["charge", word, word, "after", True] for word in WHILE_BEGINNING),
        ["full_disk", "full"],
        *(["race", "race", f"run-{i}", limit] for i in range(3)),
    ]
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN, folder, json.dumps(plan)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout)
    return folder


def said(folder: Path, name: str) -> list[Any]:
    lines = map(json.loads, (folder / "said").read_text().splitlines())
    return [what for who, what in lines if who == name]


def reopened(folder: Path, name: str) -> Ledger:
    """The ledger after the crash, which must verify before and after it is opened."""
    path = folder / name / "ledger.sqlite"
    before = faults(path)
    ledger = Ledger(path, unit="user", dataset_fingerprint="f00")
    assert before == faults(path) == []
    return ledger


def faults(path: Path) -> list[Fault]:
    """What `verify` finds; a ledger that was never begun has nothing to be found."""
    file = LedgerFile(path)
    if not file.exists():
        return []
    identity = load_identity(path.parent / "keys", begin=False)
    with file.connection() as connection:
        state = read_state(connection, identity.public_key)
    anchored = Anchor(path.with_name(path.name + ".anchor")).read()
    found = reference_faults(state, anchored, "anchor", identity.public_key)
    return [*table_faults(state), *found]


@pytest.mark.parametrize(("word", "when", "charged"), DURING_A_CHARGE)
def test_a_kill_during_a_charge_leaves_all_or_nothing(
    folder: Path, word: str, when: str, charged: bool
) -> None:
    name = f"{word}-{when}"
    assert said(folder, name) == [-signal.SIGKILL]
    ledger = reopened(folder, name)
    assert ledger.history() == ((EVENT,) if charged else ())
    assert ledger.find(KEY) == (PAYLOAD if charged else None)
    ledger.enforce(EVENT, 1e-4, 100)
    resent = ledger.charge(KEY, EVENT, b"fresh noise", {"delta": 1e-4})
    assert resent == (PAYLOAD if charged else b"fresh noise")
    assert ledger.history() == (EVENT,)


@pytest.mark.parametrize("word", WHILE_BEGINNING)
def test_a_kill_while_the_ledger_is_begun_leaves_none(folder: Path, word: str) -> None:
    assert said(folder, word) == [-signal.SIGKILL]
    ledger = reopened(folder, word)
    ledger.enforce(EVENT, 1e-4, 100)
    ledger.charge(KEY, EVENT, b"x", {"delta": 1e-4})
    assert ledger.history() == (EVENT,)


def test_a_full_disk_charges_nothing(folder: Path) -> None:
    (message,) = said(folder, "full disk")
    assert "nothing was charged; free disk space" in message
    assert "\n" not in message
    ledger = reopened(folder, "full")
    assert ledger.history() == ()
    assert ledger.find(KEY) is None


def test_processes_that_race_for_one_budget_cannot_both_spend_it(folder: Path) -> None:
    charged = [n for i in range(3) for n in said(folder, f"run-{i}")]
    assert len(charged) == 3
    assert sum(charged) == AFFORDABLE
    assert said(folder, "race") == [0, 0, 0]
    assert len(reopened(folder, "race").history()) == AFFORDABLE
