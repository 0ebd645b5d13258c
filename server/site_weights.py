"""Public weights of the sites in the mean of their updates.

``fair`` follows q-FFL (Li, Sanjabi, Beirami & Smith, ICLR 2020): the worse a model serves a
site, the more its update counts. The site's shortfall is 1 − NDCG@10 on validation, as it
last *released* it: exact in mode `none`, noised and charged in mode `local`. A weight made
of a release costs no further ε, and the sensitivity of an update is that of its own site
whatever it is multiplied with afterwards.
"""

from __future__ import annotations

import math

from common.config import FederationConfig

UTILITY = "ndcg_10"
SCALE = 10_000
"""Weights are whole numbers, so that their sums are exact in any order; 1 − 0 weighs this."""


class SiteWeights:
    """Weights of one run's sites; they change between rounds only, never within one."""

    def __init__(
        self, federation: FederationConfig, utility: dict[str, float] | None = None
    ) -> None:
        """Starts with what was released so far; without a figure, `fair` has equal weights.

        Args:
            federation: its `weighting` and `fairness_q`.
            utility: mean utility by site, which `heard` changes.
        """
        self._weighting, self._q = federation.weighting, federation.fairness_q
        self._utility = {} if utility is None else utility

    def heard(self, site: str, utility: float) -> None:
        """Remembers what a site released about its mean utility; NaN tells nothing.

        Noise may carry it out of [0, 1]; it is brought back.
        """
        if not math.isnan(utility):
            self._utility[site] = min(max(utility, 0.0), 1.0)

    def weight(self, site: str, declared_units: int) -> int:
        """The weight of a site's update in this round, at least 1.

        Args:
            site: its name. One that released nothing yet weighs as the mean of the others.
            declared_units: what it declared in public.
        """
        if self._weighting == "declared":
            return declared_units
        if self._weighting == "equal" or not self._utility:
            return 1
        mean = math.fsum(self._utility.values()) / len(self._utility)
        shortfall = 1.0 - self._utility.get(site, mean)
        return max(1, round(SCALE * math.pow(shortfall, self._q)))
