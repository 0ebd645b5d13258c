"""A6 on a finished run: attacks on its released adapter, where it kept users out."""

from __future__ import annotations

from common.accounting import epsilon
from common.config import DataConfig
from common.errors import DataError, PrivacyError
from common.interactions import Dataset
from common.privacy_events import event_from_dict
from common.run_folder import RunFolder
from simulations.audit.attacks.attribute_inference import ATTRIBUTE, infer_gender, listed_users
from simulations.audit.attacks.membership_attacks import GATES, People, References, audit_members
from simulations.audit.attacks.references import UNTRAINED, reference_models
from simulations.audit.attacks.released_model import ReleasedModel, training_units
from simulations.audit.evidence import Evidence
from simulations.audit.finding import Finding
from simulations.audit.guarantee import own_releases
from simulations.audit.one_run.trade_off import TradeOff, claimed_trade_off
from simulations.audit.reporting import claim_record
from simulations.datasets import load_population
from simulations.evaluation.full_ranking import Scorer
from simulations.held_out_users import held_out, participants
from simulations.run_scorer import scorer_of
from simulations.run_statistics import run_statistics

REMEDY = "--set data.held_out_users=0.5"
SECONDS = 60.0
"""From above: loading the data and the model, and scoring some thousand users twice."""


def seconds(evidence: Evidence) -> float:
    """How long the attacks take at least; references only use what is left."""
    return 1.0 if _obstacle(evidence) else SECONDS


def audit_attacks(
    evidence: Evidence, *, alpha: float, seconds_left: float, seed: int
) -> tuple[Finding, ...]:
    """Attack the membership of users in a run.

    Args:
        evidence: of the run.
        alpha: of each gate.
        seconds_left: that may be spent on reference models.
        seed: of the attacker's draws.
    """
    obstacle = _obstacle(evidence)
    if obstacle:
        return _not_testable(obstacle)
    try:
        population = load_population(evidence.config.data)
        outsiders = held_out(population, evidence.config.data)
    except DataError as fault:
        return _not_testable(f"the run's data cannot be had here ({fault})")
    if outsiders is None:
        return _not_testable(_everybody(evidence))
    insiders = participants(population, evidence.config.data)
    try:
        return _attacked(evidence, insiders, outsiders, alpha, seconds_left, seed)
    except PrivacyError as fault:
        return _not_testable(f"the attacks found no scores to compare ({fault})")


def user_claim(evidence: Evidence) -> TradeOff | None:
    """What the run claims for one user, by the site that spent most; None: nothing for users."""
    is_claimed = claim_record(evidence).status == "private"
    if not is_claimed or evidence.config.privacy.unit != "user":
        return None
    delta = evidence.config.privacy.target_delta
    histories = {
        tuple(event_from_dict(record.event or {}) for record in own)
        for own in own_releases(evidence).values()
    }
    most = max(histories, key=lambda history: epsilon(history, delta, "rdp"), default=())
    try:
        return claimed_trade_off(most)
    except PrivacyError:  # hardly any noise: a curve that nothing could refute
        return None


def _attacked(
    evidence: Evidence,
    insiders: Dataset,
    outsiders: Dataset,
    alpha: float,
    seconds_left: float,
    seed: int,
) -> tuple[Finding, ...]:
    config = evidence.config
    folder = RunFolder.open(evidence.path)
    statistics = run_statistics(folder)
    target = ReleasedModel(
        config, insiders.catalogue, folder.read_adapter()[0], statistics.item_prior
    )
    scorer = scorer_of(target.loaded(), target.adapter, statistics)
    gender = _gender(scorer, insiders, outsiders, config.data, seed)
    people = People(training_units(config, insiders), training_units(config, outsiders))
    if len(people.others) < len(outsiders.users.user_ids):
        # A time cut leaves users without a training part, so places would not fit.
        references = References((), range(len(people.others)), f"{UNTRAINED}: the split is in time")
    else:
        references = reference_models(
            config,
            outsiders,
            members=len(people.members),
            run_seconds=sum(record.seconds for record in evidence.files.rounds),
            seconds_left=seconds_left - SECONDS,
            seed=seed,
        )
    return (*audit_members(target, people, references, user_claim(evidence), alpha), *gender)


def _gender(
    scorer: Scorer, insiders: Dataset, outsiders: Dataset, data: DataConfig, seed: int
) -> tuple[Finding, ...]:
    """What lists tell of genders, where they are known; before another model is loaded."""
    if ATTRIBUTE not in insiders.users.attributes:
        return ()
    try:
        members, others = (listed_users(scorer, each, data) for each in (insiders, outsiders))
    except DataError:  # after a cut in time there may be nobody to show a list to
        return ()
    return (infer_gender(members, others, len(insiders.catalogue), seed),)


def _obstacle(evidence: Evidence) -> str:
    """Why there is nobody to tell apart; empty where there is."""
    data = evidence.config.data
    if evidence.adapter is None:
        return "the run released no adapter"
    if data.shown_negatives:
        return (
            "what users were shown trained too (data.shown_negatives), and these attacks do not "
            "read it, so that a pass would say too little; audit a run with --set "
            "data.shown_negatives=false"
        )
    if data.held_out_users == 0:
        return _everybody(evidence)
    if data.sites_folder:
        return (
            "the sites were made by others (data.sites_folder), so that who was kept out is not "
            f"known; let the run make its sites, with {REMEDY}"
        )
    return ""


def _everybody(evidence: Evidence) -> str:
    return (
        f"the run trained on every user of {evidence.config.data.dataset}, and an attack needs "
        f"users that it did not; audit a run with {REMEDY}"
    )


def _not_testable(reason: str) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            check="A6",
            name=name,
            view="the final adapter",
            gate=True,
            verdict="not_testable",
            reason=reason,
        )
        for name in GATES
    )
