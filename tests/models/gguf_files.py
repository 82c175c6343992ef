"""A tiny Llama with a byte-level tokenizer, written as a GGUF file and as a folder, for tests without a network."""

from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = [" John", " Mary", " gave", " milk", " to"]
SPECIAL = ["<unk>", "<s>", "</s>"]
D_MODEL, D_MLP, N_LAYERS, N_HEADS, N_KV_HEADS = 16, 24, 2, 4, 2


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges of a byte-level tokenizer that knows `WORDS`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens, merges = [*SPECIAL, *alphabet], []
    for word in WORDS:
        built = "Ġ"
        for letter in word[1:]:
            merge, built = f"{built} {letter}", built + letter
            if built not in tokens:
                tokens.append(built)
                merges.append(merge)
    return tokens, merges


def tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of these files."""
    tokens, merges = vocabulary()
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    built = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, pairs))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=built, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def write_gguf(file: Path, *, extra: str = "", rope_scaling: bool = False, kind: str = "model") -> Path:
    """A random Llama in `file`. `extra` names one more tensor; `rope_scaling` states an option that must be refused."""
    tokens, merges = vocabulary()
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_type(kind)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(32)
    writer.add_embedding_length(D_MODEL)
    writer.add_block_count(N_LAYERS)
    writer.add_feed_forward_length(D_MLP)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(D_MODEL // N_HEADS)
    writer.add_vocab_size(len(tokens))
    if rope_scaling:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges(merges)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, shape in (_shapes(len(tokens)) | ({extra: (4,)} if extra else {})).items():
        noise = np.random.default_rng(len(name) + sum(map(ord, name))).standard_normal(shape)
        writer.add_tensor(name, (0.3 * noise + ("norm" in name)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _shapes(n_tokens: int) -> dict[str, tuple[int, ...]]:
    kv = D_MODEL // N_HEADS * N_KV_HEADS
    layer = {
        "attn_norm": (D_MODEL,),
        "attn_q": (D_MODEL, D_MODEL),
        "attn_k": (kv, D_MODEL),
        "attn_v": (kv, D_MODEL),
        "attn_output": (D_MODEL, D_MODEL),
        "ffn_norm": (D_MODEL,),
        "ffn_gate": (D_MLP, D_MODEL),
        "ffn_up": (D_MLP, D_MODEL),
        "ffn_down": (D_MODEL, D_MLP),
    }
    outside = {"token_embd.weight": (n_tokens, D_MODEL), "output_norm.weight": (D_MODEL,)}
    return outside | {f"blk.{i}.{name}.weight": shape for i in range(N_LAYERS) for name, shape in layer.items()}
