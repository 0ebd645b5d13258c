"""Training a student: the teacher's vectors of many texts are its targets.

All randomness has a seed. After each epoch the state is kept, so that a training that was cut
short goes on; it ends with the epoch that was best on texts held out of it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import BertModel

from common.atomic_files import write_bytes
from common.errors import DataError, RunFolderError
from common.frozen_states import TokenisedTexts, tokenise
from common.student.encoding import TextEncoder
from common.student.made_texts import made_texts, whole_words
from common.student.shrinking import small_copy
from common.student.target_space import TargetSpace
from common.tensor_files import read_tensors, tensors_to_bytes

Listener = Callable[[str, int, int], None]
"""Hears what is done, how much of it, and of how much."""
_AT_ONCE = 512


@dataclass(frozen=True)
class Recipe:
    """How a student is made.

    Attributes:
        layers: of the teacher, to start from.
        inner: neurons of each layer that stay between its linear maps.
        made_texts: how many are written beside the catalogue's.
        epochs: most passes over all texts.
        patience: epochs without a better one, after which it ends.
        batch: texts in one step.
        learning_rate: at its peak.
        seed: of texts and order.
    """

    layers: tuple[int, ...] = (0, 5)
    inner: int = 512
    made_texts: int = 6000
    epochs: int = 8
    patience: int = 3
    batch: int = 32
    learning_rate: float = 5e-4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Distilled:
    """A student and how it came about.

    Attributes:
        encoder: the student.
        losses: on the held-out texts, by epoch.
        cosine: mean over the held-out texts, of the best epoch.
    """

    encoder: TextEncoder
    losses: tuple[float, ...]
    cosine: float


@dataclass(eq=False)
class _Training:
    """What goes on from epoch to epoch."""

    student: BertModel
    best: BertModel
    optimizer: torch.optim.Optimizer
    losses: list[float]


def distil(
    teacher: TextEncoder,
    space: TargetSpace,
    texts: Sequence[str],
    held_out: Sequence[str],
    recipe: Recipe,
    work: Path,
    listen: Listener = lambda *_: None,
) -> Distilled:
    """Trains a student of `teacher`.

    Args:
        teacher: the item tower, its LoRA merged.
        space: what is to be matched.
        texts: to learn from.
        held_out: texts that say which epoch is best; none of `texts`.
        recipe: how.
        work: a folder for what an interrupted training goes on from.
        listen: hears of the progress.

    Raises:
        DataError: there are no texts, or none is held out.
        RunFolderError: the disk refuses.
    """
    if not texts or not held_out:
        raise DataError("distillation needs texts to learn from, and others to be judged on")
    words = whole_words(teacher.tokenizer)
    corpus = [*texts, *made_texts(texts, words, recipe.made_texts, recipe.seed)]
    key = _key(teacher, recipe, corpus, held_out)
    targets = _targets(teacher, [*corpus, *held_out], work / f"targets-{key}.safetensors", listen)
    judge = targets[len(corpus) :]
    path = work / f"epoch-{key}.safetensors"
    now = _started(teacher, recipe, path)
    tokens = tokenise(teacher.tokenizer, corpus, teacher.max_tokens)
    while len(now.losses) < recipe.epochs and not _is_over(now.losses, recipe.patience):
        _epoch(now, tokens, targets, space, recipe, listen)
        found = TextEncoder(now.student, teacher.tokenizer, teacher.max_tokens).vectors(held_out)
        with torch.no_grad():
            now.losses.append(float(space.loss(found, judge)))
        if now.losses[-1] == min(now.losses):
            now.best = copy.deepcopy(now.student)
        write_bytes(path, _state(now))
    now.best.eval().requires_grad_(False)
    encoder = TextEncoder(now.best, teacher.tokenizer, teacher.max_tokens)
    cosine = float(space.cosines(encoder.vectors(held_out), judge).mean())
    return Distilled(encoder, tuple(now.losses), cosine)


def _epoch(
    now: _Training,
    tokens: TokenisedTexts,
    targets: torch.Tensor,
    space: TargetSpace,
    recipe: Recipe,
    listen: Listener,
) -> None:
    done = len(now.losses)
    random = np.random.default_rng([recipe.seed, done])
    batches = _batches(tokens, recipe.batch, random)
    now.student.train(False)  # the teacher has no dropout either
    for number, batch in enumerate(batches):
        passed = (done + number / len(batches)) / recipe.epochs
        for group in now.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(passed)
        rows = tokens.rows(batch)
        vectors = _trained_vectors(now.student, rows)
        loss = space.loss(vectors, targets[torch.from_numpy(batch)])
        now.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(now.student.encoder.parameters(), 1.0)
        now.optimizer.step()
        listen("training", done * len(batches) + number + 1, recipe.epochs * len(batches))


def _trained_vectors(bert: BertModel, ids: torch.Tensor) -> torch.Tensor:
    """As `hidden_states` and its mean, with a gradient; rows are equally long."""
    hidden: torch.Tensor = bert.embeddings(input_ids=ids)
    for layer in bert.encoder.layer:
        hidden = layer(hidden)
    return hidden.mean(1)


def _schedule(passed: float) -> float:
    """A twentieth of the way up, then down a cosine."""
    return min(passed / 0.05, 1.0) * 0.5 * (1 + math.cos(math.pi * passed)) + 1e-3


def _batches(
    tokens: TokenisedTexts, size: int, random: np.random.Generator
) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Texts of equal length side by side, in batches of a random order."""
    order = random.permutation(len(tokens.lengths))
    order = order[np.argsort(tokens.lengths[order], kind="stable")]
    edges = np.flatnonzero(np.diff(tokens.lengths[order])) + 1
    same = np.split(order, edges)
    batches = [part[at : at + size] for part in same for at in range(0, len(part), size)]
    return [batches[place] for place in random.permutation(len(batches))]


def _is_over(losses: Sequence[float], patience: int) -> bool:
    return len(losses) > patience and min(losses[-patience:]) > min(losses)


def _key(
    teacher: TextEncoder, recipe: Recipe, corpus: Sequence[str], held_out: Sequence[str]
) -> str:
    """Names what a kept state is of, so that no other training goes on from it."""
    asked = json.dumps([asdict(recipe), corpus, held_out, teacher.max_tokens])
    digest = hashlib.sha256(asked.encode())
    for name, weight in sorted(teacher.bert.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _targets(
    teacher: TextEncoder, texts: Sequence[str], path: Path, listen: Listener
) -> torch.Tensor:
    """``[N, d]``, the teacher's vectors, computed once."""
    if path.exists():
        return torch.from_numpy(read_tensors(path)[0]["targets"])
    parts = []
    for start in range(0, len(texts), _AT_ONCE):
        parts.append(teacher.vectors(texts[start : start + _AT_ONCE]))
        listen("asking the teacher", min(start + _AT_ONCE, len(texts)), len(texts))
    targets = torch.cat(parts)
    write_bytes(path, tensors_to_bytes({"targets": targets.numpy()}, {}))
    return targets


def _started(teacher: TextEncoder, recipe: Recipe, path: Path) -> _Training:
    student = small_copy(teacher.bert, recipe.layers, recipe.inner).requires_grad_(True)
    # Words that no text here has must stay where the teacher has them, beside the others.
    student.embeddings.requires_grad_(False)
    best = copy.deepcopy(student)
    trained = student.encoder.parameters()
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.01)
    losses: list[float] = []
    if path.exists():
        tensors, texts = read_tensors(path)
        try:
            losses = [float(loss) for loss in json.loads(texts["losses"])]
            _load(student, best, optimizer, {n: torch.from_numpy(a) for n, a in tensors.items()})
        except (KeyError, ValueError, RuntimeError) as error:
            raise RunFolderError(f"{path} is damaged; remove it to begin anew") from error
    return _Training(student, best, optimizer, losses)


def _state(now: _Training) -> bytes:
    tensors = {f"student.{n}": t.detach() for n, t in now.student.state_dict().items()}
    tensors |= {f"best.{n}": t.detach() for n, t in now.best.state_dict().items()}
    for place, parameter in enumerate(now.student.encoder.parameters()):
        for name, value in now.optimizer.state[parameter].items():
            tensors[f"optimizer.{place}.{name}"] = value
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return tensors_to_bytes(arrays, {"losses": json.dumps(now.losses)})


def _load(
    student: BertModel,
    best: BertModel,
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, torch.Tensor],
) -> None:
    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    student.load_state_dict(part("student."))
    best.load_state_dict(part("best."))
    for place, parameter in enumerate(student.encoder.parameters()):
        optimizer.state[parameter] = part(f"optimizer.{place}.")
