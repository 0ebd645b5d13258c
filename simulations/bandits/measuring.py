"""All worlds of an experiment, kept as they are done: a second start goes on with what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.serving.exploration import NAMES, Exploration
from client.serving.reward_model import Beliefs
from common.atomic_files import append_json_lines, read_json_lines
from common.errors import RunFolderError
from common.run_folder import RunFolder
from simulations.bandits.choosing import Setting, best_settings, grid
from simulations.bandits.loop import Outcome, play
from simulations.bandits.warm import Warm, load_warm
from simulations.bandits.world import Part, WorldPlan, make_world, oracle_curve

VALIDATION_FILE, TEST_FILE = "validation.jsonl", "test.jsonl"


@dataclass(frozen=True)
class Played:
    """One setting in one world.

    Attributes:
        seed: of the world.
        setting: what played.
        outcome: what it got.
        oracle: ``[R]``, what whoever knows every record gets.
    """

    seed: int
    setting: Setting
    outcome: Outcome
    oracle: tuple[int, ...]

    def record(self, run: str, plan: WorldPlan) -> dict[str, Any]:
        """As a line of the log."""
        return {"run": run, "plan": asdict(plan), **asdict(self)}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Played:
        """From a line of the log."""
        outcome = dict(record["outcome"])
        outcome["curve"] = tuple(outcome["curve"])
        setting = record["setting"]
        return cls(
            seed=record["seed"],
            setting=Setting(Exploration(**setting["policy"]), Beliefs(**setting["beliefs"])),
            outcome=Outcome(**outcome),
            oracle=tuple(record["oracle"]),
        )


@dataclass(frozen=True)
class Worlds:
    """An experiment's worlds.

    Attributes:
        plan: their shape.
        chosen_on: seeds of validation worlds.
        reported: seeds of test worlds.
    """

    plan: WorldPlan
    chosen_on: int = 5
    reported: int = 20


class Experiment:
    """Chooses on validation worlds, then plays the reported ones, and keeps each in `folder`."""

    def __init__(
        self,
        run: RunFolder,
        folder: Path,
        worlds: Worlds,
        listen: Callable[[str, int, int], None] = lambda *_: None,
        settings: Sequence[Setting] | None = None,
    ) -> None:
        """Nothing is played yet.

        Args:
            run: a run that held users out.
            folder: of the two logs; made where it is not there.
            worlds: which.
            listen: hears of a part's name, how much of it is done, and how much there is.
            settings: to choose from; None: the grid.
        """
        self._run, self._folder, self._worlds, self._listen = run, folder, worlds, listen
        self._settings = list(grid()) if settings is None else list(settings)
        self._warm: Warm | None = None

    def choose(self) -> list[Played]:
        """The winner of each policy on the validation worlds, in its worlds."""
        played = self._played("validation", self._settings, self._worlds.chosen_on)
        rewards = {
            setting: float(np.mean([p.outcome.reward for p in played if p.setting == setting]))
            for setting in self._settings
        }
        best = best_settings(rewards)
        return [p for name in NAMES if name in best for p in played if p.setting == best[name]]

    def report(self, settings: Sequence[Setting]) -> list[Played]:
        """The chosen settings in the reported worlds."""
        return self._played("test", settings, self._worlds.reported)

    def _played(self, part: Part, settings: Sequence[Setting], seeds: int) -> list[Played]:
        path = self._folder / (VALIDATION_FILE if part == "validation" else TEST_FILE)
        known = {(p.seed, p.setting): p for p in self._read(path)}
        total = seeds * len(settings)
        found: list[Played] = []
        for seed in range(seeds):
            left = [setting for setting in settings if (seed, setting) not in known]
            world = make_world(self._loaded(), self._worlds.plan, part, seed) if left else None
            for setting in settings:
                self._listen(part, len(found), total)
                if world is not None and setting in left:
                    outcome = play(world, setting.policy, setting.beliefs)
                    best = tuple(int(each) for each in oracle_curve(world))
                    known[seed, setting] = Played(seed, setting, outcome, best)
                    line = known[seed, setting].record(self._run.path.name, self._worlds.plan)
                    append_json_lines(path, [line], flushed=False)
                found.append(known[seed, setting])
        self._listen(part, total, total)
        return found

    def _read(self, path: Path) -> list[Played]:
        records = read_json_lines(path)
        try:
            others = {record["run"] for record in records} - {self._run.path.name}
            plans = [WorldPlan(**record["plan"]) for record in records]
            played = [Played.of(record) for record in records]
        except (KeyError, TypeError, ValueError) as error:
            raise RunFolderError(
                f"{path} is damaged or of another version ({error!r}); remove it"
            ) from error
        if others:
            raise RunFolderError(
                f"{path} is of run {sorted(others)[0]}; remove it, or give another --out"
            )
        if any(plan != self._worlds.plan for plan in plans):
            raise RunFolderError(f"{path} is of worlds of another shape; remove it")
        return played

    def _loaded(self) -> Warm:
        if self._warm is None:
            self._warm = load_warm(self._run)
        return self._warm
