"""The campaigns that were run: a JSON line each, and the page that is written from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.atomic_files import append_json_lines, read_json_lines, write_text

Campaign = Mapping[str, Any]


def done(path: Path) -> dict[int, Campaign]:
    """Campaigns on record, by seed; of a seed that was run again, the last."""
    return {int(line["seed"]): line for line in read_json_lines(path)}


def add(path: Path, campaign: Campaign) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    append_json_lines(path, [campaign])


def write_page(path: Path, campaigns: Sequence[Campaign]) -> None:
    write_text(path, "\n".join(_page(campaigns)) + "\n")


def real_faults(campaign: Campaign) -> list[Mapping[str, Any]]:
    return [each for each in campaign["faults"] if each["is_real"]]


def _page(campaigns: Sequence[Campaign]) -> Iterator[str]:
    faults = [each for campaign in campaigns for each in real_faults(campaign)]
    ends = Counter(each["ended"] for each in campaigns)
    broken = sum(bool(each["broken"]) for each in campaigns)
    yield HEAD
    yield (
        f"**{len(faults)} faults in {len(campaigns)} campaigns**: "
        + ", ".join(f"{count} {how}" for how, count in sorted(ends.items()))
        + f"; {sum(c['resumes'] for c in campaigns)} resumes; "
        + f"campaigns with a broken invariant: {broken}."
    )
    yield ""
    yield "| what went wrong | times |"
    yield "|---|---|"
    for sort, times in sorted(Counter(each["fault"]["sort"] for each in faults).items()):
        yield f"| {sort} | {times} |"
    yield ""
    yield "## Campaigns"
    yield ""
    yield "| seed | mode | faults that hit | ended | rounds | resumes | invariants | seconds |"
    yield "|---|---|---|---|---|---|---|---|"
    for each in campaigns:
        yield _row(each)
    yield ""
    codes = sorted({str(each.get("code", "")) for each in campaigns} - {""})
    yield f"Commits that ran: {', '.join(codes) or 'not known'}."
    yield ""
    yield "## Faults"
    yield ""
    yield "`at` counts from when all services were up."
    yield ""
    yield "| seed | at | fault | the run was | it hit |"
    yield "|---|---|---|---|---|"
    for campaign in campaigns:
        for each in campaign["faults"]:
            cells = (campaign["seed"], f"{each['at_s']:.0f} s", each["fault"]["what"])
            yield _cells(*cells, each["where"], each["what"])
    yield ""
    yield "## Sites left out, and rounds without a step"
    yield ""
    yield "| seed | round | what the record says |"
    yield "|---|---|---|"
    for campaign in campaigns:
        for line in campaign["lines"]:
            said = [f"{site}: {reason}" for site, reason in line["left_out"].items()]
            if line["fault"]:
                said.insert(0, f"abandoned: {line['fault']}")
            if said:
                yield _cells(campaign["seed"], line["server_round"], "; ".join(said))


def _row(campaign: Campaign) -> str:
    hit, planned = len(real_faults(campaign)), len(campaign["faults"])
    broken = "; ".join(f"{name}: {', '.join(w)}" for name, w in campaign["broken"].items())
    full = sum(line["ok"] == campaign["sites"] for line in campaign["lines"])
    return _cells(
        campaign["seed"],
        campaign["mode"],
        hit if hit == planned else f"{hit} of {planned}",
        campaign["ended"] + (f": {campaign['reason']}" if campaign["reason"] else ""),
        f"{len(campaign['lines'])} ({full} with all sites)",
        campaign["resumes"],
        broken or f"{len(campaign['checks'])} hold",
        campaign["seconds"],
    )


def _cells(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


HEAD = """\
# Chaos

Written by `make chaos`. Each campaign is one real deployment on one machine (SuperLink with TLS,
a database and node keys, the gate, three sites with a resident agent and a SuperNode each,
started from the unit files, restarted as their `Restart=` and `RestartSec=` say), one run, and
faults at random moments of it: SIGKILL, SIGSTOP, links that are cut, fall silent or are slow (a
TCP proxy between each SuperNode and the gate). The coordinator runs `fedrec-server resume` when
the ServerApp is gone and the run is not finished. A plan follows from its seed alone; what it
meets depends on the machine's timing.

Afterwards must hold:

- **The run ends** with its last round on record, or with a refusal of one line and exit code 2.
- **The adapter is right**: after *every* round its hash is that of an adapter computed again
  without any server or message, from the sites' data, the marked seeds and who the record calls
  `ok`: every part anew, added as whole numbers modulo 2^k (`distributed`, `central`) or averaged
  (`local`). Where all sites are `ok` this is the simulation's, bit for bit (a test compares the
  two).
- **No ledger under-counts**: every release on record stands in its site's ledger once, with the
  same price and bytes; the ε that was stated lies between an independent accountant's and the
  upper bound, over the ledger's own events up to there; `fedrec-site ledger verify --against
  releases.jsonl` is clean.
- **Nothing is paid twice** for one round and kind, under whatever run's name, and nothing is
  added up free.
- **Nothing is lost**: what a site paid for is on record, or its round's line says that it was
  left out.
- **Nothing is left behind**: no process of an app, no lock, no `*.tmp`.

Noise is seeded here so that adapters can be compared; such a run claims no privacy.

Found and mended by the first campaigns, each with a test that needs no deployment:

- A site that fell silent in a secure sum took the whole `federation.round_deadline_s`, and the sum
  was abandoned for want of time although the others were enough
  (`tests/server/test_sum_deadlines.py`).
- A link that was down for half a minute left too few sites for a sum, and every round that was left
  was abandoned within seconds (`tests/server/test_waiting_for_a_sum.py`).
- A server that was killed while it wrote left a half-written file for ever
  (`tests/server/test_resuming.py`).
"""
