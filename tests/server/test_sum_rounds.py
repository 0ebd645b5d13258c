"""Sums over real sites: exact, whoever vanishes, or abandoned and nothing learnt."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from client.agent import forget_agents
from client.release import unit_popularity
from common.discrete_noise import masked_sum_input
from common.privacy_events import DistributedGaussianEvent
from common.randomness import seeded_source
from common.secagg.messages import KeyAdvert, MaskedInput
from common.secagg.quantisation import QuantisationPlan
from common.sum_plan import round_spec
from server.round_record import RoundOutcome
from tests.secagg_transcript import strip
from tests.sum_federation import (
    ITEMS,
    MESSAGES,
    STAGES,
    SumFederation,
    capture_inputs,
    fresh_copy,
    plain_total,
    signed,
    site_name,
    sum_config,
    written_sites,
)

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]


@pytest.fixture(autouse=True)
def no_agents_are_left() -> Any:
    yield
    forget_agents()


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sites without a past, to be copied."""
    return written_sites(tmp_path_factory.mktemp("five") / "sites", 5)


def status(outcome: RoundOutcome) -> dict[str, str]:
    return {line.site: line.status for line in outcome.sites}


def as_floats(vectors: list[Any], plan: QuantisationPlan) -> np.ndarray:
    total = signed(plain_total(vectors, plan.modulus_bits), plan.modulus_bits)
    return np.array(total, dtype=np.float64) * plan.grid_step


@pytest.mark.parametrize(
    "sites",
    [3, 10, pytest.param(33, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)],
)
def test_the_sum_is_that_of_the_same_noised_integers_bit_for_bit(
    sites: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written_sites(tmp_path / "sites", sites)
    config = sum_config(folder, sites, max_dropouts=sites // 4)
    federation = SumFederation(config)
    assert federation.enrol().ok == sites
    captured, exact = capture_inputs(monkeypatch, lambda: federation.grid.at_work)
    total, outcome = federation.add_up()
    assert total is not None
    assert outcome.ok == sites
    plan = federation.plan(federation.request("site-0000", "advertise"))
    names = federation.names
    np.testing.assert_array_equal(total, as_floats(captured.of(names), plan))
    # The marked mode's sources are public: the same integers, computed here once more.
    again, noiseless = [], np.zeros(ITEMS)
    for site in names:
        units = federation.agent(site).units
        source = seeded_source(config.federation.seed, site, "0", "noise:popularity")
        again.append(masked_sum_input(unit_popularity(units, ITEMS), plan, source))
        noiseless += exact[site, 0]
        np.testing.assert_array_equal(unit_popularity(units, ITEMS), exact[site, 0])
    np.testing.assert_array_equal(total, as_floats(again, plan))
    assert noiseless.max() > 1


def test_quantisation_costs_at_most_a_hundredth_of_the_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same round with the noise left out: what is left is the rounding of ten sites.
    config = sum_config(written_sites(tmp_path / "sites", 10), 10)
    federation = SumFederation(config)
    federation.enrol()
    _, exact = capture_inputs(monkeypatch, lambda: federation.grid.at_work)
    monkeypatch.setattr(
        "common.discrete_noise.discrete_gaussian", lambda std, n, source: np.zeros(n, np.int64)
    )
    total, _ = federation.add_up()
    assert total is not None
    error = total - sum(exact.of(federation.names))
    sigma = config.privacy.popularity_noise_multiplier  # of a unit of norm 1
    assert 0 < np.abs(error).max() <= 0.01 * sigma


def test_a_sum_of_trained_updates_is_exact(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = SumFederation(
        sum_config(fresh_copy(five, tmp_path / "s"), 5, insecure_seeded_noise=False)
    )
    federation.enrol()
    captured, exact = capture_inputs(monkeypatch, lambda: federation.grid.at_work)
    federation.grid.lost = {("site-0003", "mask_input", 1): "out"}
    total, outcome = federation.add_up(1)
    assert total is not None
    left = [site for site in federation.names if site != "site-0003"]
    assert [s for s, state in status(outcome).items() if state == "ok"] == left
    plan = federation.plan(federation.request("site-0000", "advertise", server_round=1))
    np.testing.assert_array_equal(total, as_floats(captured.of(left), plan))
    assert np.abs(exact["site-0000", 0]).max() > 0  # something was learnt there


LIMIT = 2
Fates = dict[str, tuple[str, str]]


@st.composite
def fates(draw: st.DrawFn, least: int, most: int) -> Fates:
    """Which of five sites is lost, at which stage, before or after it has answered."""
    lost = draw(st.permutations([site_name(at) for at in range(5)]))
    lost = lost[: draw(st.integers(least, most))]
    fate = st.tuples(st.sampled_from(STAGES), st.sampled_from(["in", "out"]))
    return {site: draw(fate) for site in lost}


def lossy_round(sites: Path, drawn: Fates) -> tuple[SumFederation, Any, Any, RoundOutcome]:
    config = sum_config(sites, 5, max_dropouts=LIMIT, max_colluders=0, insecure_seeded_noise=False)
    federation = SumFederation(config)
    federation.enrol()
    federation.grid.lost = {(site, stage, 0): way for site, (stage, way) in drawn.items()}
    with pytest.MonkeyPatch.context() as patch:
        captured, _ = capture_inputs(patch, lambda: federation.grid.at_work)
        total, outcome = federation.add_up()
    return federation, captured, total, outcome


def check_up_to_the_limit(five: Path, drawn: Fates) -> None:
    with tempfile.TemporaryDirectory() as folder:
        federation, captured, total, outcome = lossy_round(
            fresh_copy(five, Path(folder) / "s"), drawn
        )
        plan = federation.plan(federation.request("site-0000", "advertise"))
        gone = {site for site, (stage, _) in drawn.items() if stage in STAGES[:3]}
        summed = [site for site in federation.names if site not in gone]
        np.testing.assert_array_equal(total, as_floats(captured.of(summed), plan))
        for line in outcome.sites:
            assert (line.status == "ok") is (line.site in summed)
            stage = drawn.get(line.site, ("", ""))[0]
            assert line.reason is None or f"no reply to {stage} within" in line.reason
        # Nobody is charged for more noise than there is, nor twice; who kept silent before the
        # stage that releases was charged nothing.
        variance = len(summed) * plan.share_std**2
        for site in federation.names:
            history = federation.agent(site).ledger.history()
            stage, way = drawn.get(site, ("unmask", "out"))
            released = stage not in STAGES[:2] and (stage, way) != ("mask_input", "in")
            assert len(history) == released
            if released:
                assert isinstance(history[0], DistributedGaussianEvent)
                charged = history[0].noise_multiplier
                assert variance >= (charged * plan.sensitivity) ** 2
                assert charged >= federation.config.privacy.popularity_noise_multiplier


QUICK = settings(max_examples=3, deadline=None, derandomize=True)
LONG = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(fates(0, LIMIT))
@example({"site-0000": ("mask_input", "out"), "site-0004": ("unmask", "out")})
@example({"site-0001": ("share_keys", "out"), "site-0002": ("mask_input", "in")})
def test_up_to_the_limit_the_sum_and_its_noise_are_right(five: Path, drawn: Fates) -> None:
    check_up_to_the_limit(five, drawn)


@pytest.mark.slow
@LONG
@given(fates(0, LIMIT))
def test_up_to_the_limit_at_length(five: Path, drawn: Fates) -> None:
    check_up_to_the_limit(five, drawn)


def check_beyond_the_limit(five: Path, drawn: Fates) -> None:
    with tempfile.TemporaryDirectory() as folder:
        federation, captured, total, outcome = lossy_round(
            fresh_copy(five, Path(folder) / "s"), drawn
        )
        assert total is None
        assert outcome.ok == 0
        assert "the round is abandoned and no input was revealed" in str(outcome.fault)
        assert all(len(federation.agent(s).ledger.history()) <= 1 for s in federation.names)
        for site, rest in strip(*transcript(federation)).items():
            assert not np.array_equal(rest, captured[site, 0])


def transcript(federation: SumFederation, server_round: int = 0) -> tuple[Any, list[Any]]:
    """The round, and every message of it that the server got."""
    request = federation.request("site-0000", "advertise", server_round=server_round)
    plan = federation.plan(request)
    spec = round_spec(federation.config, request.run, server_round, federation.names, plan)
    return spec, [
        MESSAGES[reply["stage"]].decode(reply["payload"])
        for asked, reply in federation.grid.seen
        if asked.get("server_round") == server_round and asked["kind"] == "sum_request"
    ]


@QUICK
@given(fates(LIMIT + 1, 5))
@example(dict.fromkeys(["site-0000", "site-0001", "site-0002"], ("unmask", "out")))
def test_beyond_the_limit_nothing_is_summed_or_learnt(five: Path, drawn: Fates) -> None:
    check_beyond_the_limit(five, drawn)


@pytest.mark.slow
@LONG
@given(fates(LIMIT + 1, 5))
def test_beyond_the_limit_at_length(five: Path, drawn: Fates) -> None:
    check_beyond_the_limit(five, drawn)


def test_after_an_abandoned_round_the_next_has_fresh_keys_and_its_sum_is_right(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, _, total, _ = lossy_round(
        fresh_copy(five, tmp_path / "s"),
        {
            site_name(0): ("unmask", "in"),
            **{site_name(s): ("sign_survivors", "out") for s in (1, 2)},
        },
    )
    assert total is None
    captured, _ = capture_inputs(monkeypatch, lambda: federation.grid.at_work)
    total, outcome = federation.add_up(1)
    assert total is not None
    assert outcome.ok == 5
    plan = federation.plan(federation.request("site-0000", "advertise", server_round=1))
    np.testing.assert_array_equal(total, as_floats(captured.of(federation.names), plan))
    adverts = [
        message
        for server_round in (0, 1)
        for message in transcript(federation, server_round)[1]
        if isinstance(message, KeyAdvert)
    ]
    assert len(adverts) == 10
    for key in ("encryption_key", "mask_key", "seed_commitment"):
        assert len({getattr(advert, key) for advert in adverts}) == 10
    # What the second round showed of the sites does not open the first one's inputs.
    spec, seen = transcript(federation, 0)
    stripped = strip(spec, seen)
    assert set(stripped) == set(federation.names)
    for site in federation.names:
        assert len(federation.agent(site).ledger.history()) == 2
        residues = signed(stripped[site].tolist(), spec.modulus_bits)
        # An unmasked input is within a few hundred deviations of zero, a masked one anywhere.
        far = np.abs(np.array(residues, dtype=np.float64)) > 2.0 ** (spec.modulus_bits - 6)
        assert far.sum() > ITEMS // 2, site


def test_a_site_that_speaks_for_another_is_dropped_and_the_other_stays(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = SumFederation(sum_config(fresh_copy(five, tmp_path / "s"), 5))
    federation.enrol()
    captured, _ = capture_inputs(monkeypatch, lambda: federation.grid.at_work)
    real = MaskedInput.encode

    def lying(message: MaskedInput) -> bytes:
        named = MaskedInput(message.context, "site-0003", message.packed)
        return real(named if message.site == "site-0001" else message)

    monkeypatch.setattr(MaskedInput, "encode", lying)
    total, outcome = federation.add_up()
    assert status(outcome) == {
        site: "error" if site == "site-0001" else "ok" for site in federation.names
    }
    (line,) = (line for line in outcome.sites if line.site == "site-0001")
    assert "in the name of 'site-0003'" in str(line.reason)
    left = [site for site in federation.names if site != "site-0001"]
    plan = federation.plan(federation.request("site-0000", "advertise"))
    np.testing.assert_array_equal(total, as_floats(captured.of(left), plan))
