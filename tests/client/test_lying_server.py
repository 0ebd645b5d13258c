"""A server that lies about everything, against the agent's `add_up`: what it gets is a refusal.

The site's part in the round has then ended, the refusal stands in the ledger, and nothing is
charged a second time.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from client.agent import forget_agents
from client.policy_file import POLICY_FILE
from common.errors import MessageError, PolicyRefusal, Refusal, SecAggRefusal
from common.messages import SumRequest
from common.secagg.key_messages import KeyAdvert, KeyList
from common.secagg.messages import (
    ShareDelivery,
    SurvivorList,
    SurvivorSignature,
    UnmaskRequest,
)
from tests.sum_federation import (
    STAGES,
    SumFederation,
    Walk,
    fresh_copy,
    sum_config,
    written_sites,
)

A, B, C, D = (f"site-{at:04d}" for at in range(4))
LIMITS = {"max_dropouts": 1, "max_colluders": 0, "insecure_seeded_noise": False}


@pytest.fixture(autouse=True)
def no_agents_are_left() -> Any:
    yield
    forget_agents()


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_sites(tmp_path_factory.mktemp("four") / "sites", 4)


@pytest.fixture
def federation(four: Path, tmp_path: Path) -> SumFederation:
    return SumFederation(sum_config(fresh_copy(four, tmp_path / "sites"), 4, **LIMITS))


def refused(federation: SumFederation, request: SumRequest, reason: str, site: str = A) -> None:
    """`site` refuses `request`, and its part in the round, if it had one, is over."""
    agent = federation.agent(site)
    charged = agent.ledger.history()
    with pytest.raises(SecAggRefusal, match=rf"\({reason}\)") as refusal:
        agent.add_up(request)
    assert "\n" not in str(refusal.value)
    entry = agent.ledger.export()["refusals"][-1]
    assert entry["record"]["error"] == "SecAggRefusal"
    assert entry["record"]["reason"] == str(refusal.value)
    assert (entry["run"], entry["server_round"]) == (request.run, request.server_round)
    assert agent.ledger.history() == charged
    forget_agents()
    for stage in STAGES[1:]:
        with pytest.raises(Refusal):
            federation.agent(site).add_up(replace(request, stage=stage, payload=b""))
    assert federation.agent(site).ledger.history() == charged
    assert federation.ledger_of(site).verify() == []


def walked(federation: SumFederation, stage: str) -> Walk:
    walk = Walk(federation)
    walk.to(stage)
    return walk


def with_advert(key_list: KeyList, at: int, **changed: Any) -> bytes:
    adverts = list(key_list.adverts)
    adverts[at] = replace(adverts[at], **changed)
    return KeyList(tuple(adverts)).encode()


@pytest.mark.parametrize("key", ["encryption_key", "mask_key", "seed_commitment"])
@pytest.mark.parametrize(("at", "reason"), [(0, "swapped_key"), (1, "bad_signature")])
def test_swapped_keys(federation: SumFederation, key: str, at: int, reason: str) -> None:
    walk = walked(federation, "share_keys")
    swapped = with_advert(KeyList.decode(walk.payloads[A]), at, **{key: b"\1" * 32})
    refused(federation, walk.request(A, swapped), reason)


def test_a_peer_played_by_the_server(federation: SumFederation, four: Path, tmp_path: Path) -> None:
    # The same names and the same round, with identities of the server's own making.
    walk = walked(federation, "share_keys")
    other = SumFederation(sum_config(shutil.copytree(four, tmp_path / "played"), 4, **LIMITS))
    forged = KeyList.decode(walked(other, "share_keys").payloads[A]).adverts
    own = KeyList.decode(walk.payloads[A]).adverts[0]
    refused(federation, walk.request(A, KeyList((own, *forged[1:])).encode()), "bad_signature")


def test_too_few_keys(federation: SumFederation) -> None:
    walk = walked(federation, "share_keys")
    few = KeyList(KeyList.decode(walk.payloads[A]).adverts[:2])
    refused(federation, walk.request(A, few.encode()), "below_threshold")


def test_keys_of_another_run(federation: SumFederation) -> None:
    walk = walked(federation, "share_keys")
    other = SumFederation(federation.config, "elsewhere")
    advert = KeyList.decode(walked(other, "share_keys").payloads[A]).adverts[1]
    adverts = list(KeyList.decode(walk.payloads[A]).adverts)
    swapped = KeyList((adverts[0], advert, *adverts[2:]))
    refused(federation, walk.request(A, swapped.encode()), "wrong_round")


def test_the_config_hash_changed_for_one_site(four: Path, tmp_path: Path) -> None:
    config = sum_config(fresh_copy(four, tmp_path / "s"), 4, **LIMITS)
    changed = config.federation.model_copy(update={"seed": 7})
    federation = SumFederation(config)
    other = SumFederation(config.model_copy(update={"federation": changed}))
    request = replace(federation.request(A, "advertise"), config_sha256=other.config.sha256())
    with pytest.raises(MessageError, match="config hash"):
        federation.agent(A).add_up(request)
    # B is started with the other configuration altogether: A sees it in B's signed keys.
    walk = Walk(federation)
    replies = walk.ask([A, C, D])
    replies |= {B: other.answered(B, other.request(B, "advertise"))}
    adverts = [KeyAdvert.decode(replies[site].payload) for site in (A, B, C, D)]
    key_list = KeyList(tuple(adverts)).encode()
    refused(federation, replace(walk.request(A, key_list), stage="share_keys"), "config_mismatch")


@pytest.mark.parametrize("stage", STAGES[1:])
def test_participants_that_change_in_mid_round(federation: SumFederation, stage: str) -> None:
    walk = walked(federation, stage)
    request = walk.request(A)
    refused(federation, replace(request, participants=(A, B, C)), "inconsistent")


def test_a_replayed_round(federation: SumFederation) -> None:
    first = Walk(federation)
    start, keys = first.request(A), b""
    first.to("share_keys")
    keys = first.payloads[A]
    first.to("over")
    Walk(federation, server_round=1).ask()  # another round has begun
    assert len(federation.agent(A).ledger.history()) == 1
    with pytest.raises(SecAggRefusal, match=r"\(out_of_order\)"):
        federation.agent(A).add_up(replace(start, stage="share_keys", payload=keys))
    refused(federation, start, "replay")


def test_a_round_that_was_abandoned_before_anything_left(federation: SumFederation) -> None:
    start = walked(federation, "mask_input").request(A, b"")
    Walk(federation, server_round=1).ask()
    refused(federation, replace(start, stage="advertise"), "replay")


def test_an_earlier_round_after_a_later_one(federation: SumFederation) -> None:
    Walk(federation, server_round=2).ask()
    refused(federation, Walk(federation, server_round=1).request(A), "replay")


def test_the_same_round_again_with_other_participants(federation: SumFederation) -> None:
    walk = walked(federation, "over")
    request = replace(federation.request(A, "advertise"), participants=(A, B, C))
    assert walk.total is not None
    refused(federation, request, "inconsistent")


@pytest.mark.parametrize("participants", [(A, B, C, "site-0099"), (B, C, D)])
def test_a_stranger_among_the_participants(
    federation: SumFederation, participants: tuple[str, ...]
) -> None:
    request = replace(federation.request(A, "advertise"), participants=participants)
    refused(federation, request, "unknown_peer")


def test_each_reason_is_entered_even_after_another_in_the_same_round(
    federation: SumFederation,
) -> None:
    refused(federation, federation.request(A, "unmask", b""), "out_of_order")
    walk = walked(federation, "sign_survivors")
    walk.ask([A])
    fewer = replace(SurvivorList.decode(walk.payloads[A]), survivors=(A, B, C))
    refused(federation, walk.request(A, fewer.encode()), "both_kinds")
    assert len(federation.agent(A).ledger.export()["refusals"]) == 2


def test_so_few_participants_that_the_noise_falls_short(federation: SumFederation) -> None:
    request = replace(federation.request(A, "advertise"), participants=(A, B))
    refused(federation, request, "below_threshold")


def test_more_participants_than_the_run_was_planned_for(federation: SumFederation) -> None:
    more = replace(federation.request(A, "advertise"), participants=(A, B, C, D, "site-0004"))
    refused(federation, more, "below_threshold")


@pytest.mark.parametrize(
    ("stage", "wrong"),
    [
        ("advertise", "share_keys"),
        ("advertise", "mask_input"),
        ("advertise", "unmask"),
        ("share_keys", "mask_input"),
        ("share_keys", "sign_survivors"),
        ("mask_input", "share_keys"),
        ("mask_input", "unmask"),
        ("sign_survivors", "unmask"),
        ("unmask", "mask_input"),
        ("over", "share_keys"),
        ("over", "mask_input"),
    ],
)
def test_stages_out_of_order(federation: SumFederation, stage: str, wrong: str) -> None:
    walk = walked(federation, stage)
    request = federation.request(A, wrong, decodable(walk, wrong))
    refused(federation, request, "out_of_order")


def decodable(walk: Walk, stage: str) -> bytes:
    """A message of `stage` in form, of this round, that was not sent before."""
    context = walk.spec.context
    messages = {
        "share_keys": KeyList(()),
        "mask_input": ShareDelivery(context, (A, B), ()),
        "sign_survivors": SurvivorList(context, (A, B)),
        "unmask": UnmaskRequest(context, ()),
    }
    return messages[stage].encode()


def test_a_second_delivery_of_shares(federation: SumFederation) -> None:
    walk = walked(federation, "mask_input")
    delivery = ShareDelivery.decode(walk.payloads[A])
    walk.ask([A])
    fewer = replace(delivery, sharers=(A, B, C), sealed=delivery.sealed[:2])
    refused(federation, walk.request(A, fewer.encode()), "out_of_order")
    assert len(federation.agent(A).ledger.history()) == 1


def test_a_second_set_of_survivors(federation: SumFederation) -> None:
    walk = walked(federation, "sign_survivors")
    survivors = SurvivorList.decode(walk.payloads[A])
    walk.ask([A])
    fewer = replace(survivors, survivors=(A, B, C))
    refused(federation, walk.request(A, fewer.encode()), "both_kinds")


def test_both_kinds_of_share_of_one_site(federation: SumFederation) -> None:
    # D vanishes in the words of the server; A has given the shares of D's seed already.
    walk = walked(federation, "unmask")
    walk.ask([A])
    signed = UnmaskRequest.decode(walk.payloads[A])
    others = UnmaskRequest(signed.context, signed.signatures[:3])
    refused(federation, walk.request(A, others.encode()), "both_kinds")


def test_one_set_of_survivors_for_some_and_another_for_others(federation: SumFederation) -> None:
    walk = walked(federation, "sign_survivors")
    everybody = SurvivorList.decode(walk.payloads[A])
    fewer = replace(everybody, survivors=(A, B, C)).encode()
    signed = {}
    for site, payload in ((A, fewer), (B, fewer), (C, None), (D, None)):
        reply = federation.answered(site, walk.request(site, payload))
        signed[site] = SurvivorSignature.decode(reply.payload).signature
    walk.stage = "unmask"
    for site, signers in ((A, (A, B, C)), (C, (A, C, D))):
        request = UnmaskRequest(everybody.context, tuple((s, signed[s]) for s in signers))
        refused(federation, walk.request(site, request.encode()), "inconsistent", site)
    request = UnmaskRequest(everybody.context, ((C, signed[C]), (D, signed[D])))
    refused(federation, walk.request(D, request.encode()), "below_threshold", D)


def test_survivors_that_did_not_share(federation: SumFederation) -> None:
    walk = Walk(federation)
    walk.to("share_keys")
    walk.take(walk.ask([A, B, C]))
    walk.to("sign_survivors")
    context = walk.spec.context
    refused(
        federation, walk.request(A, SurvivorList(context, (A, B, C, D)).encode()), "inconsistent"
    )


def test_messages_of_another_round(federation: SumFederation) -> None:
    first = walked(federation, "unmask")
    walk = Walk(federation, server_round=1)
    walk.take(walk.ask())
    other = KeyList.decode(walk.payloads[A])
    walk.take(walk.ask())
    delivery = ShareDelivery.decode(walk.payloads[A])
    assert len(other.adverts) == 4
    refused(
        federation,
        walk.request(A, replace(delivery, context=first.spec.context).encode()),
        "wrong_round",
    )


def pin(federation: SumFederation, site: str, **changed: Any) -> None:
    """Writes the site's own policy; `peers` are all the others' real keys."""
    keys = {name: federation.agent(name).ledger.identity.public_key for name in federation.names}
    values: dict[str, Any] = {
        "allowed_modes": ["distributed"],
        "min_participants": 3,
        "min_colluders": 0,
        "peers": {name: key for name, key in keys.items() if name != site},
    }
    values |= changed
    peers = values.pop("peers")
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    lines += [
        "[peers]",
        *(f"{json.dumps(name)} = {json.dumps(key)}" for name, key in peers.items()),
    ]
    path = federation.agent(site).ledger.path.parent / POLICY_FILE
    path.write_text("\n".join(lines) + "\n")


def test_sites_that_pinned_their_peers_sum_over_them(federation: SumFederation) -> None:
    for site in federation.names:
        pin(federation, site)
    forget_agents()
    assert walked(federation, "over").total is not None


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"min_participants": 4}, "below_threshold"),
        ({"min_colluders": 1}, "below_threshold"),
        ({"peers": {B: "ab" * 32, C: "cd" * 32}}, "unknown_peer"),
    ],
)
def test_rounds_below_what_the_operator_pinned(
    federation: SumFederation, policy: dict[str, Any], reason: str
) -> None:
    pin(federation, A, **policy)
    forget_agents()
    refused(federation, federation.request(A, "advertise"), reason)


def test_a_wrong_key_pinned_for_a_peer(federation: SumFederation) -> None:
    keys = {name: federation.agent(name).ledger.identity.public_key for name in (B, C)}
    pin(federation, A, peers={**keys, D: keys[C]})
    forget_agents()
    refused(federation, walked(federation, "share_keys").request(A), "bad_signature")


def test_a_real_site_that_pinned_nobody_sums_with_nobody(federation: SumFederation) -> None:
    pin(federation, A, peers={})
    manifest = federation.agent(A).ledger.path.parent / "site.json"
    manifest.write_text(manifest.read_text().replace('"simulated": true', '"simulated": false'))
    forget_agents()
    agent = federation.agent(A)
    with pytest.raises(SecAggRefusal, match="pin their keys in policy.toml"):
        agent.add_up(federation.request(A, "advertise"))


def test_a_site_that_allows_only_local_noise(federation: SumFederation) -> None:
    pin(federation, A, allowed_modes=["local"])
    forget_agents()
    agent = federation.agent(A)
    for stage in STAGES:
        with pytest.raises(PolicyRefusal, match="privacy.mode=distributed is not allowed"):
            agent.add_up(federation.request(A, stage))
    (entry,) = agent.ledger.export()["refusals"]
    assert entry["record"]["error"] == "PolicyRefusal"


# --- Garbage at every stage ------------------------------------------------------------------

AT_STAGE = STAGES[1:]


@pytest.fixture(scope="module")
def at_stage(four: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes]]:
    """For each stage, a copy of the sites where it is due, and the honest message for A."""
    made = {}
    for stage in AT_STAGE:
        folder = tmp_path_factory.mktemp(stage) / "sites"
        walk = walked(SumFederation(sum_config(fresh_copy(four, folder), 4, **LIMITS)), stage)
        made[stage] = folder, walk.payloads[A]
    forget_agents()
    return made


def check_garbage(folder: Path, stage: str, honest: bytes, garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as copy:
        sites = fresh_copy(folder, Path(copy) / "sites")
        federation = SumFederation(sum_config(sites, 4, **LIMITS))
        agent = federation.agent(A)
        before = agent.ledger.history()
        with pytest.raises((MessageError, SecAggRefusal)) as fault:
            agent.add_up(federation.request(A, stage, garbage))
        assert "\n" not in str(fault.value)
        with pytest.raises(SecAggRefusal, match="not in this round"):
            agent.add_up(federation.request(A, stage, honest))
        assert agent.ledger.history() == before


def flipped(honest: bytes, at: int, bit: int) -> bytes:
    at %= len(honest)
    return honest[:at] + bytes([honest[at] ^ 1 << bit]) + honest[at + 1 :]


QUICK = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
LONG = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Garble = Callable[[bytes], bytes]
GARBLES = st.one_of(
    st.binary(max_size=300).map(lambda noise: lambda honest: noise),
    st.binary(min_size=1, max_size=40).map(lambda noise: lambda honest: honest + noise),
    st.integers(0, 10**6).map(lambda cut: lambda honest: honest[: cut % len(honest)]),
    st.tuples(st.integers(0, 10**6), st.integers(0, 7)).map(
        lambda place: lambda honest: flipped(honest, *place)
    ),
)


@pytest.mark.parametrize("stage", AT_STAGE)
@QUICK
@given(garble=GARBLES)
def test_garbage_is_refused_and_ends_the_sites_part(
    at_stage: dict[str, tuple[Path, bytes]], stage: str, garble: Garble
) -> None:
    folder, honest = at_stage[stage]
    check_garbage(folder, stage, honest, garble(honest))


@pytest.mark.slow
@pytest.mark.parametrize("stage", AT_STAGE)
@LONG
@given(garble=GARBLES)
def test_garbage_at_length(
    at_stage: dict[str, tuple[Path, bytes]], stage: str, garble: Garble
) -> None:
    folder, honest = at_stage[stage]
    check_garbage(folder, stage, honest, garble(honest))


@QUICK
@given(st.binary(min_size=1, max_size=40))
@example(b"\0")
def test_the_first_stage_carries_no_message(four: Path, noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as copy:
        federation = SumFederation(sum_config(fresh_copy(four, Path(copy) / "sites"), 4, **LIMITS))
        agent = federation.agent(A)
        with pytest.raises(MessageError, match="no message"):
            agent.add_up(federation.request(A, "advertise", noise))
        assert agent.ledger.history() == ()
