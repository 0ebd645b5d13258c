"""Co-occurrence over real sites: the pooled statistic, in every mode, and who is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from client.agent import forget_agents
from common.config import RunConfig
from common.cooccurrence import cooccurrence_sum, triangle_size
from common.errors import ConfigError, FederationError
from common.initial_adapter import initial_adapter
from common.messages import (
    COOCCURRENCE_QUERY,
    CooccurrenceRequest,
    decode_cooccurrence_reply,
    encode_cooccurrence_reply,
    encode_cooccurrence_request,
)
from common.noise_plan import cooccurrence_deviation
from common.privacy_units import make_units
from common.progress import SilentListener
from common.release_record import payload_sha256
from common.run_folder import RunFolder
from common.sum_plan import sum_number
from server.cooccurrence import sum_cells, weights_of
from server.reply_reading import ReplyReader
from server.run_records import RunRecords
from server.statistics_rounds import release_cooccurrence
from server.strategy import FederatedAdapters
from tests.client.test_cooccurrence_release import pair_config
from tests.sum_federation import (
    ITEMS,
    LossyGrid,
    SumFederation,
    capture_inputs,
    fresh_copy,
    written_sites,
)

PRIOR = np.arange(ITEMS, dtype=np.float32)
NAMES = [f"site-{at:04d}" for at in range(3)]


@pytest.fixture(autouse=True)
def no_agents_are_left() -> Iterator[None]:
    yield
    forget_agents()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_sites(tmp_path_factory.mktemp("three") / "sites", 3, users=12)


def pooled(config: RunConfig, *, bounded: bool) -> np.ndarray:
    federation = SumFederation(config)
    splits = [split for site in NAMES for split in federation.agent(site).splits]
    units = make_units(splits, max_history=10_000)
    return cooccurrence_sum(units, np.arange(ITEMS), ITEMS, half_life=20.0, bounded=bounded)


def replies(config: RunConfig, grid: LossyGrid) -> list[Message]:
    content = encode_cooccurrence_request(CooccurrenceRequest("r", config.sha256(), PRIOR))
    messages = [
        Message(content, node, COOCCURRENCE_QUERY, group_id="0") for node in grid.get_node_ids()
    ]
    return list(grid.send_and_receive(messages))


def reader(config: RunConfig) -> ReplyReader:
    return ReplyReader("r", config.sha256(), {})


def test_the_exact_sum_over_sites_is_the_pooled_statistic(three: Path, tmp_path: Path) -> None:
    config = pair_config(fresh_copy(three, tmp_path / "s"), 3, mode="none")
    total, outcome = sum_cells(
        replies(config, LossyGrid(config)), reader(config), triangle_size(ITEMS)
    )
    assert outcome.ok == 3
    np.testing.assert_allclose(total, pooled(config, bounded=False), rtol=1e-6)


def test_a_site_that_sends_other_or_broken_cells_is_left_out(three: Path, tmp_path: Path) -> None:
    config = pair_config(fresh_copy(three, tmp_path / "s"), 3, mode="none")
    good, short, broken = replies(config, LossyGrid(config))
    _resend(short, config, lambda cells: cells[:-1])
    _resend(broken, config, lambda cells: np.full_like(cells, np.nan))
    total, outcome = sum_cells([good, short, broken], reader(config), triangle_size(ITEMS))
    assert [line.status for line in outcome.sites] == ["ok", "error", "non_finite"]
    assert "give all sites the same catalogue" in str(outcome.sites[1].reason)
    alone, _ = sum_cells([good], reader(config), triangle_size(ITEMS))
    np.testing.assert_array_equal(total, alone)
    twice, outcome = sum_cells([good, good], reader(config), triangle_size(ITEMS))
    assert [line.status for line in outcome.sites] == ["ok", "error"]
    np.testing.assert_array_equal(twice, alone)


def _resend(message: Message, config: RunConfig, change: Any) -> None:
    """The same message with other cells, and a record of just those."""
    reply = decode_cooccurrence_reply(
        message.content, run="r", config_sha256=config.sha256(), cells=triangle_size(ITEMS)
    )
    cells = change(reply.cells)
    sha256 = payload_sha256({"cooccurrence": cells})
    release = reply.release.model_copy(update={"payload_sha256": sha256})
    message.content = encode_cooccurrence_reply(replace(reply, cells=cells, release=release))


def test_a_secure_sum_is_the_pooled_statistic_up_to_its_rounding(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pair_config(fresh_copy(three, tmp_path / "s"), 3, mode="distributed")
    federation = SumFederation(config)
    federation.enrol()
    assert federation.add_up()[0] is not None  # popularity is the run's first sum
    monkeypatch.setattr(
        "common.discrete_noise.discrete_gaussian", lambda std, n, source: np.zeros(n, np.int64)
    )
    total, outcome = federation.add_up(purpose="cooccurrence", item_prior=PRIOR)
    assert total is not None
    assert outcome.ok == 3
    exact = pooled(config, bounded=True)
    assert 0 < np.abs(total - exact).max() <= 0.001
    assert np.abs(exact).max() > 0.1
    ledger = federation.agent("site-0000").ledger
    assert [event.noise_multiplier for event in ledger.history()] == pytest.approx([1.4, 2.0])
    again, _ = federation.add_up(purpose="cooccurrence", item_prior=PRIOR)
    np.testing.assert_array_equal(again, total)  # a retry: the very same bytes
    back, outcome = federation.add_up()
    assert back is None
    assert "sum 0 was released before" in str(outcome.sites[0].reason)
    assert len(ledger.history()) == 2


@pytest.mark.statistical
@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_the_noise_of_a_sum_is_as_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    from tests.server.test_sum_noise import check_noise

    folder = written_sites(tmp_path / "wide", 3, users=9, items=130)
    config = pair_config(folder, 3, mode=mode, items=125, max_dropouts=0)
    federation = SumFederation(config)
    federation.enrol()
    prior = np.arange(130, dtype=np.float32)
    monkeypatch.setattr("tests.sum_federation.ITEMS", 130)
    _, exact = capture_inputs(monkeypatch, lambda: federation.grid.at_work)
    total, outcome = federation.add_up(purpose="cooccurrence", item_prior=prior)
    assert total is not None
    assert outcome.ok == 3
    if mode == "central":
        parts = [federation.agent(site)._pairs.exact(prior, 130) for site in NAMES]
    else:
        parts = exact.of(NAMES)  # type: ignore[assignment]
    check_noise(total - np.sum(parts, axis=0), cooccurrence_deviation(config, 3))


@pytest.mark.parametrize("mode", ["none", "local", "distributed", "central"])
def test_the_release_gives_the_run_its_weights(three: Path, tmp_path: Path, mode: str) -> None:
    config = pair_config(fresh_copy(three, tmp_path / "s"), 3, mode=mode, items=9)
    strategy, records = _run(config, tmp_path / "run")
    _release(strategy, records, config)
    folder = RunFolder(tmp_path / "run")
    stored = folder.read_item_to_item()
    assert stored["items"].tolist() == list(range(ITEMS))[::-1][:9]
    np.testing.assert_array_equal(stored["weights"], strategy.item_to_item)
    assert np.square(strategy.item_to_item).sum() * 2 == pytest.approx(9 * 9, rel=1e-5)
    assert {line["kind"] for line in folder.read_releases()} == {"cooccurrence"}
    assert [line["server_round"] for line in folder.read_rounds()] == [0]
    records.write_checkpoint(strategy, 1)
    tensors, _ = folder.read_checkpoint()
    np.testing.assert_array_equal(tensors["item_to_item"], strategy.item_to_item)


def test_weights_of_an_exact_sum_do_not_depend_on_the_number_of_sites(
    three: Path, tmp_path: Path
) -> None:
    config = pair_config(fresh_copy(three, tmp_path / "s"), 3, mode="none")
    summed = pooled(config, bounded=False)
    np.testing.assert_array_equal(
        weights_of(summed, config, ITEMS, 3), weights_of(summed, config, ITEMS, 30)
    )


def test_too_few_releases_end_the_run_on_record(three: Path, tmp_path: Path) -> None:
    sites = fresh_copy(three, tmp_path / "s")
    for site in NAMES[:2]:
        (sites / site / "policy.toml").write_text('allowed_modes = ["none"]\n')
    config = pair_config(sites, 3, mode="none")
    strategy, records = _run(config, tmp_path / "run")
    with pytest.raises(FederationError, match="1 of 3 sites gave .* the co-occurrence release"):
        _release(strategy, records, config)
    (line,) = RunFolder(tmp_path / "run").read_rounds()
    assert [site["status"] for site in line["sites"]] == ["refused", "refused", "ok"]
    assert "a release of cooccurrence is not allowed" in line["sites"][0]["reason"]


def test_nobody_is_asked_for_all_pairs_of_a_large_catalogue(three: Path, tmp_path: Path) -> None:
    config = pair_config(fresh_copy(three, tmp_path / "s"), 3, mode="none")
    strategy, records = _run(config, tmp_path / "run")
    strategy.item_prior = np.zeros(5000, dtype=np.float32)
    with pytest.raises(ConfigError, match="set model.item_to_item_items to at most 4000"):
        _release(strategy, records, config)
    assert not (tmp_path / "run" / "rounds.jsonl").exists()


def test_sums_are_numbered_once_each_in_rising_order(three: Path) -> None:
    config = pair_config(three, 3, mode="distributed")
    order = [("popularity", 0), ("cooccurrence", 0), ("update", 1), ("update", 2)]
    assert [sum_number(config, *each) for each in order] == [0, 1, 2, 3]
    plain = config.model_copy(
        update={"model": config.model.model_copy(update={"item_to_item": False})}
    )
    assert [sum_number(plain, *each) for each in order if each[0] != "cooccurrence"] == [0, 1, 2]


def _run(config: RunConfig, path: Path) -> tuple[FederatedAdapters, RunRecords]:
    strategy = FederatedAdapters(config, "r", initial_adapter(config), SilentListener())
    strategy.item_prior = PRIOR
    return strategy, RunRecords.start(path, config, "r")


def _release(strategy: FederatedAdapters, records: RunRecords, config: RunConfig) -> None:
    from server.summed_steps import SummedSteps

    grid, listener = LossyGrid(config), SilentListener()
    summed = SummedSteps(strategy, listener) if config.is_summed else None
    if summed is not None:
        summed.enrol(grid)
    release_cooccurrence(grid, strategy, records, listener, summed)
