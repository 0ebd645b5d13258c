"""The seam between an agent and its trainer: what is asked, when, and who may answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.agent import agent_for, forget_agents
from client.answering import answer
from client.site_by_site import SITE_BY_SITE, SiteBySite
from client.training_job import TrainingJob
from common.adapters import Adapter
from common.config import DataConfig, FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.errors import BudgetRefusal, PrivacyError
from common.flat_adapter import Floats
from common.initial_adapter import initial_adapter
from common.messages import SumRequest, TrainRequest, decode_train_reply, encode_train_request
from common.release_record import ReleaseRecord
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset

NODE = {"partition-id": 0}
NO_PRIOR = np.zeros(0, dtype=np.float32)


class Recorder:
    """Trains as a site by itself does, and keeps what it was asked."""

    def __init__(self) -> None:
        self.jobs: list[TrainingJob] = []

    def update(self, job: TrainingJob) -> Adapter:
        self.jobs.append(job)
        return SITE_BY_SITE.update(job)

    def exact_sum(self, job: TrainingJob) -> Floats:
        self.jobs.append(job)
        return SITE_BY_SITE.exact_sum(job)


@pytest.fixture
def make_config(tmp_path: Path) -> Iterator[Callable[..., RunConfig]]:
    folder = tmp_path / "sites"
    write_site_folders(synthetic_dataset(), DataConfig(dataset="synthetic", sites=2), folder)

    def make(mode: str = "local", **privacy: object) -> RunConfig:
        fields = {"targets_per_unit": 3, "negatives_per_unit": 6, "insecure_seeded_noise": True}
        return RunConfig(
            data=DataConfig(dataset="synthetic", sites=2, sites_folder=str(folder)),
            model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
            privacy=PrivacyConfig(**({"mode": mode} | fields | privacy)),
            federation=FederationConfig(rounds=1, local_lr=0.1),
        )

    yield make
    forget_agents()


def train_request(config: RunConfig, server_round: int = 1) -> TrainRequest:
    return TrainRequest("r", server_round, config.sha256(), initial_adapter(config), NO_PRIOR)


def sum_request(config: RunConfig) -> SumRequest:
    return SumRequest(
        run="r",
        server_round=1,
        config_sha256=config.sha256(),
        purpose="update",
        stage="exact",
        participants=("site-0000", "site-0001"),
        payload=b"",
        adapter=initial_adapter(config),
        item_prior=NO_PRIOR,
    )


@pytest.mark.slow
def test_the_trainer_gets_the_sites_units_and_both_sources(
    make_config: Callable[..., RunConfig],
) -> None:
    config, trainer = make_config(sample_rate=0.5), Recorder()
    agent = agent_for(NODE, config, trainer)
    reply = agent.train(train_request(config))
    (job,) = trainer.jobs
    assert (job.site, job.config, job.server_round) == ("site-0000", config, 1)
    assert job.units is agent.units
    assert job.noise is not None
    assert job.expected_units == reply.release.divisor == 0.5 * reply.declared_units


def test_without_privacy_there_is_no_noise_to_hand_over(
    make_config: Callable[..., RunConfig],
) -> None:
    config, trainer = make_config("none", insecure_seeded_noise=False), Recorder()
    agent_for(NODE, config, trainer).train(train_request(config))
    (job,) = trainer.jobs
    assert job.noise is None


def test_a_sum_is_asked_for_without_noise(
    make_config: Callable[..., RunConfig],
) -> None:
    config, trainer = make_config("central"), Recorder()
    agent = agent_for(NODE, config, trainer)
    agent.add_up(sum_request(config))
    (job,) = trainer.jobs
    assert job.noise is None
    assert sorted(job.adapter) == sorted(initial_adapter(config))


def test_what_the_trainer_gives_is_what_leaves_and_is_charged(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config()

    class Ones(Recorder):
        def update(self, job: TrainingJob) -> Adapter:
            charged.append(len(agent.ledger.history()))
            return {name: np.ones_like(array) for name, array in job.adapter.items()}

    charged: list[int] = []
    agent = agent_for(NODE, config, Ones())
    reply = agent.train(train_request(config))
    assert all((array == 1).all() for array in reply.update.values())
    assert charged == [0]  # not before it was made
    assert len(agent.ledger.history()) == 1
    assert isinstance(reply.release, ReleaseRecord)


def test_nobody_is_asked_to_train_what_the_site_cannot_afford(
    make_config: Callable[..., RunConfig],
) -> None:
    config, trainer = make_config(), Recorder()
    agent = agent_for(NODE, config, trainer)
    agent.train(train_request(config, 1))
    with pytest.raises(BudgetRefusal):
        agent.train(train_request(config, 2))
    assert len(trainer.jobs) == 1


def test_a_trainer_that_fails_costs_nothing(make_config: Callable[..., RunConfig]) -> None:
    config = make_config()

    class Broken(Recorder):
        def update(self, job: TrainingJob) -> Adapter:
            raise MemoryError("too many rows")

    agent = agent_for(NODE, config, Broken())
    with pytest.raises(MemoryError):
        agent.train(train_request(config))
    assert agent.ledger.history() == ()


def test_an_agent_is_kept_for_its_trainer_only(make_config: Callable[..., RunConfig]) -> None:
    config, first, second = make_config(), Recorder(), Recorder()
    assert agent_for(NODE, config, first) is agent_for(NODE, config, first)
    assert agent_for(NODE, config, first) is not agent_for(NODE, config, second)
    assert agent_for(NODE, config) is agent_for(NODE, config, SiteBySite())


def test_an_answer_comes_from_the_trainer_that_it_is_given(
    make_config: Callable[..., RunConfig],
) -> None:
    config, trainer = make_config(), Recorder()
    request = train_request(config)
    content = answer("train", "1", encode_train_request(request), config.to_flat(), NODE, trainer)
    shapes = {name: array.shape for name, array in initial_adapter(config).items()}
    decode_train_reply(
        content, run="r", server_round=1, config_sha256=config.sha256(), shapes=shapes
    )
    assert len(trainer.jobs) == 1


def test_a_private_job_without_noise_is_never_trained(
    make_config: Callable[..., RunConfig],
) -> None:
    config, trainer = make_config(), Recorder()
    agent_for(NODE, config, trainer).train(train_request(config))
    with pytest.raises(PrivacyError, match="no noise for an update in privacy.mode=local"):
        SITE_BY_SITE.update(replace(trainer.jobs[0], noise=None))
