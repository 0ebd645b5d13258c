"""A federation as partners run it, from `init` to an installed adapter, by the real commands.

TLS, a database and node keys on the server's side; at each of five sites data in a source of its
own (`tests.operator_sites`), a resident agent, a SuperNode and a policy that allows what a test
needs by name. The trained adapter is that of a simulation over the very tables that the sites
refreshed: a pseudonym hangs on its site's key, the order of the users on the pseudonyms, and
what is drawn on that order. Nothing of a user and no secret is found in what the deployment left
outside the sites, and leaks that are planted there are (`tests.deployment_scan`).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
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
from simulations.synthetic import synthetic_dataset
from tests.deployment import deployed_server, fedrec_server, fedrec_site, joined_sites
from tests.deployment_scan import PLANTED, Places, gather, scanner_of
from tests.deployment_watch import check_seen
from tests.leak_scan import LeakScan
from tests.operator_sites import OperatorSites, laboratory_of, make_operator_sites
from tests.postgres_server import running_postgres
from tests.resident_agents import make_real

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning"),  # Flower's
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]

SITES, ROUNDS = 5, 5
POLICY = """
allowed_modes = ["distributed"]
allow_seeded_noise = true
code_signers = ["{signer}"]

[peers]
{pins}"""

RECORDING_GATE = Path(__file__).with_name("recording_gate.py")


def make_config(folder: Path) -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=SITES, sites_folder=str(folder)),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
        privacy=PrivacyConfig(insecure_seeded_noise=True, targets_per_unit=2, negatives_per_unit=8),
        federation=FederationConfig(rounds=ROUNDS, round_deadline_s=600.0, local_lr=0.1),
        evaluation=EvaluationConfig(every=0, metrics="none", companions="", lab=False),
        engine=EngineConfig(threads=1, training="site_by_site"),
    )


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


@pytest.fixture
def made(tmp_path: Path) -> Iterator[OperatorSites]:
    """The sites, while the database of the first one runs."""
    config = make_config(tmp_path / "lab").data
    with running_postgres() as postgres:
        yield make_operator_sites(synthetic_dataset(), config, tmp_path, postgres)


def test_five_sites_train_what_the_simulation_does_and_leak_nothing(
    tmp_path: Path, short_folder: Path, made: OperatorSites
) -> None:
    config, sites = make_config(laboratory_of(made.folders, tmp_path / "lab")), made.folders
    simulated = RunFolder.create(tmp_path / "simulated")
    run_engine(config, simulated, SilentListener())

    scenario = str(write_run_config(tmp_path / "scenario.toml", config))
    wire, folder = tmp_path / "wire", tmp_path / "server"
    with deployed_server(
        *(folder, "--scenario", scenario, "--sites", str(SITES)),
        gate=(sys.executable, "-P", str(RECORDING_GATE), str(folder), str(wire)),
    ) as deployment:
        pin_peers(sites, deployment.signer)
        with joined_sites(deployment, sites, short_folder, "--scenario", scenario):
            said = deployment.run()
            figures = [short_folder / site.name / "a.prom" for site in sites]
            check_seen(deployment, [site.name for site in sites], ROUNDS, figures, said)
            seen = {f"figures of {path.parent.name}": path.read_text() for path in figures}
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

    texts = {"flwr run": said, "processes": deployment.log.read_text(), **seen}
    places = gather(
        *(tmp_path / "searched", deployment.server, made, texts), wire, export, short_folder
    )
    assert_nothing_leaked(places, made, scanner_of(made, deployment.server))


def assert_nothing_leaked(places: Places, made: OperatorSites, scanner: LeakScan) -> None:
    """No canary is anywhere; and where one is planted, it is found."""
    assert {"push-object", "pull-object", "get-fab"} <= {
        path.name.partition("-")[2] for path in places.wire.iterdir()
    }
    for name, place in places._asdict().items():
        assert any(place.iterdir()), name
        assert scanner.scan(place) == [], name
    for name, (plant, canary) in PLANTED.items():
        plant(places, made)
        place = places._asdict()[name.partition(",")[0]]
        assert canary in {found.canary for found in scanner.scan(place)}, name
