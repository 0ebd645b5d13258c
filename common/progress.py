"""What a run tells whoever watches it, while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class ProgressListener(Protocol):
    """Hears how a run gets on; it never changes the run."""

    def run_started(self, total_rounds: int) -> None:
        """The run starts and will have `total_rounds` server rounds."""

    def round_started(self, server_round: int) -> None:
        """Server round `server_round` (1, 2, …) starts."""

    def site_finished(self, server_round: int, site: str) -> None:
        """`site` has answered in `server_round`."""

    def round_finished(self, record: Mapping[str, object]) -> None:
        """A server round is over; `record` is its line of ``rounds.jsonl``."""

    def message(self, text: str) -> None:
        """Something else worth a line for whoever watches."""


class SilentListener:
    """Hears everything and shows nothing."""

    def run_started(self, total_rounds: int) -> None:
        """Show nothing."""

    def round_started(self, server_round: int) -> None:
        """Show nothing."""

    def site_finished(self, server_round: int, site: str) -> None:
        """Show nothing."""

    def round_finished(self, record: Mapping[str, object]) -> None:
        """Show nothing."""

    def message(self, text: str) -> None:
        """Show nothing."""
