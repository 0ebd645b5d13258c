"""A sweep's folder: that of its runs (`simulations.sweeps.runs_folder`) with two files more.

==============================  ==========================================================
``sweep.toml``                  the question, and the hash of every run's configuration
``sweep.json``, ``sweep.html``  the results, written at the end
==============================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Sequence

from simulations.sweeps.planning import PlannedRun
from simulations.sweeps.question import Dimension, Question
from simulations.sweeps.runs_folder import RunsFolder

RESULT_FILE = "sweep.json"


class SweepFolder(RunsFolder):
    """Reads and writes one sweep's folder."""

    KIND = "sweep"
    QUESTION_FILE = "sweep.toml"
    RESUME = "fedrec simulate --resume --run"

    def read_question(self) -> Question:
        """Return what was asked.

        Raises:
            RunFolderError: there is no sweep here, or its question is damaged.
        """
        content = self.read_asked()
        try:
            return Question(
                scenario=str(content["scenario"]),
                overrides=tuple(content["set"]),
                dimensions=tuple(Dimension(k, tuple(v)) for k, v in content["sweep"].items()),
                seeds=int(content["seeds"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.damaged(error) from error

    def begin(self, question: Question, scenario: str, runs: Sequence[PlannedRun]) -> None:
        """Begin the sweep, or take up the one that is there; it may have grown.

        Args:
            question: what is asked.
            scenario: the text of its scenario.
            runs: all that it comes to.

        Raises:
            RunFolderError: the folder holds another question.
        """
        asked = {
            "scenario": question.scenario,
            "set": list(question.overrides),
            "seeds": question.seeds,
            "sweep": {d.key: list(d.values) for d in question.dimensions},
        }
        self.take_up(asked, scenario, runs)
