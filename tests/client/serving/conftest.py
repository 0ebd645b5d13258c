"""A site with a real, small adapter on the real BERT, and a real service on the loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from benchmarks.serving.made_site import install, make_export, make_site
from client.serving.feedback import FeedbackStore
from client.serving.recommending import SiteRecommender
from client.serving.rpc import Client, client
from client.serving.served import Served, WhatToServe
from client.serving.server import Limits, RunningService, serving
from common.config import DataConfig, ModelConfig, PrivacyConfig, RunConfig
from simulations.synthetic import synthetic_dataset

CONFIG = RunConfig(
    data=DataConfig(dataset="synthetic", sites=2),
    model=ModelConfig(
        head_dim=8,
        head_items=10,
        lora_layers=1,
        lora_rank=2,
        max_history=12,
        item_to_item=True,
        item_to_item_items=30,
    ),
    privacy=PrivacyConfig(mode="none"),
)
DATASET = synthetic_dataset()
TOKEN = "t" * 40


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Two adapters of one model."""
    folder = tmp_path_factory.mktemp("exports")
    return [make_export(DATASET, CONFIG, folder, seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def shared_site(exports: list[tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that no test changes."""
    site = make_site(DATASET, CONFIG, tmp_path_factory.mktemp("shared") / "sites")
    install(exports[0], site, DATASET, CONFIG)
    return site


@pytest.fixture
def site(exports: list[tuple[Path, str]], tmp_path: Path) -> Path:
    """A site of the test's own, the first adapter installed."""
    site = make_site(DATASET, CONFIG, tmp_path / "sites")
    install(exports[0], site, DATASET, CONFIG)
    return site


@pytest.fixture(scope="session")
def served(shared_site: Path) -> Served:
    """Histories as of the run's test stage."""
    return WhatToServe(shared_site, as_of="test").load()


@pytest.fixture
def recommender(served: Served, tmp_path: Path) -> SiteRecommender:
    return SiteRecommender(served, FeedbackStore(tmp_path))


@pytest.fixture
def service(recommender: SiteRecommender) -> Iterator[RunningService]:
    with serving(recommender, "127.0.0.1:0", token=TOKEN) as running:
        yield running


@pytest.fixture
def ask(service: RunningService) -> Iterator[Client]:
    with grpc.insecure_channel(service.address) as channel:
        yield client(channel)


@contextmanager
def one_client(recommender: SiteRecommender, limits: Limits | None = None) -> Iterator[Client]:
    """A service with one client."""
    with (
        serving(recommender, "127.0.0.1:0", token=TOKEN, limits=limits) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        yield client(channel)
