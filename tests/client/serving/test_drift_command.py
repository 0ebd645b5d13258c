"""`fedrec-site drift` on a real site with a real adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.drift_command import drift
from client.drifting import drift_of_site
from client.site_data import load_site
from common.errors import ConfigError, DataError, ExportError


def test_a_site_is_compared_and_nothing_is_written(
    shared_site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = sorted(load_site(shared_site).interactions.timestamp.tolist())
    before = {path: path.stat().st_mtime_ns for path in shared_site.rglob("*")}
    found, used = drift_of_site(shared_site, times[len(times) // 2])
    assert used == times[len(times) // 2]
    assert found.old + found.new == len(times)
    drift(shared_site, since="1997-12-31", as_json=True)
    assert 0 <= json.loads(capsys.readouterr().out)["hit_now"] <= 1
    drift(shared_site, since="1997-12-31")
    assert "no release" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in shared_site.rglob("*")} == before
    with pytest.raises(DataError, match="--since"):  # since its installation: nothing
        drift(shared_site)
    with pytest.raises(ConfigError, match="--since must be a date"):
        drift(shared_site, since="yesterday")


def test_a_site_without_an_adapter(site: Path) -> None:
    (site / "adapters" / "current.json").unlink()
    with pytest.raises(ExportError, match="install-adapter"):
        drift_of_site(site, 0)
