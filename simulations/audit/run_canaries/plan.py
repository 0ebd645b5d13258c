"""What an audit run says of its canaries before its first round, and what only its lab knows.

The plan is public, and lies in the run's folder. The *secret* (who was in, and how every canary
scored) lies beside it, mode 0600, until an audit opens it. A hash of both stands in the run's
configuration, and so in every message of the run: nobody can choose another secret afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationError

from common.atomic_files import file_errors, read_json, write_bytes, write_json
from common.calibration import calibrate_noise_multiplier
from common.canonical_json import canonical_json
from common.config import RunConfig
from common.errors import EvidenceError
from simulations.audit.binomial_bounds import Bools
from simulations.audit.one_run.canary_audit import least_right_guesses
from simulations.audit.one_run.trade_off import GaussianTradeOff
from simulations.report.interval_record import Record

PLAN_FILE, SECRET_FILE = "canaries.json", "canaries-secret.json"
DEFAULT_CANARIES = 1000
SCORE = "ridge estimate of each coin from all noised sums, the real users' part taken out"
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
_PLANNED_ALPHA = 0.005
_LATER = {"commitment", "scores_sha256", "guesses_sha256"}
_DOMAIN = b"fedrec canaries 1\n"
Sha256 = str
T = TypeVar("T", bound=Record)


class CanaryPlan(Record):
    """The public side.

    Attributes:
        canaries: m, made-up users.
        guessed_in, guessed_out: k₊ and k₋ of the guessing.
        score: what canaries are ranked by.
        commitment: SHA-256 over the secret seed and the fields above.
        scores_sha256: of the scores, in the canaries' order; None until the run is over.
        guesses_sha256: of the guesses that follow from them; None until then, too.
    """

    schema_version: Literal[1] = 1
    canaries: int = Field(ge=1)
    guessed_in: int = Field(ge=0)
    guessed_out: int = Field(ge=0)
    score: str
    commitment: Sha256
    scores_sha256: Sha256 | None = None
    guesses_sha256: Sha256 | None = None


class CanarySecret(Record):
    """The lab's side: the seed of coins and histories, and the scores once there are any.

    Scores are made from the real users' exact sums, and no ε covers them: they are never opened.
    """

    schema_version: Literal[1] = 1
    seed: str = Field(pattern="^[0-9a-f]{64}$")
    scores: tuple[float, ...] = ()


class OpenedCanaries(Record):
    """What an audit opens: enough to count again, and no score.

    Attributes:
        seed: hex; coins and histories follow from it.
        guessed_in, guessed_out: places of the canaries that were guessed to be in, and out.
    """

    seed: str = Field(pattern="^[0-9a-f]{64}$")
    guessed_in: tuple[int, ...]
    guessed_out: tuple[int, ...]

    def right(self, canaries: int) -> int:
        """How many guesses were right, by the coins tossed again."""
        included = coins(self.seed, canaries)
        right_in, right_out = included[list(self.guessed_in)], ~included[list(self.guessed_out)]
        return int(right_in.sum() + right_out.sum())

    def sha256(self) -> Sha256:
        """The hash of the guesses."""
        return _hash([list(self.guessed_in), list(self.guessed_out)])


def begin(path: Path, config: RunConfig) -> tuple[RunConfig, CanarySecret]:
    """Draws the secret of an audit run and commits to it.

    Args:
        path: the run's folder; gets the plan and the secret.
        config: of the run.

    Returns:
        The configuration with the commitment in it, and the secret.
    """
    secret = CanarySecret(seed=secrets.token_hex(32))
    canaries = config.evaluation.audit_canaries
    guessed = planned_guesses(canaries, config)
    plan = CanaryPlan(
        canaries=canaries, guessed_in=guessed, guessed_out=guessed, score=SCORE, commitment=""
    )
    plan = plan.model_copy(update={"commitment": commitment(plan, secret.seed)})
    write_secret(path, secret)
    write_json(path / PLAN_FILE, plan.model_dump(mode="json"))
    evaluation = config.evaluation.model_copy(update={"audit_commitment": plan.commitment})
    return config.model_copy(update={"evaluation": evaluation}), secret


def planned_guesses(canaries: int, config: RunConfig) -> int:
    """k₊ = k₋: as few guesses as could refute the claim if all were right; all, if none could.

    A strong claim is best tried on the clearest canaries; a weak one falls to many guesses only.
    """
    sigma = calibrate_noise_multiplier(
        target_epsilon=config.privacy.target_epsilon,
        target_delta=config.privacy.target_delta,
        sample_rate=1.0,
        steps=1,
    )
    curve = GaussianTradeOff(1 / sigma)
    for share in SHARES:
        guessed = int(share * canaries)
        if least_right_guesses(canaries, 2 * guessed, curve, _PLANNED_ALPHA) is not None:
            return guessed
    return canaries // 2


def commitment(plan: CanaryPlan, seed: str) -> Sha256:
    """The hash that binds seed and plan."""
    fields = plan.model_dump(mode="json", exclude=_LATER)
    content = canonical_json({"seed": seed, **fields}).encode("utf-8")
    return hashlib.sha256(_DOMAIN + content).hexdigest()


def guesses_of(plan: CanaryPlan, secret: CanarySecret) -> OpenedCanaries:
    """The guesses that plan and scores leave no choice about; as `one_run.guesses.guess`."""
    order = np.argsort(-np.asarray(secret.scores), kind="stable").tolist()
    return OpenedCanaries(
        seed=secret.seed,
        guessed_in=tuple(order[: plan.guessed_in]),
        guessed_out=tuple(order[len(order) - plan.guessed_out :]),
    )


def _hash(values: list[Any]) -> Sha256:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def end(path: Path, secret: CanarySecret, scores: tuple[float, ...]) -> None:
    """Puts the scores beside the seed, and their hash into the plan."""
    plan, scored = read_plan(path), secret.model_copy(update={"scores": scores})
    write_secret(path, scored)
    hashes = {
        "scores_sha256": _hash(list(scores)),
        "guesses_sha256": guesses_of(plan, scored).sha256(),
    }
    done = plan.model_copy(update=hashes)
    write_json(path / PLAN_FILE, done.model_dump(mode="json"))


def write_secret(path: Path, secret: CanarySecret) -> None:
    """Writes the secret, for its owner's eyes alone."""
    content = json.dumps(secret.model_dump(mode="json")) + "\n"
    write_bytes(path / SECRET_FILE, content.encode(), mode=0o600)


def coins(seed: str, canaries: int) -> Bools:
    """Who is in: ``[m]``, a fair coin each.

    They come from SHA-256 in counter mode, so that a stranger can toss them again with any tool:
    canary i is in where the first bit of SHA-256(seed ‖ "coin" ‖ i, 4 bytes, big-endian) is 1.
    """
    key = bytes.fromhex(seed) + b"coin"
    tossed = (hashlib.sha256(key + i.to_bytes(4, "big")).digest()[0] >> 7 for i in range(canaries))
    return np.fromiter(tossed, dtype=np.bool_, count=canaries)


def read_plan(path: Path) -> CanaryPlan:
    """The public side of a run's canaries.

    Raises:
        RunFolderError: there is none.
        EvidenceError: it was changed into something else.
    """
    return _parsed(CanaryPlan, path / PLAN_FILE)


def open_secret(path: Path, plan: CanaryPlan, committed: Sha256) -> CanarySecret | None:
    """The secret, held against what was committed; None where it is not here, or not yet scored.

    Args:
        path: the run's folder.
        plan: of the run.
        committed: the commitment in the run's configuration.

    Raises:
        EvidenceError: it is not what the run committed to, or others may read it.
    """
    file = path / SECRET_FILE
    if not file.is_file():
        return None
    with file_errors("read", file):
        mode = file.stat().st_mode
    if os.name == "posix" and mode & 0o077:
        raise EvidenceError(f"the canaries' secret {file} may be read by others; chmod 600 {file}")
    secret = _parsed(CanarySecret, file)
    check_seed(plan, secret.seed, committed, file)
    is_same = not secret.scores or (
        plan.scores_sha256 == _hash(list(secret.scores))
        and plan.guesses_sha256 == guesses_of(plan, secret).sha256()
    )
    if not is_same:
        raise EvidenceError(
            f"tampered evidence: {file}: the canaries' scores are not those of the run's end; "
            "restore the run's folder"
        )
    return secret if secret.scores else None


def check_seed(plan: CanaryPlan, seed: str, committed: Sha256, where: Path) -> None:
    """Hold an opened seed against plan and commitment.

    Raises:
        EvidenceError: they differ.
    """
    if not committed == plan.commitment == commitment(plan, seed):
        raise EvidenceError(
            f"tampered evidence: {where}: seed and plan of the canaries are not those that the run "
            "committed to before its first round; restore the run's folder"
        )


def _parsed(kind: type[T], path: Path) -> T:
    try:
        return kind.model_validate_json(json.dumps(read_json(path)))
    except ValidationError as error:
        raise EvidenceError(
            f"tampered evidence: {path} is no record of an audit run; restore it"
        ) from error
