"""``fedrec-site off-policy``: what another policy would have earned."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from client.site_option import AsJson, Site
from common.command_line import stderr_console


def off_policy(
    site: Site,
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="greedy, epsilon_greedy, ucb or thompson.")
    ],
    start: Annotated[
        float | None, typer.Option(help="Its strength. Default: as `serve --policy` has it.")
    ] = None,
    floor: Annotated[float | None, typer.Option(help="What that falls to.")] = None,
    half_life: Annotated[
        float | None, typer.Option(help="Lists in which the distance halves; 0: it stays.")
    ] = None,
    settle_seconds: Annotated[
        int, typer.Option(min=0, help="After which a place without feedback was not taken.")
    ] = 3600,
    as_json: AsJson = False,
) -> None:
    """Estimate from logged lists what another policy would have earned; nothing leaves the site."""
    from client.serving.exploration import Exploration
    from client.serving.feedback import SERVING_FOLDER
    from client.serving.log_evaluation import evaluate_log
    from client.serving.policy_settings import CHOSEN
    from common.errors import ConfigError

    if policy not in CHOSEN:
        raise ConfigError([f"--policy must be one of {', '.join(CHOSEN)}, got {policy!r}"])
    usual = next(each for name, each in CHOSEN.items() if name == policy)
    asked = Exploration(
        usual.name,
        usual.start if start is None else start,
        usual.floor if floor is None else floor,
        usual.half_life if half_life is None else half_life,
    )
    told = evaluate_log(site / SERVING_FOLDER, asked, settle_seconds)
    found = told.found
    estimates = {"observed": found.observed, "ips": found.ips, "snips": found.snips, "dr": found.dr}
    if as_json:
        record = {
            "policy": asdict(asked),
            "logged_by": told.policies,
            "lists": found.lists,
            "places": found.places,
            "estimates": {name: each and each._asdict() for name, each in estimates.items()},
            "effective_places": found.effective_places,
            "mean_weight": found.mean_weight,
            "warning": found.warning,
            "damaged": told.damaged,
            "waiting": told.waiting,
        }
        print(json.dumps(record))
        return
    print(
        f"{policy} on {found.lists} lists of {', '.join(told.policies)} "
        f"({told.waiting} wait for feedback, {told.damaged} damaged): items taken from a list"
    )
    for name, each in estimates.items():
        value = "none" if each is None else f"{each.mean:.3f} [{each.low:.3f}, {each.high:.3f}]"
        print(f"  {name:8}  {value}")
    print(
        f"  effective places {found.effective_places:.0f} of {found.places}, "
        f"mean weight {found.mean_weight:.2f}"
    )
    if found.warning:
        stderr_console().print(f"warning: {found.warning}", soft_wrap=True, highlight=False)
