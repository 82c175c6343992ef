"""A model folder in HF layout: `config.json`, weights in safetensors or in PyTorch's format, a tokenizer or none.

Weights are read straight from their files, whole or in shards, and no module is built. PyTorch files are read without
running any code that they hold (`weights_only`).
"""

import json
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unweave.errors import ModelError
from unweave.models.checkpoint import Checkpoint
from unweave.models.families import check_family
from unweave.models.quiet import quiet

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def read_folder(folder: Path) -> Checkpoint:
    """The model in a folder, its weights as they are stored.

    Raises:
        ModelError: no config, no weights, a family that there is no converter for, or a file that cannot be read.
    """
    return Checkpoint(
        options=read_options(folder),
        tensors=read_tensors(folder),
        tokenizer=read_tokenizer(folder),
        name=folder.resolve().name,
        source=str(folder),
    )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelError naming the file where it is not one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: expected a JSON object, got {type(content).__name__}")
    return content


def read_options(folder: Path) -> dict[str, Any]:
    """The HF config, older spellings and defaults filled in by transformers, as a dict."""
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(
            f"{folder}: no config.json in this folder; a model folder is what save_pretrained of transformers writes "
            f"(config.json, model.safetensors, tokenizer files)"
        )
    raw = read_json(file)
    try:
        family = check_family(raw.get("model_type"))
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    from transformers import CONFIG_MAPPING

    try:
        with quiet():
            return CONFIG_MAPPING[family].from_dict(raw).to_dict()
    except Exception as error:  # whatever a hand-edited config makes transformers raise
        raise ModelError(f"{file}: transformers cannot read this config ({_one_line(error)})") from error


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The state dict of a folder: from safetensors where there are any, else from PyTorch files."""
    there = [name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not there:
        raise ModelError(f"{folder}: no weights in this folder; expected one of {', '.join(WEIGHT_FILES)}")
    first = folder / there[0]
    if first.suffix != ".json":
        return read_tensor_file(first)
    shards = sorted(set(read_json(first).get("weight_map", {}).values()))
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors |= read_tensor_file(folder / Path(shard).name)  # a shard lies beside its index, whatever that says
    return tensors


def read_tensor_file(file: Path) -> dict[str, Tensor]:
    """The tensors of one file. Raises ModelError naming it where it is missing, truncated or of another kind."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings(action="ignore"):  # of what it then refuses
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{file}: no such file, though the index beside it names it; fetch it again") from error
    except SafetensorError as error:
        raise ModelError(f"{file}: truncated or altered ({_one_line(error)}); fetch it again") from error
    except UnpicklingError as error:
        raise ModelError(
            f"{file}: cannot be read: it is damaged, or holds more than names and tensors, and no code of a file is "
            f"run ({_one_line(error)}); fetch it again, or save the model's state_dict() alone"
        ) from error
    except Exception as error:  # torch.load raises many kinds for a broken file
        raise ModelError(f"{file}: cannot be read ({_one_line(error)}); fetch it again") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()
    ):
        raise ModelError(f"{file}: expected a state dict, names with tensors; save the model's state_dict() alone")
    return tensors


def read_tokenizer(folder: Path) -> Any:
    """The HF tokenizer in a folder, or None where it holds none."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a broken tokenizer file makes transformers raise
        raise ModelError(f"{folder}: transformers cannot read the tokenizer there ({_one_line(error)})") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
