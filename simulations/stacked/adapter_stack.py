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
        owners: ``[B]`` int64, whose copy each unit of the microbatch looks at; ascending.
        slots: name → float32 ``[B, *shape]``, leaves of the microbatch's graph.
    """

    def __init__(self, start: Mapping[str, torch.Tensor], copies: int) -> None:
        """Makes `copies` copies of the tensors `start`."""
        self.values = {
            name: torch.nn.Parameter(t.detach().expand(copies, *t.shape).clone())
            for name, t in start.items()
        }
        self.owners = torch.zeros(0, dtype=torch.long)
        self.slots: dict[str, torch.Tensor] = {}
        self._copies, self._alike = copies, True

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
        self._alike = self._copies == 1

    @property
    def copies(self) -> int:
        """C."""
        return self._copies

    @property
    def units(self) -> int:
        """B, units of the microbatch."""
        return len(self.owners)

    def value(self, name: str) -> torch.Tensor:
        """``[1, *shape]`` while all copies are alike, else ``[B, *shape]``, one per unit."""
        value = self.values[name].detach()
        return value[:1] if self._alike else value[self.owners]
