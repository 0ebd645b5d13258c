"""The weights of a score's parts, chosen at a site by what its own users took last.

Each user's last item is held out and ranked after the rest of their history, for every blend of a
grid. Cross-validation over users says what choosing gains for users who had no say in it; only
where its interval excludes zero is a blend kept. Nothing of it is sent anywhere, so it is no
release: the ledger does not know of it. The last items took part in the training of the adapter
like all others; `as_of` ends histories before the run's held-out items instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import tomli_w
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import bootstrap

from client.serving.histories import Asker, Histories
from common.atomic_files import write_text
from common.blend import PLAIN, Blend
from common.errors import DataError
from common.item_index import ItemIndex
from common.toml_settings import read_settings

BLEND_FILE = "blend.toml"
FOLDS = 5
LEAST_USERS = 20
MOST_USERS = 2000
LIST_LENGTH = 10
PARTS = ("head", "text", "prior", "item_to_item", "tfidf")
FACTORS = (0.0, 0.5, 1.0, 2.0, 4.0)
TFIDF = (0.0, 3.0, 9.0)
"""A cosine is small beside the other parts."""

Floats = npt.NDArray[np.float64]
Factor = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class BlendSettings(BaseModel):
    """``SITE/serving/blend.toml``.

    Attributes:
        adapter: for which it was chosen; it counts for no other.
        head: and the next ones: see `Blend`.
        users: how many were asked.
        gain: of NDCG@10 by cross-validation.
        low: of its 95% interval.
        high: of its 95% interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: str
    head: Factor = 1.0
    text: Factor = 1.0
    prior: Factor = 1.0
    item_to_item: Factor = 1.0
    tfidf: Factor = 0.0
    users: int = 0
    gain: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @property
    def blend(self) -> Blend:
        """The factors."""
        return Blend(self.head, self.text, self.prior, self.item_to_item, self.tfidf)


class Choice(NamedTuple):
    """What was found.

    Attributes:
        blend: `PLAIN` where no gain is sure.
        best: the best of the grid over all users.
        users: how many were asked.
        gain: of NDCG@10 by cross-validation, mean.
        low: of its 95% interval.
        high: of its 95% interval.
    """

    blend: Blend
    best: Blend
    users: int
    gain: float
    low: float
    high: float


def grid() -> list[Blend]:
    """The recommender's own score first, then every other blend with or without the head.

    The last ones are words alone, with popularity or without, for what no adapter helps.
    """
    parts = [(1.0, *others) for others in itertools.product(FACTORS, repeat=3)]
    parts += [(0.0, *others) for others in itertools.product(FACTORS[1:4], repeat=3)]
    found = [
        Blend(head, text, prior, item_to_item, tfidf)
        for (head, text, prior, item_to_item), tfidf in itertools.product(parts, TFIDF)
    ]
    found += [Blend(0.0, 0.0, prior, 0.0, TFIDF[-1]) for prior in FACTORS[:3]]
    return [PLAIN, *(each for each in found if each != PLAIN)]


def choose_blend(ranks: npt.NDArray[np.int64], blends: Sequence[Blend], seed: int = 0) -> Choice:
    """The blend that ranks held-out items best, if that is sure.

    Args:
        ranks: ``[B, U]``, from 1, of each user's item under each blend.
        blends: B of them, `PLAIN` first.
        seed: of folds and resamples.

    Raises:
        DataError: too few users to tell.
    """
    users = ranks.shape[1]
    if users < LEAST_USERS:
        raise DataError(
            f"{users} users with two items or more are too few to choose by; "
            f"{LEAST_USERS} are needed, so leave the score as it is"
        )
    gains = np.where(ranks <= LIST_LENGTH, 1 / np.log2(1 + ranks.astype(np.float64)), 0.0)
    fold = np.random.default_rng(seed).permutation(users) % FOLDS
    heard = np.zeros(users)
    for each in range(FOLDS):
        others = int(np.argmax(gains[:, fold != each].mean(axis=1)))
        heard[fold == each] = gains[others, fold == each]
    difference = heard - gains[0]
    low, high = _interval(difference, seed)
    best = blends[int(np.argmax(gains.mean(axis=1)))]
    chosen = best if low > 0 else PLAIN
    return Choice(chosen, best, users, float(difference.mean()), low, high)


def held_out_ranks(
    parts: Sequence[ItemIndex], histories: Histories, blends: Sequence[Blend], seed: int = 0
) -> npt.NDArray[np.int64]:
    """``[B, U]``: the rank of each user's last item after the rest of their history.

    Equal scores count against the item. Of many users a seeded sample is asked.

    Args:
        parts: an index for each of `PARTS`, in which the others' factors are 0.
        histories: of the site's users; those with one item are left out.
        blends: B of them.
        seed: of the sample.
    """
    weights = np.array([[getattr(blend, part) for part in PARTS] for blend in blends])
    users = np.flatnonzero(histories.ends - histories.starts >= 2)
    users = np.random.default_rng(seed).permutation(users)[:MOST_USERS]
    return np.array([_ranks(parts, histories, int(u), weights) for u in np.sort(users)]).T


def _ranks(
    parts: Sequence[ItemIndex], histories: Histories, user: int, weights: Floats
) -> npt.NDArray[np.int64]:
    begin, end = int(histories.starts[user]), int(histories.ends[user])
    items, times = histories.items[begin:end], histories.times[begin:end]
    attributes = {name: values[user] for name, values in histories.attributes.items()}
    asked = Asker(items[:-1], int(times[-2]), attributes).at(int(times[-1]))
    scores = weights @ np.stack([part.scores(asked) for part in parts]).astype(np.float64)
    scores[:, items[:-1]] = -np.inf
    # What is not surely below counts against the item, so that a NaN ranks last.
    found: npt.NDArray[np.int64] = (~(scores < scores[:, items[-1:]])).sum(axis=1)
    return found


def part_of(name: str) -> Blend:
    """The blend that leaves one of `PARTS` alone."""
    return Blend(**{part: float(part == name) for part in PARTS})


def write_blend(folder: Path, adapter: str, choice: Choice) -> Path:
    """Keeps a choice.

    Raises:
        RunFolderError: the disk refuses.
    """
    kept = BlendSettings(
        adapter=adapter,
        **asdict(choice.blend),
        users=choice.users,
        gain=choice.gain,
        low=choice.low,
        high=choice.high,
    )
    write_text(folder / BLEND_FILE, tomli_w.dumps(kept.model_dump()))
    return folder / BLEND_FILE


def read_blend(folder: Path) -> BlendSettings | None:
    """What is kept, or None.

    Raises:
        ConfigError: with all faults of the file.
        RunFolderError: it cannot be read.
    """
    path = folder / BLEND_FILE
    return read_settings(path, BlendSettings) if path.exists() else None


def _interval(values: Floats, seed: int) -> tuple[float, float]:
    if not values.any():  # no user's item moved: the bootstrap has nothing to resample
        return 0.0, 0.0
    found = bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", batch=200,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
