"""One campaign of `make chaos`: a real deployment, real faults, and all that must hold."""

from __future__ import annotations

import pytest

from tests.chaos.campaign import run_campaign
from tests.chaos.results import real_faults

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]


SEED = 9


def test_a_run_survives_what_goes_wrong() -> None:
    campaign = run_campaign(SEED, mode="local", rounds=3, faults=3)
    assert not campaign["broken"], campaign
    assert campaign["ended"] == "finished", campaign
    assert len(real_faults(campaign)) >= 2, campaign["faults"]
