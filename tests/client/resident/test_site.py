"""What the resident agent decides by itself, on a real site with a real BERT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import RecordDict

from client.policy import SitePolicy
from client.resident.protocol import (
    Request,
    RequestHead,
    content_to_bytes,
    parse_answer,
)
from client.resident.site import ResidentSite, check_weights_name
from common.base_weights import MINILM, resolve_base_weights
from common.bundle_hash import signature_of
from common.config import DataConfig, FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.errors import PolicyRefusal
from common.messages import (
    PopularityRequest,
    RefusalReply,
    decode_popularity_reply,
    decode_refusal,
    encode_popularity_request,
    is_refusal,
)
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.client.resident.conftest import frame_of

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw().hex()
GOOD, BAD = "a" * 64, "b" * 64


def make_config(**model: Any) -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=2, sites_folder="/elsewhere"),
        model=ModelConfig(
            head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4, **model
        ),
        privacy=PrivacyConfig(mode="local", targets_per_unit=3, negatives_per_unit=6),
        federation=FederationConfig(rounds=2, local_lr=0.1),
    )


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., ResidentSite]:
    """A resident site with `policy`, on the folder of a simulated one."""
    made = write_site_folders(
        synthetic_dataset(), DataConfig(dataset="synthetic", sites=2), tmp_path / "sites"
    )

    def make(policy: str = "") -> ResidentSite:
        if policy:
            (made[0] / "policy.toml").write_text(policy)
        return ResidentSite(made[0])

    return make


def ask(
    site: ResidentSite, config: RunConfig, kind: str = "query.popularity", **head: Any
) -> RecordDict:
    content = encode_popularity_request(PopularityRequest("run", config.sha256()))
    given = {"message_type": kind, "group": "0", "run_config": config.to_flat(), **head}
    answer = parse_answer(
        frame_of(site.answer(Request(RequestHead(**given), content_to_bytes(content))))
    )
    assert isinstance(answer, RecordDict)
    return answer


def refused(answer: RecordDict) -> RefusalReply:
    assert is_refusal(answer)
    return decode_refusal(answer, server_round=0)


def entered(site: ResidentSite) -> list[tuple[str, str]]:
    return [(each["run"], each["kind"]) for each in site.ledger.export()["refusals"]]


def test_it_answers_for_its_own_folder_whatever_sites_folder_says(
    make_site: Callable[..., ResidentSite],
) -> None:
    site, config = make_site(), make_config()
    answer = ask(site, config)
    reply = decode_popularity_reply(answer, run="run", config_sha256=config.sha256())
    assert reply.site == "site-0000"
    assert len(site.ledger.history()) == 1
    assert ask(site, config) == answer  # a retry: the very same release
    assert len(site.ledger.history()) == 1


def test_a_simulated_folder_gets_no_policy_from_the_coordinator(
    make_site: Callable[..., ResidentSite],
) -> None:
    site, config = make_site(), make_config()
    privacy = config.privacy.model_copy(update={"mode": "none"})
    reply = refused(ask(site, config.model_copy(update={"privacy": privacy})))
    assert (reply.code, reply.site) == ("PolicyRefusal", "site-0000")
    assert entered(site) == [("run", "refusal:popularity:PolicyRefusal")]
    assert site.policy == SitePolicy()


def test_an_unknown_message_type_is_refused(make_site: Callable[..., ResidentSite]) -> None:
    reply = refused(ask(make_site(), make_config(), "query.\nsecrets"))
    assert reply.code == "MessageError"
    assert reply.reason == r"this site answers no messages of type 'query.\nsecrets'"


def test_a_content_that_is_none_is_refused(make_site: Callable[..., ResidentSite]) -> None:
    head = RequestHead(message_type="train", group="0", run_config=make_config().to_flat())
    answer = parse_answer(frame_of(make_site().answer(Request(head, b"\xff\xff"))))
    assert isinstance(answer, RecordDict)
    assert refused(answer).code == "MessageError"


def test_a_wrong_run_config_is_refused_without_its_faults(
    make_site: Callable[..., ResidentSite],
) -> None:
    flat = {**make_config().to_flat(), "privacy.epsilon": 1}
    reply = refused(ask(make_site(), make_config(), run_config=flat))
    assert (reply.code, "log" in reply.reason) == ("ConfigError", True)


@pytest.mark.parametrize(
    ("stated", "signed", "served"),
    [("", False, False), (BAD, False, False), (GOOD, False, True), (BAD, True, True)],
)
def test_only_listed_or_signed_code_is_answered_and_a_refusal_is_entered(
    make_site: Callable[..., ResidentSite], stated: str, signed: bool, served: bool
) -> None:
    site = make_site(f'code_sha256 = ["{GOOD}"]\ncode_signers = ["{PUBLIC}"]\n')
    signatures = (signature_of(stated, KEY),) if signed else ()
    answer = ask(site, make_config(), code_sha256=stated, signatures=signatures)
    assert is_refusal(answer) is not served
    if not served:
        assert refused(answer).code == "PolicyRefusal"
        assert entered(site) == [("run", "refusal:query.popularity:PolicyRefusal")]
        assert site.ledger.history() == ()


def test_another_bundles_signature_does_not_help(make_site: Callable[..., ResidentSite]) -> None:
    site = make_site(f'code_signers = ["{PUBLIC}"]\n')
    answer = ask(site, make_config(), code_sha256=BAD, signatures=(signature_of(GOOD, KEY),))
    assert refused(answer).code == "PolicyRefusal"


def test_weights_in_a_folder_are_refused_and_entered(
    make_site: Callable[..., ResidentSite],
) -> None:
    site = make_site()
    reply = refused(ask(site, make_config(weights="/etc")))
    assert (reply.code, "is a path" in reply.reason) == ("PolicyRefusal", True)
    assert entered(site) == [("run", "refusal:query.popularity:PolicyRefusal")]


def test_weights_that_the_policy_does_not_list_are_not_even_looked_for(
    make_site: Callable[..., ResidentSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(*_: object) -> None:
        raise RuntimeError("the hub was asked")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", reached)
    monkeypatch.setattr("transformers.BertConfig.from_pretrained", reached)
    site = make_site(f'base_weights_sha256 = ["{GOOD}"]\n')
    for name in ("somebody/else", MINILM):
        reply = refused(ask(site, make_config(weights=name), "train"))
        assert reply.code == "PolicyRefusal"
        assert "base weights with SHA-256" in reply.reason
        assert "are not allowed at this site" in reply.reason
    assert entered(site) == [("run", "refusal:train:PolicyRefusal")]
    assert site.ledger.history() == ()


def test_a_path_gets_one_answer_whether_it_is_there_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    policies = (SitePolicy(), SitePolicy(base_weights_sha256=frozenset({GOOD})))
    for policy in policies:
        for name in (
            "/etc",
            "/no/such",
            "../x",
            ".",
            "~",
            "a/b/c",
            "a\\b",
            "models",
            "x\0y",
            "/" * 9,
        ):
            with pytest.raises(PolicyRefusal) as fault:
                check_weights_name(name, policy)
            assert str(fault.value).partition("; ")[0] == f"model.weights={name!a} is a path"
        for name in (MINILM, "bert-base-uncased"):
            check_weights_name(name, policy)


def test_a_listed_folder_may_be_named(tmp_path: Path) -> None:
    found = resolve_base_weights(MINILM)
    listed = SitePolicy(base_weights_sha256=frozenset({found.sha256}))
    check_weights_name(found.location, listed)
    with pytest.raises(PolicyRefusal):
        check_weights_name(found.location, SitePolicy())


def test_what_is_logged_holds_no_line_of_the_peers_making(
    make_site: Callable[..., ResidentSite], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ask(make_site(), make_config(), "x\nforged line", group="1\nforged line")
    assert "forged line" in caplog.text
    assert not [line for line in caplog.text.splitlines() if line.startswith("forged")]
