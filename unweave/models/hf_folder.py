"""A model folder in HF layout: `config.json`, weights in safetensors or in PyTorch's format, a tokenizer or none.

Weights are read straight from their files, whole or in shards, and no module is built. PyTorch files are read without
running any code that they hold (`weights_only`).
"""

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unweave.errors import ModelError
from unweave.models.checkpoint import Checkpoint
from unweave.models.families import check_family
from unweave.models.families.guard import MERGE
from unweave.models.quiet import quiet

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ADAPTER = "adapter_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
# What DataParallel and torch.compile put before names.
_WRAPPED = re.compile(r"^module\.|(?:^|(?<=\.))_orig_mod\.")


@runtime_checkable
class HFConfig(Protocol):
    """A config of transformers."""

    def to_dict(self) -> dict[str, Any]: ...


def read_folder(folder: Path, tokenizer: Any = None) -> Checkpoint:
    """The model in a folder, its weights as they are stored. `tokenizer`: see `read_tokenizer`.

    Raises:
        ModelError: no config, no weights, an adapter, a family that there is no converter for, or a file that cannot be
            read.
    """
    refuse_adapter(folder)
    return Checkpoint(
        options=read_options(folder),
        tensors=read_tensors(folder),
        tokenizer=read_tokenizer(folder, tokenizer),
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
    return _completed(read_json(file), str(file))


def hf_options(config: object) -> dict[str, Any] | None:
    """The options of a config of transformers, given as itself, a dict or a JSON file; None for a config of ours."""
    if isinstance(config, HFConfig):
        return config.to_dict()
    file = Path(config) if isinstance(config, str | os.PathLike) else None
    raw = read_json(file) if file else config
    return _completed(raw, str(file or "config")) if isinstance(raw, Mapping) and "model_type" in raw else None


def _completed(raw: Mapping[str, Any], told: str) -> dict[str, Any]:
    """A HF config with older spellings and defaults filled in."""
    try:
        family = check_family(raw.get("model_type"))
    except ModelError as error:
        raise ModelError(f"{told}: {error}") from None
    from transformers import CONFIG_MAPPING

    try:
        with quiet():
            return CONFIG_MAPPING[family].from_dict(dict(raw)).to_dict()
    except Exception as error:  # whatever a hand-edited config makes transformers raise
        raise ModelError(f"{told}: transformers cannot read this config ({one_line(error)})") from error


def refuse_adapter(folder: Path) -> None:
    """Raises ModelError where a folder holds an adapter, which transformers would apply to the weights there."""
    if (folder / ADAPTER).is_file():
        raise ModelError(
            f"{folder}: holds an adapter ({ADAPTER}); {MERGE}; for the model without it, take that file away"
        )


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The state dict of a folder: from safetensors where there are any, else from PyTorch files."""
    there = [name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not there:
        raise ModelError(f"{folder}: no weights in this folder; expected one of {', '.join(WEIGHT_FILES)}")
    first = folder / there[0]
    if first.suffix != ".json":
        return read_tensor_file(first)
    places = read_json(first).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise ModelError(f"{first}: expected a weight_map, names of tensors with their files; fetch it again")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(places.values())):
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
        raise ModelError(f"{file}: truncated or altered ({one_line(error)}); fetch it again") from error
    except UnpicklingError as error:
        raise ModelError(
            f"{file}: cannot be read: it is damaged, or holds more than names and tensors, and no code of a file is "
            f"run; fetch it again, or save the model's state_dict() alone"
        ) from error
    except Exception as error:  # torch.load raises many kinds for a broken file
        raise ModelError(f"{file}: cannot be read ({one_line(error)}); fetch it again") from error
    return check_state_dict(tensors, str(file))


def check_state_dict(tensors: object, told: str) -> dict[str, Tensor]:
    """Names with tensors, without what DataParallel and torch.compile put before names. Raises ModelError if not."""
    expected = f"{told}: expected a state dict, names with tensors"
    if not isinstance(tensors, Mapping):
        raise ModelError(f"{expected}, got a {type(tensors).__name__}; give the model's state_dict() alone")
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelError(
                f"{expected}; entry {name!r} is of type {type(value).__name__}; give the model's state_dict() alone"
            )
    return {_WRAPPED.sub("", name): tensor for name, tensor in tensors.items()}


def read_tokenizer(folder: Path, given: Any = None, **where: str) -> Any:
    """The tokenizer given, none for False; for None the HF tokenizer in a folder, or None where it holds none."""
    if given is not None:
        return given or None
    if not where and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **where)
    except Exception as error:  # whatever a broken tokenizer file makes transformers raise
        raise ModelError(
            f"{folder / where.get('gguf_file', '')}: transformers cannot read the tokenizer there ({one_line(error)}); "
            f"give another one as tokenizer=, or tokenizer=False for a model that reads token ids alone"
        ) from error


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
