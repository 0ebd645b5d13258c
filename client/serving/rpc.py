"""The service's methods as gRPC needs them, for the server and for clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message

from client.serving import serving_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Recommender"].full_name
_REQUESTS: dict[str, tuple[type[Message], type[Message]]] = {
    "Recommend": (pb.RecommendRequest, pb.RecommendResponse),
    "Explain": (pb.ExplainRequest, pb.ExplainResponse),
    "Feedback": (pb.FeedbackRequest, pb.FeedbackResponse),
    "ModelInfo": (pb.ModelInfoRequest, pb.ModelInfoResponse),
}

Behaviour = Callable[[Any, grpc.ServicerContext], Message]


def handler(behaviours: Mapping[str, Behaviour]) -> grpc.GenericRpcHandler:
    """The server's side; `behaviours` has one entry per method."""
    methods = {
        name: grpc.unary_unary_rpc_method_handler(
            behaviours[name],
            request_deserializer=asked.FromString,
            response_serializer=answered.SerializeToString,
        )
        for name, (asked, answered) in _REQUESTS.items()
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


class Client(NamedTuple):
    """The methods on a channel."""

    Recommend: grpc.UnaryUnaryMultiCallable[pb.RecommendRequest, pb.RecommendResponse]
    Explain: grpc.UnaryUnaryMultiCallable[pb.ExplainRequest, pb.ExplainResponse]
    Feedback: grpc.UnaryUnaryMultiCallable[pb.FeedbackRequest, pb.FeedbackResponse]
    ModelInfo: grpc.UnaryUnaryMultiCallable[pb.ModelInfoRequest, pb.ModelInfoResponse]


def client(channel: grpc.Channel) -> Client:
    """The client's side; the bearer token goes into each call's metadata (`bearer`)."""
    methods: tuple[Any, ...] = tuple(
        channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answered.FromString,
        )
        for name, (asked, answered) in _REQUESTS.items()
    )
    return Client(*methods)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that shows a token."""
    return (("authorization", f"Bearer {token}"),)
