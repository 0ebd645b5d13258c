"""A site's part in a secure sum: retries, restarts and crashes cost nothing and reveal nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import ledger as ledger_module
from client.agent import forget_agents
from client.sum_store import SumStore
from common.errors import LedgerError, MessageError, SecAggRefusal
from common.messages import decode_refusal, is_refusal
from common.secagg.messages import MaskedInput, ShareDelivery, SurvivorList, UnmaskShares
from tests.sum_federation import (
    STAGES,
    SumFederation,
    Walk,
    capture_inputs,
    fresh_copy,
    plain_total,
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


def store_file(federation: SumFederation, site: str) -> Path:
    return federation.agent(site).ledger.path.parent / "secagg" / "rounds.json"


def charges(federation: SumFederation, site: str = A) -> int:
    return len(federation.agent(site).ledger.history())


def test_a_retry_gets_the_same_bytes_at_every_stage_also_after_a_restart(
    federation: SumFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[str] = [""]
    captured, _ = capture_inputs(monkeypatch, lambda: at_work[0])
    walk = Walk(federation)
    while walk.stage != "over":
        replies = {}
        for site in walk.payloads:
            at_work[0] = site
            replies |= walk.ask([site])
        assert walk.ask() == replies
        forget_agents()  # as if every site's process had ended
        assert walk.ask() == replies
        walk.take(replies)
    assert len(captured) == 4  # each site trained and noised once
    assert walk.total is not None
    expected = plain_total(captured.of(federation.names), walk.spec.modulus_bits)
    assert walk.total.tolist() == expected
    assert [charges(federation, site) for site in federation.names] == [1, 1, 1, 1]
    for site in federation.names:
        assert federation.ledger_of(site).verify() == []


def test_what_was_answered_stays_answerable_after_later_stages(federation: SumFederation) -> None:
    # A reply that was delayed: the server asks again for what is long past.
    walk, past = Walk(federation), []
    while walk.stage != "over":
        past.append((walk.request(A), walk.ask([A])[A]))
        walk.take(walk.ask())
    for request, reply in past:
        assert federation.answered(A, request) == reply


class _Crash(Exception):
    """The process died here."""


def crash_once(
    patch: pytest.MonkeyPatch, owner: Any, name: str, *, when: Callable[..., bool]
) -> None:
    """The first call of `owner.name` of which `when` is true is never made."""
    real, done = getattr(owner, name), []

    def deadly(*arguments: Any, **named: Any) -> Any:
        if not done and when(*arguments):
            done.append(True)
            raise _Crash
        return real(*arguments, **named)

    patch.setattr(owner, name, deadly)


def died(federation: SumFederation, walk: Walk, site: str) -> None:
    """`site` is asked and dies over it; nothing left it. It is started again."""
    content = federation.answer(site, walk.request(site))
    assert decode_refusal(content, server_round=0).code == "_Crash"
    forget_agents()


def test_after_a_crash_between_charge_and_store_the_charged_bytes_are_sent(
    federation: SumFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[str] = [""]
    captured, _ = capture_inputs(monkeypatch, lambda: at_work[0])
    walk = Walk(federation)
    walk.to("mask_input")
    with monkeypatch.context() as patch:
        crash_once(
            patch, SumStore, "keep", when=lambda store, run, part: "mask_input" in part.answered
        )
        at_work[0] = A
        died(federation, walk, A)
    assert charges(federation) == 1
    replies = {}
    for site in federation.names:
        at_work[0] = site
        replies |= walk.ask([site])
    assert (A, 1) not in captured  # the vector was made once
    assert walk.ask() == replies
    walk.take(replies)
    walk.to("over")
    assert walk.total is not None
    expected = plain_total(captured.of(federation.names), walk.spec.modulus_bits)
    assert walk.total.tolist() == expected
    assert charges(federation) == 1
    assert federation.ledger_of(A).verify() == []


def test_after_a_crash_before_the_charge_the_input_is_made_anew(
    federation: SumFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[str] = [A]
    captured, _ = capture_inputs(monkeypatch, lambda: at_work[0])
    walk = Walk(federation)
    walk.to("mask_input")
    with monkeypatch.context() as patch:
        crash_once(patch, ledger_module, "append_entry", when=lambda *_: True)
        died(federation, walk, A)
    assert charges(federation) == 0
    replies = walk.ask([A])
    assert charges(federation) == 1
    for site in (B, C, D):
        at_work[0] = site
        replies |= walk.ask([site])
    walk.take(replies)
    walk.to("over")
    assert walk.total is not None
    second = [captured[A, 1], *captured.of((B, C, D))]
    assert walk.total.tolist() == plain_total(second, walk.spec.modulus_bits)
    assert (captured[A, 0] != captured[A, 1]).any()


@pytest.mark.parametrize("stage", STAGES)
def test_a_crash_before_the_store_is_written_loses_no_round(
    federation: SumFederation, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = Walk(federation)
    walk.to(stage)
    with monkeypatch.context() as patch:
        crash_once(patch, SumStore, "keep", when=lambda store, run, part: stage in part.answered)
        died(federation, walk, A)
    walk.to("over")
    assert walk.total is not None
    assert [charges(federation, site) for site in federation.names] == [1, 1, 1, 1]


def test_charged_bytes_are_sent_for_no_other_delivery_than_the_one_they_were_made_for(
    federation: SumFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server makes the site crash, or sees it crash, and tells it that fewer sites shared.
    walk = Walk(federation)
    walk.to("mask_input")
    with monkeypatch.context() as patch:
        crash_once(
            patch, SumStore, "keep", when=lambda store, run, part: "mask_input" in part.answered
        )
        died(federation, walk, A)
    delivery = ShareDelivery.decode(walk.payloads[A])
    fewer = replace(
        delivery,
        sharers=tuple(s for s in delivery.sharers if s != D),
        sealed=tuple((s, sealed) for s, sealed in delivery.sealed if s != D),
    )
    with pytest.raises(SecAggRefusal, match=r"\(inconsistent\)"):
        federation.agent(A).add_up(walk.request(A, fewer.encode()))
    assert is_refusal(federation.answer(A, walk.request(A)))  # its part has ended
    assert charges(federation) == 1


def test_two_requests_at_once_are_answered_from_one_state_only_once(
    federation: SumFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two processes of one site, or two threads: the server sends each another set of survivors.
    walk = Walk(federation)
    walk.to("sign_survivors")
    everybody = SurvivorList.decode(walk.payloads[A])
    fewer = replace(everybody, survivors=(A, B, C))
    barrier, real = threading.Barrier(2, timeout=1), SumStore.open_round

    def together(*arguments: Any) -> Any:
        found = real(*arguments)
        with suppress(threading.BrokenBarrierError):
            barrier.wait()  # both have read the state, unless one of them is kept waiting
        return found

    keep, writing = SumStore.keep, threading.Lock()

    def one_after_the_other(*arguments: Any) -> None:
        with writing:  # so that nothing but the store's own lock stops the second answer
            keep(*arguments)

    monkeypatch.setattr(SumStore, "open_round", together)
    monkeypatch.setattr(SumStore, "keep", one_after_the_other)
    answers: list[Any] = []

    def ask(message: SurvivorList) -> None:
        answers.append(federation.answer(A, walk.request(A, message.encode())))

    threads = [threading.Thread(target=ask, args=(message,)) for message in (everybody, fewer)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(is_refusal(content) for content in answers) == [False, True]


def test_the_store_is_for_its_own_user_only(federation: SumFederation) -> None:
    Walk(federation).to("mask_input")
    path = store_file(federation, A)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [p.name for p in path.parent.iterdir() if p.stat().st_mode & 0o077] == []
    path.chmod(0o644)
    with pytest.raises(LedgerError, match="may be read by others"):
        federation.agent(A).add_up(federation.request(A, "share_keys"))


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_store_that_is_gone_ends_the_sites_part_and_the_round_goes_on(
    federation: SumFederation, stage: str
) -> None:
    walk = Walk(federation)
    walk.to(stage)
    before = charges(federation)
    store_file(federation, A).unlink()
    forget_agents()
    with pytest.raises(SecAggRefusal, match=r"\(out_of_order\)"):
        federation.agent(A).add_up(walk.request(A))
    walk.take(walk.ask([site for site in walk.payloads if site != A]))
    walk.to("over")
    assert walk.total is not None
    assert charges(federation) == before
    if before:  # what the site has released it does not release a second time
        request = federation.request(A, "advertise")
        with pytest.raises(SecAggRefusal, match=r"\(replay\)"):
            federation.agent(A).add_up(request)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b'"next": "sign_survivors"', b'"next": "mask_input"'),
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: b"{}",
        lambda content: b"\xff" * 100,
    ],
)
def test_a_damaged_store_is_named_and_answers_nothing(
    federation: SumFederation, damage: Callable[[bytes], bytes]
) -> None:
    walk = Walk(federation)
    walk.to("sign_survivors")
    path = store_file(federation, A)
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    for stage in STAGES:
        request = replace(walk.request(A), stage=stage)
        with pytest.raises(LedgerError, match="damaged") as fault:
            federation.agent(A).add_up(request)
        assert "\n" not in str(fault.value)
    assert path.read_bytes() == damaged  # nothing is mended behind the operator's back
    assert charges(federation) == 1


def test_what_a_killed_write_left_is_cleared_away(federation: SumFederation) -> None:
    walk = Walk(federation)
    walk.to("share_keys")
    left = store_file(federation, A).with_name(".rounds.json.0a1b2c3d.tmp")
    left.write_bytes(b"secrets of a round")
    walk.to("over")
    assert sorted(path.name for path in left.parent.iterdir()) == ["lock", "rounds.json"]


def secrets_of(federation: SumFederation, site: str) -> set[str]:
    """Every secret of the open round that the site's store holds."""
    opened = SumStore(store_file(federation, site).parents[1]).open_round(b"r", 0)
    assert opened is not None
    part = opened.part
    shares = [share for both in part["held"].values() for share in both]
    assert len(shares) == 6
    return {part["seed"], part["mask"], part["encryption"], *shares}


def test_after_the_round_no_secret_of_it_is_kept(federation: SumFederation) -> None:
    walk = Walk(federation)
    walk.to("unmask")
    secrets = secrets_of(federation, A)
    (reply,) = walk.ask([A]).values()
    text = store_file(federation, A).read_text()
    given = {share.hex() for _, share in UnmaskShares.decode(reply.payload).seed_shares}
    assert len(given) == 3
    assert given < secrets  # what it gave away it keeps, to give just that again
    assert [secret for secret in secrets - given if secret in text] == []


def test_after_a_refusal_no_secret_of_the_round_is_kept(federation: SumFederation) -> None:
    walk = Walk(federation)
    walk.to("sign_survivors")
    secrets = secrets_of(federation, A)
    with pytest.raises(MessageError):
        federation.agent(A).add_up(walk.request(A, b"no list of survivors"))
    text = store_file(federation, A).read_text()
    assert [secret for secret in secrets if secret in text] == []


def test_a_late_message_of_a_past_round_does_not_end_the_present_one(
    federation: SumFederation,
) -> None:
    past = Walk(federation)
    past.to("unmask")
    now = Walk(federation, server_round=1)
    now.take(now.ask())
    with pytest.raises(SecAggRefusal, match=r"\(out_of_order\)"):
        federation.agent(A).add_up(past.request(A))
    now.take(now.ask())
    assert now.stage == "mask_input"


def test_a_site_over_the_planned_size_takes_no_part(four: Path, tmp_path: Path) -> None:
    small = sum_config(fresh_copy(four, tmp_path / "s"), 4, **(LIMITS | {"max_site_units": 1}))
    federation = SumFederation(small)
    assert federation.enrol().ok == 4
    total, outcome = federation.add_up()
    assert total is None
    assert {line.status for line in outcome.sites} == {"refused"}
    assert all("raise privacy.max_site_units" in str(line.reason) for line in outcome.sites)
    assert charges(federation) == 0


@pytest.mark.parametrize(("mode", "stage"), [("distributed", "exact"), ("central", "advertise")])
def test_a_stage_of_another_mode_is_a_broken_message(
    four: Path, tmp_path: Path, mode: str, stage: str
) -> None:
    config = sum_config(fresh_copy(four, tmp_path / "s"), 4, mode=mode, insecure_seeded_noise=False)
    federation = SumFederation(config)
    with pytest.raises(MessageError, match=f"no stage {stage} in privacy.mode={mode}"):
        federation.agent(A).add_up(federation.request(A, stage))
    assert charges(federation) == 0


def test_masked_bytes_are_what_the_ledger_holds(federation: SumFederation) -> None:
    walk = Walk(federation)
    walk.to("mask_input")
    (reply,) = walk.ask([A]).values()
    (entry,) = federation.agent(A).ledger.export()["releases"]
    assert reply.release is not None
    assert entry["record"]["payload_sha256"] == reply.release.payload_sha256
    packed = MaskedInput.decode(reply.payload).packed
    assert len(packed) == int(np.ceil(walk.spec.length * walk.spec.modulus_bits / 8))
