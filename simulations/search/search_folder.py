"""A search's folder: that of its runs (`simulations.sweeps.runs_folder`) with two files more.

===============  =========================================================================
``search.toml``  the question, and the hash of every run's configuration
``search.json``  the results, written at the end
===============  =========================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simulations.search.question import Search, read_question
from simulations.sweeps.planning import PlannedRun
from simulations.sweeps.runs_folder import RunsFolder

RESULT_FILE = "search.json"


class SearchFolder(RunsFolder):
    """Reads and writes one search's folder."""

    KIND = "search"
    QUESTION_FILE = "search.toml"
    RESUME = "fedrec search --resume --run"

    def read_question(self) -> Search:
        """Return what was asked.

        Raises:
            RunFolderError: there is no search here, or its question is damaged.
            ConfigError: it was edited into something that is no question.
        """
        content = self.read_asked()
        try:
            name, overrides = str(content["name"]), tuple(str(each) for each in content["set"])
            document = dict(content["search"])
        except (KeyError, TypeError, ValueError) as error:
            raise self.damaged(error) from error
        return replace(read_question(name, document), overrides=overrides)

    def begin(self, search: Search, scenario: str, runs: Sequence[PlannedRun]) -> None:
        """Begin the search, or take up the one that is there; it may have grown.

        Args:
            search: what is asked.
            scenario: the text of its scenario.
            runs: all that it comes to.

        Raises:
            RunFolderError: the folder holds another question.
        """
        asked = {
            "name": search.name,
            "set": list(search.overrides),
            "search": search.to_document(),
        }
        self.take_up(asked, scenario, runs)
