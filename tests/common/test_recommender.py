"""The recommender over the real BERT: prefix, LoRA, start, scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.adapters import adapter_of, load_adapter
from common.base_weights import MINILM, load_bert, load_tokenizer, resolve_base_weights
from common.build_recommender import build_recommender
from common.config import ModelConfig, RunConfig
from common.errors import ConfigError, WeightsError
from common.frozen_prefix import frozen_layers
from common.initial_adapter import initial_adapter
from common.interactions import Catalogue
from common.item_to_item import history_weights
from common.loaded_recommender import loaded_recommender

TEXTS = (
    "Toy Story (1995). Genres: Animation, Children's, Comedy",
    "GoldenEye (1995). Genres: Action, Adventure, Thriller",
    "Four Rooms (1995). Genres: Thriller",
    "Heat (1995). Genres: Action, Crime, Thriller, and a rather longer text than the others",
)
CATALOGUE = Catalogue(tuple("abcd"), TEXTS, ((),) * 4)


def config(**model: object) -> RunConfig:
    return RunConfig(
        model=ModelConfig(**{"head_dim": 8, "head_items": 0, "head_hidden": 0} | model)
    )


def test_prefix_and_top_layers_equal_the_whole_bert() -> None:
    weights = resolve_base_weights(MINILM)
    tokens = load_tokenizer(weights)(list(TEXTS), padding=True, return_tensors="pt")
    mask = tokens["attention_mask"][..., None]
    with torch.no_grad():
        whole = load_bert(weights)(**tokens).last_hidden_state
    expected = (whole * mask).sum(1) / mask.sum(1)
    tower = build_recommender(config(lora_layers=3), CATALOGUE).item_tower
    with torch.no_grad():
        got = tower(torch.arange(4))
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(tower.table(batch=3), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("adapter", ["ffa", "fedit"])
@pytest.mark.parametrize("item_side", ["lora", "head", "both"])
@pytest.mark.parametrize(
    "head", [{"head": "multi_lag"}, {}, {"head_items": 3, "head_matrix": "symmetric"}]
)
@pytest.mark.parametrize("score_terms", ["trained", "fixed"])
def test_initial_adapter_is_what_a_site_starts_with(
    adapter: str, item_side: str, head: dict[str, object], score_terms: str
) -> None:
    run = config(
        adapter=adapter, item_side=item_side, score_terms=score_terms, lora_layers=2, **head
    )
    started, expected = adapter_of(build_recommender(run, CATALOGUE)), initial_adapter(run)
    assert list(started) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(started[name], expected[name], err_msg=name)


def test_lora_a_is_orthonormal_and_frozen_under_ffa() -> None:
    recommender = build_recommender(config(adapter="ffa", lora_layers=1), CATALOGUE)
    factors = {n: p for n, p in recommender.named_parameters() if "lora_A" in n}
    assert len(factors) == 2
    for factor in factors.values():
        assert not factor.requires_grad
        identity = factor @ factor.T
        torch.testing.assert_close(identity, torch.eye(len(factor)), atol=1e-5, rtol=0)


def test_lora_changes_the_table_only_after_its_key_changes() -> None:
    recommender = build_recommender(config(lora_layers=1, head="bilinear"), CATALOGUE)
    start = adapter_of(recommender)
    recommender.keep_table_for("one")
    before = recommender.table()
    changed = {n: a + 0.05 if n.startswith("lora.") else a for n, a in start.items()}
    load_adapter(recommender, changed)
    recommender.keep_table_for("one")
    assert recommender.table() is before
    recommender.keep_table_for("two")
    assert (recommender.table() - before).abs().max() > 1e-3
    load_adapter(recommender, start)
    recommender.keep_table_for("three")
    torch.testing.assert_close(recommender.table(), before)


def test_scores_do_not_depend_on_the_batch_and_use_the_prior() -> None:
    recommender = build_recommender(config(lora_layers=1, head="bilinear"), CATALOGUE)
    histories = [np.array([0, 1]), np.array([], dtype=np.int64), np.array([2])]
    recommender.set_item_prior(torch.zeros(4))
    scores = recommender.score_all(histories)
    assert scores.shape == (3, 4)
    np.testing.assert_allclose(recommender.score_all([histories[2]])[0], scores[2], atol=1e-6)
    recommender.set_item_prior(torch.tensor([0.0, 0.0, 0.0, 2.0]))
    assert np.argmax(recommender.score_all([histories[1]])[0]) == 3
    assert recommender.score_all([]).shape == (0, 4)


def test_the_item_to_item_component_is_added_to_scores_and_only_where_it_is_given() -> None:
    run = config(item_to_item=True, item_to_item_items=3, item_to_item_weight=0.5)
    prior = np.array([0.0, 3.0, 1.0, 2.0], dtype=np.float32)
    weights = np.array([0.0, 1.0, -2.0, 0.0, 4.0, 0.0], dtype=np.float32)  # of items 1, 3, 2
    histories = [np.array([0, 3, 1]), np.array([2])]
    adapter = initial_adapter(run)
    alone = loaded_recommender(run, CATALOGUE, adapter, prior).score_all(histories)
    fused = loaded_recommender(run, CATALOGUE, adapter, prior, weights).score_all(histories)
    newest = history_weights(3)
    expected = np.zeros((2, 4))
    expected[0, 1] = 0.5 * newest[1] * 1.0
    expected[0, 3] = 0.5 * newest[2] * 1.0
    expected[0, 2] = 0.5 * (newest[2] * -2.0 + newest[1] * 4.0)
    expected[1, 1], expected[1, 3] = 0.5 * 1.3 * -2.0, 0.5 * 1.3 * 4.0
    np.testing.assert_allclose(fused - alone, expected, atol=1e-5)
    after = loaded_recommender(run, CATALOGUE, adapter, prior).score_all(histories)
    np.testing.assert_array_equal(after, alone)


def test_item_codes_start_at_the_text_floor_and_follow_the_prior() -> None:
    plain = build_recommender(config(lora_layers=1), CATALOGUE)
    coded = build_recommender(
        config(lora_layers=1, head_items=2, head_matrix="symmetric"), CATALOGUE
    )
    histories = [np.array([0, 1]), np.array([3])]
    for recommender in (plain, coded):
        recommender.set_item_prior(torch.tensor([0.0, 1.0, 0.5, 2.0]))
    np.testing.assert_array_equal(coded.score_all(histories), plain.score_all(histories))
    assert coded.head.places.tolist() == [2, 1, 2, 0]
    adapter = adapter_of(coded)
    weight = np.zeros_like(adapter["head.mix.weight"])
    weight[-1, -2] = 1.0  # the two most popular items raise each other
    load_adapter(coded, adapter | {"head.mix.weight": weight})
    raised = coded.score_all(histories) - plain.score_all(histories)
    assert raised[0].argmax() == 3
    assert raised[1].argmax() == 1
    np.testing.assert_array_equal(raised[0][:3], 0.0)
    np.testing.assert_array_equal(raised[1][[0, 2, 3]], 0.0)


def test_too_many_lora_layers_is_a_config_fault() -> None:
    with pytest.raises(ConfigError, match="lora_layers must be at most 6"):
        frozen_layers(6, 7)


def test_unknown_weights_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    weights = resolve_base_weights("nobody/has-such-a-bert")
    with pytest.raises(WeightsError, match="model.weights") as caught:
        load_bert(weights)
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds none of"):
        resolve_base_weights(str(tmp_path))
