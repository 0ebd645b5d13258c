"""Per-unit gradients of a model whose modules see many rows per unit.

Opacus' hooks take the first axis of an activation for the batch. BERT and the heads see
several rows per unit (``[B·N, T, d]``, unit-major), so that clipping rows would not clip
users. Here every trainable ``nn.Linear`` is told how many units a forward holds, and its
gradients are summed within each unit, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.grad_sample.grad_sample_module import promote_current_grad_sample
from torch import nn

from common.errors import PrivacyError

T = TypeVar("T")


def grouped_linear_grad_sample(
    layer: nn.Linear, activations: list[torch.Tensor], backprops: torch.Tensor
) -> dict[nn.Parameter, torch.Tensor]:
    """Gradients per unit of one use of a Linear layer, summed over the unit's rows.

    Args:
        layer: the layer; its `max_batch_len` is B, the number of units in this forward.
        activations: one tensor [B·N, …, d], rows of one unit next to each other.
        backprops: [B·N, …, p], gradient of the summed losses by the layer's output.

    Returns:
        weight → [B, p, d] and bias → [B, p], float32, for those that are trainable.

    Raises:
        PrivacyError: the rows cannot be dealt out to B units, or the two tensors belong
            to different uses of the layer.
    """
    (inputs,) = activations
    units = int(layer.max_batch_len)  # type: ignore[arg-type]  # set by the forward-pre-hook
    if inputs.shape[:-1] != backprops.shape[:-1]:
        raise PrivacyError(
            f"activations {tuple(inputs.shape)} and gradients {tuple(backprops.shape)} of a "
            "Linear layer do not belong together; run one forward per backward pass"
        )
    rows, left_over = divmod(inputs[..., 0].numel(), units)
    if left_over:
        raise PrivacyError(
            f"a trainable Linear saw {tuple(inputs.shape)} in a step of {units} units; its "
            "rows must be stacked unit by unit, equally many for each"
        )
    grouped_inputs = inputs.float().reshape(units, rows, inputs.shape[-1])  # [B, R, d]
    grouped_backprops = backprops.float().reshape(units, rows, backprops.shape[-1])  # [B, R, p]
    weight, bias = cast(nn.Parameter, layer.weight), cast("nn.Parameter | None", layer.bias)
    samples: dict[nn.Parameter, torch.Tensor] = {}
    if weight.requires_grad:
        samples[weight] = torch.bmm(grouped_backprops.transpose(1, 2), grouped_inputs)
    if bias is not None and bias.requires_grad:
        samples[bias] = grouped_backprops.sum(dim=1)
    return samples


class _GroupedHooks(GradSampleHooks):  # type: ignore[misc]  # Opacus is untyped
    """Opacus' hooks with the grouped sampler as the only one, and exact pairing.

    The table of samplers is the class's own: Opacus' table, which the whole process
    shares, stays as it is. Opacus listens with a module's full backward hook, which warns
    wherever an input needs no gradient (as below LoRA), and takes the latest activation
    for the gradient's; a hook on each output needs neither.
    """

    GRAD_SAMPLERS: ClassVar[dict[type[nn.Module], Any]] = {nn.Linear: grouped_linear_grad_sample}

    def add_hooks(self, **_reduction: Any) -> None:
        """As Opacus', but without backward hooks on modules."""
        if hasattr(self._module, "autograd_grad_sample_hooks"):
            raise PrivacyError(
                "the model is already hooked; close the private step that still holds it"
            )
        self.autograd_grad_sample_hooks = self._module.autograd_grad_sample_hooks = [
            layer.register_forward_hook(self.capture_activations_hook)
            for layer in self.iterate_submodules(self._module)
        ]

    def capture_activations_hook(
        self, module: nn.Module, forward_input: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        """Keep the activation, and wait for this very output's gradient."""
        before = len(getattr(module, "activations", ()))
        super().capture_activations_hook(module, forward_input, output)
        activations: Any = getattr(module, "activations", ())
        if len(activations) > before:
            output.register_hook(partial(self._take_gradient, module, activations[-1]))

    def _take_gradient(
        self, module: nn.Module, activation: list[torch.Tensor], gradient: torch.Tensor
    ) -> None:
        if self.hooks_enabled:
            waiting: Any = module.activations
            waiting.append(waiting.pop(next(i for i, a in enumerate(waiting) if a is activation)))
            self.capture_backprops_hook(
                module, None, (gradient,), loss_reduction="sum", batch_first=True
            )


class UnitGradients:
    """Hooks on a model that turn one backward pass into gradients per unit.

    The model keeps its class, its names and its train/eval mode; `close` leaves nothing
    behind, so that the same model can be hooked again in a later round. Toggle
    `requires_grad` and move the model to its device before, never between.
    """

    def __init__(self, model: nn.Module) -> None:
        """Hook every trainable Linear of `model`.

        Raises:
            PrivacyError: nothing is trainable, or something other than the weight or bias
                of an ``nn.Linear`` is.
        """
        self._layers = _trainable_linears(model)
        self.parameters: dict[str, nn.Parameter] = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        self._units = 0
        self._closed = False
        self._hooks = _GroupedHooks(model, batch_first=True, loss_reduction="sum", strict=True)
        self._hooks.disable_hooks()
        self._handles = [
            layer.register_forward_pre_hook(self._announce_units) for layer in self._layers
        ]

    def backward(
        self, units: Sequence[T], unit_losses: Callable[[Sequence[T]], torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """One forward and backward pass over `units`.

        Args:
            units: B ≥ 1 units.
            unit_losses: gives one loss per unit, [B]; unit i's loss depends on unit i only.

        Returns:
            name → float32 [B, *shape] for every trainable tensor, zero where the losses do
            not depend on it. The same tensors lie in each parameter's `grad_sample`.

        Raises:
            PrivacyError: the losses are not [B], or the rows of a layer do not fit B.
        """
        if self._closed:
            raise PrivacyError("the private step is closed; make a new one on the model")
        modes = [layer.training for layer in self._layers]
        self._forget()
        self._units = len(units)
        self._hooks.enable_hooks()
        try:
            for layer in self._layers:
                layer.training = True  # Opacus' hooks pass over modules in eval mode
            with torch.enable_grad():
                losses = unit_losses(units)
                _check_losses(losses, len(units))
                if losses.requires_grad:
                    torch.autograd.backward(losses.sum())
            return {name: self._gradient_of(p) for name, p in self.parameters.items()}
        except BaseException:
            self._forget()
            raise
        finally:
            self._hooks.disable_hooks()
            for layer, mode in zip(self._layers, modes, strict=True):
                layer.training = mode

    def close(self) -> None:
        """Remove the hooks and all that they put on the model; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._forget()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._hooks.cleanup()
        for layer in self._layers:
            for leftover in ("activations", "max_batch_len"):
                if hasattr(layer, leftover):
                    delattr(layer, leftover)

    def _gradient_of(self, parameter: Any) -> torch.Tensor:
        if hasattr(parameter, "_current_grad_sample"):  # some use's output is not in the losses
            promote_current_grad_sample(parameter)
        if parameter.grad_sample is None:
            parameter.grad_sample = torch.zeros(
                (self._units, *parameter.shape), dtype=torch.float32, device=parameter.device
            )
        gradient: torch.Tensor = parameter.grad_sample
        return gradient

    def _announce_units(self, layer: nn.Module, _inputs: tuple[torch.Tensor, ...]) -> None:
        if self._hooks.hooks_enabled:
            layer.max_batch_len = self._units  # type: ignore[assignment]  # read by the sampler

    def _forget(self) -> None:
        """Drop what an earlier pass left: activations, gradients, counters."""
        for layer in self._layers:
            if hasattr(layer, "activations"):
                del layer.activations
        parameter: Any
        for parameter in self.parameters.values():
            parameter.grad, parameter.grad_sample, parameter._forward_counter = None, None, 0
            if hasattr(parameter, "_current_grad_sample"):
                del parameter._current_grad_sample


def _check_losses(losses: torch.Tensor, units: int) -> None:
    if losses.shape != (units,):
        raise PrivacyError(
            f"unit_losses must return one loss per unit, shape ({units},), got "
            f"{tuple(losses.shape)}; do not average over units"
        )


def _trainable_linears(model: nn.Module) -> list[nn.Linear]:
    linears, others = [], []
    for name, module in model.named_modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            if type(module) is nn.Linear:
                linears.append(module)
            else:
                others.append(f"{name or 'the model itself'} ({type(module).__name__})")
    if others:
        raise PrivacyError(
            f"trainable parameters must belong to nn.Linear, found {', '.join(others)}; "
            "freeze them or express them as nn.Linear"
        )
    if not linears:
        raise PrivacyError("the model has no trainable parameter; nothing to privatise")
    return linears
