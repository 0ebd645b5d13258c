"""What the checks of a data set found: nothing is left out without a count here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckReport:
    """Counts of what was read, kept and left out.

    Attributes:
        rows_read: Rows of the raw interactions.
        rows_kept: Interactions after all checks.
        users_read: Distinct users of the raw interactions.
        users_kept: Users after all checks.
        items: Items of the catalogue.
        items_without_interactions: Catalogue items that no kept row names.
        unknown_item_rows: Rows left out because the catalogue does not know their item.
        unknown_items: Distinct items of those rows.
        users_of_unknown_items: Users left out because all their rows were such rows.
        duplicate_rows: Repeated (user, item) rows left out; the earliest stays.
        min_interactions: The bound that `short_users` fell below.
        short_users: Users left out because they have fewer interactions.
        short_user_rows: Rows of those users.
        fractional_timestamps: Kept rows whose timestamp was cut to whole seconds.
        users_without_attributes: Kept users that the users table does not name.
        users_without_interactions: Rows of the users table left out, without a kept user.
    """

    rows_read: int
    rows_kept: int
    users_read: int
    users_kept: int
    items: int
    items_without_interactions: int
    unknown_item_rows: int
    unknown_items: int
    users_of_unknown_items: int
    duplicate_rows: int
    min_interactions: int
    short_users: int
    short_user_rows: int
    fractional_timestamps: int
    users_without_attributes: int
    users_without_interactions: int

    def lines(self) -> list[str]:
        """The report for people: totals first, then one line for each finding."""
        totals = [
            f"{self.rows_kept} of {self.rows_read} interactions kept",
            f"{self.users_kept} of {self.users_read} users kept",
            f"{self.items} items, {self.items_without_interactions} without interactions",
        ]
        findings = {
            f"rows left out: item not in the catalogue ({self.unknown_items} items)": (
                self.unknown_item_rows
            ),
            "users left out: all their items are unknown": self.users_of_unknown_items,
            "rows left out: repeated (user, item), the earliest stays": self.duplicate_rows,
            f"users left out: fewer than {self.min_interactions} interactions "
            f"({self.short_user_rows} rows)": self.short_users,
            "timestamps cut to whole seconds": self.fractional_timestamps,
            "users without a row in the users table": self.users_without_attributes,
            "rows of the users table left out: no interactions kept": (
                self.users_without_interactions
            ),
        }
        return totals + [f"{count} {finding}" for finding, count in findings.items() if count]
