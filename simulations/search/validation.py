"""The one figure that a search looks at: a finished run's ranking of the validation part."""

from __future__ import annotations

from common.build_recommender import build_recommender
from common.config import RunConfig
from common.holdout import Stage
from common.progress import ProgressListener
from common.run_folder import RunFolder
from simulations.comparison.per_user_file import Ground, splits_sha256, write_per_user
from simulations.datasets import load_dataset
from simulations.lab import held_out, model_row

STAGE: Stage = "validation"


def keep_validation(config: RunConfig, folder: RunFolder, listener: ProgressListener) -> None:
    """Rank all unseen items for every user's validation items, and keep each user's metrics.

    They are the figures that sites sum for a run's last validation, under the run's last
    adapter; kept by user, so that points of a search can be paired over the same users. No test
    item is ranked for. Lab only, like every exact figure.

    Args:
        config: of the run.
        folder: of the finished run; gets ``per_user.parquet``, of stage `validation`.
        listener: hears what is done.
    """
    listener.message("ranking for the validation part")
    data = config.data
    dataset = load_dataset(data, notify=listener.message)
    splits = held_out(config, dataset)
    recommender = build_recommender(config, dataset.catalogue)
    row = model_row(config, recommender, folder, splits, stage=STAGE)
    users, sha256 = len(row.metrics.user_ids), splits_sha256(splits)
    ground = Ground(dataset.name, data.split, data.seed, STAGE, users, sha256)
    write_per_user(folder.path, ground, [row])
