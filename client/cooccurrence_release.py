"""A site's co-occurrence: the exact sum over its units, and its release by the site itself.

It passes like every release: policy, budget, counting, noise, and then charge and bytes in
one transaction. A retry sends the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.ledger import Ledger
from client.policy import SitePolicy
from client.release import ReleasePlan, charge_release, enforce_budget, stored_release
from client.self_test_cooccurrence import prove_bound
from client.site_data import SiteData
from common.config import RunConfig
from common.cooccurrence import MAX_LENGTH, cooccurrence_sum, related_items
from common.errors import PolicyRefusal
from common.flat_adapter import Floats
from common.holdout import UserSplit
from common.messages import (
    POPULARITY_ROUND,
    CooccurrenceReply,
    CooccurrenceRequest,
    cells_payload,
)
from common.noise_plan import cooccurrence_event
from common.privacy_units import Unit, make_units
from common.randomness import RandomSource, secure_source
from common.release_record import COOCCURRENCE_TENSOR


@dataclass(frozen=True)
class Cooccurrence:
    """What a site counts pairs in.

    Attributes:
        config: the run's configuration.
        units: the site's privacy units, cut as training sees them.
        splits: its users.
    """

    config: RunConfig
    units: Sequence[Unit]
    splits: Sequence[UserSplit]

    def exact(self, item_prior: npt.NDArray[np.float32], catalogue_size: int) -> Floats:
        """The sum over the site's units ``[N (N + 1) / 2]``, before any noise.

        In a private mode each unit's part has L2 norm at most 1.

        Args:
            item_prior: the released popularity prior ``[V]``.
            catalogue_size: V of the site's own catalogue.

        Raises:
            MessageError: the prior is over another catalogue.
            SelfTestError: one unit could move the sum by more than is accounted for.
        """
        model, half_life = self.config.model, self.config.model.item_to_item_half_life
        items = related_items(item_prior, catalogue_size, model.item_to_item_items)
        bounded = self.config.is_private
        if bounded:
            prove_bound(items, catalogue_size, half_life=half_life, source=secure_source())
        return cooccurrence_sum(
            self._counted(), items, catalogue_size, half_life=half_life, bounded=bounded
        )

    def _counted(self) -> Sequence[Unit]:
        """A user counts the whole training history; an example only what the model is shown."""
        if self.config.privacy.unit == "example":
            return self.units
        return make_units(self.splits, max_history=MAX_LENGTH - 1)


@dataclass(frozen=True)
class CooccurrenceRelease:
    """A site's limits and record, for the release of its co-occurrence."""

    data: SiteData
    config: RunConfig
    policy: SitePolicy
    ledger: Ledger

    def answer(
        self,
        request: CooccurrenceRequest,
        exact: Callable[[], Floats],
        noise: Callable[[], RandomSource],
    ) -> CooccurrenceReply:
        """Counts, noises and charges, once per run.

        Args:
            request: what the server asks.
            exact: gives the sum; called once the policy and the budget allow the release.
            noise: gives the source of the noise; not called in mode `none`.

        Raises:
            PolicyRefusal: the run has no item-to-item component, or it may not leave.
            BudgetRefusal: the site cannot afford the release.
        """
        if not self.config.model.item_to_item:
            raise PolicyRefusal(
                "model.item_to_item=false: this run counts no co-occurrence; set it to true"
            )
        event = cooccurrence_event(self.config)
        plan = ReleasePlan(
            request.run, POPULARITY_ROUND, "cooccurrence", event, divisor=1.0, max_grad_norm=1.0
        )
        stored = stored_release(self.ledger, plan)
        if stored is None:
            enforce_budget(self.ledger, plan, self.policy)
            cells = exact()
            if event is not None:
                cells = cells + event.noise_multiplier * noise().normal(len(cells))
            payload = cells_payload(cells.astype(np.float32))
            stored = charge_release(
                self.ledger, plan, payload, self.config, self.data.site, self.policy
            )
        tensors, record = stored
        return CooccurrenceReply(
            site=self.data.site,
            config_sha256=request.config_sha256,
            cells=tensors[COOCCURRENCE_TENSOR],
            release=record,
            declared_units=self.data.declared(self.config.privacy.unit),
        )
