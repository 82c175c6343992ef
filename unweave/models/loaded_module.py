"""A model that transformers has already loaded: read if its modules compute what its config and weights say.

1. a compiled or a parallel model is unwrapped;
2. the rest is compared, submodule by submodule, with what transformers makes from the same config: classes, parameters,
   numbers and functions that a module holds. One that was exchanged, parametrized, quantized or hooked changes the
   output in a way that no state dict shows, so it is refused by name;
3. the state dict is copied. What it has no name for comes along too: frequencies of rotary positions, the head's bias.

Hooks of the backward pass, and those that transformers itself sets, leave the output as it is.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unweave.errors import ModelError
from unweave.models.checkpoint import Checkpoint
from unweave.models.families import check_family
from unweave.models.families.guard import ADAPTER_NAME, MERGE
from unweave.models.hf_folder import check_state_dict
from unweave.models.quiet import quiet

# Numbers that a module holds for training, for its repr or for prompts that are too long for the model.
_HARMLESS = frozenset(
    """
    attention_dropout embedding_dim gradient_checkpointing in_features inplace loss_type max_seq_len_cached nf norm_type
    num_embeddings nx original_max_seq_len out_features p padding_idx scale_grad_by_freq sparse training vocab_size
    """.split()  # noqa: SIM905 - a list literal would take a line for each
)
_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
_HEAD_BIASES = ("lm_head.bias", "embed_out.bias")


def read_module(module: nn.Module, tokenizer: Any = None) -> Checkpoint:
    """The model that a module computes, its weights copied.

    Raises:
        ModelError: a module of another kind or family, or one whose output its config and weights do not tell.
    """
    parts = dict(_walk(module))
    whole = parts[""]
    _refuse(whole, "", _adapted(parts))
    config: Any = getattr(whole, "config", None)
    if not hasattr(config, "to_dict"):
        raise ModelError(
            f"a {type(whole).__name__} has no HF config; give a model of transformers, or a state dict and config="
        )
    options = config.to_dict()
    check_family(options.get("model_type"))
    _check_plain(parts, config)
    # transformers leaves this on models whose weights it has unpacked; packed ones are refused by their dtype.
    unpacked = (options.get("quantization_config") or {}).get("quant_method") == "gguf"
    if unpacked:
        options.pop("quantization_config")
    tensors = {name: t.detach().clone() for name, t in check_state_dict(whole.state_dict(), "model").items()}
    biases = [tensors.pop(name) for name in _HEAD_BIASES if name in tensors]
    rotary = [b.float() for name, b in whole.named_buffers() if name.endswith("rotary_emb.inv_freq")]
    name = str(options.get("_name_or_path") or options.get("model_type"))
    return Checkpoint(
        options=options,
        tensors=tensors,
        tokenizer=tokenizer or None,
        name=Path(name).name if Path(name).is_absolute() else name,
        source=f"a loaded {type(whole).__name__}",
        quantization="GGUF" if unpacked else "",
        own={name: found[0] for name, found in (("b_u", biases), ("rotary_freq", rotary)) if found},
    )


def _walk(module: nn.Module, place: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every submodule by its place, shared ones at each, wrappers replaced by what they wrap."""
    inner = _WRAPPERS.get(type(module).__name__)
    while inner is not None:
        _refuse(module, place, _hooked(module))
        module = getattr(module, inner)
        inner = _WRAPPERS.get(type(module).__name__)
    yield place, module
    for name, part in module._modules.items():
        if part is not None:
            yield from _walk(part, f"{place}.{name}".lstrip("."))


def _refuse(module: nn.Module, place: str, reason: str | None) -> None:
    if reason is not None:
        where = f"submodule {place} ({type(module).__name__})" if place else f"this {type(module).__name__}"
        raise ModelError(f"model: {where} {reason}")


def _check_plain(parts: dict[str, nn.Module], config: Any) -> None:
    """Raises ModelError where a module computes other than transformers' own of the same config."""
    whole = parts[""]
    _refuse(whole, "", _another_class(whole, config) or _own_attention(config))
    try:
        with quiet(), torch.device("meta"):
            plain = dict(_walk(type(whole)(copy.deepcopy(config))))
    except Exception as error:  # whatever a config that was altered by hand makes transformers raise
        raise ModelError(f"model: transformers cannot make a model of this config ({error})") from error
    for place, reference in plain.items():
        if place not in parts:
            above = place.rpartition(".")[0]
            _refuse(parts.get(above, whole), above, f"has no {place.rpartition('.')[2]}, and its config calls for one")
        _refuse(parts[place], place, _changed(parts[place], reference, place))
    added = sorted(parts.keys() - plain.keys())
    if added:
        _refuse(parts[added[0]], added[0], "is none that transformers makes from this config; delete it")


def _adapted(parts: dict[str, nn.Module]) -> str | None:
    found = [place for place in parts if ADAPTER_NAME.search(f"{place}.")]
    if not found and not getattr(parts[""], "_hf_peft_config_loaded", False) and "base_model" not in parts:
        return None
    return f"has an adapter{f' ({found[0]})' if found else ''}; {MERGE}"


def _another_class(whole: nn.Module, config: Any) -> str | None:
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING

    kind = CONFIG_MAPPING[config.model_type]
    head: Any = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    base = MODEL_MAPPING[kind]
    if type(whole) is head or (type(whole) is base and config.tie_word_embeddings):
        return None
    return f"is not the class that transformers makes of its config; give a {head.__name__} with its weights"


def _own_attention(config: Any) -> str | None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = str(config._attn_implementation)
    found = ALL_ATTENTION_FUNCTIONS.get(name) if name in ALL_ATTENTION_FUNCTIONS.valid_keys() else None
    if found is None or "/" in name or found.__module__.startswith("transformers."):
        return None
    return (
        f"computes attention by {found.__qualname__}, registered as {name!r}; load it with attn_implementation='sdpa'"
    )


def _changed(module: nn.Module, plain: nn.Module, place: str) -> str | None:
    """What makes a module compute other than transformers' own, with the way out."""
    if type(module) is not type(plain):
        return _exchanged(module, plain)
    overridden = next((name for name in vars(module) if _overrides(module, name, place)), None)
    if overridden is not None:
        return f"has a {overridden} of its own in place of its class's; delete that attribute"
    if hooked := _hooked(module):
        return hooked
    given, expected = ({name for name, p in m._parameters.items() if p is not None} for m in (module, plain))
    for name in sorted(given ^ expected):
        if f"{place}.{name}" not in _HEAD_BIASES:
            missing = name in expected
            return f"has {'no' if missing else 'a'} {name}, and its config calls for {'one' if missing else 'none'}"
    packed = next((p for p in module._parameters.values() if type(p) not in (nn.Parameter, Tensor, type(None))), None)
    if packed is not None:
        return f"holds a {type(packed).__name__}; load the model unquantized and in one piece"
    for name, value in vars(plain).items():
        if name[0] != "_" and name not in _HARMLESS and _held(vars(module).get(name)) != _held(value):
            return f"has {name}={vars(module).get(name)!r}, and its config calls for {value!r}"
    return None


def _exchanged(module: nn.Module, plain: nn.Module) -> str:
    kind = type(module)
    if torch.nn.utils.parametrize.is_parametrized(module):
        names = ", ".join(module.parametrizations)  # type: ignore[arg-type]
        return f"has a parametrized {names}; call torch.nn.utils.parametrize.remove_parametrizations on it"
    return (
        f"is a {kind.__module__}.{kind.__qualname__} in place of transformers' {type(plain).__name__}, "
        f"so it may compute something else; load the model unquantized and unaltered"
    )


def _held(value: object) -> object:
    """A number or function that a module holds, comparable; None for what else it holds."""
    if callable(value):
        return getattr(value, "__func__", value)
    return value if isinstance(value, bool | int | float) else None


def _overrides(module: nn.Module, name: str, place: str) -> bool:
    """Whether an attribute of a module replaces a method of its class. Of the whole model, only `forward` counts."""
    method: object = getattr(type(module), name, None)
    value: Any = vars(module)[name]
    if not callable(method) or not callable(value) or (not place and name != "forward"):
        return False
    hook = getattr(module, "_hf_hook", None)  # by which accelerate moves inputs to a module's device
    if f"{type(hook).__module__}.{type(hook).__name__}" == "accelerate.hooks.AlignDevicesHook":
        value = module._old_forward
    value = getattr(value, "_torchdynamo_orig_callable", value)  # a compiled method is the same method
    return getattr(value, "__func__", None) is not method or value.__self__ is not module


def _hooked(module: nn.Module) -> str | None:
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    others = [hook for hook in hooks if not str(getattr(hook, "__module__", "")).startswith("transformers.")]
    names = [getattr(hook, "__qualname__", type(hook).__name__) for hook in others]
    return f"has a forward hook ({names[0]}), which may change its output; remove it" if names else None
