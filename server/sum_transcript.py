"""What was said in a sum that is not over, so that a killed server goes on where it was.

A sum's transcript is a folder with one file per finished stage: who was invited, then the
sites' answers to each stage. A file is written before the next stage is asked for; from the
files the server's messages follow byte for byte, so that no site is ever sent two different
ones. A stage without its file is asked again, and the sites answer it with the same bytes as
before. In mode `central` there is one file after the invitation: the sum *with* its noise, so
that one sum is never shown under two draws of the noise; the sites' exact parts are not kept.

The files hold no more than the server was sent; mode 0600 all the same. Each starts with the
SHA-256 of the rest. The folder goes when its round is on record.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from common.atomic_files import file_errors, write_bytes
from common.errors import RunFolderError
from common.release_record import ReleaseRecord
from server.round_record import SiteRound

FOLDER = Path("checkpoint") / "sums"
INVITED, NOISED = "invited", "noised"
_OWN_MODE = 0o600


@dataclass(frozen=True)
class Invited:
    """A site that the sum is over, as it had enrolled.

    Attributes:
        identity: its Ed25519 public key, hexadecimal.
        declared_units: number of its units.
    """

    identity: str
    declared_units: int


@dataclass(frozen=True)
class KeptStage:
    """One finished stage.

    Attributes:
        answers: what each site said, by site; in mode `central` nothing but their names.
        total: the packed sum with its noise, in mode `central`.
        faults: what the record will say of the sites that are out.
        bytes_up: of each site up to here.
        epsilons: what each site's ledger stated.
        releases: the records of the parts that were sent; they may not be on record yet.
        left: what each site declared to be left of its limit.
    """

    answers: dict[str, bytes]
    faults: dict[str, SiteRound]
    bytes_up: dict[str, int]
    epsilons: dict[str, float | None]
    releases: tuple[ReleaseRecord, ...]
    total: bytes = b""
    left: dict[str, float | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain values by name."""
        return {
            "answers": {site: _text(answer) for site, answer in self.answers.items()},
            "faults": [asdict(line) for line in self.faults.values()],
            "bytes_up": self.bytes_up,
            "epsilons": self.epsilons,
            "left": self.left,
            "releases": [release.model_dump(mode="json") for release in self.releases],
            "total": _text(self.total),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        faults = [SiteRound(**line) for line in values["faults"]]
        return cls(
            answers={site: base64.b64decode(each) for site, each in values["answers"].items()},
            faults={line.site: line for line in faults},
            bytes_up=dict(values["bytes_up"]),
            epsilons=dict(values["epsilons"]),
            left=dict(values.get("left", {})),  # none in a transcript of before
            releases=tuple(ReleaseRecord.model_validate(each) for each in values["releases"]),
            total=base64.b64decode(values["total"]),
        )


class SumTranscript:
    """The files of one sum, or none at all where no folder is given."""

    def __init__(self, run_folder: Path | None, run: str, number: int) -> None:
        """Names them.

        Args:
            run_folder: the run's folder; None: nothing is kept.
            run: name of the run.
            number: of the sum within the run.
        """
        self._folder = None if run_folder is None else run_folder / FOLDER / _name(number)
        self._what = {"run": run, "sum": number}

    def invited(self) -> dict[str, Invited] | None:
        """Whom the sum was begun with, by name; None: it was not begun."""
        values = self._read(INVITED)
        if values is None:
            return None
        return {name: Invited(**member) for name, member in values["members"].items()}

    def invite(self, members: Mapping[str, Invited]) -> None:
        """Begins the sum.

        Raises:
            RunFolderError: the file system refuses (as in `keep`); nothing was asked yet.
        """
        self._write(INVITED, {"members": {name: asdict(m) for name, m in members.items()}})

    def stage(self, name: str) -> KeptStage | None:
        """A finished stage, or None where it is to be asked for."""
        values = self._read(name)
        return None if values is None else KeptStage.from_json(values)

    def keep(self, name: str, stage: KeptStage) -> None:
        """Writes a finished stage down, before anything follows from it."""
        self._write(name, stage.to_json())

    def _write(self, name: str, values: Mapping[str, object]) -> None:
        if self._folder is None:
            return
        with file_errors("make", self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps({**self._what, "stage": name, **values}, allow_nan=False).encode()
        digest = hashlib.sha256(text).hexdigest().encode()
        write_bytes(self._folder / name, digest + b"\n" + text, mode=_OWN_MODE)

    def _read(self, name: str) -> dict[str, Any] | None:
        if self._folder is None or not (self._folder / name).exists():
            return None
        path = self._folder / name
        with file_errors("read", path):
            digest, _, text = path.read_bytes().partition(b"\n")
        values: dict[str, Any] = {}
        if hashlib.sha256(text).hexdigest().encode() == digest:
            values = json.loads(text)
        if any(values.get(key) != value for key, value in {**self._what, "stage": name}.items()):
            raise RunFolderError(
                f"{path} is damaged, or of another sum; restore it, or remove {path.parent}: the "
                "sum is then asked for anew, and abandoned where a site has left meanwhile"
            )
        return values


def discard_transcripts(run_folder: Path, *, but: int | None = None) -> None:
    """Removes the transcripts of a run's sums: their rounds are on record.

    Args:
        run_folder: the run's folder.
        but: number of the sum that is open, if one is.

    Raises:
        RunFolderError: the file system refuses.
    """
    folder = run_folder / FOLDER
    kept = "" if but is None else _name(but)
    with file_errors("remove", folder):
        for path in folder.iterdir() if folder.exists() else ():
            if path.name != kept:
                shutil.rmtree(path)


def _name(number: int) -> str:
    return f"{number:06d}"


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
