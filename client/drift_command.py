"""``fedrec-site drift``: have the site's data moved since its adapter was trained?"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from client.site_option import AsJson, Site
from common.errors import ConfigError

if TYPE_CHECKING:
    from client.drift import Drift


def drift(
    site: Site,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Training saw what lies before it (UTC, 2026-05-31 or 2026-05-31T12:00:00). "
            "Default: when the current adapter was installed.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the data before the adapter's training with those since. Nothing leaves the site.

    The figures are exact and private: they are for the operator, and no release.
    """
    from client.drifting import drift_of_site

    moment = None if since is None else _moment(since)
    found, used = drift_of_site(site, moment)
    if as_json:
        print(json.dumps({"since": used, **asdict(found), "advice": found.advice}))
        return
    print("\n".join(_lines(found, used)))


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            [f"--since must be a date such as 2026-05-31, got {text[:40]!a}; correct it"]
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _lines(found: Drift, since: int) -> list[str]:
    date = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return [
        f"before {date} UTC: {found.old} interactions; since: {found.new}, of "
        f"{found.new_users} users with a history before",
        f"lengths of histories: PSI {found.length_psi:.3f}",
        f"popularity of items: PSI {found.popularity_psi:.3f}, distance "
        f"{found.popularity_distance:.3f} (Jensen–Shannon, 0 to 1)",
        f"texts: mean vectors {found.text_shift:.3f} apart (1 − cosine)",
        f"HR@10: {found.hit_before:.3f} on the last item before (may have been trained on), "
        f"{found.hit_now:.3f} on the first since",
        found.advice,
        "exact and private: for this site's operator, no release",
    ]
