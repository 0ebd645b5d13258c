"""Secure sums as partners run them: resident agents, pinned peers, a real SuperLink."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

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
from common.run_folder import RunFolder
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.resident_agents import (
    deployed_federation,
    fedrec_site,
    make_real,
    resident_agent,
    run_bundle,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

POLICY = 'allowed_modes = ["distributed"]\nmin_participants = 3\n'


def make_config(sites: Path) -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=3, sites_folder=str(sites)),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
        privacy=PrivacyConfig(targets_per_unit=2, negatives_per_unit=8),
        federation=FederationConfig(rounds=1, round_deadline_s=300.0, local_lr=0.1),
        evaluation=EvaluationConfig(every=0, metrics="none"),
        engine=EngineConfig(threads=1),
    )


def test_three_sites_that_pinned_each_other_are_summed_securely(
    tmp_path: Path, short_folder: Path
) -> None:
    deployed, config = RunFolder(tmp_path / "deployed"), make_config(tmp_path / "gone")
    sites = write_site_folders(synthetic_dataset(), config.data, tmp_path / "real")
    for site in sites:
        make_real(site, POLICY)
    pins = "".join(fedrec_site("identity", "--site", site).stdout for site in sites)
    scenario = str(write_run_config(tmp_path / "scenario.toml", config))
    with ExitStack() as stack:
        nodes = []
        for site in sites:
            make_real(site, f"{POLICY}[peers]\n{pins}")
            path = short_folder / site.name / "a.sock"
            stack.enter_context(resident_agent(site, path, "--scenario", scenario))
            nodes.append(f'agent-socket="{path}"')
        extra = {"FEDREC_RUN_FOLDER": str(deployed.path), "OMP_NUM_THREADS": "1"}
        superlink = stack.enter_context(deployed_federation(nodes, extra))
        said = run_bundle(superlink, stage_app(superlink.home), config)

    rounds = deployed.read_rounds()
    assert [each["server_round"] for each in rounds] == [0, 1], said
    assert all(site["status"] == "ok" for each in rounds for site in each["sites"]), rounds
    assert rounds[1]["update_norm"] > 0
    releases = deployed.read_releases()
    assert {each["mechanism"] for each in releases} == {"discrete_gaussian"}
    assert len(releases) == 6
    for site in sites:
        against = ("--against", deployed.path / "releases.jsonl")
        done = fedrec_site("ledger", "verify", "--site", site, *against)
        assert done.returncode == 0, done.stderr
