"""What simulated sites know of items shown and not clicked, made of a data set's impressions."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from common.config import DataConfig
from common.errors import DataError
from common.interactions import Dataset
from common.shown_items import Shown, in_order
from simulations.public.loading import impressions_of
from simulations.public.tables import Impression


def shown_of(config: DataConfig, dataset: Dataset) -> Shown | None:
    """Items shown and not clicked, if they are to train.

    Raises:
        DataError: They are to train, and the data set does not say what was shown.
    """
    if not config.shown_negatives:
        return None
    impressions = impressions_of(config)
    if not impressions:
        raise DataError(
            f"data.shown_negatives=true, and data.dataset={config.dataset!r} does not say what was "
            "shown; use news or ads, or set data.shown_negatives=false"
        )
    return not_clicked(impressions, dataset)


def refuse_shown_in_pool(config: DataConfig) -> None:
    """Pooled sites have no file for shown items.

    Raises:
        DataError: They are to train.
    """
    if config.shown_negatives:
        raise DataError(
            f"data.shown_negatives=true needs a folder for each site, and these {config.sites} are "
            "pooled in common files; lower data.sites, or set data.shown_negatives=false"
        )


def not_clicked(impressions: Iterable[Impression], dataset: Dataset) -> Shown:
    """What stood beside the clicks, at the time of the impression's last click.

    So an impression trains only where all its clicks do. A click that repeats an older one is
    none, as in the interactions.
    """
    rows = dataset.interactions
    place = {item: index for index, item in enumerate(dataset.catalogue.item_ids)}
    keys = zip(rows.user.tolist(), rows.item.tolist(), strict=True)
    times = dict(zip(keys, rows.timestamp.tolist(), strict=True))
    users = {user: index for index, user in enumerate(rows.user_ids)}
    found: dict[str, list[tuple[int, int]]] = {}
    before: dict[str, int] = {}
    for each in sorted(impressions, key=attrgetter("timestamp")):
        if each.user_id not in users:
            continue
        since, before[each.user_id] = before.get(each.user_id, -1), each.timestamp
        pairs = [(place.get(i, -1), c) for i, c in zip(each.items, each.clicked, strict=True)]
        clicks = [times.get((users[each.user_id], item), -1) for item, c in pairs if c]
        clicks = [time for time in clicks if since < time <= each.timestamp]
        if clicks:
            here = [(max(clicks), item) for item, c in pairs if not c and item >= 0]
            found.setdefault(each.user_id, []).extend(here)
    return {user: in_order(its) for user, its in found.items() if its}
