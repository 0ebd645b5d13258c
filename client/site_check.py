"""``fedrec-site check``: does this site keep the promise on this machine, and what would leave?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from client.policy import SitePolicy
from client.site_data import load_site
from client.site_setup import policy_of
from client.start_up import prove_private_step
from common.config import RunConfig
from common.initial_adapter import initial_adapter
from common.noise_plan import popularity_event, round_event
from common.unit_texts import UNIT_WORDS


class SiteCheck(NamedTuple):
    """What was proven, what a run would release, and what stays; one line each."""

    proven: list[str]
    would_leave: list[str]
    never_leaves: list[str]


def check_site(folder: Path, config: RunConfig) -> SiteCheck:
    """Proves the private step for `config` on the site's catalogue; no user's data are touched.

    Raises:
        PolicyRefusal: the site's policy does not allow such a run.
        SelfTestError: the private step does not do what it claims here.
    """
    data = load_site(folder)
    policy = policy_of(folder, config, is_simulated=data.simulated)
    policy.check_run(config)
    data.declared(config.privacy.unit)
    proven = prove_private_step(config, data.catalogue).lines() if config.is_private else []
    return SiteCheck(
        proven or ["nothing: privacy.mode=none makes no claim"],
        _would_leave(config, policy),
        [
            "interactions, histories and ratings",
            "user ids and attributes, and how many of them there are beyond the declared number",
            "losses, counts and gradients of single users or steps",
            "the keys, and the fingerprint's key above all",
        ],
    )


def _would_leave(config: RunConfig, policy: SitePolicy) -> list[str]:
    popularity, step = popularity_event(config), round_event(config)
    lines = []
    if config.model.popularity_prior:
        policy.check_release("popularity", popularity)
        lines.append(f"popularity counts, once: {popularity or 'exact'}")
    policy.check_release("update", step)
    tensors = initial_adapter(config)
    numbers = sum(array.size for array in tensors.values())
    lines.append(
        f"an update of {numbers} numbers in {len(tensors)} tensors, in each of "
        f"{config.federation.rounds} rounds: {step or 'exact'}"
    )
    if policy.allow_exact_metrics and "metrics" in policy.allowed_releases:
        lines.append("exact sums of metrics (simulated sites: for the lab only)")
    if config.is_private:
        words = UNIT_WORDS[config.privacy.unit]
        lines.append(
            f"all of it at the cost per {words.unit}: {words.relation}. {words.note}".strip()
        )
    lines.append("the site's name, its declared number of units, refusals, signed checkpoints")
    return lines
