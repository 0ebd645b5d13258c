"""One campaign: a deployment, a run, the faults of one seed, and what holds afterwards."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.exceptions import Exit
from typer.testing import CliRunner

from client.cli import app as site_app
from client.ledger_export import export_file
from common.adapters import adapter_sha256
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
from tests.chaos import invariants
from tests.chaos.coordinator import NAME, Coordinator, Ending
from tests.chaos.faults import plan
from tests.chaos.injector import Injector
from tests.chaos.progress import ProgressReader
from tests.chaos.recomputed import Recomputed
from tests.chaos.scene import Scene, own_state, scene, short_folder
from tests.chaos.supervisor import processes_of

SITES = 3
ROUNDS = {"distributed": 3, "central": 5, "local": 5}
DEADLINE_S = {"distributed": 200.0, "central": 60.0, "local": 60.0}
LIMIT_S = 1500.0
QUIET_S = 60.0


def mode_of(seed: int) -> str:
    """Mostly the mode that most can go wrong in."""
    return ("distributed", "local", "distributed", "central")[seed % 4]


def make_config(mode: str, folder: Path, rounds: int) -> RunConfig:
    """The smallest model; of three sites one may vanish from a sum."""
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=SITES, sites_folder=str(folder)),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
        privacy=PrivacyConfig.model_validate(
            {
                "mode": mode,
                "insecure_seeded_noise": True,
                "targets_per_unit": 2,
                "negatives_per_unit": 8,
                "max_colluders": 0,
            }
        ),
        federation=FederationConfig(
            rounds=rounds, round_deadline_s=DEADLINE_S[mode], local_lr=0.1, min_sites=2
        ),
        evaluation=EvaluationConfig(every=0, metrics="none", companions="", lab=False),
        engine=EngineConfig(threads=1, training="site_by_site"),
    )


def run_campaign(
    seed: int, *, mode: str = "", rounds: int = 0, faults: int = 6, keep: Path | None = None
) -> dict[str, Any]:
    """Runs one, and says all that happened as JSON values.

    Args:
        seed: of the faults.
        mode: of privacy; empty: by the seed.
        rounds: of training; 0: by the mode.
        faults: how many are planned.
        keep: a folder to which everything is copied where an invariant is broken.
    """
    mode = mode or mode_of(seed)
    rounds = rounds or ROUNDS[mode]
    started = time.monotonic()
    with short_folder() as folder, own_state(folder / "state"):
        config = make_config(mode, folder / "lab", rounds)
        lab = write_site_folders(synthetic_dataset(), config.data, folder / "lab")
        sites = write_site_folders(synthetic_dataset(), config.data, folder / "real")
        with scene(folder, config, sites) as made:
            print(f"seed {seed}: {mode}, ready after {time.monotonic() - started:.0f} s")
            progress = ProgressReader(made.deployment.server.runs, sites, mode)
            planned = plan(seed, [site.name for site in sites], rounds + 1, faults)
            injector = Injector(planned, made.supervisor, made.links, progress)
            ending = _drive(made, config, injector, progress, folder / "run.log")
            injector.close()
            left = _apps_left(made)
        found = _check(made, config, lab, ending, left, progress)
        broken = {name: wrong for name, wrong in found.items() if wrong}
        if broken and keep is not None:
            shutil.copytree(folder, keep / f"seed-{seed}", ignore=_no_sockets, dirs_exist_ok=True)
        return {
            "code": _commit(),
            **{"seed": seed, "mode": mode, "rounds": rounds, "sites": SITES, "planned": faults},
            "faults": [hit.to_json() for hit in injector.hits],
            "ended": ending.how,
            **{"reason": ending.reason, "starts": ending.starts, "resumes": ending.resumes},
            "exits": {name: u.exits for name, u in made.supervisor.units.items() if u.exits},
            "lines": _lines(progress),
            **{"checks": sorted(found), "broken": broken},
            "seconds": round(time.monotonic() - started),
        }


def _commit() -> str:
    """Of the code that is tested; empty outside a repository."""
    asked = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def _no_sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".sock") or name == "flwr"]


def _drive(
    made: Scene, config: RunConfig, injector: Injector, progress: ProgressReader, log: Path
) -> Ending:
    deployment = made.deployment
    environment = deployment.environment()
    coordinator = Coordinator(deployment.server, config.federation.rounds, environment, log)

    def is_well() -> bool:
        return injector.is_idle and made.supervisor.all_up()

    return coordinator.drive(progress.run_folder, is_well, LIMIT_S)


def _apps_left(made: Scene) -> list[str]:
    """Apps that run although the run has ended; each gets a while to end by itself."""
    end = time.monotonic() + QUIET_S
    while time.monotonic() < end:
        apps = [
            f"{app} of {unit}"
            for unit in (*made.supervisor.units, NAME)
            for app in ("flwr-serverapp", "flwr-clientapp")
            if processes_of(unit, app)
        ]
        if not apps:
            return []
        time.sleep(1)
    return apps


def _lines(progress: ProgressReader) -> list[dict[str, Any]]:
    """Who was in which round, for the table."""
    folder = progress.run_folder()
    lines = [] if folder is None else RunFolder(folder).read_rounds()
    return [
        {
            "server_round": line["server_round"],
            "ok": sum(site["status"] == "ok" for site in line["sites"]),
            "fault": line["fault"],
            "left_out": {s["site"]: s["reason"] for s in line["sites"] if s["status"] != "ok"},
        }
        for line in lines
    ]


def _check(
    made: Scene,
    config: RunConfig,
    lab: Sequence[Path],
    ending: Ending,
    left: list[str],
    progress: ProgressReader,
) -> dict[str, list[str]]:
    """Every invariant by name, with what is wrong."""
    path = progress.run_folder()
    if path is None:
        return {"the run ends": [f"it was {ending.how} without a run's folder"]}
    folder = RunFolder(path)
    rounds, releases = folder.read_rounds(), folder.read_releases()
    ledgers = {s.name: export_file(s / "ledger.sqlite") for s in made.sites}
    found = {
        "releases stand in the ledgers": invariants.releases_in_ledgers(releases, ledgers),
        "nothing is paid twice": invariants.nothing_twice(releases, ledgers),
        "nothing is lost": invariants.nothing_lost(rounds, releases, ledgers),
        "nothing is free": invariants.nothing_free(rounds, ledgers),
        "no ledger under-counts": invariants.no_ledger_under_counts(rounds, releases, ledgers),
        "ledgers verify": _verified(made.sites, path / "releases.jsonl"),
        "nothing is left behind": invariants.nothing_left_behind([path, *made.sites], left),
        "the run ends": [] if ending.how in ("finished", "refused") else [f"it is {ending.how}"],
    }
    if ending.how == "refused":
        found["a refusal is one line"] = invariants.clean_refusal(*ending.said[-1])
    else:
        last = config.federation.rounds
        found["every round is on record"] = invariants.rounds_in_order(rounds, last)
    if any(line["adapter_sha256"] for line in rounds):
        hashes = Recomputed(config, lab).follow(rounds)
        on_disk = adapter_sha256(folder.read_adapter()[0])
        found["the adapter is right"] = invariants.adapters_as_recomputed(rounds, hashes, on_disk)
    return found


def _verified(sites: Sequence[Path], releases: Path) -> list[str]:
    """`fedrec-site ledger verify --against` at every site."""
    wrong = []
    for site in sites:
        against = ["--against", str(releases)] if releases.exists() else []
        done = CliRunner().invoke(
            site_app, ["ledger", "verify", "--site", str(site), *against], catch_exceptions=True
        )
        if done.exit_code != 0:
            said = done.exception if not isinstance(done.exception, Exit | SystemExit) else ""
            wrong.append(f"{site.name}: {done.output.strip()[-300:]} {said}".strip())
    return wrong
