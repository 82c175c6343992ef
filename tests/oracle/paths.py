"""Naive path patching: three passes of the reference model with hooks, for one sender at a time.

1. recipient and donor are run, everything kept;
2. the recipient is run with the senders' values from the donor and every other head's `z` held at the recipient's own
   (and every other MLP's output, where MLPs are frozen); what the receivers read is kept. Or not `z` is held but the
   queries, keys and values of all heads, except those that receive;
3. the recipient is run with the receivers reading that. To the logits, the second pass is the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from tests.oracle.hooks import Edit, Trace, n_heads, part, run
from tests.oracle.pairs import Pair
from tests.oracle.sweeps import index_of, logit_difference, unpatched


@dataclass(frozen=True)
class Path:
    """Senders `("z", layer, head)`, `("mlp_out", layer, None)`, `("embed", 0, None)`; receivers `(input, layer, head)`,
    of keys and values the key/value head.

    `receivers` None stands for the logits, and a role None for all positions.
    """

    senders: tuple[tuple[str, int, int | None], ...]
    receivers: tuple[tuple[str, int, int | None], ...] | None
    sends_at: str | None = None
    receives_at: str | None = None
    live_mlps: bool = True
    attention: str = "z"


def effect(hf: PreTrainedModel, pair: Pair, path: Path, direction: str) -> Float[Tensor, " prompt"]:
    """The effect of one path, on the scale of the mean baselines."""
    clean, corrupted = unpatched(hf, pair)
    tokens, ours, theirs = (
        (pair.clean, clean, corrupted) if direction == "noise" else (pair.corrupted, corrupted, clean)
    )
    score = logit_difference(pair)
    base, gap = score(ours.logits), (score(clean.logits) - score(corrupted.logits)).mean()
    read = {site for site, _, _ in path.receivers or ()}
    second = run_kept(hf, tokens, frozen(hf, pair, path, ours, theirs), tuple(read))
    if path.receivers is None:
        return (score(second.logits) - base) / gap
    edits = [received(hf, pair, path, second, receiver) for receiver in path.receivers]
    return (score(run_kept(hf, tokens, edits, ()).logits) - base) / gap


def frozen(hf: PreTrainedModel, pair: Pair, path: Path, ours: Trace, theirs: Trace) -> list[Edit]:
    """All heads held, the senders' values put in."""
    layers = range(hf.config.num_hidden_layers)
    if path.attention == "z":
        edits = [Edit("z", layer, index_of("z"), ours.sites["z", layer]) for layer in layers]
    else:
        edits = held_inputs(hf, path, ours)
    if not path.live_mlps:
        edits += [Edit("mlp_out", layer, index_of("mlp_out"), ours.sites["mlp_out", layer]) for layer in layers]
    at = {} if path.sends_at is None else {"role": pair.roles[path.sends_at]}
    for name, layer, head in path.senders:
        site = "resid_pre" if name == "embed" else name
        index = index_of(site, **at, **({} if head is None else {"head": head}))
        edits.append(Edit(site, layer, index, theirs.sites[site, layer]))
    return edits


def held_inputs(hf: PreTrainedModel, path: Path, ours: Trace) -> list[Edit]:
    """Queries, keys and values of all heads held one by one, except those that receive."""
    edits = []
    for layer, site in product(range(hf.config.num_hidden_layers), ("q", "k", "v")):
        receive = {head for kind, at, head in path.receivers or () if (kind, at) == (site, layer)}
        for head in range(n_heads(hf, site)):
            if head not in receive:
                edits.append(Edit(site, layer, index_of(site, head=head), ours.sites[site, layer]))
    return edits


def received(hf: PreTrainedModel, pair: Pair, path: Path, second: Trace, receiver: tuple[str, int, int | None]) -> Edit:
    """What one receiver reads in the third pass."""
    site, layer, head = receiver
    at = {} if path.receives_at is None else {"role": pair.roles[path.receives_at]}
    if site == "mlp_in":
        return Edit("mlp_in", layer, index_of("mlp_in", **at), second.sites["mlp_in", layer])
    assert head is not None
    return Edit(site, layer, index_of(site, **at, head=head), second.sites[site, layer])


def run_kept(hf: PreTrainedModel, tokens: Tensor, edits: Sequence[Edit], keep: Sequence[str]) -> Trace:
    """`run`, with one site more: `mlp_in`, what the MLP module itself reads, which nothing else reads."""
    kept: dict[tuple[str, int], Tensor] = {}
    handles = []
    for layer in range(hf.config.num_hidden_layers):
        own = [edit for edit in edits if edit.site == "mlp_in" and edit.layer == layer]

        def see(module: object, args: tuple[Tensor, ...], layer: int = layer, own: list[Edit] = own) -> tuple[Tensor]:
            x = args[0].clone()
            for edit in own:
                x[edit.index] = edit.donor[edit.index]
            kept["mlp_in", layer] = x.clone()
            return (x,)

        handles.append(part(hf, "mlp", layer).register_forward_pre_hook(see))
    try:
        trace = run(
            hf, tokens, [edit for edit in edits if edit.site != "mlp_in"], [site for site in keep if site != "mlp_in"]
        )
    finally:
        for handle in handles:
            handle.remove()
    return Trace(trace.logits, {**trace.sites, **(kept if "mlp_in" in keep else {})})
