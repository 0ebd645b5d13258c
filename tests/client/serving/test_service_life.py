"""Queue, end, health, reflection, feedback and the switch, on a real service."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from client.serving import serving_pb2 as pb
from client.serving.feedback import FeedbackStore
from client.serving.list_policy import Asked, Candidates, Chosen, Greedy
from client.serving.recommending import SiteRecommender
from client.serving.rpc import SERVICE, Client, client
from client.serving.served import Served
from client.serving.server import Limits, RunningService, serving
from tests.client.serving.calls import ITEM, SHOWN, feedback, recommend
from tests.client.serving.conftest import TOKEN, one_client

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


class Slow(Greedy):
    """Holds every list back until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def choose(self, candidates: Candidates, k: int, asked: Asked | None = None) -> Chosen:
        self.begun.release()
        assert self.go.wait(60)
        return super().choose(candidates, k)


def test_what_does_not_fit_into_the_queue_is_refused_and_the_rest_is_answered(
    served: Served,
) -> None:
    slow = Slow()
    limits = Limits(workers=1, waiting=2)
    call = recommend(visitor=pb.Visitor(), k=3)
    with (
        one_client(SiteRecommender(served, policy=slow), limits) as ask,
        ThreadPoolExecutor(3) as pool,
    ):
        first = pool.submit(call, ask)
        assert slow.begun.acquire(timeout=60)
        others = [pool.submit(call, ask) for _ in range(2)]
        status = StatusCode.DEADLINE_EXCEEDED
        while status is StatusCode.DEADLINE_EXCEEDED:  # until those two wait
            status = status_of_info(ask, timeout=0.05)
        assert status is StatusCode.RESOURCE_EXHAUSTED
        slow.go.set()
        assert len(first.result().items) == 3
        for each in others:  # a question for the status may have had the place of one of them
            refused = each.exception(timeout=60)
            assert (
                len(each.result().items) == 3
                if refused is None
                else isinstance(refused, grpc.RpcError)
                and refused.code() is StatusCode.RESOURCE_EXHAUSTED
            )


def test_the_end_waits_for_what_is_in_flight_and_takes_nothing_new(served: Served) -> None:
    slow = Slow()
    call = recommend(visitor=pb.Visitor(), k=3)
    recommender = SiteRecommender(served, policy=slow)
    with (
        serving(recommender, "127.0.0.1:0", token=TOKEN) as service,
        grpc.insecure_channel(service.address) as channel,
        ThreadPoolExecutor(2) as pool,
    ):
        ask = client(channel)
        first = pool.submit(call, ask)
        assert slow.begun.acquire(timeout=60)
        ended = pool.submit(service.stop)
        status = None
        while status is not StatusCode.UNAVAILABLE:  # until the end has begun
            status = status_of_info(ask, timeout=0.2)
        assert not ended.done()
        slow.go.set()
        assert len(first.result().items) == 3
        ended.result(timeout=60)


def test_health_needs_no_token_and_reflection_names_the_methods(
    service: RunningService,
) -> None:
    with grpc.insecure_channel(service.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflected = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
        (answer,) = reflected.ServerReflectionInfo(iter([asked]), metadata=SHOWN)
        assert b"Explain" in answer.file_descriptor_response.file_descriptor_proto[0]
        with pytest.raises(grpc.RpcError) as caught:
            next(reflected.ServerReflectionInfo(iter([asked])))
        assert caught.value.code() is StatusCode.UNAUTHENTICATED


def test_feedback_enters_the_history_once_and_a_reused_id_is_refused(
    ask: Client, recommender: SiteRecommender
) -> None:
    known = next(iter(recommender.served.histories.users))
    for user in (known, "somebody new"):
        before = offered(ask, user) if user == known else [ITEM]
        send = feedback(request_id=f"of {user}", user=user, item_id=before[0])
        assert not send(ask).already_recorded
        assert send(ask).already_recorded
        after = offered(ask, user)
        assert before[0] not in after
        assert len(after) == (len(before) - 1 if user == known else 79)
        with pytest.raises(grpc.RpcError) as caught:
            feedback(request_id=f"of {user}", user=user, item_id=after[0])(ask)
        assert caught.value.code() is StatusCode.ALREADY_EXISTS


def test_feedback_is_known_after_a_restart(served: Served, tmp_path: Path) -> None:
    with one_client(SiteRecommender(served, FeedbackStore(tmp_path))) as ask:
        feedback(request_id="a", user="new", item_id=ITEM)(ask)
        dismissed = pb.FeedbackRequest.DISMISSED
        feedback(request_id="b", user="newer", item_id=ITEM, kind=dismissed)(ask)
    with one_client(SiteRecommender(served, FeedbackStore(tmp_path))) as ask:
        assert len(recommend(user="new", k=80)(ask).items) == 79
        with pytest.raises(grpc.RpcError):
            recommend(user="newer", k=3)(ask)  # took nothing
        assert feedback(request_id="a", user="new", item_id=ITEM)(ask).already_recorded


def test_a_request_that_has_begun_ends_on_the_adapter_it_began_with(served: Served) -> None:
    slow = Slow()
    recommender = SiteRecommender(served, policy=slow)
    call = recommend(visitor=pb.Visitor(), k=3)
    with one_client(recommender) as ask, ThreadPoolExecutor(1) as pool:
        first = pool.submit(call, ask)
        assert slow.begun.acquire(timeout=60)
        recommender.swap(replace(served, adapter="0002-new"))
        slow.go.set()
        assert first.result().adapter == served.adapter
        assert call(ask).adapter == "0002-new"


def status_of_info(ask: Client, timeout: float) -> StatusCode:
    try:
        ask.ModelInfo(pb.ModelInfoRequest(), metadata=SHOWN, timeout=timeout)
    except grpc.RpcError as error:
        return error.code()
    return StatusCode.OK


def offered(ask: Client, user: str) -> list[str]:
    return [offer.item_id for offer in recommend(user=user, k=80)(ask).items]
