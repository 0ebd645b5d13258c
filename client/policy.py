"""The site's own limits. They outrank whatever the coordinator asks for."""

from __future__ import annotations

from dataclasses import dataclass

from common.config import RunConfig
from common.errors import PolicyRefusal


@dataclass(frozen=True)
class SitePolicy:
    """What the site allows.

    Attributes:
        max_epsilon: Limit of the ledger's total ε at `max_delta`.
        max_delta: The δ at which ε is counted; a run may not ask for a larger one.
        allowed_modes: Privacy modes by name.
        allow_exact_metrics: Whether exact metric sums may leave (simulated sites: lab only).
        allow_seeded_noise: Whether a run may mark its noise as seeded (simulated sites only).
    """

    max_epsilon: float
    max_delta: float
    allowed_modes: frozenset[str]
    allow_exact_metrics: bool
    allow_seeded_noise: bool

    def check_run(self, config: RunConfig) -> None:
        """Raises `PolicyRefusal` where the run's settings pass the site's limits."""
        privacy = config.privacy
        if privacy.mode not in self.allowed_modes:
            raise PolicyRefusal(
                f"privacy.mode={privacy.mode} is not allowed at this site "
                f"(allowed: {', '.join(sorted(self.allowed_modes))}); "
                "the site's operator must allow it by name"
            )
        if config.is_private and privacy.target_delta > self.max_delta:
            raise PolicyRefusal(
                f"privacy.target_delta={privacy.target_delta:g} passes the site's "
                f"limit {self.max_delta:g}; lower privacy.target_delta"
            )
        if privacy.insecure_seeded_noise and not self.allow_seeded_noise:
            raise PolicyRefusal(
                "privacy.insecure_seeded_noise=true is not allowed at this site; set it to false"
            )

    def check_metrics(self) -> None:
        """Raises `PolicyRefusal` where exact metric sums may not leave the site."""
        if not self.allow_exact_metrics:
            raise PolicyRefusal(
                "exact metrics may not leave this site; set evaluation.every=0 "
                "and evaluate at the site"
            )


def simulated_policy(config: RunConfig) -> SitePolicy:
    """The policy of a simulated site: the lab's own, with the run's budget as the limit."""
    return SitePolicy(
        max_epsilon=config.privacy.target_epsilon,
        max_delta=config.privacy.target_delta,
        allowed_modes=frozenset({"none", "local"}),
        allow_exact_metrics=True,
        allow_seeded_noise=True,
    )


def default_policy() -> SitePolicy:
    """The policy of a real site that has set nothing: private, and nothing exact leaves."""
    return SitePolicy(
        max_epsilon=8.0,
        max_delta=1e-4,
        allowed_modes=frozenset({"local"}),
        allow_exact_metrics=False,
        allow_seeded_noise=False,
    )
