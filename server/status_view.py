"""``fedrec-server status``: the server, its run and its sites on one screen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from server.probing import Up, what_is_up
from server.run_status import RunStatus, SiteLine, current_run, run_status
from server.server_folder import ServerFolder

EVERY_S = 2.0
_WORDS = {
    "running": "running",
    "finished": "finished",
    "ended": "ended with a fault",
    "interrupted": "interrupted; `fedrec-server resume` goes on with it",
}


@dataclass(frozen=True)
class Status:
    """What is shown.

    Attributes:
        up: which processes answer; None without a server's folder.
        run: how the run stands; None where none was begun.
        listed: sites whose node key may connect.
    """

    up: Up | None
    run: RunStatus | None
    listed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return {
            "gate": None if self.up is None else self.up.gate,
            "superlink": None if self.up is None else self.up.superlink,
            "listed_sites": list(self.listed),
            "run": None if self.run is None else self.run.to_json(),
        }


def look(run: str | None, folder: Path | None) -> Status:
    """How the server in `folder` and the run stand now.

    Args:
        run: name of a run in the server's folder, or the path of a run's folder; None: the
            current one.
        folder: the server's; None: the working directory, where that is one, and it need not
            be one to look at a run by its path.

    Raises:
        ConfigError: there is no server's folder.
        RunFolderError: there is no such run, or it is damaged.
    """
    server = ServerFolder((folder or Path(".")).absolute())
    path = Path(run) if run and Path(run).is_dir() else None
    if path is not None and folder is None and not server.settings_file.is_file():
        return Status(None, run_status(path))
    settings = server.settings()
    if path is None:
        path = server.runs / run if run else current_run(server.runs)
    listed = tuple(sorted(file.stem for file in server.sites.glob("*.pub")))
    found = None if path is None else run_status(path).with_keys(listed)
    return Status(what_is_up(server, settings), found, listed)


def show(look_now: Callable[[], Status], *, watch: bool, as_json: bool) -> None:
    """Prints what `look_now` finds, once; or again and again until Ctrl-C."""
    if as_json:
        print(json.dumps(look_now().to_json(), ensure_ascii=False), flush=True)
        while watch:
            time.sleep(EVERY_S)
            print(json.dumps(look_now().to_json(), ensure_ascii=False), flush=True)
        return
    console = Console(highlight=False)
    if not watch:
        console.print(rendered(look_now()))
        return
    with Live(rendered(look_now()), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(EVERY_S)
            live.update(rendered(look_now()), refresh=True)


def rendered(status: Status) -> RenderableType:
    """The screen."""
    parts: list[RenderableType] = []
    if status.up is not None:
        words = {name: "up" if up else "DOWN" for name, up in status.up._asdict().items()}
        parts.append(Text(f"gate {words['gate']}, SuperLink {words['superlink']}"))
    run = status.run
    if run is None:
        keys = ", ".join(status.listed) or "none"
        parts.append(Text(f"no run was begun yet; sites that may connect: {keys}"))
        return Group(*parts)
    parts.append(Text(f"run {run.run}: {_WORDS[run.state]}"))
    ended = "" if run.last_ended is None else f"; the last one ended {run.last_ended}"
    parts.append(Text(f"round {run.server_round} of {run.rounds}{ended}"))
    if run.fault:
        parts.append(Text(f"fault: {run.fault}"))
    parts.append(_table(run.sites))
    parts += [Text(f"{line.site}: {line.reason}") for line in run.sites if line.reason]
    return Group(*parts)


def _table(sites: tuple[SiteLine, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("site", "key"):
        table.add_column(heading, overflow="fold")
    for heading in ("last ok", "refused", "errors", "received", "ε spent", "ε left"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in sites:
        values = asdict(line)
        table.add_row(
            Text(line.site),
            {True: "listed", False: "NO", None: "–"}[line.listed],
            "–" if line.last_ok is None else str(line.last_ok),
            str(line.refusals),
            str(line.errors),
            _size(line.bytes_up),
            *(_epsilon(values[name]) for name in ("epsilon_spent", "epsilon_left")),
        )
    return table


def _epsilon(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
