"""A site with an adapter installed, in seconds: a run's records are made up, the rest is real.

How fast a service answers does not depend on what its adapter learned.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.installed_adapter import install_adapter
from client.policy import simulated_policy
from common.adapters import adapter_sha256
from common.config import RunConfig
from common.cooccurrence import related_items, triangle_size
from common.initial_adapter import initial_adapter
from common.interactions import Dataset
from common.run_folder import RunFolder
from server.export import export_run
from simulations.partition import write_site_folders


def make_site(dataset: Dataset, config: RunConfig, folder: Path) -> Path:
    """The first of the sites that the data are split into."""
    data = config.data.model_copy(update={"sites_folder": ""})
    return write_site_folders(dataset, data, folder)[0]


def make_export(dataset: Dataset, config: RunConfig, folder: Path, seed: int) -> tuple[Path, str]:
    """A signed export of an adapter that differs from the start everywhere, and its signer."""
    run = RunFolder.create(folder / f"run-{seed}")
    run.write_config(config)
    random = np.random.default_rng(seed)
    adapter = {
        name: (array + 0.05 * random.standard_normal(array.shape)).astype(np.float32)
        for name, array in initial_adapter(config).items()
    }
    run.write_adapter(adapter, {"run": run.path.name})
    counts = np.bincount(dataset.interactions.item, minlength=len(dataset.catalogue))
    prior = np.log1p(counts) - np.log1p(counts).mean()
    prior = (prior / prior.std()).astype(np.float32)
    run.write_checkpoint({"item_prior": prior}, {"run": run.path.name})
    if config.model.item_to_item:
        items = related_items(prior, len(prior), config.model.item_to_item_items)
        weights = random.standard_normal(triangle_size(len(items))).astype(np.float32)
        run.write_item_to_item({"items": items, "weights": weights}, {"run": run.path.name})
    sha256 = adapter_sha256(adapter)
    run.append_round({"run": run.path.name, "server_round": seed, "adapter_sha256": sha256})
    key = Ed25519PrivateKey.generate()
    key_file = folder / f"signing-{seed}.key"
    key_file.write_bytes(key.private_bytes_raw())
    key_file.chmod(0o600)
    out = folder / f"export-{seed}"
    export_run(run.path, out, key_file)
    return out, key.public_key().public_bytes_raw().hex()


def install(export: tuple[Path, str], site: Path, dataset: Dataset, config: RunConfig) -> str:
    """Makes an export the site's current adapter; returns its name there."""
    policy = simulated_policy(config)
    return install_adapter(export[0], site, policy, dataset.catalogue, export[1])[0]
