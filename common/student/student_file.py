"""A student in one file: weights, shape, and of which adapter it is; whole or not there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from transformers import BertConfig, BertModel, PreTrainedTokenizerBase

from common.atomic_files import write_bytes
from common.errors import ExportError, RunFolderError
from common.student.encoding import TextEncoder
from common.tensor_files import Tensors, read_tensors, tensors_to_bytes

STATEMENT = (
    "Made from a released adapter and public texts alone: post-processing, which costs no ε "
    "(Dwork and Roth, 2014, proposition 2.1)."
)


_DAMAGED = (
    RunFolderError,
    SafetensorError,
    ValidationError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
)
"""What reading bytes that are no student may raise."""


class StudentCard(BaseModel):
    """What a student is.

    Attributes:
        adapter_sha256: of the adapter that it stands for.
        texts: of the catalogue that it learned from.
        held_out: texts that judged it.
        cosine: mean between its vectors and the teacher's, over those.
        seed: of texts and order.
        statement: about privacy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter_sha256: str
    texts: int
    held_out: int
    cosine: float
    seed: int
    statement: str = STATEMENT


def write_student(path: Path, encoder: TextEncoder, card: StudentCard) -> int:
    """Writes it; returns its bytes.

    Raises:
        RunFolderError: the disk refuses.
    """
    weights = {name: tensor.numpy() for name, tensor in encoder.bert.state_dict().items()}
    content = tensors_to_bytes(
        weights,
        {
            "card": card.model_dump_json(),
            "config": json.dumps(encoder.bert.config.to_dict()),
            "sha256": _digest(weights),
        },
    )
    write_bytes(path, content, mode=0o600)
    return len(content)


def read_student(
    path: Path, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[TextEncoder, StudentCard]:
    """What `write_student` wrote.

    Args:
        path: of the file.
        tokenizer: of the base weights.
        max_tokens: a text is cut after so many.

    Raises:
        ExportError: it is damaged, in one line.
    """
    try:
        weights, texts = read_tensors(path)
        card = StudentCard.model_validate_json(texts["card"])
        if _digest(weights) != texts["sha256"]:
            raise ValueError("its weights are not those that were written")
        bert: BertModel = BertModel(
            BertConfig.from_dict(json.loads(texts["config"])), add_pooling_layer=False
        )
        bert.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except _DAMAGED as error:
        raise ExportError(f"{path} is damaged; make it anew with `fedrec-site distil`") from error
    bert.eval().requires_grad_(False)
    return TextEncoder(bert, tokenizer, max_tokens), card


def _digest(weights: Tensors) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(weights.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
