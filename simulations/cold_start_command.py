"""``fedrec cold-start``: what a model gives to people and items that no training saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from common.command_line import stderr_console
from common.config_loading import load_config
from simulations.command_options import AsJson, Overrides
from simulations.run_paths import new_run_path
from simulations.scenario_files import find_scenario

if TYPE_CHECKING:
    from common.run_folder import RunFolder
    from simulations.cold_start.bench import ColdStartBench

EXAMPLES = (
    "Examples:\n\n"
    "fedrec cold-start distributed --run cold-8    (validation, to choose)\n\n"
    "fedrec cold-start distributed --run cold-8 --stage test --out docs/cold-start.md"
)
_QUIET = (
    "evaluation.companions=",
    "evaluation.lab=false",
    "evaluation.metrics=none",
    "evaluation.every=0",
)


def cold_start(
    scenario: Annotated[
        str, typer.Argument(help="A bundled scenario (see: fedrec scenarios) or a TOML file.")
    ] = "distributed",
    overrides: Overrides = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="The run; trained there, unless it was before."),
    ] = None,
    stage: Annotated[
        Literal["validation", "test"],
        typer.Option(help="Which new users and items; test is for the final figures."),
    ] = "validation",
    try_rules: Annotated[
        bool, typer.Option("--try-rules", help="Try rules for new items, on validation alone.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a Markdown page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train without some users and items, then rank for these users and these items."""
    console = stderr_console()
    with console.status("loading the data") as status:
        from common.progress import SilentListener
        from simulations.cold_start.bench import (
            HELD_OUT_USERS,
            ColdStartBench,
            open_folder,
            train,
        )
        from simulations.cold_start.measuring import failures, measure
        from simulations.cold_start.page import result_lines, write_page
        from simulations.public_items import with_item_hash

        own = [f"data.held_out_users={HELD_OUT_USERS}", *_QUIET]
        config = load_config(scenario=find_scenario(scenario), overrides=[*own, *(overrides or [])])
        bench = ColdStartBench.of(config)
        config = with_item_hash(config, bench.known)
        folder = open_folder(new_run_path(run, scenario), config)
        status.update(f"training in {folder.path}")
        train(bench, config, folder, SilentListener())
        if try_rules:
            status.update("trying rules")
            _show_rules(bench, folder)
            return
        rows = measure(bench, folder, stage, status.update)
    name = folder.path.name
    lines = result_lines(name, config, bench, stage, rows)
    folder.write_text(f"cold-start-{stage}.jsonl", lines)
    if out is not None:
        write_page(out, name, lines)
    missed = failures(rows)
    if as_json:
        found = {"rows": [row.to_dict() for row in rows], "not_above": missed}
        print(json.dumps(found, ensure_ascii=False))
        return
    table = Table("", "", "NDCG@10", "fedrec less this")
    for row in rows:
        gain = row.gain
        table.add_row(
            row.setting,
            row.method,
            f"{row.ndcg.mean:.4f}",
            ""
            if row.method == "fedrec"
            else f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]",
        )
    Console(highlight=False).print(table)
    for each in missed:
        print(f"not above: {each}")


def _show_rules(bench: ColdStartBench, folder: RunFolder) -> None:
    """Print a JSON line for each rule tried, the chosen one last."""
    from dataclasses import asdict

    from common.build_recommender import build_recommender
    from common.loaded_recommender import load_round
    from simulations.cold_start.new_items import NewItemBench, chosen, try_rules
    from simulations.run_statistics import run_statistics

    recommender = build_recommender(folder.read_config(), bench.known.catalogue)
    load_round(recommender, folder.read_adapter()[0], *run_statistics(folder))
    tried = list(try_rules(bench, NewItemBench.of(bench, recommender, "validation")))
    for each in [*tried, chosen(tried)]:
        print(json.dumps(asdict(each)))
