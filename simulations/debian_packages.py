"""Debian's package index as a data set with long texts: which packages does a source use?

A user is a *source package*, no person; its interactions are the packages of other sources
that its binary packages depend on, recommend or suggest (the first of alternatives). An item
is such a package, and its text is its name with its public description. Dependencies have no
time, so all timestamps are equal and `common.holdout` orders them by its seeded hash alone.

Kept out are packages that over a thirtieth of all sources use (of the kind of libc6, which say
nothing about a source), those that few use, and those with a short description.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from common.errors import DataError
from simulations.raw_tables import RawTables

NAME = "debian-packages"
LICENCE = (
    "Debian's package index (https://www.debian.org): descriptions are their maintainers', "
    "under the free licences of the packages."
)
PACKAGES, TRANSLATION = "Packages", "Translation-en"
RELATIONS = ("Pre-Depends", "Depends", "Recommends", "Suggests")
MOST_SHARED = 0.03  # of all sources
LEAST_SOURCES = 15  # that use an item
LEAST_WORDS = 20  # of a description
LEAST_ITEMS = 8  # that a source uses
MOST_SOURCES = 1500  # drawn by a hash of their names

Stanza = dict[str, str]


def parse_debian(packages: Iterable[str], translation: Iterable[str]) -> RawTables:
    """Make the raw tables of one release's index.

    Args:
        packages: Lines of a ``Packages`` file.
        translation: Lines of its ``Translation-en`` file, which holds the descriptions.

    Raises:
        DataError: A line fits no stanza, or nothing is left after the choice of items.
    """
    texts = {
        each["Package"]: described(each["Package"], each["Description-en"])
        for each in stanzas(translation, TRANSLATION)
        if "Package" in each and "Description-en" in each
    }
    uses = _choose(_uses(list(stanzas(packages, PACKAGES))), texts)
    items = sorted(set().union(*uses.values()))
    pairs = [(source, item) for source in sorted(uses) for item in sorted(uses[source])]
    if not pairs:
        raise DataError(
            f"{PACKAGES}: no source uses {LEAST_ITEMS} packages that are described in "
            f"{LEAST_WORDS} words and used by {LEAST_SOURCES} sources; give a whole release's index"
        )
    sources, used = zip(*pairs, strict=True)
    return RawTables(
        interactions=pa.table(
            {
                "user_id": pa.array(sources, pa.string()),
                "item_id": pa.array(used, pa.string()),
                "timestamp": pa.array([0] * len(pairs), pa.int64()),
            }
        ),
        items=pa.table(
            {
                "item_id": pa.array(items, pa.string()),
                "text": pa.array([texts[item] for item in items], pa.string()),
            }
        ),
        users=pa.table({"user_id": pa.array(sorted(uses), pa.string())}),
    )


def stanzas(lines: Iterable[str], name: str) -> Iterator[Stanza]:
    """The stanzas of a Debian control file: field by name, continued lines joined.

    Raises:
        DataError: A line is neither a field nor a continuation of one.
    """
    stanza: Stanza = {}
    field = ""
    for number, raw in enumerate(lines, start=1):
        line = raw.rstrip("\n")
        if not line:
            if stanza:
                yield stanza
            stanza, field = {}, ""
        elif line[0] in " \t" and field:
            stanza[field] += "\n" + line[1:]
        elif ":" in line and line[0] not in " \t":
            field, _, value = line.partition(":")
            stanza[field] = value.strip()
        else:
            raise DataError(f"{name}: line {number} is no field ({line[:40]!r}); fetch it anew")
    if stanza:
        yield stanza


def described(package: str, description: str) -> str:
    """The text that the item tower reads: name, synopsis and long description in one line.

    A dot alone on a line of a description stands for an empty line.
    """
    synopsis, _, long = description.partition("\n")
    words = [word for line in long.split("\n") if line != "." for word in line.split()]
    return f"{package}: {synopsis}. {' '.join(words)}".strip()


def related(field: str) -> Iterator[str]:
    """Names in a relation field, of alternatives the first, without version and architecture."""
    for part in field.split(","):
        words = part.split("|")[0].replace("(", " (").split()
        if words:
            yield words[0].partition(":")[0]


def _uses(packages: list[Stanza]) -> dict[str, set[str]]:
    """The packages of other sources that each source's packages name in `RELATIONS`."""
    source_of = {
        each["Package"]: each.get("Source", each["Package"]).split(" ")[0] for each in packages
    }
    uses: dict[str, set[str]] = {}
    for each in packages:
        own = source_of[each["Package"]]
        for relation in RELATIONS:
            for name in related(each.get(relation, "")):
                if source_of.get(name, own) != own:  # virtual packages have no source
                    uses.setdefault(own, set()).add(name)
    return uses


def _choose(uses: Mapping[str, set[str]], texts: Mapping[str, str]) -> dict[str, set[str]]:
    """The items worth telling apart, and up to `MOST_SOURCES` sources that use enough of them."""
    counts = Counter(item for used in uses.values() for item in used)
    most = MOST_SHARED * len(uses)
    kept = {
        item
        for item, count in counts.items()
        if LEAST_SOURCES <= count <= most and len(texts.get(item, "").split()) > LEAST_WORDS
    }
    left = {source: used & kept for source, used in uses.items()}
    enough = [source for source, used in left.items() if len(used) >= LEAST_ITEMS]
    drawn = sorted(enough, key=lambda source: hashlib.sha256(source.encode()).hexdigest())
    return {source: left[source] for source in drawn[:MOST_SOURCES]}
