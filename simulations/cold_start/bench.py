"""What a cold-start run trains on, and the people and items that it never saw.

Held-out users (`data.held_out_users`) are at no site; cold items are not even in training's
catalogue. Both are split once more: settings are chosen on one part of them, the other is
looked at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config import RunConfig
from common.errors import DataError
from common.holdout import Stage, UserSplit, chronological, hold_out
from common.interactions import Dataset
from common.progress import ProgressListener
from common.requests import Requests
from common.run_folder import RunFolder
from simulations.cold_items import ColdItems, cold_events, draw_cold_items, without_items
from simulations.datasets import load_population
from simulations.engines import run_engine
from simulations.held_out_users import held_out, participants
from simulations.simulated_sites import simulated_sites

HELD_OUT_USERS = 0.3
COLD_SHARE = 0.1
HISTORY_LENGTHS = (0, 1, 3, 5, 10)
TARGETS = 10
DONE_FILE = "cold-start-trained.json"
_VALIDATION_EVERY = 3  # one new user of three; the other two are looked at once

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NewUser:
    """Somebody whom no site had, with what they did among the known items.

    Attributes:
        user_id: of the data set.
        items: int64 ``[n]``, indices of training's catalogue, oldest first.
        times: int64 ``[n]``, unix seconds.
        attributes: by name.
    """

    user_id: str
    items: IntArray
    times: IntArray
    attributes: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class ColdStartBench:
    """The data of one cold-start run.

    Attributes:
        whole: everybody and everything.
        cold: the items that training's catalogue lacks.
        known: training's users and items.
        splits: of training's users.
        new_users: by stage.
        events: of the cold items, by stage; items are indices of the whole catalogue.
    """

    whole: Dataset
    cold: ColdItems
    known: Dataset
    splits: Sequence[UserSplit]
    new_users: Mapping[Stage, Sequence[NewUser]]
    events: Mapping[Stage, Sequence[UserSplit]]

    @classmethod
    def of(cls, config: RunConfig) -> ColdStartBench:
        """Load the data that `config` names and take new users and new items out.

        Raises:
            DataError: nobody or nothing is left out, or the data cannot be had.
        """
        data = config.data
        whole = load_population(data)
        cold = draw_cold_items(whole, COLD_SHARE, data.seed)
        people = held_out(whole, data)
        if people is None:
            raise DataError(
                "cold start needs people whom training never saw; set data.held_out_users, "
                f"to {HELD_OUT_USERS} say"
            )
        least = data.min_interactions
        known = without_items(participants(whole, data), cold.all, least)
        splits = hold_out(
            known.interactions,
            known.catalogue,
            split=data.split,
            seed=data.seed,
            users=known.users,
        )
        return cls(
            whole=whole,
            cold=cold,
            known=known,
            splits=splits,
            new_users=_by_stage(_new_users(without_items(people, cold.all, least), data.seed)),
            events={
                "validation": cold_events(whole, cold, cold.validation, seed=data.seed),
                "test": cold_events(whole, cold, cold.test, seed=data.seed),
            },
        )

    def cold_of(self, stage: Stage) -> IntArray:
        """The cold items that a stage looks at."""
        return self.cold.validation if stage == "validation" else self.cold.test


def first_requests(users: Sequence[NewUser], length: int) -> tuple[Requests, list[IntArray]]:
    """What each user asks after their first `length` items, and the next `TARGETS` items.

    The moment is that of the first target; somebody without a history had no moment before.
    """
    moments = np.array([user.times[length] for user in users])
    previous = np.array([user.times[length - 1] if length else user.times[0] for user in users])
    asked = Requests(
        [user.items[:length] for user in users],
        moments,
        previous,
        [user.attributes for user in users],
    )
    return asked, [user.items[length : length + TARGETS] for user in users]


def train(
    bench: ColdStartBench, config: RunConfig, folder: RunFolder, listener: ProgressListener
) -> None:
    """Run the federation of known users and items in `folder`, unless it was run there before."""
    if is_trained(folder):
        return
    for part in folder.path.iterdir():  # what an interruption left
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()
    folder.write_config(config)
    with simulated_sites(bench.known, config, folder) as sited:
        run_engine(sited, folder, listener)
    folder.write_json(DONE_FILE, {"schema_version": 1, "config_sha256": config.sha256()})


def is_trained(folder: RunFolder) -> bool:
    """Whether `train` came to its end in `folder`."""
    return (folder.path / DONE_FILE).is_file()


def open_folder(path: Path, config: RunConfig) -> RunFolder:
    """The run's folder, made where there is none.

    Raises:
        DataError: it holds a run of other settings.
    """
    if not path.exists():
        folder = RunFolder.create(path)
        folder.write_config(config)
        return folder
    folder = RunFolder.open(path)
    if folder.read_config().sha256() != config.sha256():
        raise DataError(f"{path} was run with other settings; use another --run")
    return folder


def _new_users(people: Dataset, seed: int) -> list[NewUser]:
    """Those who did enough for every length of history; the same users stand in every row."""
    rows = people.interactions
    order = chronological(rows, people.catalogue, seed)
    ends = np.cumsum(np.bincount(rows.user, minlength=len(rows.user_ids)))
    found = []
    for user, part in enumerate(np.split(order, ends[:-1])):
        if len(part) > max(HISTORY_LENGTHS):
            attributes = {n: values[user] for n, values in people.users.attributes.items()}
            name = rows.user_ids[user]
            found.append(NewUser(name, rows.item[part], rows.timestamp[part], attributes))
    if len(found) < _VALIDATION_EVERY:
        raise DataError(
            f"{len(found)} held-out users have more than {max(HISTORY_LENGTHS)} items; raise "
            "data.held_out_users"
        )
    return found


def _by_stage(users: Sequence[NewUser]) -> dict[Stage, Sequence[NewUser]]:
    """By a user's place, which the seeded draw made: one of three validates."""
    chosen = [at % _VALIDATION_EVERY == 0 for at in range(len(users))]
    return {
        "validation": [user for user, is_chosen in zip(users, chosen, strict=True) if is_chosen],
        "test": [user for user, is_chosen in zip(users, chosen, strict=True) if not is_chosen],
    }
