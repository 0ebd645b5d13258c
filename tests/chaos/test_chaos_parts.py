"""The chaos test's own parts: its plan, its link, its supervisor; each can break."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

import tests.chaos.supervisor
from tests.chaos.faults import WEIGHTS, plan
from tests.chaos.proxy import WELL, Link, LinkState
from tests.chaos.supervisor import Supervisor, Unit, processes_of

SITES = ("a", "b", "c")


def test_a_plan_follows_from_its_seed_and_spreads_over_the_run() -> None:
    one, other = plan(7, SITES, 4, 5), plan(7, SITES, 4, 5)
    assert one == other != plan(8, SITES, 4, 5)
    points = [fault.point for fault in one]
    assert points == sorted(points)
    assert points[0] >= 0
    assert points[-1] < 4


def test_every_sort_of_fault_is_drawn_with_what_it_needs() -> None:
    drawn = [fault for seed in range(60) for fault in plan(seed, SITES, 4, 5)]
    assert {fault.sort for fault in drawn} == set(WEIGHTS)
    for fault in drawn:
        assert (fault.lasts_s > 0) == (not fault.sort.startswith("kill"))
        assert (fault.bytes_s > 0) == (fault.sort == "slow")
        server_side = fault.sort.split()[-1] in ("superlink", "gate", "serverapp")
        assert (fault.site == "") == server_side


@pytest.fixture
def echo() -> Generator[int]:
    """The port of a server that says back what it hears."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_say_back, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _say_back(connection: socket.socket) -> None:
    with connection:
        try:
            while heard := connection.recv(65536):
                connection.sendall(heard)
        except OSError:
            return


@pytest.fixture
def link(echo: int) -> Generator[Link]:
    made = Link(echo)
    yield made
    made.close()


def _call(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=10)


def _asked(caller: socket.socket, text: bytes = b"hello") -> bytes:
    caller.sendall(text)
    return caller.recv(65536)


def test_a_well_link_carries_both_ways(link: Link) -> None:
    with _call(link) as caller:
        assert _asked(caller) == b"hello"
    assert link.carried == 10


def test_a_cut_ends_open_connections_and_new_ones_until_it_heals(link: Link) -> None:
    with _call(link) as caller:
        assert _asked(caller) == b"hello"
        link.set(LinkState(is_cut=True))
        assert _is_refused(lambda: caller.recv(10))
    with _call(link) as caller:
        assert _is_refused(lambda: _asked(caller))
    link.set(WELL)
    with _call(link) as caller:
        assert _asked(caller) == b"hello"


def test_a_silent_link_keeps_the_connection_and_loses_nothing(link: Link) -> None:
    with _call(link) as caller:
        assert _asked(caller) == b"hello"
        link.set(LinkState(is_silent=True))
        caller.settimeout(0.5)
        with pytest.raises(TimeoutError):
            _asked(caller)
        link.set(WELL)
        caller.settimeout(10)
        assert caller.recv(65536) == b"hello"


def test_a_slow_link_takes_the_time_that_it_says(link: Link) -> None:
    link.set(LinkState(bytes_s=40_000, latency_s=0.05))
    with _call(link) as caller:
        start = time.monotonic()
        assert _asked(caller, b"x" * 4000)[:1] == b"x"
        assert time.monotonic() - start > 0.3  # twice 0.05 s and 4000 bytes


def _is_refused(attempt: Callable[[], bytes]) -> bool:
    try:
        return attempt() == b""
    except ConnectionError:
        return True


def _until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_a_unit_is_started_again_and_nothing_of_the_old_one_stays(tmp_path: Path) -> None:
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
    child += "'import time; time.sleep(60) # below'], start_new_session=True); time.sleep(60)"
    supervisor = Supervisor()
    try:
        command = [sys.executable, "-c", child]
        unit = supervisor.add(Unit(f"u-{tmp_path.name}", command, {}, 0.5, tmp_path / "log"))
        assert _until(lambda: len(processes_of(unit.name, "# below")) == 2)
        before = {process.pid for process in processes_of(unit.name)}
        assert supervisor.signal(unit.name, signal.SIGKILL) in before
        assert _until(lambda: unit.exits == [-signal.SIGKILL] and supervisor.all_up())
        assert _until(lambda: len(processes_of(unit.name)) == 2)
        assert not before & {process.pid for process in processes_of(unit.name)}
    finally:
        supervisor.close()
    assert not processes_of(unit.name)


def test_campaigns_at_the_same_time_leave_each_other_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor()
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    try:
        unit = supervisor.add(Unit("superlink", command, {}, 0.5, tmp_path / "log"))
        assert _until(lambda: bool(processes_of(unit.name)))
        with monkeypatch.context() as other:
            other.setattr(tests.chaos.supervisor, "CAMPAIGNS", "of another process")
            assert not processes_of(unit.name)
    finally:
        supervisor.close()
