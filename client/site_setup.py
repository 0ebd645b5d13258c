"""A node's site folder, and the site's own policy and ledger as that folder has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from client.ledger_file import LedgerFile
from client.policy import SitePolicy, default_policy, simulated_policy
from client.policy_file import POLICY_FILE, read_policy
from client.site_data import SiteData
from client.site_identity import SiteIdentity, load_identity
from client.site_ledger import KEYS_FOLDER, LEDGER_FILE, SiteLedger, site_ledger
from common.config import RunConfig
from common.errors import ConfigError, PolicyRefusal
from common.site_folder import site_name


def node_folder(node_config: Mapping[str, object], config: RunConfig) -> Path:
    """The folder of the node's site.

    A deployed node names its folder as ``site-folder``; a simulated one has a
    ``partition-id`` within ``data.sites_folder``.

    Raises:
        ConfigError: Neither is there.
    """
    folder = node_config.get("site-folder")
    if folder is not None:
        return Path(str(folder))
    if not config.data.sites_folder or "partition-id" not in node_config:
        raise ConfigError(
            ["data.sites_folder is empty; run `fedrec data partition --out FOLDER` and set it"]
        )
    return Path(config.data.sites_folder) / site_name(int(str(node_config["partition-id"])))


def policy_of(folder: Path, config: RunConfig, *, is_simulated: bool) -> SitePolicy:
    """The site's own ``policy.toml`` where there is one, else the lab's or the default.

    It is read when the agent starts.

    Raises:
        ConfigError: the file has faults.
    """
    if (folder / POLICY_FILE).exists():
        return read_policy(folder / POLICY_FILE)
    return simulated_policy(config) if is_simulated else default_policy()


def ledger_unit(folder: Path) -> str | None:
    """The unit that the site's ledger is charged for, or None where there is no ledger yet.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    file = LedgerFile(folder / LEDGER_FILE)
    with file.held():
        if not file.exists():
            return None
        with file.connection() as connection:
            return file.check(connection).unit


def identity_of(folder: Path) -> SiteIdentity:
    """The site's keys, which need no data; they are made where there is no ledger yet.

    Raises:
        LedgerError: a key is missing or damaged.
    """
    is_new = not LedgerFile(folder / LEDGER_FILE).exists()
    return load_identity(folder / KEYS_FOLDER, begin=is_new)


def ledger_of(folder: Path, data: SiteData, policy: SitePolicy) -> SiteLedger:
    """The places of the site's ledger, its keys and its anchor.

    Raises:
        PolicyRefusal: the ledger that is there is charged for another unit than the policy's.
        LedgerError: the site's keys are missing or damaged.
    """
    recorded = ledger_unit(folder)
    if recorded not in (None, policy.unit):
        raise PolicyRefusal(
            f"ledger {folder / LEDGER_FILE} is charged per {recorded}, and cannot be charged per "
            f"{policy.unit}; run with privacy.unit={recorded}, or begin another site folder, whose "
            "promise then stands beside this one"
        )
    return site_ledger(
        folder,
        data.ledger_subject,
        site=data.site,
        unit=policy.unit,
        is_simulated=data.simulated,
        anchor=Path(policy.anchor) if policy.anchor else None,
    )
