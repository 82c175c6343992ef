"""Ablation of what is not in a circuit, row by row: where a head's output stays, and what stands elsewhere.

Wang et al. 2022 (arXiv 2211.00593): `z` of a head is replaced by its mean over reference prompts of the
same template, position by position: over the corrupted prompts, unless `source="clean"`. Of a circuit's head it stays
at the positions of its group's roles, in each prompt its own. MLPs, embeddings and norms are never ablated.

    F(C \\ K)   the circuit without K stays, every other head is ablated everywhere
    F(M \\ K)   the whole model stays but for K, ablated only where its heads count

What stays is a `Kept`; its mask `[layer prompt pos head]` is made for the prompts in hand.

A set of 16 or 32 indirect-object prompts has one or two of each template. The mean over one prompt is that prompt, so
that nothing would be ablated; the mean over two is half of it. Then more reference prompts are drawn, of the pair's
templates and corrupted as the pair's are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from unweave.circuits.circuit import Circuit
from unweave.errors import InputError
from unweave.methods.replacement import Replacement, Values, replacement_of, replacing
from unweave.metrics.contrast import Contrast
from unweave.models.prompts import Prompts
from unweave.nodes import Head
from unweave.tasks.indirect_object import ioi
from unweave.tasks.templates import own_templates

# Fewer prompts than this make a poor template mean: it holds too much of each one.
FEW = 5
# Prompts that are drawn of each template, if there are too few.
PER_TEMPLATE = 6


@dataclass(frozen=True)
class Kept:
    """Where `z` stays: of these heads at these places, and of no other head; `inverted`: everywhere but there."""

    places: Mapping[Head, Bool[Tensor, "prompt pos"]]
    inverted: bool = False

    def mask(self, pair: Contrast, rows: Sequence[int]) -> Bool[Tensor, "layer prompt pos head"]:
        """The mask of some prompts."""
        config, tokens = pair.model.config, pair.prompts.tokens
        at = torch.tensor(rows, device=tokens.device)
        shape = (config.n_layers, len(at), tokens.shape[1], config.n_heads)
        mask = torch.zeros(shape, dtype=torch.bool, device=tokens.device)
        for (layer, head), where in self.places.items():
            mask[layer, :, :, head] = where[at]
        return ~mask if self.inverted else mask


NOTHING = Kept({})


@dataclass(frozen=True)
class Ablation:
    """What a circuit's runs on a pair share: what replaces heads, and where each of the circuit's heads counts.

    Args:
        values: of some prompts, `[prompt pos head d_head]` of each (`"z"`, layer), in place of `z`.
        places: of each head of the circuit, the positions where it counts. Roles at one position are one place.
        about: how it was done, as attributes of a result.
    """

    pair: Contrast
    values: Values = field(repr=False)
    places: Mapping[Head, Bool[Tensor, "prompt pos"]] = field(repr=False)
    about: Mapping[str, str | int | float] = field(default_factory=dict)

    def only(self, heads: Iterable[Head]) -> Kept:
        """These heads of the circuit stay where they count: `only(C \\ K)` is the circuit without K."""
        return Kept({head: self.places[head] for head in heads})

    def all_but(self, heads: Iterable[Head]) -> Kept:
        """Everything stays except these heads where they count: the whole model without K."""
        return replace(self.only(heads), inverted=True)


def ablation_of(
    circuit: Circuit,
    pair: Contrast,
    how: str | Replacement | None = None,
    reference: Prompts | None = None,
    union: bool = False,
    *,
    source: str | Prompts | None = None,
    memory: int | float | None = None,
) -> Ablation:
    """The ablation of a circuit on a pair; the arguments are those of `uw.evaluate`.

    Raises:
        InputError: a circuit that does not fit the pair, or reference prompts that give no means.
    """
    circuit.check(pair)
    how, note = replacement_for(pair, how, reference, source)
    values, more = replacing(pair, [("z", layer) for layer in range(pair.model.config.n_layers)], how, memory)
    about = {
        **how.attrs,
        "positions": "union over prompts" if union else "each prompt's own",
        "ablated": "z of every head that is not kept; MLPs are never ablated",
        "notes": "; ".join(part for part in (note, more) if part),
    }
    return Ablation(pair, values, places_of(circuit, pair.prompts, union), about)


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


def replacement_for(
    pair: Contrast, how: str | Replacement | None, reference: Prompts | None, source: str | Prompts | None
) -> tuple[Replacement, str]:
    """What replaces heads or edges, and a note on how that was chosen."""
    if reference is not None and source is not None:
        raise InputError("source: the values are those of reference=; leave one of them out")
    whose = source if reference is None else reference
    if isinstance(how, Replacement):
        return replacement_of(how, whose), ""
    kind = how or ("mean" if pair.prompts.groups is None else "template")
    fill = replacement_of(kind, whose)
    if kind == "template" and not isinstance(whose, Prompts) and not _enough(pair):
        drawn = drawn_reference(pair, source=fill.reference_name)
        if drawn is not None:
            return Replacement(kind, drawn), _said(drawn, fill.reference_name)
    note = "the prompts have no templates, so a mean is over all reference prompts by position"
    return fill, note if how is None and kind == "mean" else ""


def _enough(pair: Contrast) -> bool:
    groups = pair.prompts.groups
    return groups is None or int(groups.unique(return_counts=True)[1].min()) >= FEW


def _said(drawn: Prompts, source: str) -> str:
    assert drawn.groups is not None
    kind = drawn.source["corruption"] if source == "corrupted" else source
    what = f"{len(drawn)} {kind} prompts of {len(drawn.groups.unique())} templates"
    return f"means over {what}, drawn on as the pair's own (seed {drawn.source['seed']}), which are too few for them"


def reference_prompts(pair: Contrast, per_template: int = PER_TEMPLATE) -> Prompts:
    """`per_template` corrupted prompts of each of the pair's templates, for `uw.evaluate(…, reference=…)`.

    They continue the pair's own set: the same seed, order of names, templates and corruption.

    Raises:
        InputError: a pair that `uw.tasks.ioi` did not make from its own templates, or `per_template` below 2.
    """
    if per_template < 2:
        raise InputError(f"per_template: expected at least 2, since the mean of one is that one, got {per_template}")
    drawn = drawn_reference(pair, per_template)
    if drawn is None:
        raise InputError(
            "pair: more prompts of its templates can be drawn only where uw.tasks.ioi made it from its own templates; "
            "make a larger set yourself, and give it as reference="
        )
    return drawn


def drawn_reference(pair: Contrast, per_template: int = PER_TEMPLATE, source: str = "corrupted") -> Prompts | None:
    """As `reference_prompts`, or clean ones; None where they cannot be drawn."""
    prompts, made, corruption = pair.prompts, pair.prompts.source, pair.corrupted.source.get("corruption")
    made_here = made.get("task") == "ioi" and made.get("templates") == "unweave"
    if not made_here or corruption is None or prompts.groups is None or pair.model.tokenizer is None:
        return None
    task = ioi(
        pair.model,
        n_prompts=per_template * len(own_templates().templates),
        seed=int(made["seed"]),
        order=made["order"],  # type: ignore[arg-type]
        bos=prompts.bos,
    )
    drawn = task.corrupt(str(corruption)) if source == "corrupted" else task.prompts
    assert drawn.groups is not None
    wanted = torch.isin(drawn.groups, prompts.groups.cpu())
    return drawn.take(wanted.nonzero()[:, 0])
