"""Making the file of a catalogue's frozen states: old texts are copied, new ones computed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import BertModel, PreTrainedTokenizerBase

from common.frozen_states import (
    Int64Array,
    TokenisedTexts,
    equal_length_batches,
    hidden_states,
    tokenise,
)
from common.prefix_store import (
    Digests,
    StateIndex,
    StoredStates,
    states_of_texts,
    write_states,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PrefixBuild:
    """All that a catalogue's frozen states are made of.

    Attributes:
        bert: the base model, on the device and in the precision to compute in.
        tokenizer: its tokenizer.
        texts: of the catalogue; equal ones are computed once.
        digests: ``[texts, 16]``, theirs.
        layers: how many layers are frozen.
        max_tokens: a text is cut after so many.
    """

    bert: BertModel
    tokenizer: PreTrainedTokenizerBase
    texts: Sequence[str]
    digests: Digests
    layers: int
    max_tokens: int

    def write(self, path: Path) -> None:
        """Writes the states to `path`, in the order of the texts' lengths.

        What another file in the same folder has of these texts is copied from there.

        Raises:
            OSError: the file system refuses.
        """
        number = {text: i for i, text in enumerate(dict.fromkeys(self.texts))}
        which = np.array([number[text] for text in self.texts], dtype=np.int64)
        rows = _Rows.find(self, list(number), path.parent, which)
        order = np.lexsort((rows.source, rows.lengths))
        ends = np.cumsum(rows.lengths[order])
        offsets = np.empty_like(ends)
        offsets[order] = ends - rows.lengths[order]
        index = StateIndex(self.digests, offsets[which], rows.lengths[which])
        shape = (int(ends[-1]) if len(ends) else 0, int(self.bert.config.hidden_size))
        write_states(path, index, shape, self.bert.dtype, self._blocks(rows, order))

    def _blocks(self, rows: _Rows, order: Int64Array) -> Iterator[torch.Tensor]:
        """``[N, T, d]`` states of the distinct texts in `order`, batch by batch."""
        for batch in equal_length_batches(order, rows.lengths, self.bert.device):
            for source in np.unique(rows.source[batch]):
                some = batch[rows.source[batch] == source]
                if source < len(rows.files):
                    first = torch.from_numpy(rows.place[some])
                    steps = torch.arange(int(rows.lengths[some[0]]))
                    yield rows.files[source].states[first[:, None] + steps]
                else:
                    ids = rows.tokens.rows(rows.place[some])
                    yield hidden_states(self.bert, ids, self.layers)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Where the states of D distinct texts come from.

    Attributes:
        files: that have some of them.
        tokens: of the texts that no file has.
        lengths: ``[D]`` int64, tokens.
        source: ``[D]`` int64, the file's number; `len(files)` where there is none.
        place: ``[D]`` int64, the first row in that file, or the text's number in `tokens`.
    """

    files: list[StoredStates]
    tokens: TokenisedTexts
    lengths: Int64Array
    source: Int64Array
    place: Int64Array

    @classmethod
    def find(
        cls, build: PrefixBuild, distinct: Sequence[str], folder: Path, which: Int64Array
    ) -> _Rows:
        """Looks `distinct` up in the files of `folder`; `which` says where each text is."""
        digests = np.empty((len(distinct), build.digests.shape[1]), dtype=np.uint8)
        digests[which] = build.digests
        lengths, place = (np.zeros(len(distinct), dtype=np.int64) for _ in range(2))
        source = np.full(len(distinct), -1, dtype=np.int64)
        files: list[StoredStates] = []
        for stored, mine, theirs in states_of_texts(folder, digests):
            lengths[mine], place[mine] = stored.index.lengths[theirs], stored.index.offsets[theirs]
            source[mine] = len(files)
            files.append(stored)
        new = np.flatnonzero(source < 0)
        texts = [distinct[i] for i in new.tolist()]
        tokens = tokenise(build.tokenizer, texts, build.max_tokens)
        lengths[new], place[new], source[new] = tokens.lengths, np.arange(len(new)), len(files)
        logger.info(
            "frozen states: %d texts are known, %d are new", len(distinct) - len(new), len(new)
        )
        return cls(files, tokens, lengths, source, place)
