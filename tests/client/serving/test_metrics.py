"""What the service tells Prometheus is true, and holds nothing of anybody."""

from __future__ import annotations

import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from client.serving import serving_pb2 as pb
from client.serving.feedback import FeedbackStore
from client.serving.metrics import ServedCollector, ServingMetrics
from client.serving.recommending import SiteRecommender
from client.serving.rpc import bearer, client
from client.serving.served import Served, WhatToServe
from client.serving.server import Limits, serving
from client.serving.swapping import Swapper
from common.loopback import metrics_served
from common.site_folder import MANIFEST_FILE
from tests.client.serving.calls import explain, feedback, recommend
from tests.client.serving.conftest import DATASET, TOKEN
from tests.client.serving.test_service_life import Slow
from tests.deployment import free_port

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

PLANTED = "alice.planted@example.org"
LABELS = {"method", "status", "le", "outcome", "kind", "site", "adapter", "run", "policy"}


def figures(page: str) -> dict[str, float]:
    """Sample names with their labels' values, sorted, and the values."""
    samples = [each for family in text_string_to_metric_families(page) for each in family.samples]
    return {
        " ".join([each.name, *dict(sorted(each.labels.items())).values()]): each.value
        for each in samples
    }


def test_requests_are_counted_and_nothing_private_is_told(served: Served, tmp_path: Path) -> None:
    store, metrics, port = FeedbackStore(tmp_path), ServingMetrics(), free_port()
    recommender = SiteRecommender(served, store)
    metrics.registry.register(ServedCollector(recommender, store))
    user = next(iter(served.histories.users))
    item = DATASET.catalogue.item_ids[5]
    with (
        metrics_served(metrics.registry, "127.0.0.1", port),
        serving(recommender, "127.0.0.1:0", token=TOKEN, metrics=metrics) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        ask = client(channel)
        recommend(user=user, k=3)(ask)
        feedback(request_id=PLANTED, user=PLANTED, item_id=item)(ask)
        recommend(user=PLANTED, k=3)(ask)
        explain(user=PLANTED, item_id=item)(ask)
        for call in (
            recommend(user="who " + PLANTED, k=3),
            lambda ask: ask.ModelInfo(pb.ModelInfoRequest(), metadata=bearer(PLANTED)),
        ):
            with suppress(grpc.RpcError):
                call(ask)
        stranger = channel.unary_unary(f"/of/{PLANTED}")
        with pytest.raises(grpc.RpcError):
            stranger(b"", metadata=bearer("u" * 40))
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    found = figures(page)
    told = {name: found[f"fedrec_serving_requests_total {name}"] for name in (
        "Recommend OK", "Recommend NOT_FOUND", "Explain OK", "Feedback OK",
        "ModelInfo UNAUTHENTICATED", "other UNAUTHENTICATED",
    )}  # fmt: skip
    assert list(told.values()) == [2, 1, 1, 1, 1, 1]
    assert found["fedrec_serving_seconds_count Recommend"] == 3
    assert found["fedrec_serving_seconds_sum Recommend"] > 0
    assert found["fedrec_serving_wait_seconds_count"] >= 5
    assert found["fedrec_serving_waiting"] == 0
    assert found["fedrec_serving_feedback_rows"] == 1
    assert found["fedrec_serving_items catalogue"] == 80
    assert found["fedrec_serving_index_loaded_timestamp_seconds"] == served.loaded_at
    labels = {
        name
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        for name in sample.labels
    }
    assert labels == LABELS
    private = [PLANTED, TOKEN, served.items.title(5), str(tmp_path)]
    assert not [word for word in private if word in page]


def test_the_queue_is_told_while_it_is_there(served: Served) -> None:
    slow, metrics = Slow(), ServingMetrics()
    recommender = SiteRecommender(served, policy=slow)
    call = recommend(visitor=pb.Visitor(), k=3)
    limits = Limits(workers=1, waiting=7)
    with (
        serving(recommender, "127.0.0.1:0", token=TOKEN, limits=limits, metrics=metrics) as service,
        grpc.insecure_channel(service.address) as channel,
        ThreadPoolExecutor(3) as pool,
    ):
        ask = client(channel)
        calls = [pool.submit(call, ask) for _ in range(3)]
        assert slow.begun.acquire(timeout=60)
        while waiting(metrics) < 2:
            assert not any(each.done() for each in calls)
        slow.go.set()
        assert all(len(each.result().items) == 3 for each in calls)
    assert waiting(metrics) == 0
    assert read(metrics)["fedrec_serving_waiting_limit"] == 7


def test_switches_are_counted_by_how_they_ended(served: Served, site: Path) -> None:
    metrics, recommender = ServingMetrics(), SiteRecommender(served)
    swapper = Swapper(WhatToServe(site), recommender, (), metrics)
    assert swapper.look()
    manifest = site / MANIFEST_FILE
    manifest.write_text("{}")
    assert not swapper.look()
    found = read(metrics)
    assert found["fedrec_serving_swaps_total done"] == 1
    assert found["fedrec_serving_swaps_total failed"] == 1


def read(metrics: ServingMetrics) -> dict[str, float]:
    return figures(generate_latest(metrics.registry).decode())


def waiting(metrics: ServingMetrics) -> float:
    return read(metrics)["fedrec_serving_waiting"]
