"""What every converter stands behind: options and tensors that nobody asked for are errors, never ignored.

A converter reads a HF config through `Options` and a state dict through `Tensors`; each remembers what was read, and
`finish` names what was left. So an option that a converter does not know cannot change a model unnoticed.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, final

import torch
from torch import Tensor

from unweave.errors import ModelError
from unweave.models.config import Activation, Config
from unweave.models.weights import same_values

# Options that do not change logits in evaluation: bookkeeping, training, generation, and what is inactive without
# dropout. Checked against the modelling code of the reference library.
HARMLESS = frozenset(
    """
    _attn_implementation _attn_implementation_internal _commit_hash _experts_implementation_internal
    _model_name_or_path _name_or_path _num_labels architectures attention_dropout attn_implementation attn_pdrop
    bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward classifier_dropout custom_pipelines
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping embd_pdrop
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id gradient_checkpointing hidden_dropout id2label initializer_range
    is_decoder is_llama_config label2id length_penalty max_length max_sequence_length min_length model_type
    no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences output_attentions
    output_hidden_states output_scores pad_token_id prefix pretraining_tp problem_type pruned_heads
    remove_invalid_values repetition_penalty resid_pdrop return_dict return_dict_in_generate sep_token_id
    summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj suppress_tokens
    task_specific_params temperature tie_encoder_decoder tokenizer_class top_k top_p torch_dtype torchscript
    transformers.js_config transformers_version typical_p unk_token_id unsloth_fixed unsloth_version use_bfloat16
    use_cache
    """.split()  # noqa: SIM905 - a list literal would take a line for each
)
# Options that every family has, with the one value under which its converter is right.
FIXED = {"add_cross_attention": False, "is_encoder_decoder": False}

# What peft calls an adapter's parts, and the layer that it wraps.
ADAPTER_NAME = re.compile(r"(^|\.)(lora_|base_layer\.|modules_to_save\.|prompt_encoder\.)")
MERGE = "unweave reads no adapters: merge it (peft: model.merge_and_unload()), save the merged model, and give that"

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@final
class Options:
    """The options of one HF config (its `to_dict()`), read by name. An option set to None counts as not set."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._family = options.get("model_type", "")
        self._options = {key: value for key, value in options.items() if value is not None}
        self._left = set(self._options) - HARMLESS
        for key, value in FIXED.items():
            self.expect(key, value)

    def read(self, key: str, default: Any = None) -> Any:
        """The option's value, or `default` where it is not set. Raises ModelError where both are missing."""
        self._left.discard(key)
        value = self._options.get(key, default)
        if value is None:
            raise ModelError(f"config option {key} is missing; a {self._family} model needs it")
        return value

    def expect(self, key: str, *accepted: object) -> None:
        """Refuses any value but these (or none)."""
        self._left.discard(key)
        value = self._options.get(key, accepted[0])
        if value not in accepted:
            self._refuse(key, value, "or ".join(f"{option!r}" for option in accepted))

    def activation(self, key: str) -> Activation:
        """The option's value as one of the activation functions that the forward pass has."""
        name = self.read(key)
        if not isinstance(name, str) or name not in ACTIVATIONS:
            self._refuse(key, name, ", ".join(sorted(ACTIVATIONS)))
        return ACTIVATIONS[name]

    def finish(self) -> None:
        """Refuses options that the converter has not read.

        Raises:
            ModelError: naming the first such option and its value.
        """
        for key in sorted(self._left):
            self._refuse(key, self._options[key], None)

    def _refuse(self, key: str, value: object, expected: str | None) -> NoReturn:
        known = f"it supports {expected}" if expected else "it does not know this option"
        raise ModelError(
            f"config option {key}={value!r} is not supported by unweave's {self._family} converter: {known}; "
            f"where the option does not change the logits, take it out of the config"
        )


@final
class Tensors:
    """The tensors of one checkpoint, taken by name with the shape that the config calls for.

    `prefix` is what the language model's head puts in front of the base model's names; checkpoints of the base model
    alone lack it. `ignored` are patterns of buffers that older checkpoints carry and no model reads.
    """

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str, ignored: Iterable[str] = ()) -> None:
        adapters = [name for name in tensors if ADAPTER_NAME.search(name)]
        if adapters:
            raise ModelError(f"tensor {adapters[0]} belongs to an adapter; {MERGE}")
        self._tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        patterns = [re.compile(pattern) for pattern in ignored]
        self._left = {name for name in self._tensors if not any(p.search(name) for p in patterns)}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of this name.

        Raises:
            ModelError: it is missing, of another shape, quantised, or not in memory.
        """
        if name not in self._tensors:
            raise ModelError(f"tensor {name} is missing; the config calls for one of shape {list(shape)}")
        self._left.discard(name)
        tensor = self._tensors[name].detach()
        if tuple(tensor.shape) != shape:
            raise ModelError(f"tensor {name} has shape {list(tensor.shape)}; the config calls for {list(shape)}")
        if tensor.is_meta or not tensor.is_floating_point() or tensor.dtype.itemsize < torch.float16.itemsize:
            kind = "not in memory" if tensor.is_meta else f"of type {tensor.dtype}"
            raise ModelError(f"tensor {name} is {kind}; load the model unquantised and wholly into memory")
        return tensor

    def take_if(self, there: bool, name: str, *shape: int) -> Tensor | None:
        """The tensor of this name where the config says that there is one, else None."""
        return self.take(name, *shape) if there else None

    def embeddings(self, name: str, head: str, config: Config) -> tuple[Tensor, Tensor]:
        """The embedding and the unembedding, `[d_vocab, d_model]` each: one tensor if they are tied.

        A checkpoint that holds both with different values is not tied, whatever its config says, and one of two that
        are tied may be missing; the reference library reads it so.
        """
        tied, shape = config.tied_unembed, (config.d_vocab, config.d_model)
        if tied and not (name in self and head in self):
            only = self.take(head if head in self else name, *shape)
            return only, only
        w_e, w_u = self.take(name, *shape), self.take(head, *shape)
        return w_e, w_e if tied and same_values(w_u, w_e) else w_u

    def finish(self) -> None:
        """Refuses tensors that the converter has not taken.

        Raises:
            ModelError: naming the first such tensor, and how many there are.
        """
        if self._left:
            first, *others = sorted(self._left)
            more = f" and {len(others)} more" if others else ""
            raise ModelError(
                f"tensor {first}{more} has no place in the model that the config describes; "
                f"unweave reads plain decoder-only language models, without adapters or other heads"
            )


def join(*parts: Tensor | None) -> Tensor | None:
    """Parts stacked along their rows; None where all are None."""
    given = [part for part in parts if part is not None]
    return torch.cat(given) if given else None
