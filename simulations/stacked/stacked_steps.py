"""Steps of many copies of one adapter at once, each with its own gradient and optimiser."""

from __future__ import annotations

from collections.abc import Sequence

from client.local_steps import optimizer_over
from common.adapters import wire_name
from common.config import RunConfig
from common.privacy_units import Contribution
from common.randomness import RandomSource
from common.recommender import Recommender
from simulations.stacked.adapter_stack import AdapterStack
from simulations.stacked.dropout_masks import DropoutMasks
from simulations.stacked.limits import Limits
from simulations.stacked.stacked_model import stacked_recommender
from simulations.stacked.unit_gradients import GradientSums, Tensors, clipped, in_full


class StackedSteps:
    """C copies of one adapter, of sites or of single units, and what is computed on them."""

    def __init__(
        self,
        recommender: Recommender,
        copies: int,
        config: RunConfig,
        *,
        server_round: int,
        limits: Limits,
        streams: Sequence[RandomSource] = (),
    ) -> None:
        """Starts all copies at the recommender's adapter.

        Args:
            recommender: holds the received adapter; it stays as it is.
            copies: C.
            config: the run's configuration.
            server_round: from 1; places the round on the learning-rate schedule.
            limits: sizes of the parts that a step is computed in.
            streams: of each copy, for dropout; needed only where there is some.
        """
        start = {wire_name(n): p for n, p in recommender.named_parameters() if p.requires_grad}
        self.stack = AdapterStack(start, copies)
        masks = DropoutMasks(self.stack, streams if config.model.dropout else ())
        model = stacked_recommender(recommender, self.stack, masks, limits.tokens_per_pass)
        self._config, self._sums = config, GradientSums(model, self.stack, config, limits)
        self._optimizer = optimizer_over(self.stack.values.items(), config, server_round)

    @property
    def names(self) -> list[str]:
        """The tensors in the order in which a site's own optimiser holds them."""
        name_of = {id(value): name for name, value in self.stack.values.items()}
        return [name_of[id(p)] for group in self._optimizer.param_groups for p in group["params"]]

    def clipped_sums(self, contributions: Sequence[Sequence[Contribution]]) -> Tensors:
        """``Σᵤ clip(gᵤ)`` for each copy, float64 ``[C, *shape]`` by name."""
        return self._sums.weighted(contributions, clipped(self._config))

    def plain_sums(self, contributions: Sequence[Sequence[Contribution]]) -> Tensors:
        """``Σᵤ gᵤ`` for each copy, float64 ``[C, *shape]`` by name."""
        return self._sums.weighted(contributions, in_full)

    def step(self, gradients: Tensors) -> None:
        """One step of every copy's optimiser along its own gradients ``[C, *shape]``."""
        for name, value in self.stack.values.items():
            value.grad = gradients[name].to(value.dtype)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.stack.moved()
