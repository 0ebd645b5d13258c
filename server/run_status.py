"""How a run stands, read from its folder alone: while it goes on, and after.

The gate reads it, too, so nothing that loads a model is imported here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from common.run_folder import CONFIG_FILE, RunFolder
from server.run_lock import is_at_work

RunState = Literal["running", "finished", "ended", "interrupted"]
RUN_STATES: tuple[RunState, ...] = ("running", "finished", "ended", "interrupted")
"""``ended``: with a fault that is on record; ``interrupted``: without a word, to be resumed."""


@dataclass(frozen=True)
class SiteLine:
    """What a run's records say of one site.

    Attributes:
        site: its name, or ``node-ID`` while the server has not learnt it.
        listed: whether a node key of that name may connect; None where that is not known.
        last_ok: the last round in which its answer was used; 0 for what comes before training.
        refusals: how often it said no.
        errors: how often its answer was missing or could not be used.
        reason: of the latest of both, with the round.
        bytes_up: received from it in all.
        epsilon_spent: total ε of its ledger, as it stated last.
        epsilon_left: of its own limit, as it declared last.
    """

    site: str
    listed: bool | None = None
    last_ok: int | None = None
    refusals: int = 0
    errors: int = 0
    reason: str = ""
    bytes_up: int = 0
    epsilon_spent: float | None = None
    epsilon_left: float | None = None


@dataclass(frozen=True)
class RunStatus:
    """How one run stands.

    Attributes:
        run: name of its folder.
        state: see `RUN_STATES`.
        server_round: the last round on record; 0 before the first.
        rounds: how many are planned.
        last_ended: when the last one on record ended, UTC, ISO 8601.
        fault: why the last one on record came to nothing, where it did.
        statuses: how many sites had which status in it.
        sites: by name.
    """

    run: str
    state: RunState
    server_round: int
    rounds: int
    last_ended: str | None
    fault: str
    statuses: dict[str, int]
    sites: tuple[SiteLine, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    def with_keys(self, listed: Iterable[str]) -> RunStatus:
        """The same, with every site whose key is in `listed` marked, or added."""
        keys = set(listed)
        known = {line.site: line for line in self.sites}
        names = sorted(known.keys() | keys)
        lines = [replace(known.get(n, SiteLine(n)), listed=n in keys) for n in names]
        return replace(self, sites=tuple(lines))


def run_status(path: Path) -> RunStatus:
    """How the run in the folder `path` stands.

    Raises:
        RunFolderError: there is no run, or a file of it is damaged.
        ConfigError: its configuration is none.
    """
    folder = RunFolder.open(path)
    at_work = is_at_work(path)  # first: what ends after this look is still on record
    lines, config = folder.read_rounds(), folder.read_config()
    last: Mapping[str, Any] = lines[-1] if lines else {}
    state = "running" if at_work else _state_at_rest(folder, lines, config.federation.rounds)
    return RunStatus(
        run=path.resolve().name,
        state=state,
        server_round=int(last.get("server_round", 0)),
        rounds=config.federation.rounds,
        last_ended=_ended(last) if last else None,
        fault=printable(last.get("fault") or _lacking(last) if state == "ended" else ""),
        statuses=dict(Counter(each["status"] for each in last.get("sites", ()))),
        sites=_site_lines(lines),
    )


def current_run(runs: Path) -> Path | None:
    """The run in `runs` that a server is at work on; else the one that was begun last."""
    found = [
        (file.stat().st_mtime_ns, file.parent) for file in runs.glob(f"*/{CONFIG_FILE}")
    ]  # the configuration is written once
    newest_first = [path for _, path in sorted(found, reverse=True)]
    at_work = [path for path in newest_first if is_at_work(path)]
    return next(iter([*at_work, *newest_first]), None)


def printable(text: str) -> str:
    """`text` without what could steer a terminal: it comes from a site."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _state_at_rest(folder: RunFolder, lines: list[dict[str, Any]], rounds: int) -> RunState:
    if not folder.checkpoint_file.is_file():
        return "interrupted"
    state = folder.read_checkpoint()[1]  # as `server.checkpoint.Progress` has it
    known = int(state.get("lines", len(lines)))
    if len(lines) > known:  # a line without a checkpoint ended the run
        return "ended"
    is_done = int(state.get("server_round", 0)) >= rounds and len(lines) == known
    return "finished" if is_done else "interrupted"


def _ended(line: Mapping[str, Any]) -> str:
    ended = datetime.fromisoformat(line["started_at"]) + timedelta(seconds=line["seconds"])
    return ended.isoformat(timespec="seconds")


def _lacking(line: Mapping[str, Any]) -> str:
    good = sum(site["status"] == "ok" for site in line["sites"])
    return f"{good} of {len(line['sites'])} sites gave a usable answer"


def _site_lines(lines: Iterable[Mapping[str, Any]]) -> tuple[SiteLine, ...]:
    found: dict[str, SiteLine] = {}
    for line in lines:
        for heard in (*line["sites"], *line.get("evaluation_faults", ())):
            name = printable(heard["site"])
            found[name] = _after(found.get(name, SiteLine(name)), heard, line["server_round"])
    return tuple(found[name] for name in sorted(found))


def _after(site: SiteLine, heard: Mapping[str, Any], server_round: int) -> SiteLine:
    site = replace(
        site,
        bytes_up=site.bytes_up + heard["bytes_up"],
        epsilon_spent=_newer(heard.get("epsilon_prv"), site.epsilon_spent),
        epsilon_left=_newer(heard.get("epsilon_left"), site.epsilon_left),
    )
    if heard["status"] == "ok":
        return replace(site, last_ok=server_round)
    reason = printable(f"round {server_round}: {heard['reason'] or heard['status']}")
    if heard["status"] == "refused":
        return replace(site, refusals=site.refusals + 1, reason=reason)
    return replace(site, errors=site.errors + 1, reason=reason)


def _newer(stated: float | None, before: float | None) -> float | None:
    return before if stated is None else stated
