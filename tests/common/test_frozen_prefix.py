"""Frozen states: equal to padded BERT, mapped, shared text by text, safe on a bad disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerBase

from common.base_weights import MINILM, load_tokenizer, resolve_base_weights
from common.frozen_prefix import FrozenPrefix, frozen_prefix
from common.frozen_states import base_vectors

TEXTS = (
    "Toy Story (1995). Genres: Animation, Children's, Comedy",
    "GoldenEye (1995)",
    "Four Rooms (1995). Genres: Thriller",
    "Heat (1995). Genres: Action, Crime, Thriller, and a rather longer text than the others",
    "Heat (1996)",
)
MAX_TOKENS = 16
LAYERS = 2


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(resolve_base_weights(MINILM))


@pytest.fixture(scope="module")
def bert() -> BertModel:
    torch.manual_seed(0)
    shape = BertConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48
    )
    return BertModel(shape, add_pooling_layer=False).eval().requires_grad_(False)


@pytest.fixture
def rows_run(bert: BertModel) -> list[tuple[int, int]]:
    """``[N, T]`` of every batch that the model runs."""
    shapes: list[tuple[int, int]] = []
    handle = bert.embeddings.register_forward_hook(
        lambda _module, _inputs, output: shapes.append(tuple(output.shape[:2]))
    )
    yield shapes
    handle.remove()


Prefix = Callable[..., FrozenPrefix]


@pytest.fixture
def prefix(bert: BertModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Prefix:
    def make(texts: Sequence[str] = TEXTS, **changes: object) -> FrozenPrefix:
        settings = {
            "layers": LAYERS,
            "max_tokens": MAX_TOKENS,
            "weights_sha256": "some",
            "cache": tmp_path,
        } | changes
        return frozen_prefix(bert, tokenizer, texts, **settings)

    return make


def stored(folder: Path) -> list[Path]:
    return sorted((folder / "prefix").glob("*/*.safetensors"))


def of_text(prefix: FrozenPrefix, text: int) -> torch.Tensor:
    start = int(prefix.offsets[text])
    return prefix.states[start : start + int(prefix.lengths[text])]


def padded(
    bert: BertModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], layers: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the layers give with padding and an attention mask, and the mask."""
    tokens = tokenizer(
        list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    mask = tokens["attention_mask"].bool()
    with torch.no_grad():
        hidden = bert.embeddings(input_ids=tokens["input_ids"])
        for layer in bert.encoder.layer[:layers]:
            hidden = layer(hidden, mask[:, None, None, :])
    return hidden, mask


def test_states_equal_those_of_padded_batches(
    bert: BertModel, tokenizer: PreTrainedTokenizerBase, prefix: Prefix
) -> None:
    expected, mask = padded(bert, tokenizer, TEXTS, LAYERS)
    states, real = prefix().gather(torch.arange(len(TEXTS)))
    assert torch.equal(real, mask)
    torch.testing.assert_close(states[real], expected[mask], atol=1e-6, rtol=0)
    whole, mask = padded(bert, tokenizer, TEXTS, 3)
    weight = mask[..., None].float()
    torch.testing.assert_close(
        base_vectors(bert, tokenizer, TEXTS, MAX_TOKENS),
        (whole * weight).sum(1) / weight.sum(1),
        atol=1e-6,
        rtol=0,
    )


def test_no_token_is_padding_and_equal_texts_run_once(
    prefix: Prefix, rows_run: list[tuple[int, int]]
) -> None:
    made = prefix(TEXTS + TEXTS[1:3] + TEXTS)
    assert sum(n * t for n, t in rows_run) == int(made.lengths[: len(TEXTS)].sum())
    assert len(made) == 2 * len(TEXTS) + 2
    assert len(made.states) == int(made.lengths[: len(TEXTS)].sum())
    assert torch.equal(made.offsets[:5], made.offsets[7:])
    assert torch.equal(made.offsets[1:3], made.offsets[5:7])


def test_a_second_start_maps_the_file_and_computes_nothing(
    prefix: Prefix, tmp_path: Path, rows_run: list[tuple[int, int]]
) -> None:
    first = prefix()
    rows_run.clear()
    again = prefix()
    assert rows_run == []
    assert torch.equal(again.states, first.states)
    (file,) = stored(tmp_path)
    assert str(file) in {each.path for each in psutil.Process().memory_maps()}


def test_what_a_text_gives_depends_on_weights_layers_tokens_and_precision(
    bert: BertModel, prefix: Prefix, tmp_path: Path, rows_run: list[tuple[int, int]]
) -> None:
    prefix()
    for changed in ({"weights_sha256": "other"}, {"layers": 1}, {"max_tokens": 5}):
        rows_run.clear()
        prefix(**changed)
        assert rows_run, changed
    rows_run.clear()
    full = prefix().states.clone()
    try:
        half = prefix_in(bert.bfloat16(), prefix)
        assert rows_run
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), full, atol=0.05, rtol=0.05)
        assert not torch.equal(half.float(), full)
        assert torch.equal(prefix_in(bert, prefix), half)
    finally:
        bert.float()
    assert len(stored(tmp_path)) == 5


def prefix_in(_bert: BertModel, prefix: Prefix) -> torch.Tensor:
    return prefix().states.clone()


def test_a_later_catalogue_computes_only_its_new_texts(
    prefix: Prefix, rows_run: list[tuple[int, int]], tmp_path: Path
) -> None:
    early, other = prefix(TEXTS[:3]), prefix(TEXTS[3:4])
    rows_run.clear()
    late = prefix((TEXTS[4], TEXTS[3], TEXTS[1], "A new one", TEXTS[0]))
    assert sum(n for n, _ in rows_run) == 2
    assert torch.equal(of_text(late, 1), of_text(other, 0))
    assert torch.equal(of_text(late, 2), of_text(early, 1))
    assert torch.equal(of_text(late, 4), of_text(early, 0))
    rows_run.clear()
    alone = prefix((TEXTS[4], "A new one"), weights_sha256="anew")
    assert rows_run
    torch.testing.assert_close(of_text(late, 0), of_text(alone, 0), atol=1e-6, rtol=0)
    torch.testing.assert_close(of_text(late, 3), of_text(alone, 1), atol=1e-6, rtol=0)


def cut_short(content: bytes) -> bytes:
    return content[:-7]


def other_texts(content: bytes) -> bytes:
    start = 8 + int.from_bytes(content[:8], "little")
    return content[:start] + bytes([content[start] ^ 1]) + content[start + 1 :]


def other_rows(content: bytes) -> bytes:
    at = 8 + int.from_bytes(content[:8], "little") + 16 * len(TEXTS)
    return content[:at] + (1).to_bytes(8, "little") + content[at + 8 :]


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"damaged", cut_short, other_texts, other_rows],
    ids=["empty", "no such format", "cut short", "other texts", "other rows"],
)
def test_a_damaged_file_is_named_and_made_anew(
    prefix: Prefix,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
    rows_run: list[tuple[int, int]],
) -> None:
    first = prefix().states.clone()
    (file,) = stored(tmp_path)
    damaged = damage(file.read_bytes())
    file.unlink()  # what is mapped stays as it was
    file.write_bytes(damaged)
    rows_run.clear()
    assert torch.equal(prefix().states, first)
    assert sum(n for n, _ in rows_run) == len(TEXTS)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(file) in record.message
    assert "\n" not in record.message
    caplog.clear()
    rows_run.clear()
    assert torch.equal(prefix().states, first)
    assert (rows_run, caplog.records) == ([], [])


def test_starts_at_once_compute_once(
    prefix: Prefix, tmp_path: Path, rows_run: list[tuple[int, int]]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: prefix(), range(4)))
    assert sum(n for n, _ in rows_run) == len(TEXTS)
    assert all(torch.equal(each.states, made[0].states) for each in made)
    assert len(stored(tmp_path)) == 1
    assert not list((tmp_path / "prefix").glob("*/*.tmp"))


def test_an_interrupted_start_leaves_no_half_file(
    bert: BertModel, prefix: Prefix, tmp_path: Path
) -> None:
    def stop(_module: object, _inputs: object, output: torch.Tensor) -> None:
        if output.shape[1] > 8:
            raise KeyboardInterrupt

    handle = bert.embeddings.register_forward_hook(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            prefix()
    finally:
        handle.remove()
    (folder,) = (tmp_path / "prefix").iterdir()
    assert {path.suffix for path in folder.iterdir()} == {".lock"}
    assert len(prefix()) == len(TEXTS)


def test_a_disk_that_keeps_nothing_is_no_obstacle(
    prefix: Prefix, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = prefix().states.clone()
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    caplog.clear()
    assert torch.equal(prefix(cache=blocked).states, kept)
    (record,) = caplog.records
    assert "cannot be kept" in record.message
    assert "\n" not in record.message
    assert torch.equal(prefix(weights_sha256="").states, kept)  # nothing to know weights by


def test_a_catalogue_without_texts_has_no_states(prefix: Prefix) -> None:
    empty = prefix(())
    assert (len(empty), tuple(empty.states.shape)) == (0, (0, 24))


def test_states_go_to_a_device_that_has_room(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prefix()
    for free, where in ((made.states.nbytes, "cpu"), (100 * made.states.nbytes, "meta")):
        monkeypatch.setattr("common.frozen_prefix.free_memory_bytes", lambda _, f=free: f)
        moved = made.on(torch.device("meta"))
        assert (moved.states.device.type, moved.lengths.device.type) == (where, "cpu")
