"""Many copies of the adapter that move on together: one per site, or one per unit."""

from __future__ import annotations

from collections.abc import Mapping

import torch


class AdapterStack:
    """C copies of the trainable tensors, and the microbatch of units that looks at them.

    A *slot* stands for how far a unit's own copy of a tensor moves. It is zero and takes no
    memory; its gradient is the unit's gradient, formed where the tensor is used.

    Attributes:
        values: name → float32 ``[C, *shape]``.
        owners: ``[B]`` int64 on the CPU, whose copy each unit of the microbatch looks at;
            ascending.
        slots: name → float32 ``[B, *shape]``, leaves of the microbatch's graph.
        copies: C.
        is_alike: whether all copies are still the same, so that one serves for all units.
        device: of the values.
    """

    def __init__(self, start: Mapping[str, torch.Tensor], copies: int) -> None:
        """Makes `copies` copies of the tensors `start`."""
        self.values = {
            name: torch.nn.Parameter(t.detach().expand(copies, *t.shape).clone())
            for name, t in start.items()
        }
        self.owners = torch.zeros(0, dtype=torch.long)
        self.slots: dict[str, torch.Tensor] = {}
        self.copies, self.is_alike = copies, True
        self.device = next(iter(self.values.values())).device

    def look(self, owners: torch.Tensor) -> None:
        """Begins a microbatch of the units that look at copies `owners` ``[B]``."""
        self.owners = owners
        self.slots = {
            name: torch.zeros((), device=value.device)
            .expand(len(owners), *value.shape[1:])
            .requires_grad_()
            for name, value in self.values.items()
        }

    def moved(self) -> None:
        """Says that the copies have gone different ways."""
        self.is_alike = self.copies == 1

    @property
    def units(self) -> int:
        """B, units of the microbatch."""
        return len(self.owners)

    def value(self, name: str, owners: torch.Tensor | None = None) -> torch.Tensor:
        """``[1, *shape]`` while all copies are alike, else ``[B, *shape]``.

        Args:
            name: of the tensor.
            owners: ``[B]``, whose copies; those of the microbatch if left out.
        """
        value = self.values[name].detach()
        if self.is_alike:
            return value[:1]
        owners = self.owners if owners is None else owners
        return value.index_select(0, owners.to(self.device))
