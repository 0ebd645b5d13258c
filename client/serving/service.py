"""The gRPC side: a request is decoded, answered and encoded, and a fault becomes a status."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message

from client.serving import serving_pb2 as pb
from client.serving.feedback import Event, Kind
from client.serving.metrics import ServingMetrics
from client.serving.recommending import SiteRecommender, Visitor, Who
from client.serving.rpc import Behaviour
from client.serving.words import words_sentence
from common.errors import FedrecError, RequestFault, RequestReason

logger = logging.getLogger("fedrec-site")

REASONS = 3
_STATUS: dict[RequestReason, grpc.StatusCode] = {
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "unknown": grpc.StatusCode.NOT_FOUND,
    "conflict": grpc.StatusCode.ALREADY_EXISTS,
    "busy": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "late": grpc.StatusCode.DEADLINE_EXCEEDED,
}
_KINDS: dict[int, Kind] = {
    pb.FeedbackRequest.TAKEN: "taken",
    pb.FeedbackRequest.DISMISSED: "dismissed",
}
Wanted = Callable[[], bool]
"""Whether somebody still waits for the answer."""
Method = Callable[[SiteRecommender, Any, Wanted], Message]
_LATE = grpc.StatusCode.DEADLINE_EXCEEDED
_INTERNAL = "the service failed; its log at the site says why"


def behaviours(recommender: SiteRecommender, metrics: ServingMetrics) -> dict[str, Behaviour]:
    """The four methods over `recommender`, counted in `metrics`."""
    methods: dict[str, Method] = {
        "Recommend": _recommend,
        "Explain": _explain,
        "Feedback": _feedback,
        "ModelInfo": _model_info,
    }
    return {name: _guarded(recommender, name, methods[name], metrics) for name in methods}


class _Refused(NamedTuple):
    """An answer that is a status."""

    status: grpc.StatusCode
    line: str


def _guarded(
    recommender: SiteRecommender,
    name: str,
    method: Method,
    metrics: ServingMetrics,
) -> Behaviour:
    """`method` behind the deadline, with a status for whatever goes wrong."""

    def answer(request: Any, context: grpc.ServicerContext) -> Message:
        begun = time.perf_counter()
        found: Message | _Refused

        def is_wanted() -> bool:
            left = context.time_remaining()
            return context.is_active() and (left is None or left > 0)

        if not is_wanted():
            # It waited for its turn until nobody was left to hear the answer.
            found = _Refused(_LATE, "the deadline passed before its turn")
        else:
            found = _attempt(recommender, method, request, is_wanted)
        status = found.status if isinstance(found, _Refused) else grpc.StatusCode.OK
        metrics.answered(name, status.name, time.perf_counter() - begun)
        if isinstance(found, _Refused):
            context.abort(found.status, found.line)
            raise RuntimeError("abort returned")  # it raises; only its types do not say so
        return found

    return answer


def _attempt(
    recommender: SiteRecommender, method: Method, request: Any, is_wanted: Wanted
) -> Message | _Refused:
    try:
        return method(recommender, request, is_wanted)
    except RequestFault as fault:
        return _Refused(_STATUS[fault.reason], str(fault))
    except FedrecError as error:
        logger.error("%s", error)
        return _Refused(grpc.StatusCode.UNAVAILABLE, _INTERNAL)
    except Exception:
        logger.exception("a request failed")
        return _Refused(grpc.StatusCode.INTERNAL, _INTERNAL)


def _recommend(recommender: SiteRecommender, request: pb.RecommendRequest, _: Wanted) -> Message:
    answer = recommender.recommend(_who(request), request.k, request.unix_seconds)
    return pb.RecommendResponse(
        recommendation_id=answer.recommendation_id,
        adapter=answer.adapter,
        policy=answer.policy,
        items=[pb.Recommended(**offer._asdict()) for offer in answer.offers],
    )


def _explain(
    recommender: SiteRecommender, request: pb.ExplainRequest, is_wanted: Wanted
) -> Message:
    who, item_id, moment = _who(request), request.item_id, request.unix_seconds
    reasons = recommender.explain(who, item_id, request.top or REASONS, moment)
    words = None
    if request.words:
        words = recommender.words(who, item_id, request.words, moment, is_wanted=is_wanted)
    told = words_sentence(words) if words else ""
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
        sentence=" ".join(filter(None, (reasons.sentence, told))),
        words=[pb.WordReason(**word._asdict()) for word in words.reasons] if words else [],
        words_by=words.by if words else "",
    )


def _feedback(recommender: SiteRecommender, request: pb.FeedbackRequest, _: Wanted) -> Message:
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


def _model_info(recommender: SiteRecommender, _: pb.ModelInfoRequest, __: Wanted) -> Message:
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
