"""A tiny random model in a folder, with a tokenizer that reads every word of the IOI task as one token."""

import json
import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import unweave.tasks

BOS, UNKNOWN = "<bos>", "<unk>"
# The words of the eight fixed prompts, and a few for pairs that tests write themselves.
_MORE = (
    "When After and went to the shops park gave the bag ball an apple drink John Mary Tom James Dan Sid Martin Amy "
    "The capital of France Italy is Paris Rome , . script <script> alert( )"
)


def write_tiny_folder(folder: Path, seed: int = 0) -> Path:
    """Three layers of four heads, two of keys and values, in float32."""
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.4 + (1 if "norm" in name else 0))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    data = json.loads((Path(unweave.tasks.__file__).parent / "data" / "ioi.json").read_text(encoding="utf-8"))
    texts = [re.sub(r"\[\w+\]", "X", text) for text in data["templates"]]
    words = [*data["names"], *data["places"], *data["objects"], *_MORE.split()]
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces = {
        piece for text in [*texts, *words, *(f" {word}" for word in words)] for piece, _ in split.pre_tokenize_str(text)
    }
    vocabulary = {word: number for number, word in enumerate([BOS, UNKNOWN, *sorted(pieces)])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = split  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, unk_token=UNKNOWN)
