from __future__ import annotations

import sys
from pathlib import Path

import pytest

from simulations import cli

AXIS = 'scenario = "demo"\n[[axis]]\nkey = "federation.local_lr"\nvalues = [1.0, 2.0]\n'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "fedrec search needs FILE"),
        (["federatd"], "there is no search 'federatd'; the searches are distributed, federated"),
        (["no/such.toml"], "search no/such.toml is no file; check its path"),
        (["--resume"], "--resume takes up a search as it was asked"),
        (["toy.toml", "--resume", "--run", "x"], "--resume takes up a search as it was asked"),
        (["--resume", "--run", "x"], "runs/x holds no search: it has no search.toml"),
        (["toy.toml", "--set", "evaluation.lab=true"], "a search looks at validation alone"),
        (["lost.toml"], "there is no scenario 'dem'"),
        (["broken.toml"], "search broken.toml is not valid TOML"),
        (["binary.toml"], "search binary.toml is not valid TOML"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedrec", "search", *arguments])
    (tmp_path / "toy.toml").write_text(AXIS)
    (tmp_path / "lost.toml").write_text(AXIS.replace("demo", "dem"))
    (tmp_path / "broken.toml").write_text("scenario =")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    captured = capsys.readouterr()
    assert (leaving.value.code, captured.out) == (2, "")
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "runs").exists()
