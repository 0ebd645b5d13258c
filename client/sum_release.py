"""What a site's part in a sum is: its plan, its charge, and the bytes that may leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from client.ledger import Ledger
from client.policy import SitePolicy
from client.release import ReleasePlan, charge_sum, enforce_budget, stored_sum
from client.site_data import SiteData
from common.config import RunConfig
from common.cooccurrence import cell_count
from common.errors import PolicyRefusal
from common.flat_adapter import size
from common.message_records import Shapes
from common.messages import SumRequest
from common.release_record import COOCCURRENCE_TENSOR, COUNTS_TENSOR, ReleaseRecord
from common.secagg.quantisation import QuantisationPlan
from common.sum_plan import cooccurrence_plan, popularity_plan, update_plan


@dataclass(frozen=True)
class SumRelease:
    """One site's part in one sum, as it will be charged.

    Attributes:
        plan: grid, modulus and noise of the sum.
        release: key and event of the charge.
        names: tensors that the sum is over.
    """

    plan: QuantisationPlan
    release: ReleasePlan
    names: tuple[str, ...]


class SumLedger:
    """A site's policy and ledger, for its parts in sums."""

    def __init__(
        self, data: SiteData, config: RunConfig, policy: SitePolicy, ledger: Ledger
    ) -> None:
        """Binds the site's public figures, limits and record to the run's configuration."""
        self.data, self.config, self.policy, self.ledger = data, config, policy, ledger

    def planned(self, request: SumRequest, shapes: Shapes) -> SumRelease:
        """What the part that `request` asks for will be.

        Args:
            request: what the server asks.
            shapes: the adapter's tensor shapes by name.

        Raises:
            PolicyRefusal: the site is larger than the run's head-room was planned for, or the
                run counts no such thing.
        """
        config = self.config
        declared = self.data.declared(config.privacy.unit)
        if declared > config.privacy.max_site_units:
            raise PolicyRefusal(
                f"site {self.data.site} declares {declared} units, over privacy.max_site_units="
                f"{config.privacy.max_site_units}; raise privacy.max_site_units"
            )
        names: tuple[str, ...] = (COUNTS_TENSOR,)
        if request.purpose == "popularity":
            plan = popularity_plan(config, len(self.data.catalogue))
            event = plan.event(1.0)
        elif request.purpose == "cooccurrence":
            plan, names = self._pairs_plan(), (COOCCURRENCE_TENSOR,)
            event = plan.event(1.0)
        else:
            plan, names = update_plan(config, size(shapes)), tuple(sorted(shapes))
            event = plan.event(config.privacy.sample_rate)
        release = ReleasePlan(
            request.run,
            request.server_round,
            request.purpose,
            event,
            divisor=1.0,
            max_grad_norm=plan.max_grad_norm,
        )
        return SumRelease(plan, release, names)

    def _pairs_plan(self) -> QuantisationPlan:
        model = self.config.model
        if not model.item_to_item:
            raise PolicyRefusal(
                "model.item_to_item=false: this run counts no co-occurrence; set it to true"
            )
        cells = cell_count(len(self.data.catalogue), model.item_to_item_items)
        return cooccurrence_plan(self.config, cells)

    def enforce(self, asked: SumRelease) -> None:
        """Hold the part against the policy and the budget; errors as `enforce_budget`."""
        enforce_budget(self.ledger, asked.release, self.policy)

    def stored(self, asked: SumRelease) -> tuple[bytes, ReleaseRecord] | None:
        """The bytes and record of this part if it was charged before."""
        return stored_sum(self.ledger, asked.release)

    def released(self, asked: SumRelease, make: Callable[[], bytes]) -> tuple[bytes, ReleaseRecord]:
        """Makes and charges the part; a part that was charged before is handed out again."""
        stored = self.stored(asked)
        if stored is not None:
            return stored
        self.enforce(asked)
        part, names = make(), list(asked.names)
        return charge_sum(
            self.ledger, asked.release, part, names, self.config, self.data.site, self.policy
        )
