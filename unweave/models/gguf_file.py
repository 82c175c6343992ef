"""A GGUF file (llama.cpp's format), read through transformers, which unpacks quantised weights to float32.

transformers drops what it has no place for: frequencies of scaled rotary positions, extra tensors. So the file's own
header is read first, and a file that holds more than what came out is refused.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, LlamaFileType

from unweave.errors import ModelError
from unweave.models.checkpoint import Checkpoint
from unweave.models.families.guard import MERGE
from unweave.models.hf_folder import one_line, read_tokenizer, refuse_adapter
from unweave.models.quiet import quiet

# Options of an architecture that transformers reads, or checks the shapes of tensors by.
_KNOWN_KEYS = frozenset(
    {
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_epsilon",
        "attention.layer_norm_rms_epsilon",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "tensor_data_layout",
        "vocab_size",
    }
)


def read_gguf(file: Path, tokenizer: Any = None) -> Checkpoint:
    """The model in a GGUF file, in float32. Takes tens of seconds: metadata is read value by value.

    Raises:
        ModelError: a truncated file, an architecture that transformers cannot read, options that it would drop.
    """
    refuse_adapter(file.parent)
    header = _header(file)
    if header.get_field("general.type") and header.fields["general.type"].contents() == "adapter":
        raise ModelError(f"{file}: is an adapter; {MERGE}")
    _refuse_dropped_options(file, header)
    options, tensors = _model_of(file)
    if len(tensors) != len(header.tensors):
        raise ModelError(f"{file}: holds {len(header.tensors)} tensors, and transformers reads {len(tensors)} of them")
    return Checkpoint(
        options=options,
        tensors=tensors,
        tokenizer=read_tokenizer(file.parent, tokenizer, gguf_file=file.name),
        name=file.stem,
        source=str(file),
        revision=sha256_of(file)[:12],
        quantization=_quantization(header),
    )


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _header(file: Path) -> GGUFReader:
    try:
        return GGUFReader(file)
    except (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{file}: truncated, altered or not a GGUF file ({one_line(error)}); fetch it again"
        ) from error


def _refuse_dropped_options(file: Path, header: GGUFReader) -> None:
    architecture = str(header.fields["general.architecture"].contents())
    for key, field in header.fields.items():
        if not key.startswith(f"{architecture}.") or key.removeprefix(f"{architecture}.") in _KNOWN_KEYS:
            continue
        value = field.contents()
        if value not in (None, False, 0, "none"):
            raise ModelError(
                f"{file}: option {key}={value!r} is dropped by transformers; give the model as a HF folder"
            )
    if any(tensor.name.startswith("rope_freqs") for tensor in header.tensors):
        raise ModelError(f"{file}: rope_freqs (scaled rotary positions) is dropped by transformers; give a HF folder")


def _model_of(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """HF config and state dict. transformers reads the config as tied exactly if the file holds no unembedding."""
    from transformers import AutoModelForCausalLM

    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name, "local_files_only": True}
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, output_loading_info=True)
    except Exception as error:  # transformers raises many kinds for files it cannot read
        raise ModelError(f"{file}: transformers cannot read this file ({one_line(error)})") from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"{file}: no tensor for {missing[0]}; fetch the file again")
    options = model.config.to_dict()
    # What remains of the file's quantisation: the weights are plain float32 now.
    options.pop("quantization_config", None)
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if options.get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    return options, tensors


def _quantization(header: GGUFReader) -> str:
    """`4-bit (GGUF Q4_1)`, from the file type that the header states."""
    field = header.get_field("general.file_type")
    known = {kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType}
    kind = known.get(int(field.contents()), "") if field else ""
    bits = re.search(r"\d+", kind)
    if not bits:
        return "GGUF"
    return "" if kind == "F32" else f"{bits.group()}-bit (GGUF {kind})"
