from __future__ import annotations

import io
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from common import flower_config
from common.config import RunConfig
from common.config_loading import load_config
from common.errors import ConfigError
from common.flower_config import BEGIN, END, flower_config_block, with_flower_config
from common.run_keys import RUN_KEYS


def test_pyproject_holds_what_would_be_generated(repository: Path) -> None:
    present = (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert present == with_flower_config(present), "run python -m common.flower_config --write"


def test_flower_reads_every_key_with_its_default(repository: Path) -> None:
    from flwr.common.config import get_fused_config_from_dir

    flat = get_fused_config_from_dir(repository, {"data.sites": 7})
    assert set(flat) == {*RUN_KEYS, *RunConfig().to_flat()}
    assert load_config(flat=flat) == load_config(overrides=["data.sites=7"])


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
@pytest.mark.slow
def test_bundle_holds_the_apps_and_nothing_of_the_bench(repository: Path) -> None:
    from flwr.cli.build import build_fab_from_disk

    bundle = zipfile.ZipFile(io.BytesIO(build_fab_from_disk(repository)))
    rooms = {name.split("/")[0] for name in bundle.namelist()}
    assert rooms == {"client", "common", "server", "pyproject.toml", "LICENSE", ".info"}


@pytest.mark.parametrize(
    "text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"]
)
def test_markers_must_be_there_once(text: str) -> None:
    with pytest.raises(ConfigError, match="once each"):
        with_flower_config(text)


def test_block_is_renewed_between_its_markers() -> None:
    renewed = with_flower_config(f"a = 1\n{BEGIN}\nold = 1\n{END}\n[x]\n")
    assert renewed == f"a = 1\n{flower_config_block()}\n[x]\n"
    config = tomllib.loads(renewed)["tool"]["flwr"]["app"]["config"]
    assert config == {**RUN_KEYS, **RunConfig().model_dump()}


def test_command_checks_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["flower_config", "--file", str(path)])
    assert flower_config.main() == 1
    assert path.read_text(encoding="utf-8") == f"{BEGIN}\n{END}\n"
    monkeypatch.setattr(sys, "argv", ["flower_config", "--write", "--file", str(path)])
    assert flower_config.main() == 0
    monkeypatch.setattr(sys, "argv", ["flower_config", "--file", str(path)])
    assert flower_config.main() == 0


def test_command_on_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["flower_config", "--file", str(tmp_path / "no.toml")])
    assert flower_config.main() == 2
    assert capsys.readouterr().err.startswith("error: cannot read")
