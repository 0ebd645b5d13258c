"""Noised sums become means: what divides them, how much noise is left, who is left out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message

from common.adapters import shapes
from common.config import EvaluationConfig, RunConfig
from common.message_records import write_arrays
from common.messages import (
    NoisedMetricsReply,
    decode_evaluate_request,
    encode_noised_metrics_reply,
)
from common.privacy_events import GaussianEvent, event_to_dict
from common.progress import SilentListener
from server.metric_means import noised_means
from server.reply_reading import ReplyReader
from server.round_record import EvaluationOutcome, RoundOutcome, SiteRound, after_metrics
from server.strategy import STAGE_KEY, FederatedAdapters
from simulations.inprocess_grid import InProcessGrid
from tests.scripted_sites import (
    Behaviour,
    good_evaluation,
    refusal,
    release_record,
    scripted_app,
    site_name,
    small_adapter,
    small_config,
)

SIGMA = 2.0


def noised(sums: list[float], units: int = 50, **changes: Any) -> Behaviour:
    def evaluate(message: Message, context: Context) -> Message:
        sha256 = str(message.content.config_records["meta"]["config_sha256"])
        request = decode_evaluate_request(
            message.content, config_sha256=sha256, shapes=shapes(small_adapter())
        )
        stage = changes.get("stage", request.stage)
        values, site = np.array(sums, dtype=np.float32), site_name(context)
        release = release_record(
            site,
            {f"metrics.{stage}": values},
            run=request.run,
            server_round=request.server_round,
            kind="metrics",
            mechanism="gaussian",
            sampling="full",
            event=event_to_dict(GaussianEvent(SIGMA)),
        )
        reply = NoisedMetricsReply(
            site, request.server_round, sha256, stage, values, release, units
        )
        return Message(encode_noised_metrics_reply(reply), reply_to=message)

    return evaluate


def evaluated(script: dict[int, Behaviour]) -> FederatedAdapters:
    config: RunConfig = small_config(len(script)).model_copy(
        update={"evaluation": EvaluationConfig(metrics="private", metrics_noise_multiplier=SIGMA)}
    )
    strategy = FederatedAdapters(config, "run", small_adapter(), SilentListener())
    grid = InProcessGrid(scripted_app(evaluate=script), len(script), 5, config.to_flat())
    arrays = write_arrays(strategy.adapter)
    messages = strategy.configure_evaluate(2, arrays, ConfigRecord({STAGE_KEY: "test"}), grid)
    strategy.aggregate_evaluate(2, grid.send_and_receive(messages))
    return strategy


def statuses(strategy: FederatedAdapters) -> list[str]:
    return [site.status for site in strategy.evaluation.answers.sites]


def test_a_clear_noised_count_divides() -> None:
    strategy = evaluated(
        {0: noised([400.5, 40, 80, 20, 40, -8]), 1: noised([199.5, 20, 40, 10, 20, 2])}
    )
    means = strategy.evaluation.means
    assert means is not None
    assert means["users"] == 600
    assert means["hr_10"] == pytest.approx(0.1)
    assert means["hr_20"] == pytest.approx(0.2)
    assert means["mrr"] == pytest.approx(-0.01)  # noise may do that; it is left as it is
    assert means["noise_std"] == pytest.approx(SIGMA * math.sqrt(6) * math.sqrt(2) / 600)
    assert statuses(strategy) == ["ok", "ok"]
    assert {r.mechanism for r in strategy.take_releases()} == {"gaussian"}


@pytest.mark.parametrize("count", [-12.0, 0.0, 30.0])
def test_a_count_lost_in_its_noise_gives_way_to_the_declared_sizes(count: float) -> None:
    # ten deviations of the sum's noise are 69 users
    strategy = evaluated({0: noised([count, 5, 5, 5, 5, 5], 40), 1: noised([1, 5, 5, 5, 5, 5], 60)})
    means = strategy.evaluation.means
    assert means is not None
    assert means["users"] == 100
    assert means["ndcg_10"] == pytest.approx(0.1)


def test_what_is_broken_is_left_out_and_recorded() -> None:
    good = noised([400, 40, 40, 40, 40, 40])
    strategy = evaluated(
        {
            0: good,
            1: noised([math.nan, 0, 0, 0, 0, 0]),
            2: good_evaluation,  # exact sums in a private run
            3: noised([400, 400, 400, 400, 400, 400], stage="validation"),
            4: refusal("PolicyRefusal", "no metrics here"),
        }
    )
    # a site whose message is broken keeps its node's name, and comes first
    assert statuses(strategy) == ["error", "error", "ok", "non_finite", "refused"]
    means = strategy.evaluation.means
    assert means is not None
    assert (means["users"], means["hr_10"]) == (400, pytest.approx(0.1))


def test_a_sites_utility_is_its_noised_sum_over_its_declared_size() -> None:
    heard: dict[str, float] = {}
    config = small_config(2)
    reader = ReplyReader("run", config.sha256(), shapes(small_adapter()))
    grid = InProcessGrid(
        scripted_app(evaluate={0: noised([9, 5, 5, 12, 5, 5], 40), 1: refusal()}),
        2,
        5,
        config.to_flat(),
    )
    strategy = FederatedAdapters(config, "run", small_adapter(), SilentListener())
    arrays, asked = write_arrays(strategy.adapter), ConfigRecord({STAGE_KEY: "test"})
    replies = grid.send_and_receive(strategy.configure_evaluate(2, arrays, asked, grid))
    noised_means(replies, reader, 2, "test", GaussianEvent(SIGMA), heard.__setitem__)
    assert heard == {"site-0000": pytest.approx(12 / 40)}


def test_nobody_answering_gives_no_means() -> None:
    assert evaluated({0: refusal(), 1: refusal()}).evaluation.means is None


def test_a_sites_total_is_that_after_its_metrics() -> None:
    def outcome(spent: float | None) -> EvaluationOutcome:
        return EvaluationOutcome(None, RoundOutcome((SiteRound("a", "ok", epsilon_prv=spent),)))

    sites = (SiteRound("a", "ok", epsilon_prv=1.0), SiteRound("b", "ok", epsilon_prv=3.0))
    after = after_metrics(sites, [outcome(1.5), outcome(2.0)])
    assert [site.epsilon_prv for site in after] == [2.0, 3.0]
    assert after_metrics(sites, [outcome(None)]) == sites
