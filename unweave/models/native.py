"""Our own format: a folder with `config.json` and `model.safetensors`, and a tokenizer where the model has one.

`config.json` holds every field of `Config` and the mark `"format": "unweave 1"`; the tensors have TransformerLens names
(`unweave.models.state_dict`). The config's `revision` is the beginning of the weights' sha256: a folder whose two files
do not belong together is refused. Each file is written beside its place and then moved there, the config last.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from unweave.errors import InputError, ModelError
from unweave.models.config import Config
from unweave.models.hf_folder import read_json, read_tensor_file, read_tokenizer
from unweave.models.model import Model
from unweave.models.small import config_from
from unweave.models.state_dict import state_dict_of, weights_from_state_dict
from unweave.whole_files import placed

FORMAT = "unweave 1"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: Model, folder: str | os.PathLike[str]) -> Path:
    """Writes a model to a folder, which is made if need be; `load_model(folder)` reads it.

    Returns:
        The folder.

    Raises:
        InputError: the folder cannot be written to, or holds a model in another format.
        ModelError: weights that the format cannot hold (see `state_dict_of`).
    """
    target = Path(folder).expanduser()
    tensors = {name: tensor.cpu() for name, tensor in state_dict_of(model).items()}
    config = replace(model.config, revision=revision_of(tensors))
    text = json.dumps({"format": FORMAT, **asdict(config)}, indent=1) + "\n"
    try:
        target.mkdir(parents=True, exist_ok=True)
        if (target / CONFIG).exists() and not is_native(target):
            raise InputError(f"folder: {target} holds a model in another format; give a folder of its own")
        write_tensors(target / WEIGHTS, tensors, {"format": "pt"})
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(target)
        with placed(target / CONFIG) as spare:
            spare.write_text(text, encoding="utf-8")
    except OSError as error:
        why = error.strerror or "the disk refused"
        raise InputError(f"folder: cannot write {target} ({why}); give a folder that you may write to") from error
    return target


def is_native(folder: Path) -> bool:
    """Whether a folder holds a model in our own format, of this version or another."""
    file = folder / CONFIG
    return file.is_file() and str(read_json(file).get("format", "")).startswith("unweave ")


def read_native(folder: Path, tokenizer: Any = None) -> Model:
    """The model in a folder of our own format, its weights as they are stored. `tokenizer`: see `read_tokenizer`.

    Raises:
        ModelError: another version of the format, a field that is unknown or wrong, weights that are missing, altered
            or do not fit the config.
    """
    mark = read_json(folder / CONFIG)["format"]
    if mark != FORMAT:
        raise ModelError(f"{folder / CONFIG}: format {mark!r}, and this version of unweave reads {FORMAT!r}")
    config, file = config_from(folder / CONFIG), folder / WEIGHTS
    if not file.is_file():
        raise ModelError(f"{folder}: no {WEIGHTS} beside the config; save the model again")
    tensors = read_tensor_file(file)
    if config.revision != revision_of(tensors):
        raise ModelError(f"{file}: not the weights that {CONFIG} was written with; save the model again")
    return read_state_dict(tensors, replace(config, source=str(file)), read_tokenizer(folder, tokenizer))


def read_state_dict(tensors: Mapping[str, Tensor], config: Config, tokenizer: Any = None) -> Model:
    """The model of a state dict in TransformerLens naming, its weights as they are stored.

    Raises:
        ModelError: one that does not fit the config, whose `source` the message begins with.
    """
    try:
        return Model(config, weights_from_state_dict(config, tensors), tokenizer)
    except ModelError as error:
        raise ModelError(f"{config.source}: {error}") from error


def revision_of(tensors: Mapping[str, Tensor]) -> str:
    """The first twelve digits of the sha256 of tensors: names, types, shapes and bytes, whatever file holds them."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:12]


def write_tensors(target: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file, whole or not at all. Raises InputError where it cannot be written."""
    with placed(target) as spare:
        try:
            save_file(tensors, spare, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error
