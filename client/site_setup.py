"""A site's own policy and ledger, as its folder has them."""

from __future__ import annotations

from pathlib import Path

from client.policy import SitePolicy, default_policy, simulated_policy
from client.policy_file import POLICY_FILE, read_policy
from client.site_data import SiteData
from client.site_ledger import SiteLedger, site_ledger
from common.config import RunConfig


def policy_of(folder: Path, config: RunConfig, *, is_simulated: bool) -> SitePolicy:
    """The site's own ``policy.toml`` where there is one, else the lab's or the default.

    It is read when the agent starts.

    Raises:
        ConfigError: the file has faults.
    """
    if (folder / POLICY_FILE).exists():
        return read_policy(folder / POLICY_FILE)
    return simulated_policy(config) if is_simulated else default_policy()


def ledger_of(folder: Path, data: SiteData, policy: SitePolicy) -> SiteLedger:
    """The places of the site's ledger, its keys and its anchor.

    Raises:
        LedgerError: the site's keys are missing or damaged.
    """
    return site_ledger(
        folder,
        data.users.user_ids,
        site=data.site,
        is_simulated=data.simulated,
        anchor=Path(policy.anchor) if policy.anchor else None,
    )
