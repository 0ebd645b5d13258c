"""A6: what ranked lists tell of a user's gender, and how much of it is because they took part.

Whoever sees a user's list can guess from it what such users have in common: that is inference
about a population, which differential privacy does not bound and which holds for users who
were never trained on, too. So the figure is the difference between the two, and it decides
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from sklearn.linear_model import LogisticRegression

from common.config import DataConfig
from common.errors import DataError
from common.holdout import hold_out
from common.interactions import Dataset, Int64Array
from simulations.audit.binomial_bounds import Floats
from simulations.audit.finding import Finding
from simulations.audit.membership_statistics import Interval, auc
from simulations.evaluation.full_ranking import Scorer
from simulations.evaluation.top_lists import NOBODY, evaluate_with_lists

ATTRIBUTE = "gender"
LENGTH = 50
"""Items of a list that the attacker sees."""

LEAST = 10
"""Users of each gender that every group must have."""

_NO_CLAIM = "reported only: no ε bounds inference about a population"


@dataclass(frozen=True, eq=False)
class ListedUsers:
    """Users and what they were shown.

    Attributes:
        lists: int64 ``[U, k]`` items, best first.
        labels: their genders.
    """

    lists: Int64Array
    labels: tuple[str, ...]

    def some(self, places: Int64Array) -> ListedUsers:
        """Those at `places`."""
        return ListedUsers(self.lists[places], tuple(self.labels[place] for place in places))

    def indicators(self, items: int) -> Floats:
        """``[U, V]``: 1 where an item is in the list."""
        shown = np.zeros((len(self.lists), items + 1))
        np.put_along_axis(shown, np.where(self.lists == NOBODY, items, self.lists), 1.0, axis=1)
        return shown[:, :items]


def listed_users(scorer: Scorer, people: Dataset, data: DataConfig) -> ListedUsers:
    """What the model shows to people whose gender is known, at the time of their test item.

    Raises:
        DataError: nobody has a test item, or no gender is known.
    """
    genders = people.users.attributes.get(ATTRIBUTE)
    if genders is None:
        raise DataError(f"the users have no {ATTRIBUTE}; give it in the users' table")
    splits = hold_out(
        people.interactions, people.catalogue, split=data.split, seed=data.seed, cut=data.cut,
        users=people.users,
    )  # fmt: skip
    metrics, lists = evaluate_with_lists(scorer, splits, "test", LENGTH, seed=data.seed)
    by_user = dict(zip(people.users.user_ids, genders, strict=True))
    labels = tuple(by_user[user] for user in metrics.user_ids)
    known = np.flatnonzero([label != "unknown" for label in labels])
    return ListedUsers(lists, labels).some(known)


def infer_gender(members: ListedUsers, others: ListedUsers, items: int, seed: int) -> Finding:
    """Guess genders from lists, of members and of users that the run kept out.

    The attacker learns from half of the others and guesses the other half and the members.

    Args:
        members: whom the run trained on.
        others: of the same population, drawn at random.
        items: V.
        seed: of the halves.
    """
    order = np.random.default_rng(seed).permutation(len(others.labels))
    half = len(order) // 2
    known, rest = others.some(order[:half]), others.some(order[half:])
    names = sorted({*members.labels, *others.labels})
    groups = (known, members, rest)
    fewest = min((group.labels.count(name) for group in groups for name in names), default=0)
    if len(names) != 2 or fewest < LEAST:
        return _finding(
            f"{len(names)} genders with at least {fewest} users in each group; it needs two with "
            f"{LEAST} ({_NO_CLAIM})",
            {},
        )
    model = LogisticRegression(max_iter=1000).fit(known.indicators(items), known.labels)
    majority = max(names, key=known.labels.count)
    figures: dict[str, float | int | str | None] = {}
    right: list[npt.NDArray[np.bool_]] = []
    for name, group in (("participants", members), ("others", rest)):
        labels, seen = np.array(group.labels), group.indicators(items)
        logits, second = model.decision_function(seen), labels == model.classes_[1]
        area = auc(logits[second], logits[~second])
        right.append(model.predict(seen) == labels)
        figures |= {
            name: len(labels),
            f"{name}_accuracy": float(right[-1].mean()),
            f"{name}_majority": float((labels == majority).mean()),
            f"{name}_auc": area.value,
            f"{name}_auc_low": area.low,
            f"{name}_auc_high": area.high,
        }
    more = difference(*right)
    figures |= {"difference": more.value, "difference_low": more.low, "difference_high": more.high}
    return _finding(_reason(figures), figures)


def difference(first: Sequence[bool] | npt.NDArray[np.bool_],
               second: Sequence[bool] | npt.NDArray[np.bool_]) -> Interval:  # fmt: skip
    """Difference of two independent rates, with Agresti & Caffo's 95% interval (2000)."""
    counts = [(int(np.sum(each)), len(each)) for each in (first, second)]
    value = counts[0][0] / counts[0][1] - counts[1][0] / counts[1][1]
    smooth = [((hits + 1) / (n + 2), n + 2) for hits, n in counts]
    middle = smooth[0][0] - smooth[1][0]
    error = math.sqrt(sum(rate * (1 - rate) / n for rate, n in smooth))
    half = -float(ndtri(0.025)) * error
    return Interval(value, max(-1.0, middle - half), min(1.0, middle + half))


def _reason(figures: dict[str, float | int | str | None]) -> str:
    def text(name: str) -> str:
        return f"{figures[name]:.3f}"

    return (
        f"guessed from lists of {LENGTH}: participants {text('participants_accuracy')} (majority "
        f"{text('participants_majority')}), held-out users {text('others_accuracy')} (majority "
        f"{text('others_majority')}); difference {text('difference')} "
        f"[{text('difference_low')}, {text('difference_high')}]; {_NO_CLAIM}"
    )


def _finding(reason: str, figures: dict[str, float | int | str | None]) -> Finding:
    return Finding(
        check="A6",
        name=f"inference.{ATTRIBUTE}",
        view="the ranked lists",
        gate=False,
        verdict="not_testable",
        reason=reason,
        statistic=figures,
    )
