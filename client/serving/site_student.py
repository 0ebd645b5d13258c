"""The site's student of the current adapter's item tower: making it, and using it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.atomic_files import file_errors
from common.base_weights import load_tokenizer, resolve_base_weights
from common.config import ModelConfig
from common.student.distilling import Listener, Recipe, distil
from common.student.encoding import TextEncoder
from common.student.shrinking import merged_bert
from common.student.student_file import StudentCard, read_student, write_student
from common.student.target_space import TargetSpace

if TYPE_CHECKING:
    from client.serving.served import WhatToServe

STUDENT_FILE = "student.safetensors"
HELD_OUT = 0.1
"""Share of the catalogue's texts that judges the student and teaches it nothing."""
BATCH, LEARNING_RATE = 48, 1e-3

logger = logging.getLogger("fedrec-site")


def make_student(
    what: WhatToServe, path: Path, work: Path, *, epochs: int, made_texts: int, listen: Listener
) -> tuple[StudentCard, int, int]:
    """Distils the current adapter's item tower into `path`.

    Args:
        what: the site.
        path: of the student.
        work: folder of what an interrupted training goes on from; made here.
        epochs: most passes.
        made_texts: how many are made up.
        listen: hears of the progress.

    Returns:
        Card, bytes of the student, and bytes of the teacher's weights.

    Raises:
        FedrecError: the site cannot be served, has too few items, or the disk refuses.
    """
    sha256, recommender, texts = what.tower()  # a folder that is no site must get no file
    with file_errors("make", work):
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
    tokenizer = load_tokenizer(resolve_base_weights(recommender.config.weights))
    teacher = TextEncoder(merged_bert(recommender), tokenizer, recommender.config.max_tokens)
    depth = int(teacher.bert.config.num_hidden_layers)
    inner = min(Recipe.inner, int(teacher.bert.config.intermediate_size))
    recipe = Recipe(
        tuple(sorted({0, depth - 1})), inner, made_texts, epochs, 3, BATCH, LEARNING_RATE
    )
    order = np.random.default_rng(recipe.seed).permutation(len(texts))
    judges = max(1, round(HELD_OUT * len(texts)))
    held_out, known = ([texts[i] for i in part] for part in (order[:judges], order[judges:]))
    found = distil(teacher, TargetSpace(recommender), known, held_out, recipe, work, listen)
    card = StudentCard(
        adapter_sha256=sha256,
        texts=len(known),
        held_out=len(held_out),
        cosine=found.cosine,
        seed=recipe.seed,
    )
    weights = sum(p.numel() * p.element_size() for p in teacher.bert.parameters())
    return card, write_student(path, found.encoder, card), weights


def student_of(path: Path, adapter_sha256: str, model: ModelConfig) -> TextEncoder | None:
    """The student in `path`, if there is one and it is of this adapter.

    Raises:
        ExportError: it is damaged.
    """
    if not path.exists():
        return None
    tokenizer = load_tokenizer(resolve_base_weights(model.weights))
    encoder, card = read_student(path, tokenizer, model.max_tokens)
    if card.adapter_sha256 != adapter_sha256:
        logger.warning("the student is of another adapter; run `fedrec-site distil` again")
        return None
    return encoder
