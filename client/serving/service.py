"""The gRPC side: a request is decoded, answered and encoded, and a fault becomes a status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message

from client.serving import serving_pb2 as pb
from client.serving.feedback import Event, Kind
from client.serving.recommending import SiteRecommender, Visitor, Who
from client.serving.rpc import Behaviour
from common.errors import FedrecError, RequestFault, RequestReason

logger = logging.getLogger("fedrec-site")

REASONS = 3
_STATUS: dict[RequestReason, grpc.StatusCode] = {
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "unknown": grpc.StatusCode.NOT_FOUND,
    "conflict": grpc.StatusCode.ALREADY_EXISTS,
}
_KINDS: dict[int, Kind] = {
    pb.FeedbackRequest.TAKEN: "taken",
    pb.FeedbackRequest.DISMISSED: "dismissed",
}
_INTERNAL = "the service failed; its log at the site says why"


def behaviours(recommender: SiteRecommender) -> dict[str, Behaviour]:
    """The four methods over `recommender`."""
    methods: dict[str, Callable[[SiteRecommender, Any], Message]] = {
        "Recommend": _recommend,
        "Explain": _explain,
        "Feedback": _feedback,
        "ModelInfo": _model_info,
    }
    return {name: _guarded(recommender, method) for name, method in methods.items()}


def _guarded(
    recommender: SiteRecommender, method: Callable[[SiteRecommender, Any], Message]
) -> Behaviour:
    """`method` behind the deadline, with a status for whatever goes wrong."""

    def answer(request: Any, context: grpc.ServicerContext) -> Message:
        left = context.time_remaining()
        if not context.is_active() or (left is not None and left <= 0):
            # It waited for its turn until nobody was left to hear the answer.
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before its turn")
        try:
            return method(recommender, request)
        except RequestFault as fault:
            _abort(context, _STATUS[fault.reason], str(fault))
        except FedrecError as error:
            logger.error("%s", error)
            _abort(context, grpc.StatusCode.UNAVAILABLE, _INTERNAL)
        except Exception:
            logger.exception("a request failed")
            _abort(context, grpc.StatusCode.INTERNAL, _INTERNAL)

    return answer


def _abort(context: grpc.ServicerContext, status: grpc.StatusCode, line: str) -> NoReturn:
    context.abort(status, line)
    raise RuntimeError("abort returned")  # it raises; only its types do not say so


def _recommend(recommender: SiteRecommender, request: pb.RecommendRequest) -> Message:
    answer = recommender.recommend(_who(request), request.k, request.unix_seconds)
    return pb.RecommendResponse(
        recommendation_id=answer.recommendation_id,
        adapter=answer.adapter,
        policy=answer.policy,
        items=[pb.Recommended(**offer._asdict()) for offer in answer.offers],
    )


def _explain(recommender: SiteRecommender, request: pb.ExplainRequest) -> Message:
    reasons = recommender.explain(
        _who(request), request.item_id, request.top or REASONS, request.unix_seconds
    )
    return pb.ExplainResponse(
        adapter=reasons.adapter,
        item_id=request.item_id,
        title=reasons.title,
        score=reasons.found.score,
        score_without_history=reasons.found.without_history,
        reasons=[
            pb.Reason(item_id=item_id, title=title, effect=reason.effect)
            for (item_id, title), reason in zip(reasons.items, reasons.found.reasons, strict=True)
        ],
        sentence=reasons.sentence,
    )


def _feedback(recommender: SiteRecommender, request: pb.FeedbackRequest) -> Message:
    kind = _KINDS.get(request.kind)
    if kind is None:
        raise RequestFault("invalid", "kind must be TAKEN or DISMISSED")
    event = Event(
        request_id=request.request_id,
        user=request.user,
        item_id=request.item_id,
        kind=kind,
        at=request.unix_seconds,
        recommendation_id=request.recommendation_id,
    )
    return pb.FeedbackResponse(already_recorded=not recommender.record(event))


def _model_info(recommender: SiteRecommender, _: pb.ModelInfoRequest) -> Message:
    served = recommender.served
    manifest, items = served.manifest, served.items
    return pb.ModelInfoResponse(
        site=served.site,
        adapter=served.adapter,
        run=manifest.run,
        server_round=manifest.server_round,
        adapter_sha256=manifest.adapter_sha256,
        config_sha256=manifest.config_sha256,
        catalogue_sha256=items.catalogue.sha256,
        base_weights=manifest.base_weights,
        items=len(items),
        new_items=len(items) - len(items.catalogue),
        policy=recommender.policy,
        loaded_at=served.loaded_at,
    )


def _who(request: pb.RecommendRequest | pb.ExplainRequest) -> Who:
    asker = request.WhichOneof("asker")
    if asker == "user":
        return request.user
    if asker == "visitor":
        return Visitor(tuple(request.visitor.item_ids), dict(request.visitor.attributes))
    raise RequestFault("invalid", "say who asks: a user, or a visitor")
