"""A student learns what its teacher knows; a training that was cut short ends the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.base_weights import load_tokenizer, resolve_base_weights
from common.errors import ConfigError
from common.student.distilling import Distilled, Recipe, distil
from common.student.encoding import TextEncoder
from common.student.made_texts import made_texts, whole_words
from common.student.shrinking import merged_bert, small_copy, sparsified
from common.student.target_space import TargetSpace
from tests.training_case import DATASET, moved_recommender, small_config

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

RECOMMENDER = moved_recommender(small_config({"item_side": "both"}))
TEXTS = DATASET.catalogue.texts


def teacher() -> TextEncoder:
    config = RECOMMENDER.config
    tokenizer = load_tokenizer(resolve_base_weights(config.weights))
    return TextEncoder(merged_bert(RECOMMENDER), tokenizer, config.max_tokens)


def test_the_teacher_is_the_item_tower_with_lora_merged() -> None:
    vectors = teacher().vectors(TEXTS)
    torch.testing.assert_close(vectors, RECOMMENDER.item_tower.table(), rtol=1e-3, atol=1e-4)


def test_all_layers_and_neurons_give_the_teacher_itself() -> None:
    first = teacher()
    depth, inner = len(first.bert.encoder.layer), int(first.bert.config.intermediate_size)
    same = small_copy(first.bert, range(depth), inner)
    found = TextEncoder(same, first.tokenizer, first.max_tokens).vectors(TEXTS[:5])
    torch.testing.assert_close(found, first.vectors(TEXTS[:5]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_sparsity_is_what_was_asked_for() -> None:
    bert = teacher().bert
    sparse = sparsified(bert, 0.5)
    weights = [p for n, p in sparse.encoder.named_parameters() if p.ndim == 2 and "dense" in n]
    share = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert 0.3 < share < 0.7
    assert all(bool((p != 0).any()) for p in bert.encoder.parameters() if p.ndim == 2)


@pytest.mark.parametrize(("layers", "inner"), [((), 4), ((99,), 4), ((0,), 0), ((0,), 10**6)])
def test_layers_and_neurons_must_be_there(layers: tuple[int, ...], inner: int) -> None:
    with pytest.raises(ConfigError, match="must be between"):
        small_copy(teacher().bert, layers, inner)


def test_made_texts_are_the_seeds() -> None:
    words = whole_words(teacher().tokenizer)
    texts = made_texts(TEXTS, words, 50, seed=1)
    assert texts == made_texts(TEXTS, words, 50, seed=1)
    assert texts != made_texts(TEXTS, words, 50, seed=2)
    assert all(texts)


@pytest.mark.slow
def test_a_student_learns_and_goes_on_where_it_was_cut_short(tmp_path: Path) -> None:
    done = trained(tmp_path / "whole")
    assert min(done.losses) < 0.9 * done.losses[0]

    def stop(what: str, count: int, total: int) -> None:
        if what == "training" and count > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", stop)
    again = trained(tmp_path / "cut")
    assert again.losses == done.losses
    torch.testing.assert_close(
        again.encoder.vectors(TEXTS[:5]), done.encoder.vectors(TEXTS[:5]), rtol=0, atol=0
    )


def trained(work: Path, listen=lambda *_: None) -> Distilled:  # type: ignore[no-untyped-def]
    work.mkdir(exist_ok=True)
    recipe = Recipe(layers=(0,), inner=8, made_texts=40, epochs=4, patience=4, batch=16)
    space = TargetSpace(RECOMMENDER)
    return distil(teacher(), space, TEXTS[:60], TEXTS[60:], recipe, work, listen)
