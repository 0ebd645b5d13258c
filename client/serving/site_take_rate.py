"""The take rate of a site's scores, from its own histories; it stays at the site."""

from __future__ import annotations

import logging

import numpy as np

from client.serving.served import Served
from client.serving.take_rate import TakeRate, fit_take_rate
from common.errors import DataError

MOST_USERS = 100
"""Histories that are read; more change little."""
USUAL = TakeRate(0.25, -2.8)
"""Of a site without histories to fit to: about what the run of docs/bandits.md has."""

logger = logging.getLogger("fedrec-site")


def site_take_rate(served: Served) -> TakeRate:
    """Scores users as they were at half of their history, against what they had later."""
    histories, scores, taken = served.histories, [], []
    users = list(histories.users)
    for user in users[:: max(1, -(-len(users) // MOST_USERS))]:
        asker = histories.asker(user)
        half = 0 if asker is None else len(asker.history) // 2
        if asker is None or half == 0:
            continue
        now = 0 if asker.last is None else asker.last
        past, later = asker.history[:half], asker.history[half:]
        request = type(asker)(past, now, asker.attributes).at(now)
        found = served.index.scores(request)
        free = np.isfinite(found)
        free[past] = False
        scores.append(found[free])
        taken.append(np.isin(np.flatnonzero(free), later))
    try:
        if not scores:
            raise DataError("no user has a history of two items")
        return fit_take_rate(np.concatenate(scores), np.concatenate(taken))
    except DataError as error:
        logger.warning("the usual take rate is used, the site's cannot be fitted: %s", error)
        return USUAL
