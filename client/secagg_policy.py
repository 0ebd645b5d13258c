"""What a site insists on before it enters a round of secure aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.errors import SecAggRefusal
from common.secagg.round_spec import RoundSpec


@dataclass(frozen=True)
class SecAggPolicy:
    """What the site's operator pinned, out of band; the server cannot change it.

    Attributes:
        site: this site's name.
        identity: its Ed25519 key, of which the peers pinned the public half.
        peers: Ed25519 public keys (32 bytes) of all sites it would sum with, by name.
        min_survivors: least number of sites in any sum that it takes part in.
        min_colluders: colluding sites that a round must withstand (its C is at least this).
    """

    site: str
    identity: Ed25519PrivateKey = field(repr=False)
    peers: Mapping[str, bytes]
    min_survivors: int
    min_colluders: int

    @property
    def identities(self) -> dict[str, bytes]:
        """The pinned keys and the site's own, which its operator need not pin."""
        own = self.identity.public_key().public_bytes_raw()
        return {**self.peers, self.site: own}


class RoundGate:
    """Admits each round of a run once, in rising order; one per site, for its whole life."""

    def __init__(self, last_rounds: Mapping[bytes, int] | None = None) -> None:
        """Take up where `last_rounds` (of an earlier process, kept by the site) left off."""
        self._last = dict(last_rounds or {})

    @property
    def last_rounds(self) -> dict[bytes, int]:
        """The last admitted round of each run: what to keep over a restart."""
        return dict(self._last)

    def admit(self, policy: SecAggPolicy, spec: RoundSpec) -> None:
        """Let the site enter the round, and never again.

        Raises:
            SecAggRefusal: the round was entered before (replay), a participant is not pinned
                (unknown_peer), or a threshold is below the pinned one (below_threshold).
        """
        unknown = sorted(set(spec.participants) - set(policy.peers) - {policy.site})
        if unknown or policy.site not in spec.participants:
            names = ", ".join(unknown) or f"{policy.site} itself is not invited"
            raise SecAggRefusal("unknown_peer", f"{names}; pin their keys in policy.toml")
        if spec.min_survivors < policy.min_survivors:
            raise SecAggRefusal(
                "below_threshold",
                f"the round would sum over {spec.min_survivors} sites, the policy demands "
                f"{policy.min_survivors}; invite more sites or lower max_dropouts",
            )
        if spec.max_colluders < policy.min_colluders:
            raise SecAggRefusal(
                "below_threshold",
                f"the round withstands {spec.max_colluders} colluding sites, the policy demands "
                f"{policy.min_colluders}; raise max_colluders",
            )
        if spec.server_round <= self._last.get(spec.run, -1):
            raise SecAggRefusal(
                "replay", f"round {spec.server_round} of this run has been entered before"
            )
        self._last[spec.run] = spec.server_round
