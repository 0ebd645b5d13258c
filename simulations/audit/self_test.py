"""The audit examined: each known bug, planted in a scratch copy, must be seen by its check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from common.errors import PrivacyError
from simulations.audit.finding import Finding
from simulations.audit.mutants.fourteen import MUTANTS
from simulations.audit.mutants.mutant import Mutant, scratch_copy

UNMUTATED = "unmutated"
_DEADLINE_S = 600.0


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant.

    Attributes:
        mutant: its name; `UNMUTATED` is the build as it is.
        check: the finding that decides.
        killed: whether the check failed (of the unmutated build: whether any did).
        reason: what the check said.
    """

    mutant: str
    check: str
    killed: bool
    reason: str

    @property
    def as_it_should_be(self) -> bool:
        """Every mutant must be killed, and the build as it is must not."""
        return self.killed is (self.mutant != UNMUTATED)


def self_test(mutants: Iterable[Mutant] = MUTANTS, *, jobs: int = 1) -> Iterator[Outcome]:
    """Runs the unmutated build and then each mutant, in processes of their own.

    Args:
        mutants: which; their rooms are run on the unmutated build, too.
        jobs: processes at a time.

    Yields:
        The unmutated build first, then the mutants in order.

    Raises:
        PrivacyError: a mutant does not fit the code, or a check's process broke.
    """
    chosen = tuple(mutants)
    rooms = sorted({mutant.room for mutant in chosen})
    with ThreadPoolExecutor(jobs) as pool:
        sound = pool.submit(_findings, None, rooms)
        mutated = [pool.submit(_findings, each, [each.room]) for each in chosen]
        yield _sound(sound.result())
        for mutant, findings in zip(chosen, mutated, strict=True):
            yield _judged(mutant, findings.result())


def _sound(findings: list[Finding]) -> Outcome:
    failed = [each for each in findings if each.refutes]
    reason = failed[0].reason if failed else f"{len(findings)} checks, none failed"
    return Outcome(UNMUTATED, ", ".join(each.name for each in failed), bool(failed), reason)


def _judged(mutant: Mutant, findings: list[Finding]) -> Outcome:
    named = [each for each in findings if each.name.startswith(mutant.check)]
    if not named:
        raise PrivacyError(f"mutant {mutant.name!r}: no check is named {mutant.check}; name one")
    failed = [each for each in named if each.refutes]
    seen = failed[0] if failed else named[0]
    return Outcome(mutant.name, seen.name, bool(failed), seen.reason)


def _findings(mutant: Mutant | None, rooms: list[str]) -> list[Finding]:
    with tempfile.TemporaryDirectory(prefix="fedrec-mutant-") as folder:
        packages = scratch_copy(Path(folder).resolve())
        if mutant is not None:
            mutant.planted(packages)
        name = UNMUTATED if mutant is None else mutant.name
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "simulations.audit.named_checks", *rooms],
            cwd=packages,
            env=os.environ | {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
        )
        return _read(done, name, packages)


def _read(done: subprocess.CompletedProcess[str], name: str, packages: Path) -> list[Finding]:
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise PrivacyError(f"the checks on {name!r} broke: {last}; a broken check sees nothing")
    content = json.loads(done.stdout)
    if content["packages"] != str(packages):
        raise PrivacyError(
            f"the checks on {name!r} ran on {content['packages']}, not on their scratch copy"
        )
    return [Finding.model_validate(each) for each in content["findings"]]


def table(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """One line per outcome: mutant, named check, killed or survived."""
    for each in outcomes:
        fate = "killed" if each.killed else "survived"
        mark = "" if each.as_it_should_be else "  <- WRONG"
        yield f"{each.mutant:<32} {each.check:<32} {fate}{mark}  {each.reason}"


def main() -> int:
    """Prints the table; exit code 1 where a mutant survived or the build failed a check."""
    outcomes = []

    def noted() -> Iterator[Outcome]:
        for each in self_test():
            outcomes.append(each)
            yield each

    for line in table(noted()):
        print(line, flush=True)
    return 0 if all(each.as_it_should_be for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
