"""How often the audit's gates fail correct runs, which they may at their stated rate alone.

Run it by ``PYTHONPATH=. python -m benchmarks.audit_validity [--runs 200] [--jobs 2] [--out DIR]``
(or ``make audit-validity``). Every run is the production step and sampler at ε = 1 on the smallest
model; what it may not do is said in `simulations.audit.validity`. A table on stdout;
``validity.json`` and ``validity.md`` in DIR. Exit code 1 where a gate failed too often.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import torch

from common.noise_plan import noise_multiplier
from simulations.audit import validity
from simulations.audit.finding import Finding
from simulations.audit.probes.case import ProbeCase

RECORD, TABLE = "validity.json", "validity.md"


@lru_cache(maxsize=1)
def case() -> ProbeCase:
    torch.set_num_threads(1)
    return validity.correct_case()


def audited(seed: int | None) -> list[Finding]:
    return validity.audited_once(case(), seed)


def table(counts: list[validity.GateCount]) -> Iterator[str]:
    yield "| gate | correct runs | failed | ε_lb above the claim | largest ε_lb |"
    yield "|---|---|---|---|---|"
    for each in counts:
        above = "–" if each.above is None else str(each.above)
        largest = "–" if each.largest is None else f"{each.largest:.3f}"
        yield f"| {each.gate} | {each.runs} | {each.failures} | {above} | {largest} |"


def allowed(gate: validity.GateCount) -> bool:
    most = 0 if gate.gate == "step" else validity.MOST_FAILURES * gate.runs / validity.RUNS
    return gate.failures <= most and (gate.above or 0) <= most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=validity.RUNS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--seed", type=int, default=None, help="first seed; none: cannot be repeated"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/audit"))
    given = parser.parse_args()
    seeds = [None if given.seed is None else given.seed + run for run in range(given.runs)]
    found = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for number, findings in enumerate(pool.map(audited, seeds), start=1):
            found.append(findings)
            print(f"\r{number} of {given.runs}", end="", file=sys.stderr, flush=True)
    counts = validity.counted(found)
    config = case().config
    record = {
        "claimed_epsilon": validity.EPSILON,
        "delta": validity.DELTA,
        "noise_multiplier": noise_multiplier(config),
        "sample_rate": validity.SAMPLE_RATE,
        "steps": validity.STEPS,
        "alpha": validity.ALPHA,
        "most_failures_of_200": validity.MOST_FAILURES,
        "seed": given.seed,
        "gates": [asdict(each) for each in counts],
    }
    lines = list(table(counts))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (given.out / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n" + "\n".join(lines))
    return 0 if all(map(allowed, counts)) else 1


if __name__ == "__main__":
    sys.exit(main())
