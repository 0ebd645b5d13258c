"""How a reader checks the report: commands, and what each shows."""

from __future__ import annotations


def own_checks(run: str, *, is_private: bool) -> list[dict[str, str]]:
    """List the commands that check a run without trusting this page.

    Args:
        run: its name.
        is_private: whether the run claims anything.

    Returns:
        Rows with the keys `command` and `shows`.
    """
    privacy = [
        {
            "command": f"fedrec privacy --releases runs/{run}/releases.jsonl",
            "shows": "recomputes every site's ε from its releases by PRV, RDP and PLD; ends with "
            "exit code 2 where a site recorded less than it spent",
        },
        {
            "command": "fedrec-site ledger verify --site FOLDER "
            f"--against runs/{run}/releases.jsonl",
            "shows": "run by a site's operator: what the server holds is what the site's own, "
            "signed ledger says that it released",
        },
    ]
    return [
        *(privacy if is_private else []),
        {
            "command": f"fedrec simulate runs/{run}/config.toml --run again",
            "shows": "the same federation once more; its noise is drawn anew, so the figures "
            "differ within their noise",
        },
        {
            "command": f"fedrec report {run}",
            "shows": "draws this page again from the run's records",
        },
    ]
