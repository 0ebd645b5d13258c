"""What a simulated run is computed with: `inprocess` or Flower's simulation runtime."""

from __future__ import annotations

from simulations.engines.choice import run_engine
from simulations.engines.flower import run_flower
from simulations.engines.inprocess import run_inprocess

__all__ = ["run_engine", "run_flower", "run_inprocess"]
