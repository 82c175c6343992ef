"""`load_model`: from a name, a folder, a file, a hub id or a loaded HF model to a `Model`.

1. read: HF config, state dict and tokenizer from the source (`folder`, `gguf_file`, `default`, here for the rest);
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

import torch
from torch import Tensor, nn

from unweave.errors import InputError, ModelError, UnweaveError, did_you_mean
from unweave.models.checkpoint import Checkpoint
from unweave.models.default import KNOWN, read_known
from unweave.models.families import check_family, convert
from unweave.models.folder import read_folder
from unweave.models.gguf_file import read_gguf
from unweave.models.model import Model
from unweave.models.native import WEIGHTS, is_native, read_native, read_state_dict
from unweave.models.quiet import quiet, status
from unweave.models.shipped import SHIPPED, read_shipped
from unweave.models.small import ConfigSource, config_from

DEFAULT_MODEL = "smollm2-135m"
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STATE_DICTS = (".pt", ".pth", ".bin", ".safetensors")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
# What a hub repository's top folder holds for a model; everything else stays there.
_HUB_FILES = ["config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"]
_HUB_WEIGHTS = (["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"], ["pytorch_model*"])


def load_model(
    source: str | os.PathLike[str] | nn.Module = DEFAULT_MODEL,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = torch.float32,
    process: str | Sequence[str] = (),
    revision: str | None = None,
    tokenizer: Any = None,
    config: ConfigSource | None = None,
) -> Model:
    """A model, ready to run.

    Args:
        source: a name that `unweave models` lists; a folder in HF layout, or one that `save_model` wrote; a `.gguf`
            file; a state dict in TransformerLens naming (`.pt`, `.pth`, `.safetensors`; then with `config`); a hub id
            ("org/name"); or a HF model that is already loaded, whose weights are copied.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes a CUDA device where there is one.
        dtype: of the weights, whatever they are stored in: a torch dtype or its name.
        process: weight processing, in order, or "all" for every step that this model allows; see `Model.process`.
        revision: of a hub id: a branch, tag or commit.
        tokenizer: a HF tokenizer in place of the source's own; an already loaded model comes with none.
        config: of a state dict: a `Config`, such as `small_config` makes; a dict of its fields; or a JSON file of them.

    Raises:
        ModelError: the model cannot be found, fetched, read or understood.
        InputError: a device or dtype that cannot be used, a processing step that would change the model's function.
    """
    target, kind = as_device(device), as_dtype(dtype)
    found = _own(source, config) or _converted(source, revision)
    own = tokenizer if tokenizer is not None else found.tokenizer
    model = Model(found.config, found.weights.to(target, kind), own)
    return model.process(*([process] if isinstance(process, str) else process))


def _own(source: str | os.PathLike[str] | nn.Module, config: ConfigSource | None) -> Model | None:
    """The model of a name that comes with unweave, a folder in our own format, or a state dict; None for the rest."""
    if isinstance(source, str) and source in SHIPPED and config is None:
        return read_shipped(source)
    path = Path() if isinstance(source, nn.Module) else Path(os.fspath(source)).expanduser()
    if not isinstance(source, nn.Module) and path.is_file() and path.suffix in STATE_DICTS:
        beside = path.parent if path.name == WEIGHTS and is_native(path.parent) else None
        if config is not None and beside is None:
            options = {"name": path.stem, **config} if isinstance(config, Mapping) else config
            return read_state_dict(path, config_from(options))
        if beside is None:
            raise InputError(
                f"config: {path.name} holds weights alone, so give its shape: "
                f"load_model({path.name!r}, config=uw.small_config(n_layers=2, …)), a dict of its fields or a JSON file"
            )
        path = beside
    native = not isinstance(source, nn.Module) and path.is_dir() and is_native(path)
    if config is not None:
        has = "has its own config" if native else "is not a state dict (.pt, .pth, .safetensors)"
        raise InputError(f"config: it goes with a state dict, and {source} {has}; leave config out")
    return read_native(path) if native else None


def _converted(source: str | os.PathLike[str] | nn.Module, revision: str | None) -> Model:
    """The model of any HF source, its weights as they are stored."""
    checkpoint = _read(source, revision)
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
    return Model(config, weights, checkpoint.tokenizer)


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


def _read(source: str | os.PathLike[str] | nn.Module, revision: str | None) -> Checkpoint:
    if isinstance(source, nn.Module):
        return _read_module(source)
    text = os.fspath(source)
    if not text.strip():
        raise ModelError("model: expected a name, a folder, a file or a hub id, got an empty text")
    path = Path(text).expanduser()
    is_hub_id = text not in KNOWN and not path.exists() and path.suffix != ".gguf" and bool(_HUB_ID.fullmatch(text))
    if revision is not None and not is_hub_id:
        raise InputError(f"revision={revision!r} is for hub ids (org/name); {text} is not one")
    if text in KNOWN:
        return read_known(text)
    if path.is_dir():
        return read_folder(path)
    if path.suffix == ".gguf" and path.is_file():
        with status(f"reading {path.name}"):
            return read_gguf(path)
    if is_hub_id:
        return _read_hub(text, revision)
    names = (*KNOWN, *SHIPPED)
    found = "a file of a kind that is not read" if path.is_file() else "not found"
    raise ModelError(
        f"{text}: {found}.{did_you_mean(text, names)} A model is a name ({', '.join(names)}), a folder in HF layout or "
        "our own, a .gguf file, a state dict (.pt, .safetensors) with config=, a hub id such as openai-community/gpt2, "
        "or a loaded HF model"
    )


def _read_module(module: nn.Module) -> Checkpoint:
    config: Any = getattr(module, "config", None)
    if not hasattr(config, "to_dict"):
        raise ModelError(f"a {type(module).__name__} has no HF config; give a model loaded with transformers")
    options = config.to_dict()
    name = str(options.get("_name_or_path") or options.get("model_type"))
    name = Path(name).name if Path(name).is_absolute() else name
    check_family(options.get("model_type"))
    # transformers leaves this on models whose weights it has unpacked; packed ones are refused by their dtype.
    unpacked = (options.get("quantization_config") or {}).get("quant_method") == "gguf"
    if unpacked:
        options.pop("quantization_config")
    tensors: dict[str, Tensor] = {key: value.detach().clone() for key, value in module.state_dict().items()}
    if options.get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    return Checkpoint(
        options=options,
        tensors=tensors,
        tokenizer=None,
        name=name,
        source=f"a loaded {type(module).__name__}",
        quantization="GGUF" if unpacked else "",
    )


def _read_hub(name: str, revision: str | None) -> Checkpoint:
    """A hub repository's files, fetched into the cache of huggingface_hub, where transformers finds them too."""
    from huggingface_hub import snapshot_download

    where: dict[str, Any] = {"repo_id": name, "revision": revision, "ignore_patterns": ["*/*"]}
    try:
        with status(f"fetching {name} from the hub"), quiet():
            folder = Path(snapshot_download(allow_patterns=_HUB_FILES + _HUB_WEIGHTS[0], **where))
            if not list(folder.glob("*.safetensors")):
                folder = Path(snapshot_download(allow_patterns=_HUB_FILES + _HUB_WEIGHTS[1], **where))
    except Exception as error:  # network, permission and not-found errors of several libraries
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{name}: no such folder here, and not to be had from the hub ({reason}); check the name and the network, "
            f"or give a folder or a .gguf file; {', '.join(KNOWN)} comes from the Python package index"
        ) from error
    return replace(read_folder(folder), name=name, source=f"hub: {name}", revision=folder.name[:12])
