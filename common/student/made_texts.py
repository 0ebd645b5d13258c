"""Texts to learn from beside the catalogue's: variations of them, in public words.

A student that saw a few thousand titles knows these and no others. Words that no title of the
catalogue has come from the tokenizer's vocabulary, which is public as the catalogue is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

_LEAST_LETTERS = 3
Words = list[str]


def whole_words(tokenizer: PreTrainedTokenizerBase) -> Words:
    """The words of the vocabulary, sorted: letters alone, and no word pieces."""
    return sorted(
        word for word in tokenizer.get_vocab() if word.isalpha() and len(word) >= _LEAST_LETTERS
    )


def made_texts(texts: Sequence[str], words: Words, count: int, seed: int) -> list[str]:
    """`count` variations of `texts`: words left out, exchanged, titles mixed, parts alone.

    Args:
        texts: of the catalogue, without those that the student must not see.
        words: to exchange words for.
        count: how many.
        seed: the same seed gives the same texts.
    """
    random = np.random.default_rng(seed)
    split = [text.split() for text in texts if text.split()]
    ways: tuple[Callable[[], Words], ...] = (
        lambda: _dropped(_one(split, random), random),
        lambda: _spliced(_one(split, random), _one(split, random), random),
        lambda: _part(_one(split, random), random),
        lambda: _exchanged(_one(split, random), words, random),
        lambda: _exchanged(_one(split, random), words, random),
    )
    return [" ".join(ways[int(random.integers(len(ways)))]()) for _ in range(count)]


def _one(split: Sequence[Words], random: np.random.Generator) -> Words:
    one: Words = split[int(random.integers(len(split)))]
    return one


def _dropped(text: Words, random: np.random.Generator) -> Words:
    kept = [word for word, draw in zip(text, random.random(len(text)), strict=True) if draw > 0.25]
    return kept or text


def _spliced(first: Words, second: Words, random: np.random.Generator) -> Words:
    """The start of one text and the end of another."""
    cut, rest = random.integers(1, len(first) + 1), random.integers(0, len(second))
    return first[:cut] + second[rest:]


def _part(text: Words, random: np.random.Generator) -> Words:
    start = random.integers(len(text))
    return text[start : start + random.integers(1, len(text) + 1)]


def _exchanged(text: Words, words: Words, random: np.random.Generator) -> Words:
    """A share of the words, itself drawn, is exchanged for any of the vocabulary."""
    share = random.random()
    other = random.integers(len(words), size=len(text))
    draws = random.random(len(text))
    return [
        words[place].capitalize() if draw < share else word
        for word, place, draw in zip(text, other, draws, strict=True)
    ]
