"""A lying server: everything that a site refuses in a round of secure aggregation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client.secagg_policy import RoundGate
from client.secagg_site import SecAggSite
from common.errors import MessageError, Refusal, SecAggRefusal
from common.secagg.messages import KeyList, ShareDelivery, SurvivorList, UnmaskRequest
from tests.secagg_federation import Federation, make_spec, random_vectors

A, B, C, D, E = names = tuple(f"site-000{at}" for at in range(5))


@pytest.fixture
def federation() -> Federation:
    return Federation(make_spec(5, 1, 1))


def to_sharing(federation: Federation) -> KeyList:
    key_list: KeyList = federation.advertise()
    return key_list


def to_masking(federation: Federation) -> dict[str, ShareDelivery]:
    deliveries: dict[str, ShareDelivery] = federation.share(to_sharing(federation), names)
    return deliveries


def to_signing(federation: Federation) -> SurvivorList:
    vectors = random_vectors(federation.spec)
    survivors: SurvivorList = federation.mask(to_masking(federation), names, vectors)
    return survivors


def to_unmasking(federation: Federation) -> UnmaskRequest:
    request: UnmaskRequest = federation.sign(to_signing(federation), names)
    return request


def refuses(reason: str) -> Any:
    return pytest.raises(SecAggRefusal, match=rf"\({reason}\)")


def with_advert(key_list: KeyList, at: int, **changed: Any) -> KeyList:
    adverts = list(key_list.adverts)
    adverts[at] = replace(adverts[at], **changed)
    return KeyList(tuple(adverts))


@pytest.mark.parametrize("key", ["encryption_key", "mask_key", "seed_commitment"])
def test_a_swapped_key_of_a_peer_is_refused(federation: Federation, key: str) -> None:
    key_list = to_sharing(federation)
    with refuses("bad_signature"):
        federation.sites[A].share_keys(with_advert(key_list, 1, **{key: b"\1" * 32}))


def test_its_own_swapped_key_is_refused(federation: Federation) -> None:
    with refuses("swapped_key"):
        federation.sites[A].share_keys(with_advert(to_sharing(federation), 0, mask_key=bytes(32)))


def test_a_peer_that_the_server_made_up_is_refused(federation: Federation) -> None:
    forged = Federation(federation.spec).advertise()  # the same names, other identities
    own = to_sharing(federation).adverts[0]
    with refuses("bad_signature"):
        federation.sites[A].share_keys(KeyList((own, *forged.adverts[1:])))
    wider = Federation(make_spec(6, 1, 1)).advertise()
    with refuses("unknown_peer"):
        federation.sites[B].share_keys(KeyList((*to_adverts(federation, B), wider.adverts[5])))


def to_adverts(federation: Federation, site: str) -> tuple[Any, ...]:
    return (federation.sites[site]._own,)


def test_another_config_at_a_peer_is_refused(federation: Federation) -> None:
    other = replace(federation.spec, config_hash=b"\1" * 32)
    federation.gates[B] = RoundGate()
    advert = federation.enter(B, other).advertise()
    key_list = to_sharing(federation)
    adverts = (key_list.adverts[0], advert, *key_list.adverts[2:])
    with refuses("config_mismatch"):
        federation.sites[A].share_keys(KeyList(adverts))


def test_the_keys_of_another_round_are_refused(federation: Federation) -> None:
    advert = federation.enter(B, federation.spec.in_round(2)).advertise()
    key_list = to_sharing(federation)
    adverts = (key_list.adverts[0], advert, *key_list.adverts[2:])
    with refuses("wrong_round"):
        federation.sites[A].share_keys(KeyList(adverts))


def test_a_round_is_entered_once_and_in_order(federation: Federation) -> None:
    with refuses("replay"):
        federation.enter(A)
    federation.enter(A, federation.spec.in_round(5))
    with refuses("replay"):
        federation.enter(A, federation.spec.in_round(4))
    restarted = RoundGate(federation.gates[A].last_rounds)
    with refuses("replay"):
        SecAggSite(federation.policies[A], federation.spec.in_round(5), restarted)
    federation.enter(A, replace(federation.spec, run=b"another run"))


def test_fresh_keys_each_round(federation: Federation) -> None:
    first = federation.sites[A].advertise()
    second = federation.enter(A, federation.spec.in_round(2)).advertise()
    for key in ("encryption_key", "mask_key", "seed_commitment"):
        assert getattr(first, key) != getattr(second, key)


@pytest.mark.parametrize("pins", [{"min_survivors": 5}, {"min_colluders": 2}])
def test_thresholds_below_the_pinned_ones_are_refused(
    federation: Federation, pins: dict[str, int]
) -> None:
    with refuses("below_threshold"):
        SecAggSite(replace(federation.policies[A], **pins), federation.spec, RoundGate())


def test_unpinned_participants_are_refused(federation: Federation) -> None:
    with refuses("unknown_peer"):
        SecAggSite(federation.policies[A], make_spec(6, 1, 1), RoundGate())
    with refuses("unknown_peer"):
        SecAggSite(replace(federation.policies[A], site="elsewhere"), federation.spec, RoundGate())


def test_too_few_keys_are_refused(federation: Federation) -> None:
    key_list = to_sharing(federation)
    with refuses("below_threshold"):
        federation.sites[A].share_keys(KeyList(key_list.adverts[:3]))


def test_a_changed_share_is_refused(federation: Federation) -> None:
    delivery = to_masking(federation)[A]
    (sender, sealed), *others = delivery.sealed
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    vector = random_vectors(federation.spec)[A]
    with refuses("bad_share"):
        federation.sites[A].mask_input(
            replace(delivery, sealed=((sender, changed), *others)), vector
        )


def test_shares_meant_for_another_site_are_refused(federation: Federation) -> None:
    deliveries = to_masking(federation)
    meant_for_b = dict(deliveries[B].sealed)
    swapped = tuple((s, meant_for_b.get(s, sealed)) for s, sealed in deliveries[A].sealed)
    with refuses("bad_share"):
        federation.sites[A].mask_input(
            replace(deliveries[A], sealed=swapped), random_vectors(federation.spec)[A]
        )


@pytest.mark.parametrize(
    ("sharers", "reason"),
    [((A, B, C, D), "inconsistent"), ((B, C, D, E), "inconsistent"), ((A, B, C), "below_threshold"),
     ((A, B, C, D, "site-0009"), "inconsistent")],
)  # fmt: skip
def test_lies_about_who_shared_are_refused(
    federation: Federation, sharers: tuple[str, ...], reason: str
) -> None:
    delivery = replace(to_masking(federation)[A], sharers=sharers)
    with refuses(reason):
        federation.sites[A].mask_input(delivery, random_vectors(federation.spec)[A])


@pytest.mark.parametrize(
    ("survivors", "reason"),
    [((B, C, D, E), "inconsistent"), ((A, B, C), "below_threshold"),
     ((A, B, C, D, "site-0009"), "inconsistent")],
)  # fmt: skip
def test_lies_about_survivors_are_refused(
    federation: Federation, survivors: tuple[str, ...], reason: str
) -> None:
    message = replace(to_signing(federation), survivors=survivors)
    with refuses(reason):
        federation.sites[A].sign_survivors(message)


def test_a_second_set_of_survivors_is_refused(federation: Federation) -> None:
    survivors = to_signing(federation)
    federation.sites[A].sign_survivors(survivors)
    with refuses("both_kinds"):
        federation.sites[A].sign_survivors(replace(survivors, survivors=(A, B, C, D)))


def test_a_second_request_for_shares_is_refused(federation: Federation) -> None:
    request = to_unmasking(federation)
    federation.sites[A].unmask(request)
    with refuses("both_kinds"):
        federation.sites[A].unmask(request)


def test_no_site_gives_both_kinds_of_share(federation: Federation) -> None:
    survivors = replace(to_signing(federation), survivors=(A, B, C, D))
    signed = [federation.sites[s].sign_survivors(survivors) for s in (A, B, C, D)]
    request = UnmaskRequest(federation.spec.context, tuple((m.site, m.signature) for m in signed))
    reply = federation.sites[A].unmask(request)
    assert [owner for owner, _ in reply.seed_shares] == [B, C, D]
    assert [owner for owner, _ in reply.key_shares] == [E]
    assert federation.sites[A]._held == {}


def test_different_survivors_at_different_sites_are_refused(federation: Federation) -> None:
    # The server tells A and B that E vanished, and the others that A did.
    survivors = to_signing(federation)
    first, second = (replace(survivors, survivors=s) for s in ((A, B, C, D), (B, C, D, E)))
    signed = [federation.sites[s].sign_survivors(first) for s in (A, B)]
    signed += [federation.sites[s].sign_survivors(second) for s in (C, D, E)]
    request = UnmaskRequest(
        federation.spec.context, tuple((m.site, m.signature) for m in signed[:4])
    )
    for site in (A, B):
        with refuses("inconsistent"):
            federation.sites[site].unmask(request)
    for site in (C, D):
        mine = tuple((m.site, m.signature) for m in signed[2:])
        with refuses("below_threshold"):
            federation.sites[site].unmask(replace(request, signatures=mine))


def test_different_keys_or_sharers_at_different_sites_are_noticed(federation: Federation) -> None:
    # E's keys are kept from A alone: the signatures of the others are not on what A saw.
    key_list = to_sharing(federation)
    partial = KeyList(key_list.adverts[:4])
    uploads = {A: federation.sites[A].share_keys(partial)}
    uploads |= {s: federation.sites[s].share_keys(key_list) for s in (B, C, D)}
    sharers = (A, B, C, D)
    for site in sharers:
        sealed = tuple((s, dict(uploads[s].sealed)[site]) for s in sharers if s != site)
        delivery = ShareDelivery(federation.spec.context, sharers, sealed)
        federation.sites[site].mask_input(delivery, random_vectors(federation.spec)[site])
    survivors = SurvivorList(federation.spec.context, sharers)
    signed = [federation.sites[s].sign_survivors(survivors) for s in sharers]
    request = UnmaskRequest(federation.spec.context, tuple((m.site, m.signature) for m in signed))
    for site in sharers:
        with refuses("inconsistent"):
            federation.sites[site].unmask(request)


def test_a_signer_that_is_no_survivor_is_refused(federation: Federation) -> None:
    # E is told that it survived; its signature must not count for those who saw it vanish.
    survivors = replace(to_signing(federation), survivors=(A, B, C, D))
    signed = [federation.sites[s].sign_survivors(survivors) for s in (A, B, C, D)]
    own = federation.policies[E].identity.sign(federation.sites[A]._signed())
    pairs = (*((m.site, m.signature) for m in signed[:3]), (E, own))
    with refuses("inconsistent"):
        federation.sites[A].unmask(UnmaskRequest(federation.spec.context, pairs))


def test_messages_of_another_round_are_refused(federation: Federation) -> None:
    request = to_unmasking(federation)
    with refuses("wrong_round"):
        federation.sites[A].unmask(replace(request, context=bytes(32)))


def test_a_refusal_ends_the_round_for_the_site(federation: Federation) -> None:
    survivors = to_signing(federation)
    with pytest.raises(Refusal):
        federation.sites[A].sign_survivors(replace(survivors, context=bytes(32)))
    with refuses("out_of_order"):
        federation.sites[A].sign_survivors(survivors)
    assert federation.sites[A]._held == {}


def test_stages_cannot_be_skipped(federation: Federation) -> None:
    with refuses("out_of_order"):
        federation.sites[A].unmask(UnmaskRequest(federation.spec.context, ()))


def test_unsorted_lists_are_refused(federation: Federation) -> None:
    with pytest.raises(MessageError, match="sorted"):
        federation.sites[A].share_keys(KeyList(to_sharing(federation).adverts[::-1]))


def test_a_vector_that_does_not_fit_is_the_callers_mistake(federation: Federation) -> None:
    delivery = to_masking(federation)[A]
    for vector in (np.zeros(3, np.uint64), np.full(20, 2**40, np.uint64)):
        with pytest.raises(ValueError, match="vector"):
            federation.sites[A].mask_input(delivery, vector)
    federation.sites[A].mask_input(delivery, np.zeros(20, np.uint64))


def test_the_identity_key_does_not_show(federation: Federation) -> None:
    assert "identity" not in repr(federation.policies[A])
