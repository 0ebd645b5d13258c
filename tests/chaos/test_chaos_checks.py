"""Every check of a campaign finds a planted fault, and nothing in a run that is right."""

from __future__ import annotations

import copy
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.ledger_export import export_file
from common.accounting import epsilon
from common.adapters import adapter_sha256
from common.privacy_events import (
    GaussianEvent,
    event_from_dict,
    event_to_dict,
)
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.engines import run_engine
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.chaos import invariants
from tests.chaos.campaign import make_config, mode_of
from tests.chaos.recomputed import Recomputed

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]

RUN, SITE = "run-1", "site-0000"
EVENTS = [event_to_dict(GaussianEvent(5.0)), event_to_dict(GaussianEvent(3.0))]


class Run:
    """What the server has on record and what the one site's ledger holds; all is right."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, Any]] = []
        self.releases: list[dict[str, Any]] = []
        self.entries: list[dict[str, Any]] = []
        events = []
        for number, (kind, event) in enumerate(zip(("popularity", "update"), EVENTS, strict=True)):
            events.append(event_from_dict(event))
            spent = epsilon(events, 1e-4)
            key = {"run": RUN, "server_round": number, "kind": kind}
            paid = {**key, "event": event}
            stated = {"site": SITE, "payload_sha256": f"{number}", "epsilon_prv": spent}
            self.releases.append({**paid, **stated})
            kept = {"seq": number, "delta": 1e-4, "record": {"payload_sha256": f"{number}"}}
            self.entries.append({**paid, **kept})
            sites = [{"site": SITE, "status": "ok", "reason": None, "epsilon_prv": spent}]
            sha256 = "a1" if number else None
            self.rounds.append(
                {"run": RUN, "server_round": number, "sites": sites, "adapter_sha256": sha256}
            )

    @property
    def ledgers(self) -> dict[str, dict[str, Any]]:
        return {SITE: {"releases": self.entries}}

    def wrong(self) -> dict[str, list[str]]:
        found = {
            "order": invariants.rounds_in_order(self.rounds, 1),
            "adapter": invariants.adapters_as_recomputed(
                self.rounds, [None, "a1"][: len(self.rounds)], "a1"
            ),
            "ledgers": invariants.releases_in_ledgers(self.releases, self.ledgers),
            "twice": invariants.nothing_twice(self.releases, self.ledgers),
            "lost": invariants.nothing_lost(self.rounds, self.releases, self.ledgers),
            "free": invariants.nothing_free(self.rounds, self.ledgers),
            "counts": invariants.no_ledger_under_counts(self.rounds, self.releases, self.ledgers),
        }
        return {name: wrong for name, wrong in found.items() if wrong}


def _leave_out(run: Run) -> None:
    run.rounds[1]["sites"][0] |= {"status": "error", "reason": "no reply"}


def _other_run(run: Run) -> None:
    again = copy.deepcopy(run.entries[1])
    run.entries.append({**again, "run": "run-2", "seq": 2})


PLANTED: dict[str, tuple[Callable[[Run], object], set[str]]] = {
    "nothing": (lambda run: None, set()),
    "a round is missing": (lambda run: run.rounds.pop(), {"order", "adapter"}),
    "another adapter": (lambda run: run.rounds[1].update(adapter_sha256="b2"), {"adapter"}),
    "a charge is gone": (lambda run: run.entries.pop(), {"ledgers", "free", "counts"}),
    "a cheaper charge": (
        lambda run: run.entries[1].update(event={**EVENTS[1], "noise_multiplier": 9.0}),
        {"ledgers", "counts"},
    ),
    "other bytes": (lambda run: run.entries[1]["record"].update(payload_sha256="x"), {"ledgers"}),
    "paid twice": (_other_run, {"twice", "lost"}),
    "on record twice": (lambda run: run.releases.append(run.releases[1]), {"twice"}),
    "a release is lost": (lambda run: run.releases.pop(), {"lost"}),
    "a small ε is stated": (
        lambda run: run.releases[1].update(epsilon_prv=0.1),
        {"counts"},
    ),
    "the record has more ε": (
        lambda run: run.rounds[1]["sites"][0].update(epsilon_prv=50.0),
        {"counts"},
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_and_nothing_else(name: str) -> None:
    run = Run()
    plant, expected = PLANTED[name]
    plant(run)
    assert set(run.wrong()) == expected


def test_a_release_that_is_lost_is_named_by_the_line_of_its_site() -> None:
    run = Run()
    run.releases.pop()
    _leave_out(run)
    assert "lost" not in run.wrong()


def test_a_node_without_a_name_accounts_for_one_site_and_no_more() -> None:
    run = Run()
    run.releases.pop()
    run.rounds[1]["sites"] = [{"site": "node-7", "status": "error", "reason": "no reply"}]
    assert "lost" not in run.wrong()
    run.entries.append({**run.entries[1], "kind": "cooccurrence", "seq": 2})
    assert len(run.wrong()["lost"]) == 1


def test_another_adapter_on_disk_is_found() -> None:
    assert invariants.adapters_as_recomputed(Run().rounds, [None, "a1"], "c3")


@pytest.mark.parametrize(
    ("code", "said", "is_clean"),
    [
        (2, "error: run x is finished; nothing is left\n", True),
        (1, "error: run x is finished\n", False),
        (2, "Traceback (most recent call last)\n", False),
        (2, "one\ntwo\n", False),
        (2, "\x1b[92mINFO \x1b[0m:      Starting logstream\nerror: not finished\n", True),
        (2, "\x1b[92mINFO \x1b[0m:      Starting logstream\n", False),
    ],
)
def test_a_refusal_is_one_line(code: int, said: str, is_clean: bool) -> None:
    assert (not invariants.clean_refusal(code, said)) == is_clean


def test_what_is_left_behind_is_found(tmp_path: Path) -> None:
    assert not invariants.nothing_left_behind([tmp_path], [])
    (tmp_path / ".rounds.json.ab.tmp").touch()
    (tmp_path / "agent.lock").touch()
    descriptor = os.open(tmp_path / "agent.lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert len(invariants.nothing_left_behind([tmp_path], ["flwr-clientapp"])) == 3
    os.close(descriptor)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["distributed", "central", "local"])
def test_the_recomputed_adapter_is_the_simulations(tmp_path: Path, mode: str) -> None:
    config = make_config(mode, tmp_path / "lab", 2)
    lab = write_site_folders(synthetic_dataset(), config.data, tmp_path / "lab")
    folder = RunFolder.create(tmp_path / "run")
    run_engine(config, folder, SilentListener())
    lines = folder.read_rounds()
    on_disk = adapter_sha256(folder.read_adapter()[0])

    hashes = Recomputed(config, lab).follow(lines)
    assert not invariants.adapters_as_recomputed(lines, hashes, on_disk)
    without = copy.deepcopy(lines)
    without[1]["sites"][0]["status"] = "error"  # one site less gives another adapter
    hashes = Recomputed(config, lab).follow(without)
    assert invariants.adapters_as_recomputed(lines, hashes, on_disk)
    ledgers = {site.name: export_file(site / "ledger.sqlite") for site in lab}
    assert not invariants.nothing_lost(lines, folder.read_releases(), ledgers)
    assert not invariants.no_ledger_under_counts(lines, folder.read_releases(), ledgers)


def test_most_campaigns_are_of_the_mode_with_most_to_lose() -> None:
    modes = [mode_of(seed) for seed in range(12)]
    assert modes.count("distributed") == 6
    assert set(modes) == {"distributed", "central", "local"}
