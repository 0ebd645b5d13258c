"""How often the audit's gates fail correct runs, which they may at their stated rate alone.

Run it by ``PYTHONPATH=. python -m benchmarks.audit_validity [--runs 200] [--self-tests 50]
[--jobs 2] [--out DIR]`` (or ``make audit-validity``). Every run is the production step and sampler
at ε = 1 on the smallest model; then all checks of the self-test see the build as it is, again and
again. What may not happen is said in `simulations.audit.validity`. Two tables on stdout;
``validity.json`` and ``validity.md`` in DIR. Exit code 1 where a check failed too often.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import torch

from common.noise_plan import noise_multiplier
from simulations.audit import validity
from simulations.audit.finding import Finding
from simulations.audit.named_checks import ROOMS, self_tested
from simulations.audit.probes.case import ProbeCase

RECORD, TABLE = "validity.json", "validity.md"


@lru_cache(maxsize=1)
def case() -> ProbeCase:
    torch.set_num_threads(1)
    return validity.correct_case()


def audited(seed: int | None) -> list[Finding]:
    return validity.audited_once(case(), seed)


def unmutated(_: int) -> list[Finding]:
    torch.set_num_threads(1)
    return self_tested(ROOMS)


def table(
    counts: list[validity.GateCount], alarms: list[validity.AlarmCount], tests: int
) -> Iterator[str]:
    yield "# How often the audit fails a correct build"
    yield ""
    yield "Written by `make audit-validity`."
    yield ""
    yield (
        f"Gates over correct runs of the production step and sampler, claimed ε = "
        f"{validity.EPSILON:g}, α = {validity.ALPHA:.0%} each; at most "
        f"{validity.MOST_FAILURES} of {validity.RUNS} may fail, of the exact gate `step` none."
    )
    yield ""
    yield "| gate | correct runs | failed | ε_lb above the claim | largest ε_lb |"
    yield "|---|---|---|---|---|"
    for each in counts:
        above = "–" if each.above is None else str(each.above)
        largest = "–" if each.largest is None else f"{each.largest:.3f}"
        yield f"| {each.gate} | {each.runs} | {each.failures} | {above} | {largest} |"
    yield ""
    yield f"All checks of the self-test on the build as it is, {tests} times."
    yield ""
    yield "| check | finding | runs | failed | stated rate |"
    yield "|---|---|---|---|---|"
    for alarm in alarms:
        rate = f"{alarm.rate:.1g}" if alarm.rate else "exact"
        yield f"| {alarm.check} | {alarm.name} | {alarm.runs} | {alarm.failures} | {rate} |"


def allowed(gate: validity.GateCount) -> bool:
    most = 0 if gate.gate == "step" else validity.MOST_FAILURES * gate.runs / validity.RUNS
    return gate.failures <= most and (gate.above or 0) <= most


def shown(runs: Iterable[list[Finding]], of: int) -> Iterator[list[Finding]]:
    """The runs, and on stderr how many there are."""
    for number, findings in enumerate(runs, start=1):
        print(f"\r{number} of {of}", end="", file=sys.stderr, flush=True)
        yield findings
    print(file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=validity.RUNS)
    parser.add_argument("--self-tests", type=int, default=validity.SELF_TESTS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--seed", type=int, default=None, help="first seed; none: cannot be repeated"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/audit"))
    given = parser.parse_args()
    seeds = [None if given.seed is None else given.seed + run for run in range(given.runs)]
    with ProcessPoolExecutor(given.jobs) as pool:
        counts = validity.counted(shown(pool.map(audited, seeds), given.runs))
        tests = pool.map(unmutated, range(given.self_tests))
        alarms = validity.alarms(shown(tests, given.self_tests))
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
        "self_tests": given.self_tests,
        "checks": [asdict(each) for each in alarms],
    }
    lines = list(table(counts, alarms, given.self_tests))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (given.out / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n" + "\n".join(lines))
    sound = all(map(allowed, counts)) and all(each.as_stated for each in alarms)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
