from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import FedrecError, RunFolderError
from simulations.search.planning import plan_search
from simulations.search.search_folder import SearchFolder
from tests.simulations.search.conftest import AXIS, asked


@pytest.fixture
def folder(tmp_path: Path) -> SearchFolder:
    return SearchFolder(tmp_path / "search")


def begin(folder: SearchFolder, scenario: Path, text: str = AXIS, top: str = "") -> None:
    search = asked(text, top)
    with folder.locked():
        folder.begin(search, "text", plan_search(search, scenario))


def test_the_question_is_read_back(
    folder: SearchFolder, write_scenario: Callable[[str], Path]
) -> None:
    scenario = write_scenario("")
    search = replace(asked(top="seeds = 2"), overrides=("data.sites=4",))
    with folder.locked():
        folder.begin(search, "text", plan_search(search, scenario))
    assert folder.read_question() == search
    assert folder.scenario.read_text() == "text"


def test_a_search_may_grow_and_is_no_other(
    folder: SearchFolder, write_scenario: Callable[[str], Path]
) -> None:
    scenario = write_scenario("")
    begin(folder, scenario)
    begin(folder, scenario, AXIS.replace("[0.5", "[0.25, 0.5"), "seeds = 2")
    with pytest.raises(RunFolderError, match="holds another search") as caught:
        begin(folder, scenario)
    assert "own/seed-1 is no longer asked for" in str(caught.value)


def test_what_is_no_search_is_one_line(folder: SearchFolder) -> None:
    with pytest.raises(RunFolderError, match=r"holds no search: it has no search\.toml"):
        folder.read_question()
    folder.path.mkdir()
    (folder.path / "sweep.toml").write_text("")
    with pytest.raises(RunFolderError, match="holds no search"), folder.locked():
        pass
    for text in ("=", "schema_version = 1", "schema_version = 1\nname='x'\nset=[]\nsearch=3"):
        (folder.path / "search.toml").write_text(text)
        with pytest.raises(FedrecError) as caught:
            folder.read_question()
        assert "\n" not in str(caught.value)
