"""The one configuration of a run: frozen, complete, and checked before anything starts.

A `RunConfig` is read from a TOML scenario, from Flower's flat run config and from
``--set section.key=value``; `common.config_loading` does the reading and reports *all*
faults at once. Every value is a number, a string or a boolean, so that every key can
stand in ``[tool.flwr.app.config]``.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

from pydantic import model_validator

from common.companion_names import companion_names
from common.config_sections import (
    AUTO,
    DataConfig,
    EngineConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    Section,
)
from common.cross_faults import cross_faults

__all__ = [
    "AUTO",
    "DataConfig",
    "EngineConfig",
    "EvaluationConfig",
    "FederationConfig",
    "ModelConfig",
    "PrivacyConfig",
    "RunConfig",
    "Section",
]


class RunConfig(Section):
    """Everything that defines a run. `sha256` travels in every message."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    federation: FederationConfig = FederationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    engine: EngineConfig = EngineConfig()

    @property
    def is_private(self) -> bool:
        """Whether the run makes a differential-privacy claim."""
        return self.privacy.mode != "none"

    @property
    def is_summed(self) -> bool:
        """Whether the noise is on the sum over all sites, so that one round is one step."""
        return self.privacy.mode in ("distributed", "central")

    @property
    def has_full_softmax(self) -> bool:
        """Whether every target of a step stands against the whole catalogue."""
        return self.privacy.negatives_per_unit == 0

    @property
    def companions(self) -> tuple[str, ...]:
        """Names of the companion runs that the lab makes, in the order given."""
        return companion_names(self.evaluation.companions)

    @property
    def shows_fairness(self) -> bool:
        """Whether the lab has a `last_fifth` model to make the fairness tables of."""
        is_own = self.data.split == "last_fifth"
        return self.evaluation.lab and (is_own or "last_fifth" in self.companions)

    @property
    def sites_asked(self) -> int:
        """Sites that a round asks: all, or those drawn for it."""
        return min(self.federation.sites_per_round or self.data.sites, self.data.sites)

    @property
    def min_honest(self) -> int:
        """Sites that share the noise of a sum: each adds the variance ÷ `min_honest`."""
        privacy = self.privacy
        if privacy.mode != "distributed":
            return 1
        if privacy.min_honest != AUTO:
            return int(privacy.min_honest)
        return self.data.sites - self.max_dropouts - privacy.max_colluders

    @property
    def least_sites(self) -> int:
        """Sites without which no round can be."""
        if self.privacy.mode == "distributed":
            return self.min_honest + self.privacy.max_colluders
        return self.federation.min_sites

    @property
    def max_dropouts(self) -> int:
        """D: as configured, or a tenth of the sites where secure aggregation allows it."""
        privacy, sites = self.privacy, self.data.sites
        if privacy.max_dropouts != AUTO:
            return int(privacy.max_dropouts)
        return max(min(-(-sites // 10), (sites - privacy.max_colluders - 1) // 2), 0)

    def to_flat(self) -> dict[str, int | float | str | bool]:
        """Dotted keys and plain values, as Flower's run config wants them."""
        dump = self.model_dump()
        return {f"{s}.{key}": value for s, keys in dump.items() for key, value in keys.items()}

    def sha256(self) -> str:
        """SHA-256 over the canonical JSON of what defines the result (no engine, no path)."""
        return _sha256(self)

    @model_validator(mode="after")
    def _check_across_keys(self) -> RunConfig:
        faults = [fault.text for fault in cross_faults(self)]
        if faults:
            raise ValueError("\n".join(faults))
        return self


@lru_cache(maxsize=64)
def _sha256(config: RunConfig) -> str:
    """Remembered: every site of a simulation asks for it with every message."""
    payload = config.model_dump(exclude={"engine": True, "data": {"sites_folder"}})
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
