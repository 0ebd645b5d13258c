"""The items that a site offers: the federation's catalogue, then items newer than the run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from common.errors import DataError, RequestFault
from common.interactions import Catalogue, build_catalogue
from common.item_vectors import COLUMN
from common.table_readers import read_table

logger = logging.getLogger("fedrec-site")

TITLE_LENGTH = 80


@dataclass(frozen=True, eq=False)
class OfferedItems:
    """V items with their texts; the first are the federation's, in its order.

    Attributes:
        catalogue: the federation's.
        new: items that the run did not know, or None.
    """

    catalogue: Catalogue
    new: Catalogue | None = None

    def __post_init__(self) -> None:
        """Refuses a new item with the id of an old one."""
        if self.new is not None:
            both = sorted(set(self.new.item_ids) & set(self.catalogue.item_ids))
            if both:
                raise DataError(
                    f"new item {both[0]!r} is in the federation's catalogue already; "
                    "leave it out of the new items"
                )

    @cached_property
    def item_ids(self) -> tuple[str, ...]:
        """V ids."""
        return self.catalogue.item_ids + (() if self.new is None else self.new.item_ids)

    def __len__(self) -> int:
        return len(self.item_ids)

    def index_of(self, item_id: str) -> int:
        """An item's place.

        Raises:
            RequestFault: there is no such item.
        """
        place = self.places.get(item_id)
        if place is None:
            raise RequestFault(
                "unknown", f"item {item_id[:100]!r} is not offered here; use ids of the catalogue"
            )
        return place

    @cached_property
    def places(self) -> dict[str, int]:
        """Places by id."""
        return {item_id: place for place, item_id in enumerate(self.item_ids)}

    def title(self, place: int) -> str:
        """An item's text without the genres at its end, cut to a line."""
        if place not in self._titles:
            self._titles[place] = self._cut(place)
        return self._titles[place]

    @cached_property
    def _titles(self) -> dict[int, str]:
        """Those that were asked for."""
        return {}

    def _cut(self, place: int) -> str:
        line = " ".join(self.text(place).split())
        genres = self.genres(place)
        short = line.removesuffix(f" Genres: {', '.join(genres)}").rstrip(".") if genres else ""
        line = short or line
        return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"

    def genres(self, place: int) -> tuple[str, ...]:
        """An item's genres; none where none are known."""
        known = len(self.catalogue)
        if place < known or self.new is None:
            return self.catalogue.genres[place]
        return self.new.genres[place - known]

    def new_vectors(self, known: torch.Tensor | None) -> torch.Tensor | None:
        """``[n, w]`` vectors of the new items; None: they are known by text alone.

        Args:
            known: ``[V, w]``, those that the model reads of the federation's items.

        Raises:
            DataError: the new items' are of another width.
        """
        if known is None or self.new is None:
            return None
        vectors = self.new.vectors
        if vectors is None:
            logger.warning(
                "the new items have no column %s, which the model reads; each is taken for "
                "average in it",
                COLUMN,
            )
            return None
        if vectors.width != known.shape[1]:
            raise DataError(
                f"the new items' vectors have {vectors.width} numbers, and the federation's "
                f"{known.shape[1]}; make them like the federation's, or drop their column {COLUMN}"
            )
        return torch.tensor(vectors.values).to(known.device)

    def vector(self, place: int) -> torch.Tensor | None:
        """``[w]``, an item's own vector, or None where none is known."""
        known = len(self.catalogue)
        if place < known or self.new is None:
            part, row = self.catalogue, place
        else:
            part, row = self.new, place - known
        return None if part.vectors is None else torch.tensor(part.vectors.values[row])

    def text(self, place: int) -> str:
        """An item's whole text."""
        known = len(self.catalogue)
        if place < known or self.new is None:
            return self.catalogue.texts[place]
        return self.new.texts[place - known]


def read_new_items(path: Path | None) -> Catalogue | None:
    """Items with ``item_id`` and ``text`` from a table file (`common.table_readers`).

    Raises:
        DataError: the file is missing or damaged, or an item has no text that can be read.
    """
    if path is None:
        return None
    found = build_catalogue(read_table(path))
    for item_id, text in zip(found.item_ids, found.texts, strict=True):
        # Zero-width characters and bare punctuation pass for a text, and no word is in them.
        if not any(character.isalnum() for character in text):
            raise DataError(
                f"{path}: new item {item_id[:100]!r} has no word in its text, so that nothing is "
                "known of it; give it a title"
            )
    return found
