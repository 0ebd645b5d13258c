"""The site's own limits. They outrank whatever the coordinator asks for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.config import RunConfig
from common.errors import PolicyRefusal
from common.privacy_events import SimpleEvent
from common.unit_texts import PrivacyUnit

Mode = Literal["none", "local", "distributed", "central"]
Release = Literal["update", "popularity", "cooccurrence", "metrics"]
Uid = Annotated[int, Field(ge=0, lt=2**32 - 1)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="64 hexadecimal digits")]


class SitePolicy(BaseModel):
    """What the site allows; ``policy.toml`` holds these keys.

    Where a list of hashes or signers is left out, any is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    max_epsilon: float = Field(8.0, gt=0, description="total ε over the ledger's life")
    max_delta: float = Field(1e-4, gt=0, lt=1, description="δ at which ε is counted")
    max_epsilon_per_run: float | None = Field(None, gt=0, description="total ε of one run")
    max_delta_per_run: float | None = Field(None, gt=0, lt=1, description="δ of one run")
    unit: PrivacyUnit = Field("user", description="the privacy unit; example is the weaker one")
    allowed_modes: frozenset[Mode] = Field(
        frozenset({"local", "distributed"}),
        min_length=1,
        description="values of privacy.mode",
    )
    min_noise_multiplier: float = Field(0.0, ge=0, description="least σ of any release")
    min_participants: int = Field(
        3, ge=2, description="fewest sites in a secure sum (mode distributed), dropouts taken off"
    )
    min_colluders: int = Field(
        1, ge=0, description="least privacy.max_colluders that a secure sum must withstand"
    )
    peers: dict[str, Hash] = Field(
        default_factory=dict, description="Ed25519 keys of the sites to sum with, by name"
    )
    allowed_releases: frozenset[Release] = Field(
        frozenset({"update", "popularity"}), description="what may leave"
    )
    base_weights_sha256: frozenset[Hash] | None = Field(None, description="base weights to train")
    code_sha256: frozenset[Hash] | None = Field(None, description="bundles to answer")
    code_signers: frozenset[Hash] | None = Field(
        None, description="Ed25519 keys whose signed bundles are answered"
    )
    relay_users: frozenset[Annotated[str, Field(min_length=1)] | Uid] = Field(
        frozenset(), description="users (name or number) beside its own that may ask the agent"
    )
    declare_epsilon_left: bool = Field(
        True, description="tell the coordinator how much ε is left after each release"
    )
    anchor: str = Field("", description="file for the ledger's anchor; empty: the state folder")
    allow_exact_metrics: bool = Field(False, description="exact metric sums may leave")
    allow_seeded_noise: bool = Field(False, description="voids the guarantee; simulations only")

    @property
    def run_delta(self) -> float:
        """δ at which one run's ε is counted."""
        return self.max_delta if self.max_delta_per_run is None else self.max_delta_per_run

    def check_run(self, config: RunConfig) -> None:
        """Raises `PolicyRefusal` where the run's settings pass the site's limits."""
        privacy = config.privacy
        if privacy.mode not in self.allowed_modes:
            raise PolicyRefusal(
                f"privacy.mode={privacy.mode} is not allowed at this site "
                f"(allowed: {', '.join(sorted(self.allowed_modes))}); "
                "the site's operator must allow it by name"
            )
        if privacy.unit != self.unit:
            raise PolicyRefusal(
                f"privacy.unit={privacy.unit} is not this site's unit; set it to {self.unit}, or "
                "ask the site's operator to allow the other by name"
            )
        if config.is_private:
            self._check_targets(config)
        if privacy.insecure_seeded_noise and not self.allow_seeded_noise:
            raise PolicyRefusal(
                "privacy.insecure_seeded_noise=true is not allowed at this site; set it to false"
            )

    def _check_targets(self, config: RunConfig) -> None:
        privacy, most = config.privacy, min(self.max_delta, self.run_delta)
        if privacy.target_delta > most:
            raise PolicyRefusal(
                f"privacy.target_delta={privacy.target_delta:g} passes the site's "
                f"limit {most:g}; lower privacy.target_delta"
            )
        limit = self.max_epsilon_per_run
        if limit is not None and privacy.target_epsilon > limit:
            raise PolicyRefusal(
                f"privacy.target_epsilon={privacy.target_epsilon:g} passes the site's limit "
                f"{limit:g} for one run; lower privacy.target_epsilon"
            )

    def check_release(self, kind: str, event: SimpleEvent | None) -> None:
        """Raises `PolicyRefusal` where this sort of release, or so little noise, is not allowed."""
        if kind not in self.allowed_releases:
            raise PolicyRefusal(
                f"a release of {kind} is not allowed at this site (allowed: "
                f"{', '.join(sorted(self.allowed_releases)) or 'none'}); "
                "the site's operator must allow it by name"
            )
        if event is not None and event.noise_multiplier < self.min_noise_multiplier:
            raise PolicyRefusal(
                f"noise multiplier {event.noise_multiplier:g} of the {kind} release is below the "
                f"site's least, {self.min_noise_multiplier:g}; ask for more noise or a smaller ε"
            )

    def check_metrics(self) -> None:
        """Raises `PolicyRefusal` where exact metric sums may not leave the site."""
        if not self.allow_exact_metrics or "metrics" not in self.allowed_releases:
            raise PolicyRefusal(
                "exact metrics may not leave this site; set evaluation.metrics=private for a "
                "charged release, or none and evaluate at the site"
            )

    def check_base_weights(self, sha256: str) -> None:
        """Raises `PolicyRefusal` where these base weights are not allowed."""
        if self.base_weights_sha256 is not None and sha256 not in self.base_weights_sha256:
            raise PolicyRefusal(
                f"base weights with SHA-256 {sha256 or 'unknown'} are not allowed at this site; "
                "use weights that its policy lists"
            )

    def check_code(self, sha256: str, signers: Collection[str] = ()) -> None:
        """Raises `PolicyRefusal` unless the bundle's hash or one of its signers is allowed.

        Args:
            sha256: of the bundle.
            signers: public keys (hex) whose signature over the bundle was verified.
        """
        if self.code_sha256 is None and self.code_signers is None:
            return
        listed = sha256 in (self.code_sha256 or frozenset())
        if not listed and not (self.code_signers or frozenset()).intersection(signers):
            raise PolicyRefusal(
                f"the bundle {sha256[:16]}… is neither listed at this site nor signed by a "
                "listed key; ask the site's operator to list it"
            )


def simulated_policy(config: RunConfig) -> SitePolicy:
    """The policy of a simulated site: the lab's own, with the run's budget as the limit."""
    return SitePolicy(
        max_epsilon=config.privacy.target_epsilon,
        max_delta=config.privacy.target_delta,
        unit=config.privacy.unit,
        allowed_modes=frozenset({"none", "local", "distributed", "central"}),
        min_participants=2,
        min_colluders=0,
        allowed_releases=frozenset({"update", "popularity", "cooccurrence", "metrics"}),
        allow_exact_metrics=True,
        allow_seeded_noise=True,
    )


def default_policy() -> SitePolicy:
    """The policy of a real site that has set nothing: private, and nothing exact leaves."""
    return SitePolicy()
