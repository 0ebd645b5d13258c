"""What must hold after a campaign; each check returns what is wrong, in words."""

from __future__ import annotations

import fcntl
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.accounting import epsilon
from common.privacy_events import event_from_dict

Line = Mapping[str, Any]
Ledgers = Mapping[str, Mapping[str, Any]]
"""The export of each site's ledger by site."""

TOLERANCE = 1e-3
"""Pessimistic rounding of the independent accountant (`common.accounting`)."""


def charged(export: Mapping[str, Any]) -> list[Line]:
    """The entries of a ledger that cost something."""
    return [entry for entry in export["releases"] if entry["event"] is not None]


def rounds_in_order(rounds: Sequence[Line], last: int) -> list[str]:
    """Every round has one line, from the popularity release to the last."""
    found = [line["server_round"] for line in rounds]
    return [] if found == [*range(last + 1)] else [f"rounds on record: {found}, not 0 … {last}"]


def adapters_as_recomputed(
    rounds: Sequence[Line], recomputed: Sequence[str | None], on_disk: str
) -> list[str]:
    """Every round's adapter, and the file's, is the recomputed one bit for bit."""
    wrong = [
        f"round {line['server_round']}: the adapter is not the recomputed one"
        for line, sha256 in zip(rounds, recomputed, strict=True)
        if line["adapter_sha256"] is not None and line["adapter_sha256"] != sha256
    ]
    last = [line["adapter_sha256"] for line in rounds if line["adapter_sha256"]][-1:]
    if last != [on_disk]:
        wrong.append(f"the adapter's file is {on_disk[:12]}…, the record says {last}")
    return wrong


def releases_in_ledgers(releases: Sequence[Line], ledgers: Ledgers) -> list[str]:
    """What the server has on record stands in the site's ledger once, at the same price."""
    wrong = []
    for line in releases:
        entries = [
            entry for entry in ledgers[line["site"]]["releases"] if _key(entry) == _key(line)
        ]
        what = f"{line['site']}, {line['kind']} of round {line['server_round']}"
        if len(entries) != 1:
            wrong.append(f"{what}: on record, and {len(entries)} times in the ledger")
            continue
        (entry,) = entries
        stated = entry["record"]["payload_sha256"]
        if (entry["event"], stated) != (line["event"], line["payload_sha256"]):
            wrong.append(f"{what}: the ledger has another price or other bytes")
    return wrong


def nothing_twice(releases: Sequence[Line], ledgers: Ledgers) -> list[str]:
    """No release is on record twice, none is charged twice, whatever run it was charged for."""
    wrong = []
    on_record = Counter((line["site"], *_key(line)) for line in releases)
    wrong += [f"{key} is on record {n} times" for key, n in on_record.items() if n > 1]
    for site, export in ledgers.items():
        paid = Counter((entry["server_round"], entry["kind"]) for entry in charged(export))
        wrong += [f"{site} paid {n} times for {key}" for key, n in paid.items() if n > 1]
    return wrong


def nothing_lost(rounds: Sequence[Line], releases: Sequence[Line], ledgers: Ledgers) -> list[str]:
    """What a site paid for is on record, or its round's line says that the site was left out.

    A node that was left out before its site had told its name stands there by its number.
    """
    on_record = {(line["site"], *_key(line)) for line in releases}
    left_out = {
        (site["site"], line["run"], line["server_round"])
        for line in rounds
        for site in line["sites"]
        if site["status"] != "ok" and site["reason"]
    }
    nameless = Counter(
        (line["run"], line["server_round"])
        for line in rounds
        for site in line["sites"]
        if site["status"] != "ok" and site["reason"] and site["site"].startswith("node-")
    )
    unknown = [
        (site, entry)
        for site, export in ledgers.items()
        for entry in charged(export)
        if (site, *_key(entry)) not in on_record
        and (site, entry["run"], entry["server_round"]) not in left_out
    ]
    wrong = []
    for site, entry in unknown:
        place = entry["run"], entry["server_round"]
        if nameless[place]:
            nameless[place] -= 1
            continue
        wrong.append(
            f"{site} paid for {entry['kind']} of round {entry['server_round']}, and no record tells"
        )
    return wrong


def nothing_free(rounds: Sequence[Line], ledgers: Ledgers) -> list[str]:
    """What was added up was paid for."""
    kinds = {0: "popularity"}
    return [
        f"{site['site']} is in the sum of round {line['server_round']} and did not pay"
        for line in rounds
        for site in line["sites"]
        if site["status"] == "ok"
        and not any(
            _key(entry)
            == (line["run"], line["server_round"], kinds.get(line["server_round"], "update"))
            for entry in charged(ledgers[site["site"]])
        )
    ]


def no_ledger_under_counts(
    rounds: Sequence[Line], releases: Sequence[Line], ledgers: Ledgers
) -> list[str]:
    """What was stated is what the ledger's own events cost, and no less by another accountant.

    Every ε on record is recomputed from the events that the ledger holds up to that entry. The
    total is held against `dp_accounting`'s privacy loss distributions, too, which have no code in
    common with the accountant that is recorded.
    """
    wrong = []
    for site, export in ledgers.items():
        entries = sorted(charged(export), key=lambda each: int(each["seq"]))
        events = [event_from_dict(entry["event"]) for entry in entries]
        cost = {
            _key(entry): epsilon(events[:number], float(entry["delta"]))
            for number, entry in enumerate(entries, start=1)
        }
        for line in (each for each in releases if each["site"] == site):
            said, upper = line["epsilon_prv"] or 0.0, cost.get(_key(line), 0.0)
            if abs(said - upper) > TOLERANCE:
                wrong.append(
                    f"{site}, round {line['server_round']}: ε={said:.4f} on record, the events of "
                    f"its ledger cost {upper:.4f}"
                )
        total = max(cost.values(), default=0.0)
        lines = [s["epsilon_prv"] or 0.0 for r in rounds for s in r["sites"] if s["site"] == site]
        if max(lines, default=0.0) > total + TOLERANCE:
            wrong.append(f"{site}: rounds.jsonl has ε={max(lines):.4f}, its ledger {total:.4f}")
        if entries:
            least = epsilon(events, float(entries[-1]["delta"]), "pld")
            if total < least - TOLERANCE:
                wrong.append(f"{site}: its ledger has ε={total:.4f}, it cost {least:.4f}")
    return wrong


def nothing_left_behind(folders: Iterable[Path], processes: Sequence[str]) -> list[str]:
    """No half-written file, no held lock, no app that still runs."""
    wrong = [f"still running: {each}" for each in processes]
    for folder in folders:
        wrong += [f"half-written: {path.name} in {folder.name}" for path in folder.rglob("*.tmp")]
        wrong += [
            f"still locked: {path.name} of {folder.name}"
            for path in [folder, *folder.rglob("*lock")]
            if _is_locked(path)
        ]
    return wrong


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FLOWER_S = re.compile(r"(INFO|WARNING) *:  ")


def clean_refusal(code: int, said: str) -> list[str]:
    """One line and exit code 2; Flower's own log is not the command's."""
    plain = [_COLOUR.sub("", line).strip() for line in said.splitlines()]
    lines = [line for line in plain if line and not _FLOWER_S.match(line)]
    wrong = [] if code == 2 else [f"exit code {code}, not 2"]
    if len(lines) != 1 or "Traceback" in said:
        wrong.append(f"{len(lines)} lines on stderr, not 1: {said[-300:]!r}")
    return wrong


def _key(entry: Line) -> tuple[str, int, str]:
    return (str(entry["run"]), int(entry["server_round"]), str(entry["kind"]))
