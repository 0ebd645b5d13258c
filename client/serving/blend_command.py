"""``fedrec-site blend``: weigh the parts of the score by what the site's own users took."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from client.site_option import AsJson, Site
from common.command_line import stderr_console


def blend(
    site: Site,
    as_of: Annotated[
        Literal["validation", "test"] | None,
        typer.Option(help="End histories before the run's held-out items, to compare figures."),
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Go back to the adapter's own score.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Choose, at the site and for the site alone, how much each part of the score counts.

    The choice is kept in SITE/serving/blend.toml and used from the next start of `serve` and
    by `recommend`. Nothing leaves the site, and the ledger is not touched.
    """
    from client.serving.blending import BLEND_FILE, choose_blend, grid, write_blend
    from client.serving.feedback import SERVING_FOLDER
    from client.serving.served import WhatToServe
    from common.atomic_files import file_errors

    folder = site / SERVING_FOLDER
    if reset:
        with file_errors("remove", folder / BLEND_FILE):
            (folder / BLEND_FILE).unlink(missing_ok=True)
        print("the adapter's own score")
        return
    blends = grid()
    with stderr_console().status("ranking each user's last item"):
        adapter, ranks = WhatToServe(site, as_of=as_of).held_out_ranks(blends)
        choice = choose_blend(ranks, blends)
    with file_errors("make", folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    path = write_blend(folder, adapter, choice)
    if as_json:
        record = choice._asdict() | {"blend": asdict(choice.blend), "best": asdict(choice.best)}
        print(json.dumps({"adapter": adapter, **record}))
        return
    gain = f"{choice.gain:+.4f} [{choice.low:+.4f}, {choice.high:+.4f}]"
    print(f"NDCG@10 by cross-validation over {choice.users} users: {gain}")
    if choice.low <= 0:
        print("no gain is sure: the adapter's own score stays")
    for part, factor in asdict(choice.blend).items():
        print(f"  {part:12}  {factor:g}")
    print(f"kept: {path}")
