"""Which policy a site serves with: ``SITE/serving/policy.toml``, or the plain scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from client.serving.choice_log import KEPT_LISTS
from client.serving.exploration import Exploration, PolicyName
from client.serving.reward_model import Beliefs
from common.errors import ConfigError
from common.toml_settings import read_settings

POLICY_FILE = "policy.toml"
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Spread = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]

CHOSEN: dict[PolicyName, Exploration] = {
    "greedy": Exploration("greedy"),
    "epsilon_greedy": Exploration("epsilon_greedy", 0.02),
    "ucb": Exploration("ucb", 0.25),
    "thompson": Exploration("thompson", 1.0, 0.0, 500),
}
"""What a policy has that is named alone: what docs/bandits.md chose on validation worlds."""


class PolicySettings(BaseModel):
    """The file's keys; what is left out has its default.

    Attributes:
        name: of the policy.
        start: of its strength, see `Exploration`.
        floor: of its strength.
        half_life: of its strength, in lists.
        noise: and the next ones: see `Beliefs`.
        settle_seconds: after which a place without feedback counts as not taken.
        kept_lists: of the log.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PolicyName
    start: Strength | None = None
    floor: Strength | None = None
    half_life: Strength | None = None
    noise: Spread = Beliefs.noise
    known: Spread = Beliefs.known
    new: Spread = Beliefs.new
    rate: Spread = Beliefs.rate
    shared: Spread = Beliefs.shared
    settle_seconds: int = Field(default=3600, ge=0)
    kept_lists: int = Field(default=KEPT_LISTS, ge=1, le=10_000_000)

    @property
    def exploration(self) -> Exploration:
        """The policy.

        Raises:
            ConfigError: its strength is out of bounds.
        """
        usual = CHOSEN[self.name]
        return Exploration(
            self.name,
            usual.start if self.start is None else self.start,
            usual.floor if self.floor is None else self.floor,
            usual.half_life if self.half_life is None else self.half_life,
        )

    @property
    def beliefs(self) -> Beliefs:
        """Of the reward model."""
        return Beliefs(self.noise, self.known, self.new, self.rate, self.shared)


def policy_settings(folder: Path, name: str | None) -> PolicySettings | None:
    """What ``--policy`` and the file say; None: plain scores, nothing logged or learned.

    Args:
        folder: ``SITE/serving``.
        name: of ``--policy``: None: the file decides. The file's other keys are for its own
            policy, and count only where both name the same.

    Raises:
        ConfigError: the file or the name is wrong.
        RunFolderError: the file cannot be read.
    """
    path = folder / POLICY_FILE
    found = read_settings(path, PolicySettings) if path.exists() else None
    if name is not None and (found is None or found.name != name):
        if name not in CHOSEN:
            raise ConfigError([f"--policy must be one of {', '.join(CHOSEN)}, got {name!r}"])
        found = None if name == "greedy" else PolicySettings(name=name)
    if found is not None:
        _ = found.exploration  # its faults are the start's, not a request's
    return found
