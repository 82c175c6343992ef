"""The palindrome classifier of the reference data, processed as its reference figures were, in float64."""

import json
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

import unweave as uw
from unweave.models.config import Config
from unweave.models.weights import LayerWeights, NormWeights, Weights


def reference(folder: Path) -> dict[str, Any]:
    """Inputs and figures."""
    return json.loads((folder / "palindrome_reference.json").read_text(encoding="utf-8"))


def classifier(folder: Path) -> uw.Model:
    """Two layers of two heads, attention alone; centred, norms folded, value biases folded."""
    return stored(folder).process("center_writing", "center_unembed", "fold_norm", "fold_value_bias")


def stored(folder: Path) -> uw.Model:
    """The same with the weights as they are stored."""
    stored = torch.load(folder / "models" / "palindrome_classifier.pt", weights_only=True, map_location="cpu")
    state = {name: value.double() for name, value in stored.items() if value.is_floating_point()}
    config = Config(
        name="palindrome classifier",
        family="classifier",
        n_layers=2,
        n_heads=2,
        n_kv_heads=2,
        d_model=28,
        d_head=14,
        d_mlp=0,
        d_vocab=33,
        d_vocab_out=2,
        n_ctx=22,
        norm="layer",
        norm_eps=1e-5,
        block="serial",
        positions="learned",
        score_scale=14**-0.5,
        activation="relu",
        gated_mlp=False,
    )
    weights = Weights(
        w_e=state["embed.W_E"],
        w_pos=state["pos_embed.W_pos"],
        layers=tuple(_layer(state, f"blocks.{layer}") for layer in range(2)),
        norm_final=NormWeights(state["ln_final.w"], state["ln_final.b"]),
        w_u=state["unembed.W_U"].T.contiguous(),
        b_u=state["unembed.b_U"],
    )
    return uw.Model(config, weights)


def _layer(state: dict[str, Tensor], at: str) -> LayerWeights:
    rows = [rearrange(state[f"{at}.attn.W_{kind}"], "head d e -> (head e) d") for kind in "QKV"]
    biases = [state[f"{at}.attn.b_{kind}"].flatten() for kind in "QKV"]
    return LayerWeights(
        norm1=NormWeights(state[f"{at}.ln1.w"], state[f"{at}.ln1.b"]),
        w_qkv=torch.cat(rows),
        b_qkv=torch.cat(biases),
        w_o=rearrange(state[f"{at}.attn.W_O"], "head e d -> d (head e)"),
        b_o=state[f"{at}.attn.b_O"],
        norm2=NormWeights(),
        w_in=None,
        b_in=None,
        w_out=None,
        b_out=None,
    )


def pair(folder: Path, name: str, size: int | None = None) -> uw.Contrast:
    """The prompts of a data set (the first `size` of them) against the same with their second half reversed.

    The class is read off the last token; 1 is a palindrome. Only the clean side counts for a change of the loss.
    """
    inputs = reference(folder)["inputs"]
    tokens, answers = torch.tensor(inputs[f"{name}.toks"])[:size], torch.tensor(inputs[f"{name}.is_palindrome"])[:size]
    other = torch.cat([tokens[:, :11], tokens[:, 11:21].flip(1), tokens[:, 21:]], dim=1)
    clean = uw.Prompts.from_tokens(tokens, answers=answers, wrong=1 - answers)
    return uw.Contrast(classifier(folder), clean, uw.Prompts.from_tokens(other), uw.CrossEntropy())
