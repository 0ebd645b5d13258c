"""What goes wrong in a campaign: a plan that follows from its seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

SERVER_SIDE = ("superlink", "gate", "serverapp")
SITE_SIDE = ("supernode", "clientapp", "agent")
LINKS = ("cut", "silent", "slow")
PAUSABLE = ("superlink", "supernode", "agent")

WEIGHTS = {
    "kill serverapp": 3,
    "kill superlink": 2,
    "kill gate": 2,
    "kill supernode": 2,
    "kill clientapp": 3,
    "kill agent": 3,
    "cut": 3,
    "silent": 2,
    "slow": 3,
    "pause superlink": 1,
    "pause supernode": 1,
    "pause agent": 2,
}
"""How often each sort is drawn, relative to the others."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        point: of the run's progress at which it is due, in finished rounds; the fraction is
            of the round that is open (`tests.chaos.progress`).
        delay_s: seconds after that.
        sort: ``kill X``, ``pause X`` (SIGSTOP, later SIGCONT), ``cut``, ``silent`` (half-open:
            nothing passes, nothing is closed) or ``slow``.
        site: whose process or link; empty on the server's side.
        lasts_s: until the link, or the process that was stopped, is well again.
        bytes_s: of a slow link.
        latency_s: of a slow link, each way and piece.
    """

    point: float
    delay_s: float
    sort: str
    site: str = ""
    lasts_s: float = 0.0
    bytes_s: float = 0.0
    latency_s: float = 0.0

    @property
    def what(self) -> str:
        """For people."""
        whom = f" of {self.site}" if self.site else ""
        how = f", {self.bytes_s / 1000:.0f} kB/s, {self.latency_s:.1f} s" if self.bytes_s else ""
        lasts = f" ({self.lasts_s:.0f} s{how})" if self.lasts_s else ""
        noun = "link" if self.sort in LINKS else ""
        return f"{self.sort} {noun}".strip() + whom + lasts


def plan(seed: int, sites: Sequence[str], lines: int, faults: int) -> tuple[Fault, ...]:
    """The faults of a campaign, in the order in which they are due.

    Args:
        seed: of the campaign.
        sites: names.
        lines: rounds that the run has, the popularity release included.
        faults: how many.
    """
    draw = random.Random(f"fedrec chaos {seed}")
    sorts = draw.choices(list(WEIGHTS), weights=list(WEIGHTS.values()), k=faults)
    # Spread over the run: one in each of as many equal parts.
    width = (lines - 0.15) / faults
    points = [round(width * (part + draw.random()), 3) for part in range(faults)]
    return tuple(
        _fault(draw, point, sort, sites) for point, sort in zip(points, sorts, strict=True)
    )


def _fault(draw: random.Random, point: float, sort: str, sites: Sequence[str]) -> Fault:
    is_server_side = sort.split()[-1] in SERVER_SIDE
    site = draw.choice(list(sites))
    slow = sort == "slow"
    lasts = 0.0 if sort.startswith("kill") else round(draw.uniform(5, 40), 1)
    return Fault(
        point=point,
        delay_s=round(draw.uniform(0, 5), 2),
        sort=sort,
        site="" if is_server_side else site,
        lasts_s=lasts,
        bytes_s=round(draw.uniform(5_000, 50_000)) if slow else 0.0,
        latency_s=round(draw.uniform(0.1, 1.0), 2) if slow else 0.0,
    )
