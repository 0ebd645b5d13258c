"""From an empty machine to the first finished round, by the commands of the docs alone, timed.

Run it as root by ``python -m benchmarks.first_round --make-users``: it makes a coordinator and
three sites of MovieLens-100K (a CSV file, a Parquet file, SQLite), each with its own users of
this machine, and removes the users afterwards. It types what docs/deploy-server.md and
docs/deploy-site.md say, in their order, and counts it; three things stand in for what a test
machine lacks: ``runuser`` for ``sudo``, unit files that are started by hand as their user for
``systemctl``, and a runtime folder for each site, since here three share a machine.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from common.config import DataConfig
from common.site_folder import write_catalogue
from simulations.datasets import load_dataset
from simulations.engines.processes import MARK, end_marked_processes
from tests.deployment import free_port, read_unit

ROOT = Path(__file__).resolve().parent.parent
SITES = ("north", "south", "west")
KINDS = {"north": "csv", "south": "parquet", "west": "sql"}
RUN = ("--set", "federation.rounds=2", "--set", "privacy.max_colluders=1")
LIMIT_S = 1800.0


@dataclass
class Typed:
    """What was typed, by side, and how long each took."""

    lines: list[tuple[str, str, float]] = field(default_factory=list)

    @contextmanager
    def line(self, side: str, what: str) -> Iterator[None]:
        """Counts and times one command, or one file to edit."""
        start = time.monotonic()
        yield
        self.lines.append((side, what, time.monotonic() - start))
        print(f"{side:8} {self.lines[-1][2]:7.1f} s  {what}", flush=True)


@dataclass
class Machine:
    """The machine that is set up, and what runs on it.

    Attributes:
        folder: for everything but the users' homes.
        mark: in the environment of every process.
        users: that were made.
    """

    folder: Path
    mark: str
    typed: Typed
    users: list[str] = field(default_factory=list)

    @property
    def program(self) -> Path:
        """Folder of the installed commands."""
        return self.folder / "opt" / "bin"

    def run(self, *command: str | Path, user: str | None = None, **environment: str) -> str:
        """What a command prints."""
        who = () if user is None else ("runuser", "-u", user, "--")
        done = subprocess.run(
            [*who, *map(str, command)],
            cwd=self.folder,
            env={**self.environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, unit: Path, user: str, **environment: str) -> None:
        """Starts what a unit file says, as its user."""
        command, stated = read_unit(unit)
        subprocess.Popen(
            ["runuser", "-u", user, "--", *command],
            cwd=f"/var/lib/{user}",
            env={**self.environment(), **stated, **environment},
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / f"{unit.stem}-{user}.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def environment(self) -> dict[str, str]:
        """As bare as a login's."""
        kept = {name: os.environ[name] for name in os.environ if name.startswith("PIP_")}
        path = f"{self.program}:/usr/sbin:/usr/bin:/sbin:/bin"
        return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", MARK: self.mark}


def main() -> None:
    """Sets everything up, waits for the first round, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--make-users", action="store_true", required=True)
    parser.add_argument("--python", default=sys.executable, help="that every user may run")
    python = parser.parse_args().python
    folder = Path(tempfile.mkdtemp(prefix="fedrec-first-"))
    folder.chmod(0o755)
    machine = Machine(folder, secrets.token_hex(16), Typed())
    raw = _raw_data(folder / "raw")
    start = time.monotonic()
    try:
        _coordinate(machine, python)
        for name in SITES:
            _join(machine, name, raw[name])
        _pin(machine)
        seconds = _first_round(machine)
    finally:
        end_marked_processes(machine.mark)
        time.sleep(1.0)
        for user in reversed(machine.users):
            subprocess.run(["userdel", "--remove", user], capture_output=True, check=False)
    print(
        f"first finished round after {seconds:.0f} s, all in all {time.monotonic() - start:.0f} s"
    )
    for side in ("server", *SITES):
        lines = [line for line in machine.typed.lines if line[0] == side]
        print(f"{side}: {len(lines)} lines typed, {sum(line[2] for line in lines):.0f} s")
    shutil.rmtree(folder)


def _coordinate(machine: Machine, python: str) -> None:
    typed, server = machine.typed, machine.folder / "server"
    with typed.line("server", "python3 -m venv /opt/fedrec"):
        machine.run(python, "-m", "venv", machine.folder / "opt")
    with typed.line("server", "pip install 'fedrec[sql]'"):
        # The package's folder as a wheel would be; constraints give the tested versions.
        machine.run(
            *(machine.program / "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"),
            f"{ROOT}[sql]",
        )
    ports = ("--port", str(free_port()), "--superlink-port", str(free_port()))
    with typed.line("server", "fedrec-server init FOLDER --host NAME --sites 3"):
        machine.run(
            *(machine.program / "fedrec-server", "init", server, "--host", "localhost"),
            *("--sites", str(len(SITES)), *ports, *RUN),
        )
    user = _user(machine, "server")
    machine.run("chown", "-R", f"{user}:{user}", server)  # `--system` does, for its own user
    with typed.line("server", "systemctl enable --now fedrec-superlink fedrec-gate"):
        for unit in sorted((server / "systemd").glob("*.service"), reverse=True):
            machine.start(unit, user)


def _join(machine: Machine, name: str, raw: dict[str, str]) -> None:
    typed, site, server = machine.typed, machine.folder / name, machine.folder / "server"
    agent, relay = f"{_prefix(machine)}-{name}", f"{_prefix(machine)}-{name}-r"
    machine.users += [agent, relay]
    settings = json.loads(
        machine.run(
            *(machine.program / "python", "-c"),
            "import json,sys,tomllib;print(json.dumps(tomllib.load(open(sys.argv[1],'rb'))))",
            server / "server.toml",
        )
    )
    signer = (server / "START.md").read_text().partition("--signer ")[2].split()[0]
    ca = machine.folder / f"{name}-ca.crt"
    shutil.copy(server / "tls" / "ca.crt", ca)
    with typed.line(name, f"fedrec-site init --system --source {KINDS[name]} --superlink … --ca …"):
        machine.run(
            *(machine.program / "fedrec-site", "init", "--system", "--site", site),
            *("--name", name, "--source", KINDS[name], "--superlink"),
            *(f"localhost:{settings['port']}", "--ca", ca, "--signer", signer),
            *("--user", agent, "--relay-user", relay),
            *("--out", machine.folder / f"{name}-units"),
            *("--node-folder", machine.folder / f"{name}-node"),
        )
    with typed.line(name, "$EDITOR source.toml"):
        source = site / "source.toml"
        text = source.read_text()
        for old, new in {"declared_units = 0": "declared_units = 400", **raw}.items():
            if old not in text:
                raise SystemExit(f"{old!r} is not in {source}")
            text = text.replace(old, new)
        source.write_text(text)
        shutil.copy(machine.folder / "raw" / "items.parquet", site / "items.parquet")
        for path in (machine.folder / "raw" / name).iterdir():
            shutil.copy(path, site / path.name)
        machine.run("chown", "-R", f"{agent}:{agent}", site)
    user = machine.users[0]
    key = machine.folder / f"{name}-node" / "node.pub"
    with typed.line("server", f"fedrec-server add-site {name} node.pub"):
        machine.run(
            *(machine.program / "fedrec-server", "add-site", name, key, "--folder", server),
            user=user,
        )


def _pin(machine: Machine) -> None:
    """The sites exchange their lines of `[peers]`; then each checks, and starts."""
    typed, scenario = machine.typed, machine.folder / "run.toml"
    shutil.copy(machine.folder / "server" / "run.toml", scenario)
    scenario.chmod(0o644)
    agents = {name: f"{_prefix(machine)}-{name}" for name in SITES}
    lines = "".join(
        machine.run(
            *(machine.program / "fedrec-site", "identity", "--site", machine.folder / name),
            user=agent,
        )
        for name, agent in agents.items()
    )
    for name, agent in agents.items():
        site = machine.folder / name
        with typed.line(name, "$EDITOR policy.toml"):
            policy = site / "policy.toml"
            policy.write_text(policy.read_text() + lines)
        with typed.line(name, "sudo -u fedrec fedrec-site check --scenario run.toml"):
            machine.run(
                *(machine.program / "fedrec-site", "check", "--site", site),
                *("--scenario", scenario),
                user=agent,
            )
        with typed.line(
            name, "systemctl enable --now fedrec-site fedrec-supernode fedrec-refresh.timer"
        ):
            runtime, units = Path(f"/run/{agent}"), machine.folder / f"{name}-units"
            machine.run("install", "-d", "-m", "0750", "-o", agent, "-g", f"{agent}-r", runtime)
            machine.start(units / "fedrec-site.service", agent, RUNTIME_DIRECTORY=str(runtime))
            unit = units / "fedrec-supernode.service"
            unit.write_text(unit.read_text().replace("/run/fedrec/", f"{runtime}/"))
            port = free_port()
            unit.write_text(unit.read_text().replace("--superlink", f"--port {port} --superlink"))
            machine.start(unit, f"{agent}-r")


def _first_round(machine: Machine) -> float:
    """Seconds of `flwr run` until the first round of training is on record."""
    server, user = machine.folder / "server", machine.users[0]
    start = time.monotonic()
    with machine.typed.line("server", "flwr run app fedrec --run-config run.toml"):
        command = (machine.program / "flwr", "run", server / "app" / "fedrec", "fedrec")
        machine.run(
            *command,
            *("--run-config", server / "run.toml"),
            user=user,
            FLWR_HOME=str(server / "flower"),
        )
    while time.monotonic() - start < LIMIT_S:
        for path in server.glob("runs/*/rounds.jsonl"):
            for line in path.read_text().splitlines():
                record = json.loads(line)
                if record["server_round"] == 1:
                    print([(site["site"], site["status"]) for site in record["sites"]])
                    return time.monotonic() - start
        time.sleep(0.5)
    raise SystemExit(f"no round within {LIMIT_S:.0f} s; see {machine.folder}")


def _raw_data(folder: Path) -> dict[str, dict[str, str]]:
    """Each site's own users, as a partner has them, and what its operator writes of them."""
    folder.mkdir()
    table, user = partner_tables(folder)
    edits: dict[str, dict[str, str]] = {}
    for index, name in enumerate(SITES):
        (folder / name).mkdir()
        part = table[user % len(SITES) == index]
        if KINDS[name] == "csv":
            part.to_csv(folder / name / "interactions.csv", index=False)
            edits[name] = {}
        elif KINDS[name] == "parquet":
            part.to_parquet(folder / name / "interactions.parquet", index=False)
            edits[name] = {}
        else:
            with sqlite3.connect(folder / name / "shop.db") as database:
                part.to_sql("interactions", database, index=False)
            edits[name] = {
                'url = "postgresql+psycopg://USER@HOST:5432/DATABASE?sslmode=verify-full"': (
                    'url = "sqlite:///shop.db"'
                ),
                "password_file =": "# password_file =",
                'table = "public.interactions"': 'table = "interactions"',
                'timestamp = "created_at"': 'timestamp = "timestamp"',
            }
    return edits


def partner_tables(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Writes ``items.parquet``; MovieLens-100K's rows as partners have them, and whose each is."""
    data = load_dataset(DataConfig(dataset="movielens-100k"))
    write_catalogue(folder / "items.parquet", data.catalogue)
    rows = data.interactions
    table = pd.DataFrame(
        {
            "user_id": np.asarray(rows.user_ids)[rows.user],
            "item_id": np.asarray(data.catalogue.item_ids)[rows.item],
            "rating": rows.rating,
            "timestamp": rows.timestamp,
        }
    )
    return table, rows.user


def _prefix(machine: Machine) -> str:
    return f"frd-{machine.mark[:6]}"


def _user(machine: Machine, name: str) -> str:
    user = f"{_prefix(machine)}-{name}"
    machine.run(
        "useradd", "--system", "--user-group", "--create-home", "-d", f"/var/lib/{user}", user
    )
    machine.users.append(user)
    return user


if __name__ == "__main__":
    main()
