"""The audit examined: each known bug, planted in a scratch copy, must be seen by its check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import PrivacyError
from simulations.audit.finding import Finding
from simulations.audit.mutants.fourteen import MUTANTS
from simulations.audit.mutants.mutant import Mutant, scratch_copy

UNMUTATED = "unmutated"
RESULT, TROUBLE = "findings.json", "trouble.txt"  # as `fork_host` names them


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant.

    Attributes:
        mutant: its name; `UNMUTATED` is the build as it is.
        check: the finding that decides.
        killed: whether the check failed (of the unmutated build: whether any did, or broke).
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
        An outcome as soon as it is there.

    Raises:
        PrivacyError: a mutant does not fit the code.
    """
    with tempfile.TemporaryDirectory(prefix="fedrec-mutants-") as folder:
        cases = [_Case.written(Path(folder).resolve(), None, mutants := tuple(mutants))]
        cases += [_Case.written(Path(folder).resolve(), each, mutants) for each in mutants]
        for number in _worked_off(cases, jobs):
            yield cases[number].outcome()


@dataclass(frozen=True)
class _Case:
    """A scratch copy, and the rooms that are run on it."""

    mutant: Mutant | None
    packages: Path
    rooms: tuple[str, ...]

    @classmethod
    def written(cls, folder: Path, mutant: Mutant | None, mutants: tuple[Mutant, ...]) -> _Case:
        """Copies the packages and plants the mutant."""
        if mutant is None:
            rooms = tuple(sorted({each.room for each in mutants}))
            return cls(None, scratch_copy(folder / "sound"), rooms)
        packages = scratch_copy(folder / f"mutant-{mutants.index(mutant)}")
        mutant.planted(packages)
        return cls(mutant, packages, (mutant.room,))

    def outcome(self) -> Outcome:
        """What the copy's process left behind."""
        name = UNMUTATED if self.mutant is None else self.mutant.name
        result = self.packages / RESULT
        if not result.exists():
            words = (self.packages / TROUBLE).read_text(encoding="utf-8").strip().splitlines()
            reason = f"its process broke, and saw nothing: {words[-1] if words else 'no word'}"
            check = "" if self.mutant is None else self.mutant.check
            return Outcome(name, check, self.mutant is None, reason)
        content = json.loads(result.read_text(encoding="utf-8"))
        if content["packages"] != str(self.packages):
            raise PrivacyError(f"the checks on {name!r} ran on {content['packages']}, not its copy")
        findings = [Finding.model_validate(each) for each in content["findings"]]
        return _sound(findings) if self.mutant is None else _judged(self.mutant, findings)


def _worked_off(cases: list[_Case], jobs: int) -> Iterator[int]:
    """The numbers of the cases as they end."""
    tasks = [{"packages": str(each.packages), "rooms": each.rooms} for each in cases]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with subprocess.Popen(
        [sys.executable, "-P", fork_host_path()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cases[0].packages.parent,
        env=environment | {"OMP_NUM_THREADS": "1"},
    ) as host:
        if host.stdin is None or host.stdout is None:
            raise PrivacyError("the self-test's process has no standard input or output")
        host.stdin.write(json.dumps({"tasks": tasks, "jobs": jobs}))
        host.stdin.close()
        for line in host.stdout:
            yield int(line)
    if host.returncode:
        raise PrivacyError(f"the self-test's process ended with code {host.returncode}")


def fork_host_path() -> str:
    """The script that loads the libraries once; see there."""
    return str(Path(__file__).with_name("mutants") / "fork_host.py")


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


def table(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """One line per outcome: mutant, named check, killed or survived."""
    for each in outcomes:
        fate = "killed" if each.killed else "survived"
        mark = "" if each.as_it_should_be else "  <- WRONG"
        yield f"{each.mutant:<32} {each.check:<32} {fate}{mark}  {each.reason}"
