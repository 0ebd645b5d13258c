"""What the commands on a site's source say, and what they keep to themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.source_cli import nothing_private
from common.errors import ConfigError, DataError


def said(folder: Path, text: str) -> str:
    with pytest.raises(DataError) as caught, nothing_private(folder):
        raise DataError(text)
    return str(caught.value)


def test_no_path_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site").mkdir()
    assert said(tmp_path / "site", f"{tmp_path}/site/keys is missing") == "SITE/keys is missing"
    assert said(Path("site"), f"{tmp_path}/site/keys is missing") == "SITE/keys is missing"
    assert said(Path("site"), "site/keys/a.key is missing") == "SITE/keys/a.key is missing"
    assert said(Path("a/site"), "a/site is missing") == "SITE is missing"


def test_words_that_are_called_like_the_folder_stay() -> None:
    with (
        pytest.raises(DataError, match=r"site\.declared_units.* the site's") as caught,
        nothing_private(Path("site")),
    ):
        raise ConfigError(["site.declared_units is missing; add the site's"])
    assert "SITE" not in str(caught.value)


def test_the_text_of_an_internal_fault_is_withheld(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), nothing_private(Path("site")):
        raise KeyError("canary")
    err = capsys.readouterr().err
    assert "KeyError" in err
    assert "canary" not in err
