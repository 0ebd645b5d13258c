"""The proof before a private run is trained in stacks."""

from __future__ import annotations

import pytest
import torch

from common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.errors import SelfTestError
from simulations.stacked import packed_layer, unit_gradients
from simulations.stacked.proof import prove_stacked
from simulations.stacked.stacked_linear import StackedLinear
from simulations.synthetic import synthetic_dataset

CATALOGUE = synthetic_dataset().catalogue


def run(local_steps: int = 2, context: str = "", **privacy: object) -> RunConfig:
    return RunConfig(
        model=ModelConfig(head_dim=4, head_items=3, lora_rank=2, context=context),
        privacy=PrivacyConfig(**{"mode": "local", "noise_multiplier": 1.0, **privacy}),
        federation=FederationConfig(local_steps=local_steps, local_lr=0.3, lora_lr_scale=1.0),
    )


@pytest.fixture(autouse=True)
def _nothing_proved_before() -> None:
    prove_stacked.cache_clear()


@pytest.mark.parametrize(
    ("local_steps", "privacy"), [(2, {}), (2, {"clipping": "update"}), (1, {"mode": "central"})]
)
def test_the_stacked_step_is_proved(local_steps: int, privacy: dict[str, object]) -> None:
    assert prove_stacked(run(local_steps, **privacy), CATALOGUE) < 1e-5


def test_the_stacked_step_is_proved_with_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up units have context, and a stacked context layer that is wrong stops the run."""
    asked = run(1, "user,time", mode="central")
    assert prove_stacked(asked, CATALOGUE) < 1e-5
    right = StackedLinear.forward
    monkeypatch.setattr(
        StackedLinear,
        "forward",
        lambda self, x: right(self, x / 2 if "context" in self._weight else x),
    )
    prove_stacked.cache_clear()
    with pytest.raises(SelfTestError, match="engine.training=site_by_site"):
        prove_stacked(asked, CATALOGUE)


def test_a_wrong_gradient_of_a_layer_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    right = packed_layer.attended_backward
    monkeypatch.setattr(packed_layer, "attended_backward", lambda *a: 1.01 * right(*a))
    with pytest.raises(SelfTestError, match="engine.training=site_by_site"):
        prove_stacked(run(), CATALOGUE)


def test_units_that_are_not_clipped_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_gradients, "_square_norms", lambda g: torch.zeros(len(g)).double())
    with pytest.raises(SelfTestError):
        prove_stacked(run(max_grad_norm=0.01), CATALOGUE)
