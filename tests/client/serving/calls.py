"""Calls that tests of the service make."""

from __future__ import annotations

from collections.abc import Callable

from client.serving import serving_pb2 as pb
from client.serving.rpc import Client, bearer
from tests.client.serving.conftest import DATASET, TOKEN

ITEM = DATASET.catalogue.item_ids[0]
SHOWN = bearer(TOKEN)


def recommend(**fields: object) -> Callable[[Client], object]:
    return lambda ask: ask.Recommend(pb.RecommendRequest(**fields), metadata=SHOWN)


def explain(**fields: object) -> Callable[[Client], object]:
    return lambda ask: ask.Explain(pb.ExplainRequest(**fields), metadata=SHOWN)


def feedback(**fields: object) -> Callable[[Client], object]:
    whole = {"request_id": "r", "user": "1", "item_id": ITEM, "kind": pb.FeedbackRequest.TAKEN}
    return lambda ask: ask.Feedback(pb.FeedbackRequest(**{**whole, **fields}), metadata=SHOWN)
