"""``fedrec search``: settings of a scenario compared on validation, never on test."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from common.atomic_files import file_errors, write_json
from common.errors import ConfigError
from simulations.command_options import AsJson, Overrides, Quiet
from simulations.run_paths import new_run_path
from simulations.scenario_files import SEARCH_FOLDER, find_scenario, find_search
from simulations.search.planning import own_settings, plan_search
from simulations.search.question import Search, read_question
from simulations.search.search_folder import RESULT_FILE, SearchFolder
from simulations.sweeps.unfinished import raise_for_failed, run_unfinished

if TYPE_CHECKING:
    from simulations.search.search_file import SearchFile

EXAMPLES = (
    "Examples:\n\n"
    "fedrec search federated --run tuning\n\n"
    "fedrec search distributed --set privacy.target_epsilon=3 --markdown docs/search.md\n\n"
    "fedrec search my-search.toml --seeds 3 --jobs 2\n\n"
    "fedrec search --resume --run tuning"
)
RUN_COMMAND = (sys.executable, "-m", "simulations.search.run_process")


def search(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A bundled search, or a TOML file that asks for one."),
    ] = None,
    overrides: Overrides = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs of each point. Default: what FILE says.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, each a process.")] = 1,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Where the search goes: runs/NAME, or a path. Default: a fresh name.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the search of --run, as it was asked.")
    ] = False,
    markdown: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the search's section into this page, too."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Try settings of a scenario, and rank them by NDCG@10 on the validation part.

    No run of a search looks at the test part: what it chooses can be tested once. Finished
    runs are kept; the same command, or --resume, goes on with the rest.
    """
    folder, asked, scenario = _asked(file, overrides or [], seeds, run, resume=resume)
    runs = plan_search(asked, scenario)
    with file_errors("read", scenario):
        text = scenario.read_text(encoding="utf-8")
    with folder.locked():
        folder.begin(asked, text, runs)
        ends = run_unfinished(folder, runs, jobs=jobs, quiet=quiet, command=RUN_COMMAND)
        from simulations.search.summary import summarise

        found = summarise(folder, asked, own_settings(asked, folder.scenario), runs, ends)
        write_json(folder.path / RESULT_FILE, found.model_dump(mode="json"))
    _tell(folder, found, markdown, as_json=as_json)
    raise_for_failed(ends.values())


def _asked(
    file: str | None, overrides: Sequence[str], seeds: int | None, run: str | None, *, resume: bool
) -> tuple[SearchFolder, Search, Path]:
    """The search's folder, its question and the file of its scenario."""
    if resume:
        if file or overrides or seeds is not None or not run:
            raise ConfigError(
                ["--resume takes up a search as it was asked: give --run NAME, and no FILE, --set "
                 "or --seeds"]
            )  # fmt: skip
        folder = SearchFolder(new_run_path(run, ""))
        return folder, folder.read_question(), folder.scenario
    if not file:
        raise ConfigError(["fedrec search needs FILE; name a bundled search, or a TOML file"])
    path = find_search(file)
    name = path.stem if path.parent == SEARCH_FOLDER else path.name
    asked = replace(read_question(name, _document(path)), overrides=tuple(overrides))
    if seeds is not None:
        asked = replace(asked, seeds=seeds)
    beside = path.parent / asked.scenario
    scenario = beside if beside.is_file() else find_scenario(asked.scenario)
    return SearchFolder(new_run_path(run, f"{path.stem}-search")), asked, scenario


def _document(path: Path) -> Mapping[str, object]:
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        return tomllib.loads(content.decode("utf-8"))
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ConfigError([f"search {path} is not valid TOML: {reason}; correct it"]) from error


def _tell(folder: SearchFolder, found: SearchFile, page: Path | None, *, as_json: bool) -> None:
    from simulations.search.markdown import write_section
    from simulations.search.result_view import show_search

    if page is not None:
        write_section(page, found)
    if as_json:
        content = {"run_folder": str(folder.path), **found.model_dump(mode="json")}
        print(json.dumps(content, ensure_ascii=False, allow_nan=False))
        return
    show_search(Console(highlight=False), found)
    print(f"results: {folder.path / RESULT_FILE}")
    if page is not None:
        print(f"page:    {page}")
