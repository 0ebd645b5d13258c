"""``fedrec-site init`` and ``fedrec-site refresh``: a site begins, and gets its data."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.site_option import AsJson, Ca, NodeFolder, Site, Superlink
from common.command_line import stderr_console
from common.errors import DataError, FedrecError
from common.hidden_paths import without_paths

if TYPE_CHECKING:
    from client.source.preview import Preview


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command(
        epilog="Example: fedrec-site init --site /srv/fedrec/site --name north --source sql"
    )(init)
    app.command(epilog="Example: fedrec-site refresh --site /srv/fedrec/site")(refresh)


def init(
    site: Site,
    name: Annotated[str, typer.Option(help="The site's public name, such as north.")],
    source: Annotated[
        str, typer.Option(metavar="csv|parquet|sql", help="Where the site's data lie.")
    ] = "sql",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For the unit files. Default: SITE/systemd."),
    ] = None,
    user: Annotated[str, typer.Option(help="The agent's user.")] = "fedrec",
    relay_user: Annotated[str, typer.Option(help="The SuperNode's user.")] = "fedrec-relay",
    superlink: Superlink = None,
    ca: Ca = None,
    node_folder: NodeFolder = None,
    signer: Annotated[
        str | None, typer.Option(metavar="HEX", help="The key that signs the coordinator's code.")
    ] = None,
    system: Annotated[
        bool,
        typer.Option(
            "--system",
            help="As root: make both users, give them their folders, install the units.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Begin a site: keys, policy.toml, source.toml and unit files. Nothing is overwritten.

    With --superlink and --ca also the node's key and the SuperNode's unit.
    """
    from client.begin_site import begin_site
    from client.site_plan import SitePlan

    plan = SitePlan(
        *(site, name, source, out, user, relay_user),
        *(superlink, ca, node_folder, signer, system),
    )
    begun = begin_site(plan)
    if as_json:
        print(json.dumps(begun._asdict(), ensure_ascii=False, default=str))
        return
    print("\n".join(begun.lines()))


def refresh(
    site: Site,
    full: Annotated[
        bool, typer.Option("--full", help="Read all rows, also of an incremental source.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print no counts: for a timer, whose output is kept.")
    ] = False,
) -> None:
    """Read the source and replace the site's tables as one set, or leave them as they are.

    Users' ids are pseudonymised at the door. The agent reads the new tables at its next start.
    """
    from client.source.refresh import refresh_site

    with nothing_private(site), stderr_console().status("reading the source"):
        refreshed = refresh_site(site, full=full)
    print("refreshed; restart the agent, so that it reads the new tables")
    for line in refreshed.lines() if not quiet else ():
        print(f"  - {line}")


def previewed(site: Path) -> Preview | None:
    """Ten rows of the site's source; None where it has no source of its own.

    Raises:
        FedrecError: what a refresh would stumble over.
    """
    from client.source.preview import preview_source
    from client.source.settings_file import SOURCE_FILE

    if not (site / SOURCE_FILE).is_file():
        return None
    with nothing_private(site), stderr_console().status("reading ten rows of the source"):
        return preview_source(site)


def first_refresh(site: Path) -> None:
    """Read the source of a site that has no tables yet.

    Raises:
        FedrecError: the source cannot be used.
    """
    from client.site_data import has_no_tables_yet
    from client.source.refresh import refresh_site

    if has_no_tables_yet(site):
        with nothing_private(site):
            refresh_site(site)


@contextmanager
def nothing_private(folder: Path) -> Iterator[None]:
    """Keep values and paths out of what an error says: it may end in a log that others read.

    Raises:
        DataError: a `FedrecError` was raised; without the site's path.
        SystemExit: something else was raised, whose text could hold any value.
    """
    try:
        yield
    except FedrecError as error:
        raise DataError(without_paths(str(error), {folder: "SITE"})) from None
    except Exception as error:  # noqa: BLE001  # shown by its type and place alone
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = "unknown" if trace is None else trace.tb_frame.f_globals.get("__name__", "unknown")
        line = 0 if trace is None else trace.tb_lineno
        print(
            f"internal fault: {type(error).__name__} in {place}, line {line}; its text is "
            "withheld, since it could hold values; nothing was loaded; please report it",
            file=sys.stderr,
        )
        sys.exit(1)
