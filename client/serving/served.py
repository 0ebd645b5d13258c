"""An adapter ready to answer: the index of its items, and the histories of the site's users."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from client.installed_adapter import ADAPTERS_FOLDER, read_current
from client.serving.blending import (
    BLEND_FILE,
    PARTS,
    held_out_ranks,
    part_of,
    read_blend,
)
from client.serving.catalogue import OfferedItems, read_new_items
from client.serving.feedback import SERVING_FOLDER
from client.serving.histories import Asker, Histories, pseudonyms_of
from client.serving.list_policy import ItemFacts
from client.serving.site_student import STUDENT_FILE, student_of
from client.serving.words import WordReader
from client.site_data import SiteData, load_site
from client.source.pseudonyms import Pseudonyms
from client.source.settings_file import SOURCE_FILE
from common.adapter_export import ExportedAdapter, Manifest, hashes, read_export, read_manifest
from common.adapters import adapter_sha256
from common.approximate_index import FROM_ITEMS
from common.blend import PLAIN, Blend
from common.config import ModelConfig
from common.context import ContextEncoder
from common.diverse_lists import genre_shares
from common.errors import DataError, ExportError
from common.holdout import Stage
from common.item_index import ItemIndex, build_index
from common.loaded_recommender import loaded_recommender
from common.new_items import new_text_vectors
from common.recommender import Recommender
from common.student.encoding import TextEncoder
from common.tfidf import TextWords

logger = logging.getLogger("fedrec-site")

INDEX_FOLDER = "serving/items"
"""Where a large catalogue's index of candidates is kept."""


@dataclass(frozen=True, eq=False)
class Served:
    """All that one answer is made of. It never changes, so that a request sees one adapter.

    Attributes:
        site: name of the site.
        adapter: name of the adapter's folder.
        manifest: of its export.
        items: what is offered.
        index: their scores.
        histories: of the users in the site's tables.
        pseudonyms: where the tables have pseudonyms.
        facts: what policies read of the items; None where nobody asked for it.
        words: reads texts word by word; None where nobody asked for it.
        loaded_at: unix seconds.
    """

    site: str
    adapter: str
    manifest: Manifest
    items: OfferedItems
    index: ItemIndex
    histories: Histories
    pseudonyms: Pseudonyms | None
    facts: ItemFacts | None = None
    words: WordReader | None = None
    loaded_at: int = field(default_factory=lambda: int(time.time()))

    def user_key(self, user: str) -> str:
        """The user's id as the site's tables have it."""
        return user if self.pseudonyms is None else self.pseudonyms.of(user)

    def asker(self, key: str) -> Asker | None:
        """A user by the tables' id, with what the tables know of them."""
        return self.histories.asker(key)


@dataclass(frozen=True)
class WhatToServe:
    """Where an answer's parts come from.

    Attributes:
        site: the site's folder.
        new_items: a table of items that the run did not know.
        as_of: histories end before the targets of this stage of the run's evaluation, and the
            score is the adapter's own.
        with_facts: load what policies read of the items beside their scores.
        with_words: keep a copy of the towers, to say which words of a text count.
    """

    site: Path
    new_items: Path | None = None
    as_of: Stage | None = None
    with_facts: bool = False
    with_words: bool = False

    def load(self) -> Served:
        """Reads the site's data and its current adapter, and builds the index.

        Raises:
            ExportError: no adapter is installed, or it was changed since.
            FedrecError: the site's data or the base weights cannot be used.
        """
        data, name, export, recommender = self._loaded()
        items = OfferedItems(data.catalogue, read_new_items(self.new_items))
        student = None if items.new is None else self._student(export)
        texts = _texts_of_new(recommender, items, student)
        whitened = None
        if texts is not None:
            whitened = recommender.whitening(texts, items.new_vectors(recommender.beside))
        blend = self._blend(name)
        words = _words(items) if blend.tfidf else None
        return Served(
            site=data.site,
            adapter=name,
            manifest=export.manifest,
            items=items,
            index=build_index(recommender, whitened, blend=blend, words=words).for_large_catalogues(
                FROM_ITEMS, self.site / INDEX_FOLDER
            ),
            histories=Histories.of(data, export.config, self.as_of),
            pseudonyms=pseudonyms_of(self.site, data),
            facts=_facts(recommender, items, texts) if self.with_facts else None,
            words=WordReader(recommender, student) if self.with_words else None,
        )

    def held_out_ranks(self, blends: Sequence[Blend]) -> tuple[str, npt.NDArray[np.int64]]:
        """The current adapter, and how each blend ranks the users' last items (`blending`).

        Raises:
            FedrecError: as `load`.
        """
        data, name, export, recommender = self._loaded()
        words = _words(OfferedItems(data.catalogue, None))
        parts = [build_index(recommender, blend=part_of(part), words=words) for part in PARTS]
        histories = Histories.of(data, export.config, self.as_of)
        return name, held_out_ranks(parts, histories, blends)

    def _student(self, export: ExportedAdapter) -> TextEncoder | None:
        """The site's, if it has one of this adapter; figures of the run are the adapter's own."""
        path = self.site / SERVING_FOLDER / STUDENT_FILE
        if self.as_of is not None:
            return None
        return student_of(path, _sha256_of(export), export.config.model)

    def tower(self) -> tuple[str, Recommender, tuple[str, ...]]:
        """Hash of the current adapter, the recommender with it, and the catalogue's texts."""
        data, _, export, recommender = self._loaded()
        return _sha256_of(export), recommender, data.catalogue.texts

    def index_of(self, blend: Blend) -> ItemIndex:
        """The current adapter's items under a blend that is not the site's own."""
        data, _, _, recommender = self._loaded()
        return build_index(
            recommender, blend=blend, words=_words(OfferedItems(data.catalogue, None))
        )

    def _loaded(self) -> tuple[SiteData, str, ExportedAdapter, Recommender]:
        data = load_site(self.site)
        name, export = _current_adapter(self.site)
        _check_context(self.site, name, export.config.model, data)
        recommender = loaded_recommender(
            export.config, data.catalogue, export.adapter, export.item_prior, export.item_to_item
        )
        return data, name, export, recommender

    def _blend(self, adapter: str) -> Blend:
        """The site's own, if it is for `adapter`; figures of the run are the adapter's own."""
        kept = read_blend(self.site / SERVING_FOLDER) if self.as_of is None else None
        if kept is None:
            return PLAIN
        if kept.adapter != adapter:
            logger.warning(
                "%s is of adapter %s and is left out; run `fedrec-site blend` again",
                BLEND_FILE,
                kept.adapter,
            )
            return PLAIN
        return kept.blend


def _texts_of_new(
    recommender: Recommender, items: OfferedItems, student: TextEncoder | None
) -> torch.Tensor | None:
    """Text vectors of the new items, by the site's student where it has one, ``[n, d]``."""
    if items.new is None:
        return None
    if student is not None:
        return student.vectors(items.new.texts)
    return new_text_vectors(recommender, items.new.texts)


def _sha256_of(export: ExportedAdapter) -> str:
    return adapter_sha256(export.adapter)


def _check_context(site: Path, adapter: str, model: ModelConfig, data: SiteData) -> None:
    """Refuses an adapter whose model reads what this site's tables lack.

    Raises:
        DataError: it reads attributes of users, and there are none; times are in every table.
    """
    if ContextEncoder.of(model).buckets and not data.users.attributes:
        raise DataError(
            f"adapter {adapter} reads attributes of users (model.context={model.context}), and the "
            f"users table of {site} has none; name columns under [users] in {SOURCE_FILE} and run "
            "`fedrec-site refresh`, or install an adapter that was trained without"
        )


def _current_adapter(site: Path) -> tuple[str, ExportedAdapter]:
    """The current adapter, held against its manifest, which was verified at installation."""
    current = read_current(site)
    if current is None:
        raise ExportError(
            f"{site} has no adapter to serve; install one with `fedrec-site install-adapter`"
        )
    folder = site / ADAPTERS_FOLDER / current.current
    manifest = read_manifest(folder)
    if hashes(folder) != manifest.files:
        raise ExportError(f"{folder} was changed since it was installed; install it again")
    return current.current, read_export(folder, manifest)


def _words(items: OfferedItems) -> TextWords:
    """Of what is offered; new items change nothing for the others."""
    known, new = items.catalogue, items.new
    if new is None:
        return TextWords.of(known.texts, known.genres)
    texts, genres = known.texts + new.texts, known.genres + new.genres
    return TextWords.of(texts, genres, len(known))


@torch.no_grad()
def _facts(
    recommender: Recommender, items: OfferedItems, texts_of_new: torch.Tensor | None
) -> ItemFacts:
    vectors = recommender.item_tower.table()
    if texts_of_new is not None:
        vectors = torch.cat([vectors, texts_of_new])
    genres = items.catalogue.genres + (() if items.new is None else items.new.genres)
    return ItemFacts(vectors.double().cpu().numpy(), genre_shares(genres))
