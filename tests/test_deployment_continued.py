"""A deployment that goes on: a second run on new rows from the first's adapter, over its ledgers.

By the real commands, SuperLink, gate, SuperNodes and resident agents. ε of the second run's
releases is the composition of both runs, and a third is refused by the sites' own limit.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from common.accounting import epsilon
from common.adapters import adapter_sha256
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
from common.errors import ConfigError, FederationError, RunFolderError
from common.privacy_events import event_from_dict
from common.run_folder import RunFolder
from simulations.site_layout import write_sites
from tests.deployment import Deployment, deployed_server, fedrec_server, fedrec_site, joined_sites
from tests.resident_agents import make_real

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning"),  # Flower's
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]

POLICY = """
max_epsilon = 5.0
max_delta = 1e-4
allowed_modes = ["local"]
code_signers = ["{signer}"]
"""


def make_config() -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=2),
        model=ModelConfig(head_dim=4, head_items=0, item_side="head", popularity_prior=False),
        privacy=PrivacyConfig(mode="local", target_epsilon=3.0, targets_per_unit=2),
        federation=FederationConfig(rounds=1, round_deadline_s=120.0, local_lr=0.1),
        evaluation=EvaluationConfig(every=0, metrics="none", companions="", lab=False),
        engine=EngineConfig(threads=1),
    )


@pytest.fixture
def short_folder() -> Generator[Path]:
    """A folder whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="frd-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def newest(deployment: Deployment) -> RunFolder:
    return RunFolder.open(max(deployment.server.runs.iterdir()))


def check_refusals(deployment: Deployment, first: RunFolder) -> None:
    """What cannot be gone on from, or must not differ, is one line before anything starts."""
    folder = ("--folder", deployment.server.path)
    for refused, fault, says in (
        (("--continue", "nope"), RunFolderError, "is not a run"),
        (("--set", "model.head_dim=5"), ConfigError, "a run that continues another keeps it"),
        (("--set", "privacy.unit=example"), ConfigError, "privacy.unit=example where run"),
    ):
        with pytest.raises(fault, match=says):
            fedrec_server("run", *folder, "--continue", first.path.name, *refused)
    printed = fedrec_server("run", *folder, "--continue", first.path, "--print")
    assert printed.count("\n") == 1
    assert "next-run.toml" in printed


def test_a_second_run_goes_on_over_the_same_ledgers_and_a_third_is_refused(
    tmp_path: Path, short_folder: Path
) -> None:
    config = make_config()
    write_sites(config.data, tmp_path / "sites", pooled=False)
    sites = sorted((tmp_path / "sites").glob("site-*"))
    scenario = str(write_run_config(tmp_path / "scenario.toml", config))
    begun = ("--scenario", scenario, "--sites", "2")
    with deployed_server(tmp_path / "server", *begun) as deployment:
        for site in sites:
            make_real(site, POLICY.format(signer=deployment.signer))
        with joined_sites(deployment, sites, short_folder, "--scenario", scenario):
            folder = ("--folder", deployment.server.path)
            fedrec_server("run", *folder)
            first = newest(deployment)
            check_refusals(deployment, first)
            for path in (tmp_path / "sites").glob("site-*/interactions.parquet"):
                table = pq.read_table(path)  # the newest row of all is gone again
                pq.write_table(table.slice(0, table.num_rows - 1), path)

            fedrec_server("run", *folder, "--continue", first.path.name)
            second = newest(deployment)
            start = second.read_json("warm_start.json")
            assert start["run"] == first.path.name
            assert start["adapter_sha256"] == adapter_sha256(first.read_adapter()[0])
            assert second.read_config().federation.warm_start == first.path.name  # no path

            for site in {line["site"] for line in first.read_releases()}:
                both = [
                    event_from_dict(line["event"])
                    for run in (first, second)
                    for line in run.read_releases()
                    if line["site"] == site
                ]
                stated = [r["epsilon_prv"] for r in second.read_releases() if r["site"] == site]
                assert stated == [pytest.approx(epsilon(both, 1e-4), abs=1e-9)]
                assert 3.0 < stated[0] < 5.0

            with pytest.raises(FederationError, match="not finished"):
                fedrec_server("run", *folder, "--continue", second.path.name)
            assert newest(deployment).read_releases() == []
            assert "privacy budget" in json.dumps(newest(deployment).read_rounds())
    for site in sites:
        fedrec_site(
            *("ledger", "verify", "--site", site),
            *("--against", second.path / "releases.jsonl"),
        )
