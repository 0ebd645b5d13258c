from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.common.config import get_fab_config, parse_config_args

from common.app_staging import app_project, stage_app, write_run_config
from common.bundle_hash import bundle_sha256
from common.config import ModelConfig, PrivacyConfig, RunConfig
from common.config_loading import load_config
from simulations.engines.flower import federation_config

# Flower 1.41 asks pathspec for its patterns by their old name.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


def test_the_bundle_holds_the_three_packages_and_nothing_else(tmp_path: Path) -> None:
    fab = build_fab_from_disk(stage_app(tmp_path))
    with zipfile.ZipFile(io.BytesIO(fab)) as bundle:
        names = bundle.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"common", "client", "server", "pyproject.toml", ".info"}
    for module in ("server/app.py", "client/app.py", "common/messages.py"):
        assert module in names
    assert not [name for name in names if "__pycache__" in name]


def test_flower_leaves_no_module_out_and_the_signed_hash_is_that_of_what_it_ships(
    tmp_path: Path,
) -> None:
    """Its built-in patterns drop every `*_test.py` and `test_*.py`, wherever it is."""
    staged = stage_app(tmp_path)
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(staged))) as bundle:
        bundle.extractall(tmp_path / "shipped")
    modules = {path.relative_to(staged) for path in staged.rglob("*.py")}
    shipped = {path.relative_to(tmp_path / "shipped") for path in tmp_path.rglob("shipped/**/*.py")}
    assert shipped == modules
    assert bundle_sha256(tmp_path / "shipped") == bundle_sha256(staged)


def test_the_bundle_names_both_apps_and_every_key(tmp_path: Path) -> None:
    app = get_fab_config(build_fab_from_disk(stage_app(tmp_path)))["tool"]["flwr"]["app"]
    assert app["components"] == {"serverapp": "server.app:app", "clientapp": "client.app:app"}
    assert app["config"].pop("resume") == ""
    keys = {f"{section}.{key}" for section, values in app["config"].items() for key in values}
    assert keys == set(RunConfig().to_flat())
    json.dumps(app_project())


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(),
        RunConfig(
            privacy=PrivacyConfig(mode="none", target_epsilon=math.inf, target_delta=1e-7),
            model=ModelConfig(weights="a folder/with 'quotes' and \"more\" = #"),
        ),
        RunConfig(privacy=PrivacyConfig(noise_multiplier=1.25)),
    ],
)
def test_flower_reads_back_the_very_config(tmp_path: Path, config: RunConfig) -> None:
    path = write_run_config(tmp_path / "run-config.toml", config)
    flat = parse_config_args([str(path)])
    assert flat == {"resume": "", **config.to_flat()}
    assert load_config(flat=flat) == config


def test_the_federation_config_is_what_flower_parses() -> None:
    from flwr.supercore.utils import simulation_config_from_json

    config = RunConfig()
    values = parse_config_args([federation_config(config)])
    proto = simulation_config_from_json({k.replace("-", "_"): v for k, v in values.items()})
    assert proto.num_supernodes == config.data.sites
    assert proto.client_resources_num_cpus == 1
