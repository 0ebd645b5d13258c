from __future__ import annotations

import io
import re

from rich.console import Console

from common.progress import SilentListener
from simulations.progress import LineListener, progress_listener, round_findings


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=100), stream


def run_two_rounds(output: Console, *, quiet: bool = False) -> None:
    with progress_listener(output, sites=2, local_steps=3, quiet=quiet) as listener:
        listener.run_started(2)
        for server_round in (1, 2):
            listener.round_started(server_round)
            listener.site_finished(server_round, "site-0000")
            listener.round_finished({"server_round": server_round, "sites": []})


def test_a_log_gets_one_line_per_round_with_the_time_left() -> None:
    output, stream = console(terminal=False)
    run_two_rounds(output)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"round 1 of 2 finished after \d+ s, about \d+ s left", lines[0])
    assert lines[1].endswith("about 0 s left")


def test_a_terminal_gets_bars_for_rounds_and_steps() -> None:
    output, stream = console(terminal=True)
    run_two_rounds(output)
    last = stream.getvalue()
    assert "round 2 of 2" in last
    assert "2/2" in last
    # Two sites with three steps in each of two rounds; a site that never answered is passed over.
    assert "12/12" in last


def test_quiet_shows_nothing() -> None:
    output, stream = console(terminal=True)
    run_two_rounds(output, quiet=True)
    assert stream.getvalue() == ""
    SilentListener().message("x")


def test_markup_in_a_message_is_shown_as_it_is() -> None:
    output, stream = console(terminal=False)
    LineListener(output).message("[red]x[/red] " + "y" * 200)
    assert stream.getvalue() == "[red]x[/red] " + "y" * 200 + "\n"


def test_findings_of_a_round_name_who_was_left_out_and_the_validation() -> None:
    sites = [{"site": f"site-{n}", "status": "non_finite"} for n in range(5)]
    record = {
        "sites": [*sites, {"site": "site-9", "status": "ok"}],
        "validation": {"hr_10": 0.1234, "ndcg_10": 0.0567},
    }
    assert round_findings(record) == (
        "left out: site-0 non-finite, site-1 non-finite, site-2 non-finite and 2 more; "
        "validation HR@10 0.123, NDCG@10 0.057"
    )
    assert round_findings({}) == ""
