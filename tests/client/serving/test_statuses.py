"""A bad request gets the status that says what is wrong, one line, and never a stack trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from client.serving import serving_pb2 as pb
from client.serving.list_policy import Asked, Candidates, Chosen, Greedy
from client.serving.recommending import SiteRecommender
from client.serving.rpc import Client, bearer
from client.serving.served import Served
from client.serving.server import MAX_REQUEST_BYTES
from tests.client.serving.calls import ITEM, SHOWN, explain, feedback, recommend
from tests.client.serving.conftest import one_client

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

BAD: dict[str, tuple[Callable[[Client], object], StatusCode, str]] = {
    "unknown user": (recommend(user="nobody", k=3), StatusCode.NOT_FOUND, "not known"),
    "nobody asks": (recommend(k=3), StatusCode.INVALID_ARGUMENT, "who asks"),
    "empty user": (recommend(user="", k=3), StatusCode.INVALID_ARGUMENT, "user must have"),
    "k = 0": (recommend(user="1", k=0), StatusCode.INVALID_ARGUMENT, "k must be between"),
    "k > catalogue": (recommend(user="1", k=81), StatusCode.INVALID_ARGUMENT, "between 1 and 80"),
    "unknown item": (
        recommend(visitor=pb.Visitor(item_ids=["none"]), k=3),
        StatusCode.NOT_FOUND,
        "item 'none'",
    ),
    "a time before 1970": (
        recommend(visitor=pb.Visitor(), k=3, unix_seconds=-1),
        StatusCode.INVALID_ARGUMENT,
        "unix_seconds",
    ),
    "huge payload": (
        recommend(visitor=pb.Visitor(item_ids=["x" * MAX_REQUEST_BYTES]), k=3),
        StatusCode.RESOURCE_EXHAUSTED,
        "larger than max",
    ),
    "expired deadline": (
        lambda ask: ask.Recommend(pb.RecommendRequest(user="1", k=3), metadata=SHOWN, timeout=-1.0),
        StatusCode.DEADLINE_EXCEEDED,
        "",
    ),
    "no token": (
        lambda ask: ask.ModelInfo(pb.ModelInfoRequest()),
        StatusCode.UNAUTHENTICATED,
        "token is missing or wrong",
    ),
    "wrong token": (
        lambda ask: ask.ModelInfo(pb.ModelInfoRequest(), metadata=bearer("u" * 40)),
        StatusCode.UNAUTHENTICATED,
        "token is missing or wrong",
    ),
    "reason for an unknown item": (
        explain(user="1", item_id="none"),
        StatusCode.NOT_FOUND,
        "item 'none'",
    ),
    "too many reasons": (
        explain(user="1", item_id=ITEM, top=51),
        StatusCode.INVALID_ARGUMENT,
        "top must be",
    ),
    "feedback without id": (feedback(request_id=""), StatusCode.INVALID_ARGUMENT, "request_id"),
    "feedback of no kind": (feedback(kind=0), StatusCode.INVALID_ARGUMENT, "kind must be"),
    "feedback on no item": (feedback(item_id="none"), StatusCode.NOT_FOUND, "item 'none'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_its_status(name: str, ask: Client, shared_site: Path) -> None:
    call, status, words = BAD[name]
    with pytest.raises(grpc.RpcError) as caught:
        call(ask)
    assert caught.value.code() is status
    assert words in caught.value.details()
    assert "\n" not in caught.value.details()
    assert "Traceback" not in caught.value.details()


class Broken(Greedy):
    def choose(self, candidates: Candidates, k: int, asked: Asked | None = None) -> Chosen:
        raise ZeroDivisionError("a secret of the code")


def test_a_fault_of_ours_is_internal_and_tells_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    call = recommend(visitor=pb.Visitor(), k=3)
    with (
        one_client(SiteRecommender(served, policy=Broken())) as ask,
        pytest.raises(grpc.RpcError) as caught,
    ):
        call(ask)
    assert caught.value.code() is StatusCode.INTERNAL
    assert "secret" not in caught.value.details()
    assert "a secret of the code" in caplog.text  # it is in the site's own log
