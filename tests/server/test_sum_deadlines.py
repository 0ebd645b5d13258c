"""A site that falls silent in a sum costs its stage's time, and the others still finish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from flwr.app import Message

import server.sum_exchange
from client.agent import forget_agents
from server.sum_exchange import STAGE_ENDS
from tests.sum_federation import STAGES, LossyGrid, SumFederation, sum_config, written_sites

DEADLINE_S = 100.0
ANSWER_S = 3.0
"""What a stage takes when all sites are well."""


class ClockedGrid(LossyGrid):
    """As Flower's: an answer that is lost is waited for until the time is over."""

    now = 0.0

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        asked = list(messages)
        assert timeout is not None
        if timeout < ANSWER_S:
            self.now += timeout
            return
        answers = list(super().send_and_receive(asked, timeout=timeout))
        self.now += ANSWER_S if len(answers) == len(asked) else timeout
        yield from answers


@pytest.mark.parametrize("stage", STAGES)
def test_a_site_that_falls_silent_does_not_take_the_time_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    config = sum_config(written_sites(tmp_path / "sites", 3), 3, max_colluders=0)
    config = config.model_copy(
        update={"federation": config.federation.model_copy(update={"round_deadline_s": DEADLINE_S})}
    )
    federation = SumFederation(config)
    federation.grid = grid = ClockedGrid(config)
    monkeypatch.setattr(server.sum_exchange.time, "monotonic", lambda: grid.now)
    federation.enrol()
    grid.lost = {("site-0001", stage, 0): "in"}
    started = grid.now
    total, outcome = federation.add_up()
    forget_agents()
    assert total is not None, outcome.fault
    assert outcome.ok == (2 if STAGES.index(stage) < 3 else 3)
    assert grid.now - started <= DEADLINE_S


def test_every_stage_has_time_of_its_own() -> None:
    ends = [STAGE_ENDS[stage] for stage in STAGES]  # type: ignore[index]
    assert ends == sorted(set(ends))
    assert ends[-1] == STAGE_ENDS["exact"] == 1.0
