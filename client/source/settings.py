"""``source.toml``: where a site's data lie and which column is what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from client.source.text_template import template_columns

Kind = Literal["csv", "parquet", "sql"]
Encoding = Literal["utf-8", "latin-1", "cp1252", "iso-8859-15"]
Name = Annotated[str, Field(min_length=1)]
Plain = str | int | float | bool

WHERE_KEYS = ("file", "table", "query")


class Section(BaseModel):
    """What every section of ``source.toml`` has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SiteSection(Section):
    """What the site declares in public."""

    name: Name = Field(description="the site's public name")
    declared_units: int = Field(
        ge=1, description="the public number of users, rounded; never the exact one"
    )
    declared_examples: int | None = Field(
        None, ge=1, description="the public number of training examples (privacy.unit=example)"
    )
    dataset: Name = Field("own", description="a name for the data, in the site's own reports")
    min_interactions: int = Field(3, ge=3, description="users with fewer are left out")


class Connection(Section):
    """Where the data are and how they are read."""

    kind: Kind = Field(description="csv, parquet or sql")
    url: str = Field("", description="of the database; without a password")
    password_env: str = Field("", description="the environment variable that has the password")
    password_file: str = Field("", description="a file of mode 0600 that has the password")
    encoding: Encoding = Field("utf-8", description="of CSV files")
    delimiter: str = Field(",", min_length=1, max_length=1, description="of CSV files")
    batch_rows: int = Field(20_000, ge=1, le=1_000_000, description="rows in memory at a time")
    time_zone: Name = Field("UTC", description="of times that name none, such as Europe/Berlin")
    max_clock_skew_s: float = Field(
        300.0, ge=0, description="seconds that a time may lie in the future"
    )
    incremental: bool = Field(False, description="read only what is new since the last refresh")
    late_s: float = Field(
        172_800.0, ge=0, description="seconds by which a row may come late and still be read"
    )
    full_every_days: float = Field(
        7.0, gt=0, description="days after which an incremental source is read in full again"
    )


class Filter(Section):
    """Rows to keep; of the conditions that are given, all must hold."""

    column: Name = Field(description="the source's column")
    equals: Plain | None = Field(None, description="keep rows with this value")
    not_equals: Plain | None = Field(None, description="keep rows with another value")
    one_of: tuple[Plain, ...] | None = Field(None, description="keep rows with one of these")
    at_least: int | float | None = Field(None, description="keep rows with this number or more")
    at_most: int | float | None = Field(None, description="keep rows with this number or less")
    present: bool | None = Field(None, description="keep rows that have a value (true) or none")


class Table(Section):
    """What every table of the source has: its place, and the rows to keep."""

    file: str = Field("", description="the CSV or Parquet file, relative to the site's folder")
    table: str = Field("", description="the table or view, such as shop.orders")
    query: str = Field("", description="a SELECT statement")
    filters: tuple[Filter, ...] = Field((), description="rows to keep")

    def _filtered(self, *columns: str) -> tuple[str, ...]:
        wanted = [*columns, *(each.column for each in self.filters)]
        return tuple(dict.fromkeys(name for name in wanted if name))


class InteractionsTable(Table):
    """Who had to do with what, and when."""

    user_id: Name = Field(description="the column of the users' ids")
    item_id: Name = Field(description="the column of the items' ids")
    timestamp: Name = Field(description="the column of the times")
    rating: str = Field("", description="the column of the ratings; empty: all count 1")
    time_format: str = Field(
        "auto", description="auto, unix, unix_ms, iso, or a pattern such as %Y-%m-%d %H:%M:%S"
    )
    duplicates: Literal["earliest", "refuse"] = Field(
        "earliest", description="a user's repeated item: keep the earliest, or refuse the data"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The source's columns that are read."""
        return self._filtered(self.user_id, self.item_id, self.timestamp, self.rating)


class UsersTable(Table):
    """Attributes of the users."""

    user_id: Name = Field(description="the column of the users' ids")
    attributes: dict[Name, Name] = Field(
        min_length=1, description="name of the attribute = the source's column"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The source's columns that are read."""
        return self._filtered(self.user_id, *self.attributes.values())


class ItemsTable(Table):
    """The public catalogue: the federation's file, or the site's own table of the same items."""

    catalogue: str = Field("", description="the federation's items.parquet")
    catalogue_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = Field(
        "", description="64 hexadecimal digits that the coordinator published"
    )
    item_id: str = Field("", description="the column of the items' ids")
    text: str = Field("", description="a template of columns, such as {title}. {brand}")
    genres: str = Field("", description="the column of the items' genres")
    genre_separator: str = Field("|", min_length=1, description="between genres in one text")

    @property
    def columns(self) -> tuple[str, ...]:
        """The source's columns that are read."""
        return self._filtered(self.item_id, *template_columns(self.text), self.genres)


class SourceSettings(Section):
    """The whole of ``source.toml``."""

    schema_version: Literal[1] = Field(1, description="version of the layout")
    site: SiteSection = Field(description="what the site declares")
    source: Connection = Field(description="where the data are")
    interactions: InteractionsTable = Field(description="who had to do with what, and when")
    users: UsersTable | None = Field(None, description="attributes of the users")
    items: ItemsTable = Field(description="the public catalogue")
