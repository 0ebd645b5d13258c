"""The options that the site's commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.command_line import owners_only

Site = Annotated[
    Path,
    typer.Option("--site", metavar="FOLDER", help="The site's folder.", callback=owners_only),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")
]
Superlink = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Of the coordinator; goes with --ca.")
]
Ca = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The coordinator's ca.crt, handed over safely.")
]
NodeFolder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="For what the SuperNode's user reads. Default: SITE/node."),
]
