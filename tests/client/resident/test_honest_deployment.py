"""One code path, two transports: a deployment gives the very adapter that a simulation gives.

Two resident agents, two SuperNodes, a SuperLink and `flwr run` of fedrec's own bundle, beside
the in-process engine on equal sites, both in the marked mode in which noise repeats.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from common.app_staging import stage_app, write_run_config
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
from tests.resident_agents import (
    deployed_federation,
    fedrec_site,
    make_real,
    resident_agent,
    run_bundle,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]

POLICY = """
allowed_modes = ["local"]
allowed_releases = ["update", "popularity", "metrics"]
allow_exact_metrics = true
allow_seeded_noise = true
"""


def make_config(sites: Path) -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=2, sites_folder=str(sites)),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
        privacy=PrivacyConfig(
            mode="local", insecure_seeded_noise=True, targets_per_unit=2, negatives_per_unit=8
        ),
        federation=FederationConfig(rounds=2, min_sites=2, round_deadline_s=300.0, local_lr=0.1),
        evaluation=EvaluationConfig(every=0),
        engine=EngineConfig(threads=1),
    )


def test_two_resident_agents_give_what_the_simulation_gives(
    tmp_path: Path, short_folder: Path
) -> None:
    deployed, simulated = RunFolder(tmp_path / "deployed"), RunFolder.create(tmp_path / "simulated")
    config = make_config(tmp_path / "lab")
    write_site_folders(synthetic_dataset(), config.data, tmp_path / "lab")
    run_engine(config, simulated, SilentListener())

    sites = write_site_folders(synthetic_dataset(), config.data, tmp_path / "real")
    scenario = str(write_run_config(tmp_path / "scenario.toml", config))
    with ExitStack() as stack:
        nodes = []
        for site in sites:
            make_real(site, POLICY)
            path = short_folder / site.name / "a.sock"
            stack.enter_context(resident_agent(site, path, "--scenario", scenario))
            nodes.append(f'agent-socket="{path}"')
        extra = {"FEDREC_RUN_FOLDER": str(deployed.path), "OMP_NUM_THREADS": "1"}
        superlink = stack.enter_context(deployed_federation(nodes, extra))
        # The node's config names no site's folder, and the run's names one that is not there.
        said = run_bundle(superlink, stage_app(superlink.home), make_config(tmp_path / "gone"))

    rounds = deployed.read_rounds()
    assert [each["server_round"] for each in rounds] == [0, 1, 2], said
    assert all(site["status"] == "ok" for each in rounds for site in each["sites"])
    assert rounds[-1]["test"] == simulated.read_rounds()[-1]["test"]
    left, right = simulated.read_adapter()[0], deployed.read_adapter()[0]
    assert sorted(left) == sorted(right)
    for name, array in left.items():
        np.testing.assert_allclose(right[name], array, rtol=0, atol=1e-6)
    # A run's own; and the last bit of an update hangs on the order in which the sites' counts
    # were summed to the prior, which is that of Flower's random node ids.
    own = {"run", "ledger_checkpoint", "payload_sha256"}
    assert _without(own, simulated.read_releases()) == _without(own, deployed.read_releases())
    for site in sites:
        done = fedrec_site("ledger", "verify", "--site", site)
        assert done.returncode == 0, done.stderr


def _without(keys: set[str], records: list[dict[str, object]]) -> list[dict[str, object]]:
    stripped = [{k: v for k, v in each.items() if k not in keys} for each in records]
    return sorted(stripped, key=lambda each: (each["server_round"], each["kind"], each["site"]))
