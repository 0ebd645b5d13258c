"""DP's disparate impact over finished runs, such as those of a sweep of ε."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import DataError
from common.holdout import hold_out
from common.interactions import Dataset
from common.loaded_recommender import loaded_recommender
from common.run_folder import RunFolder
from simulations.companions import COMPANIONS_FOLDER
from simulations.evaluation.full_ranking import PerUser, evaluate_scorer, mean_over_draws
from simulations.evaluation.intervals import RESAMPLES
from simulations.fairness.companion_tables import LAST_FIFTH
from simulations.fairness.impact import impact_by_attribute
from simulations.fairness.tables import impact_record
from simulations.report.fairness_records import ImpactRecord
from simulations.run_statistics import run_statistics


def last_fifth_run(run: RunFolder) -> RunFolder:
    """The folder of the run itself where it is a `last_fifth` run, else of its companion.

    Raises:
        RunFolderError: it has no such companion.
    """
    if run.read_config().data.split == LAST_FIFTH:
        return run
    return RunFolder.open(run.path / COMPANIONS_FOLDER / LAST_FIFTH)


def evaluate_run(run: RunFolder, dataset: Dataset) -> PerUser:
    """Evaluate the trained model of a `last_fifth` run on its test items."""
    config = run.read_config()
    splits = hold_out(
        dataset.interactions,
        dataset.catalogue,
        split=LAST_FIFTH,
        seed=config.data.seed,
        users=dataset.users,
    )
    adapter, _ = run.read_adapter()
    recommender = loaded_recommender(config, dataset.catalogue, adapter, *run_statistics(run))
    return evaluate_scorer(recommender.score_all, splits, "test")


def impact_of_runs(
    without: Sequence[RunFolder],
    private: Sequence[RunFolder],
    dataset: Dataset,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[ImpactRecord]:
    """What every group lost to privacy at one ε, by every attribute.

    Args:
        without: runs in mode `none`, one or several seeds of one setting; each user's
            utility is averaged over them.
        private: the same of private runs at one ε.
        dataset: the pooled data of all of them.
        resamples: bootstrap resamples of the users. They say nothing about seeds.
        seed: seeds the resampling.

    Returns:
        One record per known attribute, gender first.

    Raises:
        DataError: a run is missing, the private ones differ in ε, or one makes the wrong
            claim.
        RunFolderError: a run has no `last_fifth` model.
    """
    configs = [run.read_config() for run in private]
    epsilons = {config.privacy.target_epsilon for config in configs}
    claims = {config.is_private for config in configs}
    open_claims = {run.read_config().is_private for run in without}
    if claims != {True} or open_claims != {False} or len(epsilons) != 1:
        raise DataError(
            "the impact of privacy needs runs without privacy and private runs of one ε, got "
            f"{len(without)} and {len(private)} runs at ε {sorted(epsilons)}; choose others"
        )
    open_mean, private_mean = (
        mean_over_draws([evaluate_run(last_fifth_run(run), dataset) for run in runs])
        for runs in (without, private)
    )
    impacts = impact_by_attribute(
        open_mean,
        private_mean,
        dataset.users.user_ids,
        dataset.users.attributes,
        resamples=resamples,
        seed=seed,
    )
    row, reference, epsilon = private[0].path.name, without[0].path.name, epsilons.pop()
    return [impact_record(row, reference, epsilon, impact) for impact in impacts]
