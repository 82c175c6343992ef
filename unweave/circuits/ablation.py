"""Ablation of what is not in a circuit, row by row: where a head's output stays, and what stands elsewhere.

Wang et al. 2022 (arXiv 2211.00593): `z` of a head is replaced by its mean over reference prompts of the
same template, position by position. Of a circuit's head it stays at the positions of its group's roles, in each prompt
its own. MLPs, embeddings and norms are never ablated.

    F(C \\ K)   the circuit without K stays, every other head is ablated everywhere
    F(M \\ K)   the whole model stays but for K, ablated only where its heads count

`kept` is a mask `[layer prompt pos head]`, true where `z` stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unweave.circuits.circuit import Circuit
from unweave.circuits.reference import drawn_reference
from unweave.errors import InputError
from unweave.methods.heads import Head
from unweave.methods.replacement import Replacement, replaced_values
from unweave.metrics.contrast import Contrast
from unweave.models.prompts import Prompts

# Fewer prompts than this make a poor template mean: it holds too much of each one.
FEW = 5


@dataclass(frozen=True)
class Ablation:
    """What the runs of one circuit on one pair share: what stands in, and where each of the circuit's heads counts.

    Args:
        values: `[prompt pos head d_head]` of each layer, in place of `z`.
        places: of each head of the circuit, the positions where it counts.
        about: how it was done, as attributes of a result.
    """

    pair: Contrast
    values: Mapping[int, Float[Tensor, "prompt pos head d_head"]] = field(repr=False)
    places: Mapping[Head, Bool[Tensor, "prompt pos"]] = field(repr=False)
    about: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def nothing(self) -> Bool[Tensor, "layer prompt pos head"]:
        """The mask that keeps no head."""
        config, tokens = self.pair.model.config, self.pair.prompts.tokens
        return torch.zeros(config.n_layers, *tokens.shape, config.n_heads, dtype=torch.bool, device=tokens.device)

    def keeping(self, places: Mapping[Head, Bool[Tensor, "prompt pos"]]) -> Bool[Tensor, "layer prompt pos head"]:
        """The mask that keeps some heads, each at its places."""
        kept = self.nothing
        for (layer, head), where in places.items():
            kept[layer, :, :, head] = where
        return kept

    def only(self, heads: Iterable[Head]) -> Bool[Tensor, "layer prompt pos head"]:
        """The mask that keeps these heads of the circuit where they count: `only(C \\ K)` is the circuit without K."""
        return self.keeping({head: self.places[head] for head in heads})

    def all_but(self, heads: Iterable[Head]) -> Bool[Tensor, "layer prompt pos head"]:
        """The mask that keeps everything except these heads where they count: the whole model without K."""
        return ~self.only(heads)


def ablation_of(
    circuit: Circuit,
    pair: Contrast,
    how: str | Replacement | None = None,
    reference: Prompts | None = None,
    union: bool = False,
) -> Ablation:
    """The ablation of a circuit on a pair; the arguments are those of `uw.evaluate`.

    Raises:
        InputError: a circuit that does not fit the pair, or reference prompts that give no means.
    """
    circuit.check(pair)
    how, note = _replacement(pair, how, reference)
    layers = range(pair.model.config.n_layers)
    values, more = replaced_values(pair, [("z", layer) for layer in layers], how)
    by_layer = {layer: values["z", layer] for layer in layers}
    about = {
        "ablation": how.how,
        "reference": how.reference_name,
        "positions": "union over prompts" if union else "each prompt's own",
        "ablated": "z of every head that is not kept; MLPs are never ablated",
        "notes": "; ".join(part for part in (note, more) if part),
    }
    return Ablation(pair, by_layer, places_of(circuit, pair.prompts, union), about)


def places_of(circuit: Circuit, prompts: Prompts, union: bool = False) -> dict[Head, Bool[Tensor, "prompt pos"]]:
    """Where each head of the circuit counts: the positions of its group's roles.

    `union` keeps, in every prompt, the positions of all prompts together. That is what some published code does where
    roles stand at unlike positions, and it keeps more than the circuit; it is here to compare with such figures.
    """
    places = {}
    rows = torch.arange(len(prompts), device=prompts.tokens.device)
    for group in circuit.groups:
        mask = torch.full(prompts.tokens.shape, group.roles == "all", device=prompts.tokens.device)
        for role in () if group.roles == "all" else group.roles:
            mask[rows, prompts.role(role)] = True
        if union:
            mask = mask.any(0, keepdim=True).expand_as(mask)
        places |= dict.fromkeys(group.heads, mask)
    return places


def _replacement(pair: Contrast, how: str | Replacement | None, reference: Prompts | None) -> tuple[Replacement, str]:
    """What stands in, and a note on how that was chosen."""
    if isinstance(how, Replacement):
        if reference is not None:
            raise InputError("reference: how= has its own; give Replacement(…, reference=…) alone")
        return how, ""
    if how is None and pair.prompts.groups is None:
        note = "the prompts have no templates, so a mean is over all reference prompts by position"
        return Replacement("mean", "corrupted" if reference is None else reference), note
    kind = how or "template"
    if reference is not None or kind != "template":
        return Replacement(kind, "corrupted" if kind == "mean" and reference is None else reference), ""
    drawn = None if _enough(pair) else drawn_reference(pair)
    if drawn is None:
        return Replacement("template"), ""
    return replace(Replacement("template"), reference=drawn), _said(drawn)


def _enough(pair: Contrast) -> bool:
    groups = pair.prompts.groups
    return groups is None or int(groups.unique(return_counts=True)[1].min()) >= FEW


def _said(drawn: Prompts) -> str:
    assert drawn.groups is not None
    what = f"{len(drawn)} {drawn.source['corruption']} prompts of {len(drawn.groups.unique())} templates"
    return f"means over {what}, drawn on as the pair's own (seed {drawn.source['seed']}), which are too few for them"
