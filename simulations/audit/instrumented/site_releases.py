"""What real sites release and charge, agent, ledger and all, on made-up users."""

from __future__ import annotations

import numpy as np

from common.accounting import epsilon
from common.adapters import adapter_sha256
from common.config import RunConfig
from common.flat_adapter import Floats, flatten
from common.messages import TrainReply
from common.privacy_events import event_from_dict
from simulations.audit.finding import Finding
from simulations.audit.instrumented.noise import renamed
from simulations.audit.instrumented.outcome import outcome
from simulations.audit.noise_statistics import NoiseDraws, noise_independence
from simulations.audit.probes.case import Budget, ProbeCase, changed
from simulations.audit.probes.sites import made_up_sites
from simulations.audit.probes.trainer_replay import NO_UNIT_RATE

SITES, ROUNDS = 2, 2
ACCOUNTANTS_AGREE = 0.02
"""How far a recorded ε may be below what PLD gives for the same events."""


def run(case: ProbeCase, budget: Budget) -> list[Finding]:
    """Releases of sites in mode `local`: the agent, its randomness and its ledger are the same."""
    local = changed(case.config, privacy={"mode": "local", "insecure_seeded_noise": False})
    return [
        _independent(local, budget.alpha),
        _public_divisor(local),
        *_charged(local),
    ]


def _independent(config: RunConfig, alpha: float) -> Finding:
    """Where nobody is sampled a release is noise: no two of them may correlate."""
    nobody = changed(config, privacy={"sample_rate": NO_UNIT_RATE})
    with made_up_sites(nobody, sites=SITES) as sites:
        replies = [
            sites.trained(site, server_round)
            for site in range(SITES)
            for server_round in range(1, ROUNDS + 1)
        ]
    noise = NoiseDraws(
        np.array([_standardised(reply) for reply in replies]),
        1.0,
        f"{SITES} sites in {ROUNDS} rounds",
    )
    finding = renamed(noise_independence(noise, alpha), "sites")
    return finding.model_copy(update={"view": "one site's update"})


def _standardised(reply: TrainReply) -> Floats:
    """Each tensor has its own step size: every one is brought to deviation 1."""
    tensors = {name: np.asarray(t, np.float64) for name, t in reply.update.items()}
    return flatten({name: t / max(float(t.std()), 1e-300) for name, t in tensors.items()})


def _public_divisor(config: RunConfig) -> Finding:
    """A site with a user less, who is not sampled, must release the same from the same draws."""
    frozen = changed(config, privacy={"sample_rate": NO_UNIT_RATE, "insecure_seeded_noise": True})
    with made_up_sites(frozen, sites=SITES) as sites:
        whole = sites.trained(0)
    with made_up_sites(frozen, sites=SITES) as sites:
        sites.without_last_user(0)
        without = sites.trained(0)
    same = adapter_sha256(whole.update) == adapter_sha256(without.update)
    holds = same and whole.release.divisor == without.release.divisor
    return outcome(
        "A2",
        "sites.divisor",
        view="one site's update",
        holds=holds,
        reason="A user more or less who is not sampled "
        + ("leaves a site's release as it is." if holds else "changes a site's release."),
        statistic={
            "divisor": whole.release.divisor,
            "divisor_without": without.release.divisor,
            "same_release": int(same),
        },
    )


def _charged(config: RunConfig) -> list[Finding]:
    """The record of a release against the bytes, the retry, the ledger and PLD."""
    with made_up_sites(config, sites=SITES) as sites:
        first, again = sites.trained(0), sites.trained(0)
        history = sites.agent(0).ledger.history()
    return [_one_release(first, again, len(history)), _epsilon(first)]


def _one_release(first: TrainReply, again: TrainReply, charges: int) -> Finding:
    hashes = [adapter_sha256(reply.update) for reply in (first, again)]
    stated = [reply.release.payload_sha256 for reply in (first, again)]
    holds = len(set(hashes + stated)) == 1 and charges == 1
    return outcome(
        "A7",
        "ledger.one_release",
        view="the ledgers",
        holds=holds,
        reason="Asked twice for a round, a site "
        + (
            "hands out the same bytes, charges them once and states their hash."
            if holds
            else "does not hand out the same bytes with their hash and one charge."
        ),
        statistic={"different_hashes": len(set(hashes + stated)), "charges": charges},
    )


def _epsilon(reply: TrainReply) -> Finding:
    record = reply.release
    events = [] if record.event is None else [event_from_dict(record.event)]
    independent = epsilon(events, record.delta, "pld")
    stated = record.epsilon_prv or 0.0
    return outcome(
        "A1",
        "ledger.recorded_epsilon",
        view="release log",
        holds=abs(stated - independent) <= ACCOUNTANTS_AGREE and bool(events),
        reason=f"A site's record states ε = {stated:.4f} at δ = {record.delta:g}, and PLD gives "
        f"{independent:.4f} for its events.",
        statistic={"recorded": stated, "pld": independent, "delta": record.delta},
    )
