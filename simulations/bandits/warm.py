"""What a finished run knows when a site begins to serve: scores, and a take rate for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from client.serving.reward_model import Floats, embeddings_of
from client.serving.take_rate import TakeRate, fit_take_rate
from common.bilinear_head import BilinearHead
from common.build_recommender import build_recommender
from common.errors import DataError
from common.interactions import Dataset, Int64Array
from common.item_index import ItemIndex, build_index
from common.item_to_item import ItemToItem
from common.recommender import Recommender
from common.requests import Requests
from common.run_folder import RunFolder
from simulations.datasets import load_population
from simulations.held_out_users import held_out, participants
from simulations.run_scorer import run_scorer

MOMENT = 893_286_638  # of every list, for a model that reads the time; the last of MovieLens
SHORT_HISTORIES = (0, 1, 3, 10)  # what users of the loop have, for most of their lists


@dataclass(frozen=True, eq=False)
class Warm:
    """A run, ready for worlds with users that it has never seen.

    Attributes:
        recommender: with the run's adapter and statistics loaded.
        likes: bool ``[U, V]`` of the users whom the run held out: what each ever interacted with.
        trained: bool ``[T, V]``, the same of the run's own users.
        trained_order: their items, oldest first.
        embeddings: float64 ``[V, d]`` of the items' texts, principal coordinates.
    """

    recommender: Recommender
    likes: NDArray[np.bool_]
    trained: NDArray[np.bool_]
    trained_order: Sequence[Int64Array]
    embeddings: Floats

    def index_without(self, new: Int64Array) -> ItemIndex:
        """The run's index had these items come after it: text alone, and the mean prior."""
        recommender = self.recommender
        prior, head = recommender.item_prior.clone(), recommender.head
        places = head.places.clone() if isinstance(head, BilinearHead) else None
        rows = torch.from_numpy(new)
        try:
            recommender.item_prior[rows] = 0.0
            if isinstance(head, BilinearHead):
                head.places[rows] = head.codes
            index = build_index(recommender)
        finally:
            recommender.item_prior.copy_(prior)
            if isinstance(head, BilinearHead) and places is not None:
                head.places = places
        return replace(index, item_to_item=_without(index.item_to_item, new))

    def take_rate(self, index: ItemIndex, new: Int64Array) -> TakeRate:
        """Fitted on the run's own users, each with a short history, over items that are not new."""
        old = np.setdiff1d(np.arange(len(index)), new)
        scores, taken = [], []
        for length in SHORT_HISTORIES:
            histories = [order[:length] for order in self.trained_order]
            free = np.ones((len(histories), len(index)), dtype=bool)
            for row, history in enumerate(histories):
                free[row, history] = False
            kept = free[:, old]
            scores.append(scores_of(index, histories)[:, old][kept])
            taken.append(self.trained[:, old][kept])
        return fit_take_rate(np.concatenate(scores), np.concatenate(taken))


def load_warm(folder: RunFolder) -> Warm:
    """Loads a run that held users out.

    Raises:
        DataError: it held nobody out, or its data are not there.
        RunFolderError: it has no adapter yet.
    """
    config = folder.read_config()
    population = load_population(config.data)
    others = held_out(population, config.data)
    if others is None:
        raise DataError(
            f"run {folder.path.name} held no users out, so a simulated loop has nobody whom it "
            "does not know; make one with --set data.held_out_users=0.6"
        )
    known = participants(population, config.data)
    recommender = build_recommender(config, population.catalogue)
    run_scorer(recommender, folder)  # loads the run
    with torch.no_grad():
        texts = recommender.item_tower.table().float().cpu().numpy()
    return Warm(
        recommender=recommender,
        likes=_likes(others),
        trained=_likes(known),
        trained_order=_in_time(known),
        embeddings=embeddings_of(texts),
    )


def scores_of(index: ItemIndex, histories: Sequence[Int64Array]) -> NDArray[np.float32]:
    """``[U, V]`` for users who are known by their histories alone."""
    moments = np.full(len(histories), MOMENT)
    asked = Requests(histories, moments, moments, [{} for _ in histories])
    with torch.no_grad():
        scores: NDArray[np.float32] = torch.addmm(
            index.bias, index.queries(asked), index.vectors.T
        ).numpy()
    if index.item_to_item is not None:
        scores += index.item_to_item.scores(histories)
    return scores


def _likes(dataset: Dataset) -> NDArray[np.bool_]:
    rows = dataset.interactions
    likes = np.zeros((len(rows.user_ids), len(dataset.catalogue)), dtype=bool)
    likes[rows.user, rows.item] = True
    return likes


def _in_time(dataset: Dataset) -> list[Int64Array]:
    """Each user's items, oldest first."""
    rows = dataset.interactions
    order = np.lexsort((rows.timestamp, rows.user))
    ends = np.cumsum(np.bincount(rows.user, minlength=len(rows.user_ids)))
    return np.split(rows.item[order], ends[:-1])


def _without(component: ItemToItem | None, new: Int64Array) -> ItemToItem | None:
    if component is None:
        return None
    weights, gone = component.weights.copy(), np.isin(component.items, new)
    weights[gone] = 0
    weights[:, gone] = 0
    return replace(component, weights=weights)
