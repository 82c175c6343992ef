"""`load_model`: from a name, a folder, a file, a hub id or a loaded HF model to a `Model`.

1. read: HF config, state dict and tokenizer from the source (`hf_folder`, `gguf_file`, `default`, `loaded_module`);
2. convert: to our config and weights, by family (`families`);
3. move to the device and dtype asked for, and process the weights.

Our own folders, and state dicts in TransformerLens naming, need no conversion by family (`native`, `state_dict`).

transformers is imported where it is first needed: it takes longer to import than everything else together.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from torch import nn

from unweave.errors import InputError, ModelError, UnweaveError, did_you_mean
from unweave.models.checkpoint import Checkpoint
from unweave.models.default import KNOWN, read_known
from unweave.models.families import convert
from unweave.models.gguf_file import read_gguf
from unweave.models.hf_folder import ADAPTER, HFConfig, check_state_dict, hf_options, read_folder, read_tensor_file
from unweave.models.loaded_module import read_module
from unweave.models.model import Model
from unweave.models.native import WEIGHTS, is_native, read_native, read_state_dict, revision_of
from unweave.models.quiet import quiet, status
from unweave.models.shipped import SHIPPED, read_shipped
from unweave.models.small import ConfigSource, config_from
from unweave.models.tokens import Tokenizer

DEFAULT_MODEL = "smollm2-135m"
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STATE_DICTS = (".pt", ".pth", ".bin", ".safetensors")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
# What a hub repository's top folder holds for a model; everything else stays there.
_HUB_FILES = ["config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"]
_HUB_WEIGHTS = (["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"], ["pytorch_model*"])


def load_model(
    source: str | os.PathLike[str] | nn.Module | Mapping[str, Any] = DEFAULT_MODEL,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = torch.float32,
    process: str | Sequence[str] = (),
    revision: str | None = None,
    tokenizer: Any = None,
    config: ConfigSource | HFConfig | None = None,
) -> Model:
    """A model, ready to run.

    Args:
        source: a name that `unweave models` lists; a folder in HF layout, or one that `save_model` wrote; a `.gguf`
            file; a state dict, in memory or in a file (`.pt`, `.pth`, `.bin`, `.safetensors`; then with `config`); a
            hub id ("org/name"); or a HF model that is already loaded. What is in memory is copied.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes a CUDA device where there is one.
        dtype: of the weights, whatever they are stored in: a torch dtype or its name.
        process: weight processing, in order, or "all" for every step that this model allows; see `Model.process`.
        revision: of a hub id: a branch, tag or commit.
        tokenizer: a HF tokenizer in place of the source's own, which is not opened then; False for none. A model or a
            state dict in memory comes with none.
        config: of a state dict. In TransformerLens naming: a `Config`, such as `small_config` makes; a dict of its
            fields; or a JSON file of them. In transformers' naming: a config of transformers, as object, dict or file.

    Raises:
        ModelError: the model cannot be found, fetched, read or understood.
        InputError: a device or dtype that cannot be used, a processing step that would change the model's function.
    """
    target, kind = as_device(device), as_dtype(dtype)
    if not (tokenizer is None or tokenizer is False or isinstance(tokenizer, Tokenizer)):
        raise InputError(f"tokenizer: expected a tokenizer of transformers, or False for none, got {tokenizer!r}")
    if not isinstance(source, str | os.PathLike | nn.Module | Mapping):
        raise InputError(
            f"source: expected a name, a path, a loaded model or a state dict, got {type(source).__name__}"
        )
    if isinstance(source, Mapping) or (not isinstance(source, nn.Module) and _holds_state_dict(source)):
        model = _of_state_dict(source, config, tokenizer)
    elif config is not None:
        native = not isinstance(source, nn.Module) and is_native(Path(source).expanduser())
        has = "has its own config" if native else f"is not a state dict ({', '.join(STATE_DICTS)})"
        what = f"a {type(source).__name__}" if isinstance(source, nn.Module) else source
        raise InputError(f"config: it goes with a state dict, and {what} {has}; leave config out")
    else:
        model = _own(source, tokenizer) or _converted(_read(source, revision, tokenizer))
    model = replace(model, weights=model.weights.to(target, kind))
    return model.process(*([process] if isinstance(process, str) else process))


def _holds_state_dict(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a file of tensors that does not lie in a folder of our own format."""
    path = Path(source).expanduser()
    return path.suffix in STATE_DICTS and path.is_file() and not (path.name == WEIGHTS and is_native(path.parent))


def _of_state_dict(
    source: str | os.PathLike[str] | Mapping[str, Any], config: ConfigSource | HFConfig | None, tokenizer: Any
) -> Model:
    """The model of a state dict in either naming, with the tokenizer given or none."""
    file = None if isinstance(source, Mapping) else Path(source).expanduser()
    told, call = ("a state dict in memory", "state_dict") if file is None else (str(file), repr(file.name))
    if config is None:
        raise InputError(
            f"config: {told if file is None else file.name} holds weights alone, so give its shape: load_model({call}, "
            f"config=uw.small_config(n_layers=2, …)), a dict of its fields, a JSON file, or a config of transformers"
        )
    tensors = read_tensor_file(file) if file else check_state_dict(source, told)
    if file is None:
        tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    options, tokenizer, revision = hf_options(config), tokenizer or None, revision_of(tensors)
    if options is not None and "embed.W_E" in tensors:
        raise InputError(
            f"config: {told} has TransformerLens names, which go with a config of ours: uw.small_config(…)"
        )
    if options is not None:
        name = file.stem if file else str(options.get("_name_or_path") or options["model_type"])
        return _converted(
            Checkpoint(options=options, tensors=tensors, tokenizer=tokenizer, name=name, source=told, revision=revision)
        )
    assert not isinstance(config, HFConfig)  # which has options
    fields = {"name": file.stem, **config} if file and isinstance(config, Mapping) else config
    return read_state_dict(tensors, replace(config_from(fields), source=told, revision=revision), tokenizer)


def _own(source: str | os.PathLike[str] | nn.Module, tokenizer: Any) -> Model | None:
    """The model of a name that comes with unweave, or of a folder in our own format; None for the rest."""
    if isinstance(source, nn.Module):
        return None
    if isinstance(source, str) and source in SHIPPED:
        return read_shipped(source, tokenizer)
    path = Path(source).expanduser()
    folder = path.parent if path.name == WEIGHTS else path
    return read_native(folder, tokenizer) if is_native(folder) else None


def _converted(checkpoint: Checkpoint) -> Model:
    """The model of any HF source, its weights as they are stored."""
    try:
        config, weights = convert(checkpoint.options, checkpoint.tensors)
    except UnweaveError as error:  # a config that no model can have is the source's fault, not the caller's
        raise ModelError(f"{checkpoint.source}: {error}") from error
    config = replace(
        config,
        name=checkpoint.name,
        source=checkpoint.source,
        revision=checkpoint.revision,
        quantization=checkpoint.quantization,
    )
    return Model(config, replace(weights, **checkpoint.own), checkpoint.tokenizer)


def as_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the best one there is. Raises InputError where it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device={device!r} is not a device; give 'cpu', 'cuda', 'cuda:1' or 'mps'") from error
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(asked.type, 0)
    if (asked.index or 0) >= count:
        there = f"{count} of its kind" if count else "no such device"
        raise InputError(f"device={str(device)!r}: this machine has {there}; leave device out, or give 'cpu'")
    return asked


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A torch dtype from itself or its name. Raises InputError where it is no floating type that weights may have."""
    asked = DTYPES.get(dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    if asked is None or asked not in DTYPES.values():
        raise InputError(f"dtype={dtype!r} is not supported; give one of {', '.join(DTYPES)}")
    return asked


def _read(source: str | os.PathLike[str] | nn.Module, revision: str | None, tokenizer: Any) -> Checkpoint:
    if isinstance(source, nn.Module):
        return read_module(source, tokenizer)
    text = os.fspath(source)
    if not text.strip():
        raise ModelError("model: expected a name, a folder, a file or a hub id, got an empty text")
    path = Path(text).expanduser()
    is_hub_id = text not in KNOWN and not path.exists() and path.suffix != ".gguf" and bool(_HUB_ID.fullmatch(text))
    if revision is not None and not is_hub_id:
        raise InputError(f"revision={revision!r} is for hub ids (org/name); {text} is not one")
    if text in KNOWN:
        return read_known(text, tokenizer)
    if path.is_dir():
        return read_folder(path, tokenizer)
    if path.suffix == ".gguf" and path.is_file():
        with status(f"reading {path.name}"):
            return read_gguf(path, tokenizer)
    if is_hub_id:
        return _read_hub(text, revision, tokenizer)
    names = (*KNOWN, *SHIPPED)
    found = "a file of a kind that is not read" if path.is_file() else "not found"
    raise ModelError(
        f"{text}: {found}.{did_you_mean(text, names)} A model is a name ({', '.join(names)}), a folder in HF layout or "
        "our own, a .gguf file, a state dict (.pt, .safetensors) with config=, a hub id such as openai-community/gpt2, "
        "or a loaded HF model"
    )


def _read_hub(name: str, revision: str | None, tokenizer: Any) -> Checkpoint:
    """A hub repository's files, fetched into the cache of huggingface_hub, where transformers finds them too."""
    where: dict[str, Any] = {"repo_id": name, "revision": revision, "ignore_patterns": ["*/*"]}
    try:
        with status(f"fetching {name} from the hub"), quiet():
            folder = Path(
                huggingface_hub.snapshot_download(allow_patterns=[ADAPTER, *_HUB_FILES, *_HUB_WEIGHTS[0]], **where)
            )
            if not list(folder.glob("*.safetensors")):
                folder = Path(huggingface_hub.snapshot_download(allow_patterns=_HUB_FILES + _HUB_WEIGHTS[1], **where))
    except Exception as error:  # network, permission and not-found errors of several libraries
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{name}: no such folder here, and not to be had from the hub ({reason}); check the name and the network, "
            f"or give a folder or a .gguf file; {', '.join(KNOWN)} comes from the Python package index"
        ) from error
    return replace(read_folder(folder, tokenizer), name=name, source=f"hub: {name}", revision=folder.name[:12])
