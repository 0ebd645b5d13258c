"""A6: a federation that leaks on purpose. An attack that does not catch it proves nothing.

Few users, many passes, no noise, a head with a code of its own for every item: users are
memorised. The same attacks that examine a run must recognise them; a single user's exact
update must name their items, and the release of `privacy.mode=local` at ε = 8 must not.
Everything is trained by the production code on made-up people.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.site_by_site import SITE_BY_SITE
from client.training_job import TrainingJob
from common.config import RunConfig
from common.gaussian_accounting import gaussian_epsilon
from common.initial_adapter import initial_adapter
from common.interactions import Dataset
from common.privacy_units import Unit
from common.randomness import secure_source
from common.run_folder import RunFolder
from simulations.audit.attacks.membership_attacks import People, References, audit_members
from simulations.audit.attacks.reconstruction import Reconstruction, item_scores, judge
from simulations.audit.attacks.references import UNTRAINED
from simulations.audit.attacks.released_model import ReleasedModel, training_units
from simulations.audit.binomial_bounds import Floats
from simulations.audit.one_run.trade_off import GaussianTradeOff
from simulations.companions import companion_config, run_companion
from simulations.held_out_users import held_out, participants
from simulations.run_statistics import run_statistics
from simulations.synthetic import synthetic_dataset

USERS, ITEMS, SITES = 240, 120, 4
UPDATES = 12
ALPHA = 0.05 / 3
FALSE_CLAIM, DELTA = 1.0, 1e-4
EPSILON = 8.0

OVERFITTED: dict[str, dict[str, Any]] = {
    "data": {"dataset": "synthetic", "held_out_users": 0.5, "sites": SITES},
    "model": {
        "item_side": "head",
        "head_dim": 16,
        "head_items": ITEMS,
        "head_matrix": "per_lag",
        "lora_layers": 1,
        "lora_rank": 2,
    },
    "privacy": {"mode": "none", "negatives_per_unit": 0},
    "federation": {
        "rounds": 8,
        "local_steps": 25,
        "units_per_step": 30,
        "local_optimizer": "adam",
        "local_lr": 0.02,
    },
    "evaluation": {"metrics": "none", "companions": ""},
    "engine": {"device": "cpu"},
}


@dataclass(frozen=True)
class ControlOutcome:
    """One attack on the control.

    Attributes:
        name: of the attack.
        caught: whether it found what it looked for.
        should: whether there was something to be found.
        reason: its figures, in words.
        statistic: the figures.
    """

    name: str
    caught: bool
    should: bool
    reason: str
    statistic: Mapping[str, float | int | str | None]

    @property
    def as_it_should_be(self) -> bool:
        """Whether the attack found what is there, and nothing where there is nothing."""
        return self.caught is self.should


def positive_control(seed: int = 0) -> tuple[ControlOutcome, ...]:
    """Train the overfitted federation and attack it.

    Args:
        seed: of people, partition and start; the sites' own draws cannot be repeated.
    """
    population = synthetic_dataset(USERS, ITEMS, seed)
    config = RunConfig.model_validate(OVERFITTED)
    config = companion_config(config, {"data.seed": seed, "federation.seed": seed})
    return (*caught_members(config, population), *caught_items(config, population))


def caught_members(config: RunConfig, population: Dataset) -> tuple[ControlOutcome, ...]:
    """Membership of users in the overfitted run, held against a claim of ε = 1 that is false."""
    insiders, outsiders = participants(population, config.data), held_out(population, config.data)
    with tempfile.TemporaryDirectory(prefix="fedrec-control-") as scratch:
        folder = run_companion("overfitted", config, RunFolder(Path(scratch)), insiders)
        adapter, prior = folder.read_adapter()[0], run_statistics(folder).item_prior
    target = ReleasedModel(config, population.catalogue, adapter, prior)
    others = [] if outsiders is None else training_units(config, outsiders)
    people = People(training_units(config, insiders), others)
    references = References((), range(len(others)), UNTRAINED)
    findings = audit_members(target, people, references, gaussian_claim(FALSE_CLAIM), ALPHA)
    return tuple(
        ControlOutcome(
            each.name,
            _above_half(each.statistic["auc_low"]) and each.verdict == "fail",
            True,
            f"{each.reason} (had it claimed ε = {FALSE_CLAIM:g})",
            each.statistic,
        )
        for each in findings
    )


def caught_items(config: RunConfig, population: Dataset) -> tuple[ControlOutcome, ...]:
    """Items of single users from their first update: exact, and noised in mode local."""
    units = training_units(config, participants(population, config.data))[:UPDATES]
    one_step = {
        "privacy.negatives_per_unit": 100,
        "federation.rounds": 1,
        "federation.local_steps": 1,
        "federation.local_optimizer": "sgd",
    }
    noise = {"privacy.mode": "local", "privacy.target_epsilon": EPSILON}
    exact = companion_config(config, one_step)
    found = []
    for name, own, should in (
        ("reconstruction.exact_update", exact, True),
        (f"reconstruction.local_epsilon_{EPSILON:g}", companion_config(exact, noise), False),
    ):
        seen = reconstructed(own, population, units)
        caught = seen.area.low > max(0.5, seen.popularity)
        figures = {
            "sites": seen.sites,
            "auc": seen.area.value,
            "auc_low": seen.area.low,
            "auc_high": seen.area.high,
            "popularity_auc": seen.popularity,
            "precision": seen.precision,
            "chance": seen.chance,
        }
        found.append(ControlOutcome(name, caught, should, _reconstruction_text(seen), figures))
    return tuple(found)


def reconstructed(config: RunConfig, population: Dataset, units: Sequence[Unit]) -> Reconstruction:
    """Each unit as a site of its own: its release of the first round, attacked.

    It is the release of the production trainer, in the mode of `config`.
    """
    counts = np.bincount(population.interactions.item, minlength=len(population.catalogue))
    prior = np.log1p(counts).astype(np.float32)
    prior = (prior - prior.mean()) / prior.std()
    start = ReleasedModel(config, population.catalogue, initial_adapter(config), prior)
    scores: list[Floats] = []
    for unit in units:
        update = SITE_BY_SITE.update(
            TrainingJob(
                site="attacked",
                config=config,
                catalogue=population.catalogue,
                units=[unit],
                adapter=start.adapter,
                item_prior=prior,
                server_round=1,
                expected_units=config.privacy.sample_rate,
                sampling=secure_source(),
                noise=secure_source() if config.is_private else None,
            )
        )
        scores.append(item_scores(start, update))
    own = [np.unique(unit.items) for unit in units]
    return judge(scores, own, prior.astype(np.float64))


def gaussian_claim(epsilon: float, delta: float = DELTA) -> GaussianTradeOff:
    """The curve of a single Gaussian release that costs (ε, δ)."""
    low, high = 1e-2, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if gaussian_epsilon(middle, delta) > epsilon else (low, middle)
    return GaussianTradeOff(1 / high)


def _above_half(value: float | int | str | None) -> bool:
    return isinstance(value, float) and value > 0.5


def _reconstruction_text(seen: Reconstruction) -> str:
    area = seen.area
    return (
        f"AUC of a user's items {area.value:.3f} [{area.low:.3f}, {area.high:.3f}] over "
        f"{seen.sites} users (popularity alone {seen.popularity:.3f}), precision "
        f"{seen.precision:.3f} (chance {seen.chance:.3f})"
    )


def table(outcomes: Sequence[ControlOutcome]) -> list[str]:
    """One line per attack."""
    lines = []
    for each in outcomes:
        fate = "caught" if each.caught else "nothing found"
        mark = "" if each.as_it_should_be else "  <- WRONG"
        lines.append(f"{each.name:<32} {fate:<14}{mark} {each.reason}")
    return lines
