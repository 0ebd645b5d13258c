"""A site's process is killed by SIGKILL at random moments of secure sums, again and again.

One process imports what it needs and forks a child for every message, as Flower may; it kills
the child after a random time, or lets it answer. Whatever happens, the sum is right, the ledger
verifies, and what left the site was paid for once and within its policy.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from client.agent import forget_agents
from client.release import unit_popularity
from common.accounting import epsilon
from common.discrete_noise import masked_sum_input
from common.randomness import seeded_source
from common.secagg.messages import MaskedInput
from tests.sum_federation import (
    ITEMS,
    MESSAGES,
    SumFederation,
    Walk,
    plain_total,
    sum_config,
    written_sites,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

A, B, C, D = (f"site-{at:04d}" for at in range(4))
LIMITS = {"max_dropouts": 1, "max_colluders": 0, "insecure_seeded_noise": True}

FORKER = r"""
import json, os, select, signal, sys
from client.agent import agent_for
from common.config import RunConfig
from common.errors import FedrecError
from common.initial_adapter import adapter_shapes
from common.messages import SumRequest
import numpy as np

config = RunConfig.model_validate_json(sys.argv[1])
adapter_shapes(config)  # paid for once

def answer(asked):
    request = SumRequest(
        asked["run"], 0, config.sha256(), "popularity", asked["stage"],
        tuple(asked["participants"]), bytes.fromhex(asked["payload"]), {}, np.zeros(0, np.float32),
    )
    try:
        reply = agent_for({"partition-id": 0}, config).add_up(request)
        return {"payload": reply.payload.hex()}
    except FedrecError as fault:
        return {"fault": f"{type(fault).__name__}: {fault}"}

for line in sys.stdin:
    asked = json.loads(line)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(theirs, json.dumps(answer(asked)).encode())
        os._exit(0)
    os.close(theirs)
    if asked["dies_after"] is not None:
        ready, _, _ = select.select([ours], [], [], asked["dies_after"])
        if not ready:
            os.kill(child, signal.SIGKILL)
    with os.fdopen(ours, "rb") as said:
        text = said.read()
    os.waitpid(child, 0)
    sys.stdout.write((text.decode() or "{}") + "\n")
    sys.stdout.flush()
"""


class KilledSite:
    """Site A in processes of its own that die."""

    def __init__(self, federation: SumFederation) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FORKER, federation.config.model_dump_json()],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, walk: Walk, dies_after: float | None) -> dict[str, str]:
        """What it says, or nothing if it died before."""
        request = walk.request(A)
        asked = {
            "run": request.run,
            "stage": request.stage,
            "participants": request.participants,
            "payload": request.payload.hex(),
            "dies_after": dies_after,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        said: dict[str, str] = json.loads(self._process.stdout.readline())
        return said

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Generator[SumFederation]:
    folder = written_sites(tmp_path_factory.mktemp("killed") / "sites", 4)
    yield SumFederation(sum_config(folder, 4, **LIMITS))
    forget_agents()


@pytest.fixture(scope="module")
def killed(federation: SumFederation) -> Generator[KilledSite]:
    for site in federation.names:
        federation.agent(site)  # their keys are made
    forget_agents()
    site = KilledSite(federation)
    yield site
    site.end()


class Deaths:
    """Kills at random and counts; what was heard of one message must never change."""

    def __init__(self, seed: int) -> None:
        self.random, self.killed = random.Random(seed), 0

    def insist(self, site: KilledSite, walk: Walk) -> dict[str, str]:
        heard = []
        for _ in range(self.random.randint(1, 5)):
            said = site.ask(walk, self.random.uniform(0.0, 0.12))
            self.killed += not said
            heard += [said] if said else []
        heard.append(site.ask(walk, None))
        assert all(said == heard[0] for said in heard), walk.stage
        return heard[0]


def one_sum(federation: SumFederation, killed: KilledSite, deaths: Deaths, run: str) -> str | None:
    """One sum among all sites, A dying all the while; the fault that ended it, if one did."""
    federation.run = run
    walk = Walk(federation)
    while walk.stage != "over":
        said = deaths.insist(killed, walk)
        assert federation.ledger_of(A).verify() == []
        if "fault" in said:
            return said["fault"]
        message: Any = MESSAGES[walk.stage].decode(bytes.fromhex(said["payload"]))
        if isinstance(message, MaskedInput):
            assert len(federation.agent(A).ledger.history()) >= 1  # charged before it left
        replies = walk.ask([B, C, D])
        reply = next(iter(replies.values()))
        own = type(reply)(A, 0, reply.config_sha256, reply.stage, message.encode(), None)
        walk.take({A: own, **replies})
    assert walk.total is not None
    vectors = []
    for site in federation.names:
        source = seeded_source(federation.config.federation.seed, site, "0", "noise:popularity")
        exact = unit_popularity(federation.agent(site).units, ITEMS)
        vectors.append(masked_sum_input(exact, walk.plan, source))
    assert walk.total.tolist() == plain_total(vectors, walk.spec.modulus_bits)
    return None


def test_a_site_that_dies_at_any_moment_never_spends_more_than_its_policy_allows(
    federation: SumFederation, killed: KilledSite
) -> None:
    deaths, sums, fault = Deaths(seed=3), 0, None
    while fault is None and sums < 12:
        fault = one_sum(federation, killed, deaths, f"run-{sums}")
        sums += fault is None
    assert str(fault).startswith("BudgetRefusal")
    assert deaths.killed > 10
    history = federation.agent(A).ledger.history()
    assert len(history) == sums >= 3
    delta = federation.config.privacy.target_delta
    assert epsilon(history, delta) <= federation.config.privacy.target_epsilon
    assert epsilon([*history, history[0]], delta) > federation.config.privacy.target_epsilon
    assert federation.ledger_of(A).verify() == []
