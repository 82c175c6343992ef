"""Figures of edges that another implementation made, and the same question for unweave."""

import json
from pathlib import Path

import unweave as uw


def reference_name(edge: str) -> str:
    """`a0.h1->a1.h0<q>` as unweave writes it."""

    def end(text: str) -> str:
        if text in ("input", "logits"):
            return {"input": "embed"}.get(text, text)
        return f"mlp {text[1:]}" if text[0] == "m" else text[1:].replace(".h", ".")

    sender, receiver = edge.split("->")
    head, _, kind = receiver.rstrip(">").partition("<")
    return f"{end(sender)} -> {end(head)} {kind}".rstrip()


def edges_reference(shared_data: Path) -> tuple[dict, uw.Contrast]:
    """The file, and its model and prompts."""
    file = json.loads((shared_data / "edges_reference.json").read_text())
    shape = {name: file["config"][name] for name in ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "d_vocab")}
    config = uw.small_config(**shape, n_ctx=file["config"]["n_ctx"], activation=file["config"]["activation"])
    model = uw.load_model(shared_data / "models/edges_model.pt", config=config, dtype="float64", device="cpu")
    clean = uw.Prompts.from_tokens(file["clean"], answers=file["answer"], wrong=file["wrong"])
    return file, uw.Contrast(model, clean, uw.Prompts.from_tokens(file["corrupted"]), uw.LogitDiff())
