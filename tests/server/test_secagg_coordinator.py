"""Whole rounds of secure aggregation: exact sums, vanishing sites, what the server can see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.errors import FederationError, RoundAbandoned
from common.secagg import keys
from common.secagg.messages import MaskedInput, UnmaskShares
from tests.secagg_federation import (
    STAGES,
    Federation,
    make_spec,
    plain_sum,
    random_vectors,
    site_names,
)
from tests.secagg_transcript import strip


@pytest.mark.parametrize(
    ("sites", "dropouts", "colluders"), [(3, 0, 0), (3, 1, 0), (10, 3, 2), (33, 10, 2)]
)
@pytest.mark.parametrize("bits", [1, 31, 32, 33, 63])
def test_the_sum_is_exact_bit_for_bit(sites: int, dropouts: int, colluders: int, bits: int) -> None:
    spec = make_spec(sites, dropouts, colluders, modulus_bits=bits)
    vectors = random_vectors(spec)
    total = Federation(spec).run(vectors)
    np.testing.assert_array_equal(total, plain_sum(spec, vectors, spec.participants))


@pytest.mark.slow
def test_the_sum_of_a_hundred_sites_is_exact() -> None:
    spec = make_spec(100, 10, 5)
    vectors = random_vectors(spec)
    vanish = dict(zip(site_names(10), STAGES * 2, strict=True))
    total = Federation(spec).run(vectors, vanish)
    left = [s for s in spec.participants if vanish.get(s, "unmask") in STAGES[3:]]
    np.testing.assert_array_equal(total, plain_sum(spec, vectors, left))


@pytest.mark.slow
def test_the_sum_of_a_thousand_sites_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    # One process plays all sites: a signature that one of them checked is not checked again.
    known: dict[tuple[bytes, bytes, bytes], bool] = {}
    verify = keys.is_signed

    def is_signed(identity: bytes, signature: bytes, signed: bytes) -> bool:
        asked = identity, signature, signed
        if asked not in known:
            known[asked] = verify(*asked)
        return known[asked]

    monkeypatch.setattr(keys, "is_signed", is_signed)
    monkeypatch.setattr("client.secagg_checks.is_signed", is_signed)
    spec = make_spec(1000, 20, 5, length=3)
    vectors = random_vectors(spec)
    vanish = dict(zip(site_names(20), STAGES * 4, strict=True))
    total = Federation(spec, over_bytes=False).run(vectors, vanish)
    left = [s for s in spec.participants if vanish.get(s, "unmask") in STAGES[3:]]
    np.testing.assert_array_equal(total, plain_sum(spec, vectors, left))


@st.composite
def vanishing(draw: st.DrawFn, *, within_limit: bool) -> tuple[int, int, dict[str, str]]:
    sites = draw(st.one_of(st.integers(3, 12), st.just(33)))
    limit = draw(st.integers(1, (sites - 1) // 2))
    count = st.integers(0, limit) if within_limit else st.integers(limit + 1, sites)
    lost = draw(st.permutations(site_names(sites)))[: draw(count)]
    return sites, limit, {site: draw(st.sampled_from(STAGES)) for site in lost}


@settings(max_examples=25, deadline=None)
@given(vanishing(within_limit=True))
def test_up_to_the_limit_the_sum_is_that_of_all_whose_input_arrived(
    drawn: tuple[int, int, dict[str, str]],
) -> None:
    sites, limit, vanish = drawn
    spec = make_spec(sites, limit)
    vectors = random_vectors(spec)
    total = Federation(spec).run(vectors, vanish)
    left = [s for s in spec.participants if vanish.get(s, "unmask") in STAGES[3:]]
    np.testing.assert_array_equal(total, plain_sum(spec, vectors, left))


@settings(max_examples=25, deadline=None)
@given(vanishing(within_limit=False))
def test_beyond_the_limit_the_round_is_abandoned(drawn: tuple[int, int, dict[str, str]]) -> None:
    sites, limit, vanish = drawn
    spec = make_spec(sites, limit, length=64, modulus_bits=32)
    federation, vectors = Federation(spec), random_vectors(spec)
    with pytest.raises(RoundAbandoned, match="abandoned"):
        federation.run(vectors, vanish)
    with pytest.raises(FederationError, match="due"):
        federation.server.receive_unmask([])
    for site, rest in strip(federation.spec, federation.transcript).items():
        assert not np.array_equal(rest, vectors[site])


def abandoned_round() -> tuple[Federation, dict[str, np.ndarray]]:
    spec = make_spec(6, 2, length=20_000, modulus_bits=16)
    federation = Federation(spec)
    vectors = {s: np.full(spec.length, 7, np.uint64) for s in spec.participants}
    vanish = {"site-0000": "mask_input"} | dict.fromkeys(site_names(4)[1:], "unmask")
    with pytest.raises(RoundAbandoned):
        federation.run(vectors, vanish)
    return federation, vectors


@pytest.mark.statistical
def test_the_transcript_of_an_abandoned_round_gives_no_input() -> None:
    federation, vectors = abandoned_round()
    replies = [m for m in federation.transcript if isinstance(m, UnmaskShares)]
    assert len(replies) == 2  # of threshold 3
    for site, rest in strip(federation.spec, federation.transcript).items():
        # What remains is uniform: a false alarm in 10^6 for each of the 5 sites.
        counts = np.bincount(rest.astype(np.int64) >> 8, minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-6, site
        assert np.mean(rest == vectors[site]) < 0.01


def test_the_attack_works_where_the_protocol_is_broken() -> None:
    # The same attack, given both kinds of share of one site by all: it must find the input.
    spec = make_spec(5, 1, length=50)
    federation, vectors = Federation(spec), random_vectors(spec)
    held: dict[str, dict[str, tuple[bytes, bytes]]] = {}
    victim = "site-0002"
    key_list = federation.advertise()
    deliveries = federation.share(key_list, spec.participants)
    federation.mask(deliveries, spec.participants, vectors)
    for name, site in federation.sites.items():
        held[name] = dict(site._held)
    stolen = [
        UnmaskShares(
            spec.context, name, ((victim, shares[victim][0]),), ((victim, shares[victim][1]),)
        )
        for name, shares in held.items()
        if name != victim
    ]
    np.testing.assert_array_equal(
        strip(spec, [*federation.transcript, *stolen])[victim], vectors[victim]
    )
    assert not np.array_equal(
        strip(spec, [*federation.transcript, *stolen[:2]])[victim], vectors[victim]
    )


def test_a_faulty_site_counts_as_vanished_and_is_named() -> None:
    spec = make_spec(5, 2)
    federation, vectors = Federation(spec), random_vectors(spec)
    adverts = [federation.sites[s].advertise() for s in spec.participants]
    stranger = Federation(make_spec(5, 2, run=b"other")).sites["site-0001"].advertise()
    key_list = federation.server.receive_adverts([stranger, *adverts[2:], adverts[0], adverts[0]])
    names = ["site-0000", "site-0002", "site-0003", "site-0004"]
    assert [a.site for a in key_list.adverts] == names
    assert "another round" in federation.server.rejected["site-0001"]
    deliveries = federation.share(key_list, names)
    inputs = [federation.sites[s].mask_input(deliveries[s], vectors[s]) for s in names]
    inputs[0] = MaskedInput(spec.context, "site-0000", b"short")
    survivors = federation.server.receive_inputs(inputs)
    assert survivors.survivors == tuple(names[1:])
    assert "bytes" in federation.server.rejected["site-0000"]
    request = federation.sign(survivors, names[1:])
    total = federation.unmask(request, names[1:])
    np.testing.assert_array_equal(total, plain_sum(spec, vectors, names[1:]))


def test_a_wrong_share_is_noticed_and_never_changes_the_sum() -> None:
    spec = make_spec(3, 0)
    federation, vectors = Federation(spec), random_vectors(spec)
    names = spec.participants
    survivors = federation.mask(federation.share(federation.advertise(), names), names, vectors)
    request = federation.sign(survivors, names)
    replies = [federation.sites[s].unmask(request) for s in names]
    (owner, share), *others = replies[0].seed_shares
    wrong = share[:-1] + bytes([share[-1] ^ 1])
    replies[0] = UnmaskShares(spec.context, names[0], ((owner, wrong), *others), ())
    with pytest.raises(RoundAbandoned, match="wrong share"):
        federation.server.receive_unmask(replies)
