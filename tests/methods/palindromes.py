"""The palindrome classifier of the reference data, processed as its reference figures were, in float64."""

import json
from pathlib import Path
from typing import Any

import torch

import unweave as uw


def reference(folder: Path) -> dict[str, Any]:
    """Inputs and figures."""
    return json.loads((folder / "palindrome_reference.json").read_text(encoding="utf-8"))


PROCESSING = ("center_writing", "center_unembed", "fold_norm", "fold_value_bias")


def classifier(folder: Path, dtype: str = "float64", process: tuple[str, ...] = PROCESSING) -> uw.Model:
    """Two layers of two heads, attention alone; centred, norms folded, value biases folded."""
    return uw.load_model(
        folder / "models" / "palindrome_classifier.pt",
        config=uw.small_config(d_vocab_out=2, name="palindrome classifier"),
        device="cpu",
        dtype=dtype,
        process=process,
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
