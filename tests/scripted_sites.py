"""A real Flower ClientApp whose sites do what a test tells them, by partition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from common.adapters import Adapter, shapes
from common.config import (
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.messages import (
    EvaluateReply,
    PopularityReply,
    RefusalReply,
    TrainReply,
    decode_evaluate_request,
    decode_popularity_request,
    decode_train_request,
    encode_evaluate_reply,
    encode_popularity_reply,
    encode_refusal,
    encode_train_reply,
)
from common.metrics import MetricSums
from common.release_record import ReleaseRecord, counts_payload, payload_sha256

ITEMS = 5
Behaviour = Callable[[Message, Context], Message]


def small_adapter(value: float = 0.0) -> Adapter:
    return {
        "head.weight": np.full((2, 3), value, dtype=np.float32),
        "score.scale": np.full((), value, dtype=np.float32),
    }


def small_config(sites: int = 3, **federation: Any) -> RunConfig:
    federation = {"rounds": 2, "server_optimizer": "fedavg", "server_lr": 1.0} | federation
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=sites),
        model=ModelConfig(popularity_prior=False),
        privacy=PrivacyConfig(mode="local"),
        federation=FederationConfig(**{"min_sites": min(2, sites)} | federation),
        evaluation=EvaluationConfig(every=0),
    )


def site_name(context: Context) -> str:
    return f"site-{int(context.node_config['partition-id']):04d}"


def release_record(site: str, payload: Adapter, **fields: Any) -> ReleaseRecord:
    stated = {
        "site": site,
        "run": "run",
        "server_round": 1,
        "kind": "update",
        "mode": "local",
        "mechanism": "sampled_gaussian",
        "noise_multiplier": 1.5,
        "max_grad_norm": 1.0,
        "sample_rate": 0.5,
        "steps": 1,
        "sampling": "poisson",
        "divisor": 10.0,
        "tensors": sorted(payload),
        "bytes": sum(array.nbytes for array in payload.values()),
        "payload_sha256": payload_sha256(payload),
        "epsilon_prv": 0.5,
        "epsilon_rdp": 0.75,
        "delta": 1e-4,
    }
    return ReleaseRecord.model_validate(stated | fields)


def update_of(partition: int, server_round: int) -> Adapter:
    """What the good site of a partition sends: different in every site, round and entry."""
    rng = np.random.default_rng([partition, server_round])
    return {
        name: rng.normal(size=array.shape).astype(np.float32)
        for name, array in small_adapter().items()
    }


def good_training(message: Message, context: Context, **changes: Any) -> Message:
    content = message.content
    sha256 = str(content.config_records["meta"]["config_sha256"])
    request = decode_train_request(content, config_sha256=sha256, shapes=shapes(small_adapter()))
    site = site_name(context)
    partition = int(context.node_config["partition-id"])
    update = changes.get("update", update_of(partition, request.server_round))
    release = release_record(site, update, run=request.run, server_round=request.server_round)
    reply = TrainReply(site, request.server_round, sha256, update, release, 10 * (partition + 1))
    return Message(encode_train_reply(reply), reply_to=message)


def bad_update(value: float) -> Behaviour:
    def train(message: Message, context: Context) -> Message:
        return good_training(message, context, update=small_adapter(value))

    return train


def wrong_shape(message: Message, context: Context) -> Message:
    update = {"head.weight": np.zeros((3, 2), np.float32), "score.scale": np.zeros((), np.float32)}
    return good_training(message, context, update=update)


def refusal(code: str = "BudgetRefusal", reason: str = "ε would pass the limit") -> Behaviour:
    def answer(message: Message, context: Context) -> Message:
        server_round = int(message.metadata.group_id)
        reply = RefusalReply(site_name(context), server_round, code, reason)
        return Message(encode_refusal(reply), reply_to=message)

    return answer


def crash(message: Message, context: Context) -> Message:
    raise RuntimeError("the site's program is broken")


def good_popularity(message: Message, context: Context, items: int = ITEMS) -> Message:
    content = message.content
    sha256 = str(content.config_records["meta"]["config_sha256"])
    request = decode_popularity_request(content, config_sha256=sha256)
    site, partition = site_name(context), int(context.node_config["partition-id"])
    counts = np.arange(items, dtype=np.float32) + partition
    release = release_record(
        site, counts_payload(counts), run=request.run, server_round=0, kind="popularity"
    )
    reply = PopularityReply(site, sha256, counts, release, 10 * (partition + 1))
    return Message(encode_popularity_reply(reply), reply_to=message)


def good_evaluation(message: Message, context: Context, **changes: Any) -> Message:
    content = message.content
    sha256 = str(content.config_records["meta"]["config_sha256"])
    request = decode_evaluate_request(content, config_sha256=sha256, shapes=shapes(small_adapter()))
    users = int(context.node_config["partition-id"]) + 1
    sums = MetricSums(users, 0.5 * users, 0.6 * users, 0.1 * users, 0.2 * users, 0.3 * users)
    sums = changes.get("sums", sums)
    site = site_name(context)
    release = release_record(
        site,
        {},
        run=request.run,
        server_round=request.server_round,
        kind="metrics",
        mechanism="exact_lab_only",
        sampling="none",
    )
    reply = EvaluateReply(site, request.server_round, sha256, sums, release)
    return Message(encode_evaluate_reply(reply), reply_to=message)


def scripted_app(
    train: Mapping[int, Behaviour] | None = None,
    popularity: Mapping[int, Behaviour] | None = None,
    evaluate: Mapping[int, Behaviour] | None = None,
) -> ClientApp:
    """Sites behave well unless their partition is named."""
    app = ClientApp()

    def behave(script: Mapping[int, Behaviour] | None, good: Behaviour) -> Behaviour:
        def answer(message: Message, context: Context) -> Message:
            partition = int(context.node_config["partition-id"])
            return (script or {}).get(partition, good)(message, context)

        return answer

    app.train()(behave(train, good_training))
    app.query("popularity")(behave(popularity, good_popularity))
    app.evaluate()(behave(evaluate, good_evaluation))
    return app
