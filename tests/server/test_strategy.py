from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from common.adapters import Adapter
from common.config import RunConfig
from common.message_records import write_arrays
from common.metrics import MetricSums
from common.progress import SilentListener
from server.aggregation import weighted_mean
from server.strategy import AWAY, STAGE_KEY, FederatedAdapters
from simulations.inprocess_grid import FIRST_NODE_ID, InProcessGrid
from tests.scripted_sites import (
    bad_update,
    crash,
    good_evaluation,
    good_popularity,
    good_training,
    refusal,
    scripted_app,
    small_adapter,
    small_config,
    update_of,
    wrong_shape,
)


class Heard(SilentListener):
    def __init__(self) -> None:
        self.sites: list[tuple[int, str]] = []

    def site_finished(self, server_round: int, site: str) -> None:
        self.sites.append((server_round, site))


def strategy_of(config: RunConfig, start: Adapter | None = None) -> FederatedAdapters:
    return FederatedAdapters(config, "run", start or small_adapter(), SilentListener())


def grid_of(config: RunConfig, app: ClientApp) -> InProcessGrid:
    return InProcessGrid(app, config.data.sites, 5, config.to_flat())


def train_round(
    strategy: FederatedAdapters, grid: InProcessGrid, server_round: int = 1
) -> ArrayRecord | None:
    arrays = write_arrays(strategy.adapter)
    messages = strategy.configure_train(server_round, arrays, ConfigRecord(), grid)
    arrays_after, _ = strategy.aggregate_train(server_round, grid.send_and_receive(messages))
    return arrays_after


def statuses(strategy: FederatedAdapters) -> dict[str, str]:
    return {site.site: site.status for site in strategy.outcome.sites}


def reasons(strategy: FederatedAdapters) -> dict[str, str | None]:
    return {site.site: site.reason for site in strategy.outcome.sites}


def expected(start: Adapter, partitions: list[int], weights: list[int]) -> Adapter:
    updates = {f"site-{p:04d}": update_of(p, 1) for p in partitions}
    mean = weighted_mean(updates, dict(zip(updates, weights, strict=True)))
    return {name: start[name] + mean[name] for name in start}


def assert_equal(left: Adapter, right: Adapter) -> None:
    assert sorted(left) == sorted(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


def test_a_good_round_averages_all_sites_equally() -> None:
    config = small_config(3)
    strategy, grid = strategy_of(config, small_adapter(0.5)), grid_of(config, scripted_app())
    arrays = train_round(strategy, grid)
    assert_equal(strategy.adapter, expected(small_adapter(0.5), [0, 1, 2], [1, 1, 1]))
    assert arrays == write_arrays(strategy.adapter)
    assert statuses(strategy) == {f"site-{p:04d}": "ok" for p in range(3)}
    assert [r.site for r in strategy.take_releases()] == ["site-0000", "site-0001", "site-0002"]
    assert strategy.take_releases() == []
    norm = strategy.outcome.update_norm
    assert norm is not None
    assert norm > 0
    assert all(site.epsilon_prv == 0.5 and site.bytes_up == 28 for site in strategy.outcome.sites)


def test_a_site_of_the_run_that_is_away_stands_in_the_rounds_record() -> None:
    config = small_config(3)
    strategy = strategy_of(config)
    train_round(strategy, grid_of(config, scripted_app()))
    train_round(strategy, InProcessGrid(scripted_app(), 2, 5, config.to_flat()), 2)
    assert statuses(strategy) == {"site-0000": "ok", "site-0001": "ok", "site-0002": "error"}
    assert reasons(strategy)["site-0002"] == AWAY


def test_a_site_that_was_not_drawn_is_not_called_away() -> None:
    config = small_config(3)
    strategy = strategy_of(config)
    train_round(strategy, grid_of(config, scripted_app()))
    federation = config.federation.model_copy(update={"sites_per_round": 2})
    strategy.config = config.model_copy(update={"federation": federation})
    train_round(strategy, grid_of(config, scripted_app()), 2)
    assert sorted(statuses(strategy).values()) == ["ok", "ok"]


def test_declared_sizes_weigh_when_the_run_says_so() -> None:
    config = small_config(3, weighting="declared")
    strategy, grid = strategy_of(config), grid_of(config, scripted_app())
    train_round(strategy, grid)
    assert_equal(strategy.adapter, expected(small_adapter(), [0, 1, 2], [10, 20, 30]))


def test_fair_weights_follow_what_the_sites_released_about_validation() -> None:
    utility = {"site-0000": 0.5, "site-0001": 0.0, "site-0002": 0.75}

    def evaluation(message: Message, context: Context) -> Message:
        value = utility[f"site-{int(context.node_config['partition-id']):04d}"]
        return good_evaluation(message, context, sums=MetricSums(2, 0, 0, 2 * value, 0, 0))

    config = RunConfig.model_validate(
        small_config(3).model_dump()
        | {
            "privacy": {"mode": "none"},
            "evaluation": {"metrics": "exact", "every": 1},
            "federation": {"rounds": 3, "weighting": "fair", "fairness_q": 1.0},
        }
    )
    strategy = strategy_of(config)
    grid = grid_of(config, scripted_app(evaluate=dict.fromkeys(range(3), evaluation)))

    def evaluate(stage: str) -> None:
        arrays, asked = write_arrays(strategy.adapter), ConfigRecord({STAGE_KEY: stage})
        messages = strategy.configure_evaluate(1, arrays, asked, grid)
        strategy.aggregate_evaluate(1, grid.send_and_receive(messages))

    evaluate("test")  # nothing may be chosen by test figures
    train_round(strategy, grid)
    assert [site.weight for site in strategy.outcome.sites] == [1, 1, 1]
    evaluate("validation")
    start = strategy.adapter
    train_round(strategy, grid, 2)
    assert [site.weight for site in strategy.outcome.sites] == [5000, 10000, 2500]
    updates = {f"site-{p:04d}": update_of(p, 2) for p in range(3)}
    mean = weighted_mean(updates, dict(zip(updates, [5000, 10000, 2500], strict=True)))
    assert_equal(strategy.adapter, {name: start[name] + mean[name] for name in start})


def test_every_request_carries_the_global_adapter_and_the_prior() -> None:
    config = small_config(2)
    seen: list[Message] = []

    def keep(message: Message, context: Context) -> Message:
        seen.append(message)
        return good_training(message, context)

    strategy = strategy_of(config, small_adapter(0.75))
    strategy.item_prior = np.array([1, 2, 3], np.float32)
    train_round(strategy, grid_of(config, scripted_app({0: keep, 1: keep})))
    assert [m.metadata.dst_node_id for m in seen] == [FIRST_NODE_ID, FIRST_NODE_ID + 1]
    for message in seen:
        assert message.metadata.group_id == "1"
        assert message.metadata.ttl == config.federation.round_deadline_s
        assert message.content.array_records["adapter"] == write_arrays(small_adapter(0.75))
        prior = message.content.array_records["item_prior"]["item_prior"]
        assert np.frombuffer(prior.data, "<f4").tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("behaviour", "status", "says"),
    [
        (bad_update(math.nan), "non_finite", "not finite"),
        (bad_update(math.inf), "non_finite", "not finite"),
        (refusal(), "refused", "BudgetRefusal: ε would pass the limit"),
        (refusal("DataError", "no file"), "error", "DataError: no file"),
        (crash, "error", "the site's program is broken"),
        (wrong_shape, "error", "MessageError: adapter tensor head.weight has shape (3, 2)"),
    ],
)
def test_a_bad_site_is_recorded_and_left_out(behaviour: Any, status: str, says: str) -> None:
    config = small_config(3)
    strategy, grid = strategy_of(config), grid_of(config, scripted_app({1: behaviour}))
    assert train_round(strategy, grid) is not None
    assert_equal(strategy.adapter, expected(small_adapter(), [0, 2], [1, 1]))
    (bad,) = [site for site in strategy.outcome.sites if site.status != "ok"]
    assert bad.status == status
    assert says in str(bad.reason)
    assert "\n" not in str(bad.reason)
    # a release that arrived was charged at its site, so it goes on record even if unusable
    released = {r.site for r in strategy.take_releases()}
    assert ("site-0001" in released) == (status == "non_finite")


def test_a_site_that_fails_before_its_first_answer_is_named_by_its_node() -> None:
    config = small_config(3)
    strategy = strategy_of(config)
    train_round(strategy, grid_of(config, scripted_app({2: crash})))
    assert f"node-{FIRST_NODE_ID + 2}" in statuses(strategy)
    train_round(strategy, grid_of(config, scripted_app()), 2)
    train_round(strategy, grid_of(config, scripted_app({2: crash})), 3)
    assert statuses(strategy)["site-0002"] == "error"


def test_too_few_good_sites_change_nothing_and_say_why() -> None:
    config = small_config(3, min_sites=2)
    strategy = strategy_of(config, small_adapter(0.5))
    app = scripted_app({0: refusal(), 2: bad_update(math.nan)})
    assert train_round(strategy, grid_of(config, app)) is None
    assert_equal(strategy.adapter, small_adapter(0.5))
    assert strategy.state.steps == 0
    assert str(strategy.fault).startswith(
        "1 of 3 sites gave a usable answer to round 1, 2 are needed "
        "(first fault, site-0000: BudgetRefusal: ε would pass the limit)"
    )


def test_an_overflowing_step_is_a_fault_with_the_round_on_record() -> None:
    config = small_config(2, server_lr=1e6)
    strategy = strategy_of(config)
    huge = bad_update(3e38)
    assert train_round(strategy, grid_of(config, scripted_app({0: huge, 1: huge}))) is None
    assert "non-finite adapter" in str(strategy.fault)
    assert statuses(strategy) == {"site-0000": "ok", "site-0001": "ok"}


def test_sites_that_miss_the_deadline_are_recorded() -> None:
    config = small_config(3)
    strategy, grid = strategy_of(config), grid_of(config, scripted_app())
    messages = strategy.configure_train(1, write_arrays(strategy.adapter), ConfigRecord(), grid)
    replies = list(grid.send_and_receive(messages))
    strategy.aggregate_train(1, replies[:2])
    missing = f"node-{FIRST_NODE_ID + 2}"
    assert statuses(strategy)[missing] == "error"
    assert "round_deadline_s" in str(reasons(strategy)[missing])


def test_the_order_of_replies_cannot_show() -> None:
    adapters = []
    for turn in (1, -1):
        config = small_config(4)
        strategy, grid = strategy_of(config), grid_of(config, scripted_app())
        arrays = write_arrays(strategy.adapter)
        messages = strategy.configure_train(1, arrays, ConfigRecord(), grid)
        strategy.aggregate_train(1, list(grid.send_and_receive(messages))[::turn])
        adapters.append(strategy.adapter)
    assert_equal(*adapters)


def test_one_node_cannot_answer_twice_nor_as_another_site() -> None:
    def as_site_0(message: Message, context: Context) -> Message:
        context.node_config["partition-id"] = 0
        return good_training(message, context)

    config = small_config(3)
    strategy = strategy_of(config)
    train_round(strategy, grid_of(config, scripted_app({2: as_site_0})))
    assert "give every node its own site" in str(reasons(strategy)[f"node-{FIRST_NODE_ID + 2}"])

    strategy, grid = strategy_of(config), grid_of(config, scripted_app())
    messages = strategy.configure_train(1, write_arrays(strategy.adapter), ConfigRecord(), grid)
    replies = list(grid.send_and_receive(messages))
    strategy.aggregate_train(1, [*replies, replies[0]])
    assert [s.status for s in strategy.outcome.sites if s.site == "site-0000"] == ["ok", "error"]
    assert_equal(strategy.adapter, expected(small_adapter(), [0, 1, 2], [1, 1, 1]))


def test_a_declared_size_is_fixed() -> None:
    config = small_config(3, weighting="declared")
    strategy = strategy_of(config)
    train_round(strategy, grid_of(config, scripted_app()))

    def grown(message: Message, context: Context) -> Message:
        reply = good_training(message, context)
        reply.content.config_records["meta"]["declared_units"] = 10_000
        return reply

    train_round(strategy, grid_of(config, scripted_app({1: grown})), 2)
    assert statuses(strategy)["site-0001"] == "error"
    assert "a declared size is fixed" in str(reasons(strategy)["site-0001"])


def test_exact_sums_combine_to_means_over_users() -> None:
    config = small_config(3)
    strategy = strategy_of(config)
    grid = grid_of(config, scripted_app(evaluate={1: refusal("PolicyRefusal", "exact")}))
    arrays = write_arrays(strategy.adapter)
    messages = strategy.configure_evaluate(2, arrays, ConfigRecord({STAGE_KEY: "test"}), grid)
    metrics = strategy.aggregate_evaluate(2, grid.send_and_receive(messages))
    assert metrics is not None
    means = strategy.evaluation.means
    assert means is not None
    assert means == dict(metrics)
    assert means["users"] == 4  # sites 0 and 2 have 1 and 3
    assert means["hr_10"] == pytest.approx(0.5)
    assert [s.status for s in strategy.evaluation.answers.sites] == ["ok", "refused", "ok"]
    assert {r.mechanism for r in strategy.take_releases()} == {"exact_lab_only"}


def test_an_evaluation_that_nobody_answers_has_no_means() -> None:
    config = small_config(2)
    strategy = strategy_of(config)
    grid = grid_of(config, scripted_app(evaluate={0: crash, 1: crash}))
    arrays = write_arrays(strategy.adapter)
    messages = strategy.configure_evaluate(1, arrays, ConfigRecord({STAGE_KEY: "test"}), grid)
    assert strategy.aggregate_evaluate(1, grid.send_and_receive(messages)) is None
    assert strategy.evaluation.means is None
    assert len(strategy.evaluation.answers.sites) == 2


def test_popularity_sums_the_good_counts() -> None:
    def nan_counts(message: Message, context: Context) -> Message:
        reply = good_popularity(message, context)
        data = np.full(5, np.nan, "<f4").tobytes()
        reply.content.array_records["counts"]["counts"].data = data
        return reply

    def other_catalogue(message: Message, context: Context) -> Message:
        return good_popularity(message, context, items=4)

    config = small_config(5)
    strategy = strategy_of(config)
    app = scripted_app(popularity={1: other_catalogue, 2: refusal(), 3: nan_counts})
    grid = grid_of(config, app)
    counts = strategy.aggregate_popularity(
        grid.send_and_receive(strategy.configure_popularity(grid))
    )
    np.testing.assert_array_equal(counts, 2 * np.arange(5) + 0 + 4)
    assert counts.dtype == np.float64
    # the hash of the NaN counts is no longer that of the release record
    assert statuses(strategy) == {
        "site-0000": "ok",
        "site-0001": "error",
        "site-0002": "refused",
        f"node-{FIRST_NODE_ID + 3}": "error",
        "site-0004": "ok",
    }


def test_the_listener_hears_of_every_reply() -> None:
    config = small_config(3)
    heard = Heard()
    strategy = FederatedAdapters(config, "run", small_adapter(), heard)
    train_round(strategy, grid_of(config, scripted_app({1: crash})))
    node = f"node-{FIRST_NODE_ID + 1}"
    assert heard.sites == [(1, "site-0000"), (1, node), (1, "site-0002")]


def test_the_summary_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        strategy_of(small_config(3)).summary()
    assert len(caplog.records) == 1
    assert "fedavg" in caplog.text


def test_an_evaluation_uses_the_current_adapter() -> None:
    config = small_config(2)
    seen: list[Message] = []

    def keep(message: Message, context: Context) -> Message:
        seen.append(message)
        return good_evaluation(message, context)

    strategy = strategy_of(config, small_adapter(0.125))
    grid = grid_of(config, scripted_app(evaluate={0: keep}))
    arrays = write_arrays(strategy.adapter)
    config_record = ConfigRecord({STAGE_KEY: "validation"})
    messages = strategy.configure_evaluate(1, arrays, config_record, grid)
    strategy.aggregate_evaluate(1, grid.send_and_receive(messages))
    assert seen[0].content.array_records["adapter"] == arrays
    assert seen[0].content.config_records["meta"]["stage"] == "validation"
