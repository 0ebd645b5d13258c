"""A small run's folder, written by hand: four sites, six rounds, one refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.accounting import epsilon
from common.config import RunConfig
from common.interactions import Users
from common.privacy_events import GaussianEvent, SampledGaussianEvent, event_to_dict
from common.release_record import ReleaseRecord
from common.run_folder import RunFolder
from simulations.evaluation.full_ranking import PerUser
from simulations.report import EvaluatedRow, RunCost, build_metrics, write_metrics

USERS, ROUNDS, SITES = 200, 6, 4
UPDATE = SampledGaussianEvent(noise_multiplier=1.5, sample_rate=0.2, steps=2)
POPULARITY = GaussianEvent(noise_multiplier=3.0)
DELTA = 1e-4


def per_user(mean: float, seed: int) -> PerUser:
    """Users with about `mean` HR@10; the same users whatever the seed."""
    rng = np.random.default_rng(seed)
    hits = (rng.random(USERS) < mean).astype(np.float64)
    gains = hits * rng.uniform(0.3, 1.0, USERS)
    ids = tuple(f"u{number}" for number in range(USERS))
    return PerUser(ids, hits, hits, gains, gains, gains, ())


def example_users() -> Users:
    rng = np.random.default_rng(0)
    return Users(
        user_ids=tuple(f"u{number}" for number in range(USERS)),
        attributes={
            "gender": tuple(rng.choice(["F", "M"], USERS, p=[0.3, 0.7])),
            "age": tuple(str(age) for age in rng.integers(12, 70, USERS)),
            "occupation": tuple(rng.choice(["student", "writer", "doctor"], USERS)),
        },
    )


def example_rows(model_mean: float = 0.4, mode: str = "local") -> list[EvaluatedRow]:
    private = mode != "none"
    spent = 8.0 if private else None
    return [
        EvaluatedRow("fedrec", "model", per_user(model_mean, 1), mode, spent, "10 sites"),
        EvaluatedRow("DP-Pop (local)", "dp_popularity", per_user(0.2, 2), "local", 8.0),
        EvaluatedRow("text floor (a)", "text_floor", per_user(0.3, 3), "local", 8.0),
        EvaluatedRow("EASE", "baseline", per_user(0.5, 4)),
        EvaluatedRow("Pop", "baseline", per_user(0.25, 5)),
    ]


def release(site: str, server_round: int, history: list, **changes: object) -> dict[str, object]:
    event = UPDATE if server_round else POPULARITY
    history.append(event)
    fields: dict[str, object] = {
        "site": site,
        "run": "example",
        "server_round": server_round,
        "kind": "update" if server_round else "popularity",
        "mode": "local",
        "mechanism": "sampled_gaussian" if server_round else "gaussian",
        "noise_multiplier": event.noise_multiplier,
        "max_grad_norm": 1.0,
        "sample_rate": UPDATE.sample_rate if server_round else 1.0,
        "steps": UPDATE.steps if server_round else 1,
        "sampling": "poisson" if server_round else "full",
        "divisor": 10.0,
        "tensors": ["head"],
        "bytes": 120_000,
        "payload_sha256": "0" * 64,
        "event": event_to_dict(event),
        "epsilon_prv": epsilon(history, DELTA, "prv"),
        "epsilon_rdp": epsilon(history, DELTA, "rdp"),
        "delta": DELTA,
    } | changes
    return ReleaseRecord.model_validate(fields).model_dump(mode="json")


def write_rounds(folder: RunFolder, refusing: str | None, **changes: object) -> None:
    histories: dict[str, list] = {f"site-{number:04d}": [] for number in range(SITES)}
    for server_round in range(ROUNDS + 1):
        sites = []
        for site, history in histories.items():
            if site == refusing and server_round == ROUNDS:
                sites.append(
                    {
                        "site": site,
                        "status": "refused",
                        "reason": "over <b>budget</b>",
                        "bytes_up": 0,
                        "epsilon_prv": epsilon(history, DELTA, "prv"),
                    }
                )
                continue
            record = release(site, server_round, history, **changes)
            folder.append_release(record)
            sites.append(
                {
                    "site": site,
                    "status": "ok",
                    "reason": None,
                    "bytes_up": 120_000,
                    "epsilon_prv": record["epsilon_prv"],
                }
            )
        validation = {
            "users": 200.0,
            "hr_10": 0.1 + 0.04 * server_round,
            "ndcg_10": 0.05 + 0.02 * server_round,
        }
        folder.append_round(
            {
                "server_round": server_round,
                "started_at": "2026-01-01T00:00:00.000+00:00",
                "seconds": 2.5,
                "sites": sites,
                "update_norm": 0.5,
                "validation": validation if server_round % 2 == 0 else None,
            }
        )


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run's folder and returns its path."""

    def make(
        config: dict[str, dict[str, object]] | None = None,
        *,
        rows: list[EvaluatedRow] | None = None,
        refusing: str | None = "site-0002",
        with_metrics: bool = True,
        **changes: object,
    ) -> Path:
        path = tmp_path / "example"
        folder = RunFolder.create(path)
        given = config or {}
        privacy = {"mode": "local", **given.get("privacy", {})}
        sections = {"data": {"sites": SITES}, **given, "privacy": privacy}
        folder.write_config(RunConfig.model_validate(sections))
        write_rounds(folder, refusing, **changes)
        if with_metrics:
            metrics = build_metrics(
                rows or example_rows(),
                dataset="example",
                split="leave_one_out",
                stage="test",
                cost=RunCost(61.0, 2**30, "cpu"),
                users=example_users(),
                tuned=["lambda of EASE"],
                resamples=200,
            )
            write_metrics(path, metrics)
        return path

    return make


@pytest.fixture
def make_rows() -> Callable[..., list[EvaluatedRow]]:
    """Return `example_rows`: `make_rows(model_mean, mode)`."""
    return example_rows
