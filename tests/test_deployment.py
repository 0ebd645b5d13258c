"""A federation as partners run it, from `init` to an installed adapter, by the real commands.

TLS, a database and node keys on the server's side; at each of five sites a resident agent, a
SuperNode and a policy that allows what a test needs by name. The trained adapter is the
simulation's.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
import pytest

from client.installed_adapter import current_folder
from common.adapter_export import read_export, read_manifest
from common.app_staging import write_run_config
from common.config import (
    DataConfig,
    EngineConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.engines import run_engine
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.deployment import deployed_server, fedrec_server, fedrec_site, joined_sites
from tests.resident_agents import make_real

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]

SITES, ROUNDS = 5, 5
POLICY = """
allowed_modes = ["distributed"]
allow_seeded_noise = true
code_signers = ["{signer}"]

[peers]
{pins}"""

SiteFolders = Callable[[RunConfig, Path], Sequence[Path]]


def make_config(folder: Path) -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=SITES, sites_folder=str(folder)),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
        privacy=PrivacyConfig(insecure_seeded_noise=True, targets_per_unit=2, negatives_per_unit=8),
        federation=FederationConfig(rounds=ROUNDS, round_deadline_s=600.0, local_lr=0.1),
        evaluation=EvaluationConfig(every=0, metrics="none", companions="", lab=False),
        engine=EngineConfig(threads=1, training="site_by_site"),
    )


def partitioned_sites(config: RunConfig, folder: Path) -> Sequence[Path]:
    """Site folders as `fedrec data partition` makes them; another test may bring its own."""
    return write_site_folders(synthetic_dataset(), config.data, folder)


@pytest.fixture
def short_folder() -> Generator[Path]:
    """A folder whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="frd-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def pin_peers(sites: Sequence[Path], signer: str) -> None:
    """Each site's policy, with the identity keys of all as `fedrec-site identity` prints them."""
    for site in sites:
        make_real(site, POLICY.format(signer=signer, pins=""))
    pins = "".join(fedrec_site("identity", "--site", site) for site in sites)
    for site in sites:
        make_real(site, POLICY.format(signer=signer, pins=pins))


def assert_same_adapter(left: RunFolder, right: RunFolder) -> None:
    one, other = left.read_adapter()[0], right.read_adapter()[0]
    assert sorted(one) == sorted(other)
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)


@pytest.mark.parametrize("make_sites", [partitioned_sites])
def test_five_sites_join_train_and_get_what_the_simulation_gives(
    tmp_path: Path, short_folder: Path, make_sites: SiteFolders
) -> None:
    config = make_config(tmp_path / "lab")
    partitioned_sites(config, tmp_path / "lab")
    simulated = RunFolder.create(tmp_path / "simulated")
    run_engine(config, simulated, SilentListener())

    scenario = str(write_run_config(tmp_path / "scenario.toml", config))
    sites = make_sites(config, tmp_path / "real")
    with deployed_server(
        tmp_path / "server", "--scenario", scenario, "--sites", str(SITES)
    ) as deployment:
        pin_peers(sites, deployment.signer)
        with joined_sites(deployment, sites, short_folder, "--scenario", scenario):
            said = deployment.run()
        deployed = RunFolder.open(deployment.the_run())

    rounds = deployed.read_rounds()
    assert [each["server_round"] for each in rounds] == [*range(ROUNDS + 1)], said
    assert all(site["status"] == "ok" for each in rounds for site in each["sites"]), rounds
    assert_same_adapter(simulated, deployed)
    for site in sites:
        fedrec_site(
            *("ledger", "verify", "--site", site),
            *("--against", deployed.path / "releases.jsonl"),
        )
    export = tmp_path / "export"
    fedrec_server("export", deployed.path, "--out", export, "--key", deployment.server.signing_key)
    assert "VOID" in (export / "PRIVACY.md").read_text()  # the seeds are marked
    fedrec_site("install-adapter", export, "--site", sites[0])
    installed = current_folder(sites[0])
    assert installed is not None
    found = read_export(installed, read_manifest(installed))
    for name, array in simulated.read_adapter()[0].items():
        np.testing.assert_array_equal(found.adapter[name], array, err_msg=name)
    assert len(found.item_prior)
