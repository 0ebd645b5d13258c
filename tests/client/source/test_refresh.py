"""A refresh replaces a site's tables as one set, or says in one line why it does not."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client import cli
from client.policy import default_policy
from client.site_data import load_site
from client.site_setup import ledger_of
from client.source import refresh as refreshing
from client.source.pseudonyms import load_pseudonyms
from client.source.refresh import refresh_site
from common.errors import DataError, LedgerError
from common.privacy_events import GaussianEvent
from tests.own_process import Command, in_own_process
from tests.site_sources import (
    CANARY,
    CSV_SOURCE,
    FIRST,
    GOODS,
    ITEMS,
    ORDERS,
    PEOPLE,
    USERS,
    Rows,
    begun_site,
    csv_site,
    goods,
    orders,
    people,
    snapshot,
    tables_of,
    write_csv,
)


@pytest.fixture
def fedrec_site(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_own_process(cli.main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return csv_site(tmp_path)


@pytest.fixture(scope="module")
def refreshed_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed; to be copied."""
    folder = csv_site(tmp_path_factory.mktemp("refreshed"))
    refresh_site(folder)
    return folder


def test_the_tables_are_the_sources_under_pseudonyms(site: Path) -> None:
    refreshed = refresh_site(site)
    pseudonyms = load_pseudonyms(site / "keys", begin=False)
    tables = tables_of(site)
    first: dict[tuple[str, str], tuple[int, float]] = {}
    for user, item, at, stars, _ in orders()[1:]:
        key = (pseudonyms.of(user), item)
        first[key] = min(first.get(key, (2**60, 0.0)), (at, float(stars)))
    found = {
        (row["user_id"], row["item_id"]): (row["timestamp"], row["rating"])
        for row in tables["interactions"]
    }
    assert found == first
    assert len(tables["interactions"]) == len(first)
    sexes = {pseudonyms.of(user): sex for user, sex in people()[1:]}
    assert {row["user_id"]: row["gender"] for row in tables["users"]} == sexes
    (third,) = [row for row in tables["items"] if row["item_id"] == "g3"]
    assert third == {
        "item_id": "g3", "text": 'Thing "3", nice. Brand 3', "genres": ["a", "b0"],
    }  # fmt: skip
    assert (refreshed.rows_read, refreshed.repeats) == (200, 200 - len(first))
    data = load_site(site)
    assert (data.site, data.declared_units, data.simulated) == ("north", 20, False)
    assert data.catalogue.sha256 == refreshed.catalogue.sha256
    assert set(data.users.attributes["gender"]) == {"canary-sex-0", "canary-sex-1"}
    assert (site / "data").stat().st_mode & 0o077 == 0


def test_no_identifier_is_written_to_the_disk(site: Path) -> None:
    refresh_site(site)
    for path in (site / "data").rglob("*"):
        assert path.is_dir() or b"canary-user" not in path.read_bytes()


@dataclass(frozen=True)
class Fault:
    """What is wrong, and what the one line must say."""

    said: str
    orders: Callable[[Rows], object] = lambda rows: None
    people: Callable[[Rows], object] = lambda rows: None
    goods: Callable[[Rows], object] = lambda rows: None
    source: tuple[str, str] = ("", "")
    after: Callable[[Path], object] = lambda folder: None


def put(row: int, column: int, value: Any) -> Callable[[Rows], object]:
    return lambda rows: rows[row].__setitem__(column, value)


def append_bytes(name: str, content: bytes) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.write(content)

    return change


OWN_ITEMS = CSV_SOURCE[CSV_SOURCE.index("[items]") :]
ZEROS = "0" * 64
FAULTS = {
    "no such column": Fault(
        r"interactions: no column buyer; .*5 others", source=('customer"\nitem', 'buyer"\nitem')
    ),
    "no user": Fault(r"`customer` has no id in row 7; fill it in", orders=put(7, 0, " ")),
    "no item": Fault(r"`sku` has no id in row 9", orders=put(9, 1, "")),
    "no time": Fault(r"`at` has no value in row 3", orders=put(3, 2, "")),
    "a time that is none": Fault(r"`at` holds no number in row 4", orders=put(4, 2, "canary-time")),
    "the wrong column": Fault(
        r"`customer` holds times as text; set time_format", source=('"at"', '"customer"')
    ),
    "milliseconds": Fault(
        r"`at` is too large for unix seconds in row 5.*unix_ms", orders=put(5, 2, FIRST * 1000)
    ),
    "before 1970": Fault(r"`at` lies before 1970 in row 5", orders=put(5, 2, -1)),
    "the future": Fault(
        r"`at` lies in the future by .* days .*in row 6; set the clock",
        orders=put(6, 2, 9_000_000_000),
    ),
    "a rating that is none": Fault(r"`stars` holds no number in row 8", orders=put(8, 3, "canary")),
    "an infinite rating": Fault(r"`stars` is no finite number in row 8", orders=put(8, 3, "1e39")),
    "a ragged row": Fault(
        r"row 2 has 6 fields and the header 5", orders=lambda r: r[2].append("canary")
    ),
    "another encoding": Fault(
        r"`customer` is not utf-8 text in row 201",
        after=append_bytes(ORDERS, b"canary\xff,g1,1,1,x\n"),
    ),
    "an open quote": Fault(
        r"row 201 has 1 fields .*or a quote that is never closed",
        after=append_bytes(ORDERS, b'"canary,g1,1,1,x\n' + b"canary" * 10**3),
    ),
    "an open quote before a long rest": Fault(
        r"cannot be parsed as CSV, after its header; look for a quote that is never closed",
        after=append_bytes(ORDERS, b'"canary,g1,1,1,x\n' + b"canary" * 10**6),
    ),
    "no header": Fault(
        r"interactions: no column customer, sku, at, stars; .*the header", orders=lambda r: r.pop(0)
    ),
    "an empty file": Fault(r"interactions: its file has no header", orders=list.clear),
    "no rows": Fault(
        r"interactions: no row is left", orders=lambda r: r.__delitem__(slice(1, None))
    ),
    "no file": Fault(
        r"interactions: its file does not exist", after=lambda f: (f / ORDERS).unlink()
    ),
    "repeats": Fault(
        r"row \d+ repeats row \d+ \(same user",
        source=('rating = "stars"', 'rating = "stars"\nduplicates = "refuse"'),
    ),
    "a user twice": Fault(
        r"users: row 13 repeats the user of row 2", people=lambda r: r.append(r[2])
    ),
    "a user without an id": Fault(r"users: `customer` has no id in row 2", people=put(2, 0, "")),
    "an item twice": Fault(
        r"items: `sku` repeats the id of row 4 in row 31", goods=lambda r: r.append(r[4])
    ),
    "an item without text": Fault(
        r"items: `title, brand` has no text in row 5",
        goods=lambda r: r.__setitem__(5, ["g4", "", "", ""]),
    ),
    "other items": Fault(
        r"none of its items is in the catalogue",
        goods=lambda r: r.__setitem__(slice(1, None), [["x", "T", "B", ""]]),
    ),
    "another catalogue": Fault(
        r"SHA-256 [0-9a-f]{64}, and items.catalogue_sha256 declares 00",
        source=("[items]", f'[items]\ncatalogue_sha256 = "{ZEROS}"'),
    ),
    "short users": Fault(
        r"no user has 30 different items",
        source=("declared_units = 20", "declared_units = 20\nmin_interactions = 30"),
    ),
    "no catalogue": Fault(
        r"items: its catalogue does not exist",
        source=(OWN_ITEMS, '[items]\ncatalogue = "canary.parquet"'),
    ),
    "a lost key": Fault(
        r"the site's key SITE/keys/pseudonym.key is missing",
        after=lambda f: (f / "keys" / "pseudonym.key").unlink(),
    ),
    "malformed TOML": Fault(
        r"source.toml is not valid TOML \(line 3", source=("name =", "name = canary")
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_and_changes_nothing(
    name: str,
    refreshed_site: Path,
    tmp_path: Path,
    fedrec_site: Command,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    fault = FAULTS[name]
    site = shutil.copytree(refreshed_site, tmp_path / "canary-folder" / "site")
    before = snapshot(site)
    for file, rows, change in (
        (ORDERS, orders(), fault.orders),
        (PEOPLE, people(), fault.people),
        (GOODS, goods(), fault.goods),
    ):
        change(rows)
        write_csv(site / file, rows)
    assert fault.source[0] in CSV_SOURCE
    (site / "source.toml").write_text(CSV_SOURCE.replace(*fault.source, 1))
    fault.after(site)
    code, out, err = fedrec_site("refresh", "--site", site)
    assert (code, out) == (2, "")
    text = err.replace("configuration has 1 fault:\n  - ", "")
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert re.search(fault.said, text), text
    assert CANARY not in err + caplog.text
    assert snapshot(site) == before


def test_a_passing_refresh_shows_no_value_and_no_path(
    site: Path, fedrec_site: Command, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    code, out, err = fedrec_site("refresh", "--site", site)
    assert code == 0
    assert "200 rows" in out
    assert CANARY not in out + err + caplog.text
    code, out, _ = fedrec_site("refresh", "--site", site, "--quiet")
    assert (code, out) == (0, "refreshed; restart the agent, so that it reads the new tables\n")


def test_a_planted_leak_would_be_found(
    site: Path, fedrec_site: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leak(*_: object, **__: object) -> None:
        raise DataError("canary-user-1@example.org")

    monkeypatch.setattr(refreshing, "read_catalogue", leak)
    assert CANARY in fedrec_site("refresh", "--site", site)[2]


def test_a_fault_of_ours_is_told_without_its_text(
    site: Path, fedrec_site: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leak(*_: object, **__: object) -> None:
        raise RuntimeError("canary-user-1@example.org")

    monkeypatch.setattr(refreshing, "read_catalogue", leak)
    code, _, err = fedrec_site("refresh", "--site", site)
    assert code == 1
    assert "internal fault: RuntimeError" in err
    assert CANARY not in err


def test_old_tables_stay_for_one_refresh_more(site: Path) -> None:
    names = []
    for _ in range(3):
        refresh_site(site)
        names.append(sorted(path.name for path in (site / "data").iterdir()))
    assert names == [["000001"], ["000001", "000002"], ["000002", "000003"]]


def test_the_federations_catalogue_is_taken_as_it_is(site: Path) -> None:
    own = refresh_site(site).catalogue
    tables = site / "data" / "000001"
    shutil.copy(tables / "items.parquet", site / "federation.parquet")
    start = CSV_SOURCE.index("[items]")
    there = f'[items]\ncatalogue = "federation.parquet"\ncatalogue_sha256 = "{own.sha256}"\n'
    (site / "source.toml").write_text(CSV_SOURCE[:start] + there)
    assert refresh_site(site).catalogue == own


def test_filters_keep_what_they_say_and_rows_keep_their_numbers(site: Path) -> None:
    rows = orders()
    rows[3][2] = ""  # at fault, and filtered
    rows[4][3] = "canary"
    write_csv(site / ORDERS, rows)
    wanted = '[source]\nkind = "csv"\n[interactions]\nfilters = [{column = "at", present = true}]'
    text = CSV_SOURCE.replace('[source]\nkind = "csv"\n[interactions]', wanted)
    (site / "source.toml").write_text(text)
    with pytest.raises(DataError, match="`stars` holds no number in row 4"):
        refresh_site(site)
    (site / "source.toml").write_text(
        text.replace("present = true}", 'present = true}, {column = "stars", one_of = ["4", 5]}')
    )
    refresh_site(site)
    assert {row["rating"] for row in tables_of(site)["interactions"]} == {4.0, 5.0}


def test_the_ledger_goes_on_when_users_come_and_go(site: Path) -> None:
    refresh_site(site)
    ledger = ledger_of(site, load_site(site), default_policy()).open()
    ledger.enforce(GaussianEvent(4.0), 1e-4, 100)
    ledger.charge(("run", 1, "update"), GaussianEvent(4.0), b"bytes", {"delta": 1e-4})
    rows = orders()
    write_csv(site / ORDERS, [[*rows[0]], *[["new-" + row[0], *row[1:]] for row in rows[1:120]]])
    refresh_site(site)
    opened = ledger_of(site, load_site(site), default_policy()).open()
    assert opened.epsilon(1e-4) == ledger.epsilon(1e-4) > 0


def test_another_key_is_another_population_and_refused(site: Path) -> None:
    refresh_site(site)
    ledger_of(site, load_site(site), default_policy()).open()
    before = snapshot(site)
    (site / "keys" / "pseudonym.key").write_bytes(b"k" * 32)
    with pytest.raises(LedgerError, match="bound to other users"):
        refresh_site(site)
    assert snapshot(site) == before


def test_a_simulated_sites_data_are_left_alone(site: Path) -> None:
    refresh_site(site)
    manifest = site / "site.json"
    manifest.write_text(manifest.read_text().replace('"simulated": false', '"simulated": true'))
    with pytest.raises(DataError, match="simulated site"):
        refresh_site(site)


INCREMENTAL = CSV_SOURCE.replace('kind = "csv"', 'kind = "csv"\nincremental = true')
Event = tuple[int, int, int, int]
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 5), st.integers(0, 10**6), st.integers(1, 5)
    ),
    min_size=1, max_size=25,
)  # fmt: skip


@pytest.mark.slow
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(parts=st.lists(EVENTS, min_size=1, max_size=3))
def test_incremental_equals_full(parts: list[list[Event]], tmp_path_factory: Any) -> None:
    """Each part is what is new at the source; the files hold nothing else."""
    folder = csv_site(tmp_path_factory.mktemp("incremental"), INCREMENTAL)
    anchor = [(0, item, 0, 3) for item in range(3)]  # so that each part alone is usable
    rows: Rows = [[f"canary-user-{u}", f"g{i}", FIRST + t, s, ""] for u, i, t, s in anchor]
    everything = [orders()[0]]
    for part in parts:
        new = [[f"canary-user-{u}", f"g{i}", FIRST + t, s, ""] for u, i, t, s in part]
        write_csv(folder / ORDERS, [orders()[0], *rows, *new])
        refresh_site(folder)
        everything += [*rows, *new]
    incremental = tables_of(folder)
    write_csv(folder / ORDERS, everything)
    full = refresh_site(folder, full=True)
    assert full.plan.since is None
    assert tables_of(folder) == incremental


def test_when_everything_is_read_again(site: Path) -> None:
    (site / "source.toml").write_text(INCREMENTAL)
    day, now = 86_400.0, FIRST + 1e8
    first = refresh_site(site, now=now)
    assert first.plan.since is None
    newest = first.written.newest
    assert refresh_site(site, now=now + day).plan.since == newest - 172_800
    assert refresh_site(site, now=now + 6 * day).plan.since is not None
    assert refresh_site(site, now=now + 8 * day).plan.since is None  # the last full one is old
    assert refresh_site(site, now=now + 9 * day).plan.since is not None
    assert refresh_site(site, now=now + 9 * day, full=True).plan.since is None
    (site / "source.toml").write_text(INCREMENTAL.replace("stars", "at"))
    assert refresh_site(site, now=now + 10 * day).plan.since is None  # other columns


def test_a_begun_site_needs_data(tmp_path: Path, fedrec_site: Command) -> None:
    folder = begun_site(tmp_path, CSV_SOURCE)
    code, _, err = fedrec_site("refresh", "--site", folder)
    assert code == 2
    assert "does not exist" in err
    assert not (folder / "site.json").exists()
    assert USERS < ITEMS
