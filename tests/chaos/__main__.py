"""``python -m tests.chaos --seeds 0-11 --write docs/chaos.md``: see that page.

Campaigns on record are not run again (``--again`` does); their lines lie in ``chaos.jsonl``
beside the page. Exit code 1 where an invariant is broken.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.process_environment import quiet_third_parties
from tests.chaos import results


def seeds_of(text: str) -> list[int]:
    """``0-3,7``: 0, 1, 2, 3 and 7."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("0-11"))
    parser.add_argument("--faults", type=int, default=8, help="of one campaign")
    parser.add_argument("--mode", default="", help="of privacy; default: by the seed")
    parser.add_argument("--write", type=Path, help="the page, e.g. docs/chaos.md")
    parser.add_argument("--again", action="store_true", help="also seeds on record")
    parser.add_argument("--keep", type=Path, help="folder for deployments that went wrong")
    asked = parser.parse_args()
    quiet_third_parties()
    from tests.chaos.campaign import run_campaign

    record = None if asked.write is None else asked.write.with_suffix(".jsonl")
    known = {} if record is None else results.done(record)
    for seed in asked.seeds:
        if seed in known and not asked.again:
            continue
        known[seed] = run_campaign(seed, mode=asked.mode, faults=asked.faults, keep=asked.keep)
        ended, broken = known[seed]["ended"], known[seed]["broken"]
        print(f"seed {seed}: {ended} in {known[seed]['seconds']} s; broken: {broken or 'nothing'}")
        if record is not None:
            results.add(record, known[seed])
            known = results.done(record)  # another process may have added some
            results.write_page(asked.write, [known[each] for each in sorted(known)])
    if record is not None:
        results.write_page(asked.write, [known[each] for each in sorted(known)])
    return int(any(campaign["broken"] for campaign in known.values()))


if __name__ == "__main__":
    sys.exit(main())
