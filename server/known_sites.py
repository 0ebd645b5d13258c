"""What a run has learnt of its sites, by name.

It is kept in the run's checkpoint, so that a restart of the server forgets none of it. Which
node answers for a site is not in it: nodes may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from common.errors import MessageError


@dataclass
class KnownSites:
    """The sites of one run.

    Attributes:
        declared_units: what each declared in public; weights and divisors are made of it.
        identities: Ed25519 public key of each enrolled site, hexadecimal.
        gone: sites whose budget or policy said no: they are not asked for a sum again.
        silent: sites that gave no answer in the last sum, which was abandoned.
        utility: mean utility that each last released (`server.site_weights`).
        catalogue: SHA-256 of the catalogue that the enrolled sites share; empty: nobody has.
        items: its size.
    """

    declared_units: dict[str, int] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    utility: dict[str, float] = field(default_factory=dict)
    catalogue: str = ""
    items: int = 0

    def declare(self, site: str, units: int) -> None:
        """Remembers a site's size: it is declared once, and it stays.

        Raises:
            MessageError: the site declared another one before.
        """
        declared = self.declared_units.setdefault(site, units)
        if declared != units:
            raise MessageError(
                f"site {site} declared {declared} units and now {units}; a declared size is fixed"
            )

    def identify(self, site: str, identity: str) -> None:
        """Remembers a site's identity key, which is one for the whole run.

        Raises:
            MessageError: the site enrolled with another key before.
        """
        known = self.identities.setdefault(site, identity)
        if known != identity:
            raise MessageError(
                f"site {site} enrolled with identity key {known[:12]}… and now with "
                f"{identity[:12]}…; its peers pinned the first: give the site its own keys back"
            )

    def to_json(self) -> dict[str, object]:
        """Plain values by name."""
        return {
            "declared_units": self.declared_units,
            "identities": self.identities,
            "gone": sorted(self.gone),
            "silent": sorted(self.silent),
            "utility": self.utility,
            "catalogue": self.catalogue,
            "items": self.items,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(
            declared_units=dict(values["declared_units"]),
            identities=dict(values["identities"]),
            gone=set(values["gone"]),
            silent=set(values["silent"]),
            utility=dict(values["utility"]),
            catalogue=str(values["catalogue"]),
            items=int(values["items"]),
        )
