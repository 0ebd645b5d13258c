"""A known privacy bug as an exact replacement of text in one file."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from common.errors import PrivacyError

PACKAGES = ("client", "common", "server", "simulations")


@dataclass(frozen=True)
class Mutant:
    """One bug, and the check that must see it.

    Attributes:
        name: as in the audit's list.
        file: path within the packages.
        old: text that stands in the file exactly once.
        new: what the bug has in its place.
        room: the room (`simulations.audit.named_checks`) that is run on the bug.
        check: the start of the name of the finding that must fail.
    """

    name: str
    file: str
    old: str
    new: str
    room: str
    check: str

    def planted(self, packages: Path) -> None:
        """Writes the bug into a scratch copy of the packages.

        Raises:
            PrivacyError: the text is not there exactly once: the mutant is out of date.
        """
        path = packages / self.file
        text = path.read_text(encoding="utf-8")
        found = text.count(self.old)
        if found != 1:
            raise PrivacyError(
                f"mutant {self.name!r}: its text stands {found} times in {self.file}, not once; "
                "bring the mutant up to date with the code"
            )
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def scratch_copy(folder: Path) -> Path:
    """Copies the running packages to `folder`; what is changed there is nobody else's."""
    root = Path(__file__).resolve().parents[3]
    for package in PACKAGES:
        shutil.copytree(
            root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return folder
