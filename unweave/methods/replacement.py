"""What stands in for an activation that is knocked out.

    zero       nothing
    mean       the mean over prompts at each position
    template   the mean over the prompts of the same template at each position (Wang et al. 2022, arXiv 2211.00593)
    resample   the activation of another prompt, the one of the same number in `reference`
    gaussian   independent draws of N(0, 1)

A mean at a position is over the prompts that reach it. A pattern that is drawn or averaged is 0 where the clean prompts
have no entry: in a causal model's future, and at padding where attention sees both ways. Template means need the
prompts of a template to have aligned tokens, hence equal lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.donor import Donor, GivenDonor, RunDonor
from unweave.engine.memory import budget_bytes, in_portions, recording_bytes
from unweave.errors import InputError
from unweave.metrics.contrast import Contrast
from unweave.models.config import Config
from unweave.models.forward import seen_keys
from unweave.models.prompts import Prompts
from unweave.models.run import Key
from unweave.models.sites import SITES, n_heads_at

KINDS = ("zero", "mean", "template", "resample", "gaussian")
_SIDES = ("clean", "corrupted")


@final
@dataclass(frozen=True)
class Replacement:
    """How activations are replaced: `Replacement("mean", reference="corrupted")`.

    Args:
        how: `zero mean template resample gaussian`.
        reference: the prompts that means and resampled activations are taken from: `"clean"`, `"corrupted"`, or other
            prompts. By default the clean ones for `mean`, the corrupted ones for `template` and `resample`.
        seed: of the Gaussian draws.
        lone: what to do with a template of one prompt, whose mean is that prompt itself: `"refuse"`, or `"keep"`.

    Raises:
        InputError: any other value of an option.
    """

    how: str
    reference: str | Prompts | None = None
    seed: int = 0
    lone: str = "refuse"

    def __post_init__(self) -> None:
        if self.how not in KINDS:
            raise InputError(f"how: expected one of {', '.join(KINDS)}, got {self.how!r}")
        if isinstance(self.reference, str) and self.reference not in _SIDES:
            raise InputError(f"reference: expected 'clean', 'corrupted' or prompts, got {self.reference!r}")
        if self.lone not in ("refuse", "keep"):
            raise InputError(f"lone: expected 'refuse' or 'keep', got {self.lone!r}")

    @property
    def uses_reference(self) -> bool:
        return self.how in ("mean", "template", "resample")

    @property
    def reference_name(self) -> str:
        """`clean`, `corrupted` or `other prompts`; empty where none are used."""
        if not self.uses_reference:
            return ""
        if self.reference is None:
            return "clean" if self.how == "mean" else "corrupted"
        return self.reference if isinstance(self.reference, str) else "other prompts"

    def reference_of(self, pair: Contrast) -> Prompts:
        """The prompts that values are taken from."""
        if isinstance(self.reference, Prompts):
            return pair.model.prompts(self.reference)
        return pair.side(self.reference_name)


def replacement_of(how: str | Replacement) -> Replacement:
    """`how` with its default options. Raises InputError where it is neither."""
    return how if isinstance(how, Replacement) else Replacement(how)


def replaced_values(pair: Contrast, keys: Iterable[Key], how: Replacement) -> tuple[dict[Key, Tensor], str]:
    """The values that stand in at these sites and layers, each in its site's shape, and a note on them.

    Raises:
        InputError: as `donor_of`.
    """
    wanted = list(dict.fromkeys(keys))
    donor, note = donor_of(pair, wanted, how)
    return donor.values(pair.model.config, pair.model.weights, wanted, range(len(pair.prompts))), note


def donor_of(
    pair: Contrast, keys: Iterable[Key], how: Replacement, memory: int | float | None = None
) -> tuple[Donor, str]:
    """What gives the values that stand in at these sites and layers, for the prompts that are asked for; and a note.

    Raises:
        InputError: reference prompts that do not fit the clean ones; for `template`, prompts without templates, of
            unequal lengths in one template, or a template of one prompt (unless `lone="keep"`).
    """
    n_prompts, n_pos = pair.prompts.tokens.shape
    if how.uses_reference:
        reference = how.reference_of(pair)
        if how.how == "resample":
            return _run_of(pair, _paired(pair.prompts, reference)), ""
        group, group_of, note = _groups(pair.prompts, reference, how)
        means = _means(pair, reference, list(dict.fromkeys(keys)), group, memory)
        return GivenDonor(
            lambda key, rows: _within(pair, key[0], _laid(means[key], group_of[rows], n_pos, key), rows)
        ), note

    def made(key: Key, rows: list[int]) -> Tensor:
        shape = site_shape(pair.model.config, key[0], n_prompts, n_pos)
        drawn = torch.zeros(len(rows), *shape[1:]) if how.how == "zero" else gaussian(shape, how.seed, *key)[rows]
        return _within(pair, key[0], drawn.to(pair.model.weights.w_e), rows)

    return GivenDonor(made), ""


def site_shape(config: Config, site: str, n_prompts: int, n_pos: int) -> tuple[int, ...]:
    """The shape of a site's tensor in this model."""
    n_heads = n_heads_at(config, SITES[site])
    if SITES[site].rows == "attention":
        return (n_prompts, config.n_heads, n_pos, n_pos)
    return (n_prompts, n_pos, config.d_model) if n_heads is None else (n_prompts, n_pos, n_heads, config.d_head)


def gaussian(shape: tuple[int, ...], seed: int, site: str, layer: int) -> Tensor:
    """N(0, 1) in float32. A site and layer has its own stream: its draws do not depend on what else is drawn."""
    number = (seed * len(SITES) + list(SITES).index(site)) * 4096 + layer
    return torch.randn(shape, generator=torch.Generator().manual_seed(number))


def _within(pair: Contrast, site: str, value: Tensor, rows: list[int]) -> Tensor:
    """A pattern's values for some prompts, 0 where these have no entry; any other site's as they are."""
    if site != "pattern":
        return value
    seen = seen_keys(pair.model.config, pair.prompts.tokens[rows], pair.prompts.lengths[rows])
    return value.tril() if seen is None else value * seen[:, None, None]


def _run_of(pair: Contrast, prompts: Prompts) -> RunDonor:
    """The run of some prompts, which is not made again where they are the pair's own."""
    known = next((run for run in (pair.clean_run, pair.spoiled_run) if run.prompts is prompts), None)
    return RunDonor(prompts, known)


def _groups(
    clean: Prompts, reference: Prompts, how: Replacement
) -> tuple[Int[Tensor, " reference"], Int[Tensor, " prompt"], str]:
    """The group of each reference prompt, of which a mean is taken, and of each clean one; and a note."""
    if how.how == "template":
        return _templates(clean, reference, how.lone)
    longest, reach = int(clean.lengths.max()), int(reference.lengths.max())
    if reach < longest:
        raise InputError(
            f"reference: its longest prompt has {reach} tokens, and the clean prompts have up to {longest}, so there "
            "is no mean at the last positions; give longer reference prompts"
        )
    everyone, each = (torch.zeros(len(prompts), dtype=torch.long) for prompts in (reference, clean))
    uneven = len(set(reference.lengths.tolist())) > 1
    note = "prompts have unequal lengths: a position's mean is over the prompts that reach it" if uneven else ""
    return everyone, each, note


def _templates(
    clean: Prompts, reference: Prompts, lone: str
) -> tuple[Int[Tensor, " reference"], Int[Tensor, " prompt"], str]:
    """As `_groups`, by template. Reference prompts without templates of their own are paired with the clean ones."""
    if clean.groups is None:
        raise InputError(
            "how: the prompts have no templates, so there is no mean by template; give Prompts groups=, "
            "or use how='mean'"
        )
    ours = clean.groups.cpu()
    if reference.groups is None:
        _paired(clean, reference)
    theirs = ours if reference.groups is None else reference.groups.cpu()
    names = ours.unique().tolist()
    for name in names:
        lengths = {*clean.lengths.cpu()[ours == name].tolist(), *reference.lengths.cpu()[theirs == name].tolist()}
        if len(lengths) > 1:
            raise InputError(
                f"how: the prompts of template {name} have {sorted(lengths)} tokens, and a mean by template needs "
                "aligned tokens; give prompts of equal length in each template, or use how='mean'"
            )
    counts = {name: int((theirs == name).sum()) for name in names}
    _check_counts(counts, lone)
    single = [name for name, count in counts.items() if count == 1]
    note = f"{_counted(single)} one prompt: its mean is the prompt itself" if single else ""
    number = {name: index for index, name in enumerate(names)}
    group = torch.tensor([number.get(name, len(names)) for name in theirs.tolist()])
    return group, torch.tensor([number[name] for name in ours.tolist()]), note


def _check_counts(counts: Mapping[int, int], lone: str) -> None:
    """Raises InputError for templates of no prompt, and of one prompt unless they are to be kept."""
    none = [name for name, count in counts.items() if count == 0]
    if none:
        raise InputError(f"reference: {_counted(none)} no prompt in it; give prompts of the same templates")
    single = [name for name, count in counts.items() if count == 1]
    if single and lone == "refuse":
        raise InputError(
            f"how: {_counted(single)} one prompt, whose mean is the prompt itself; take more prompts, or a larger "
            "reference; use 'mean'; or accept it with lone 'keep': Replacement('template', lone='keep'), --lone keep"
        )


def _counted(names: list[int]) -> str:
    listed = ", ".join(map(str, names))
    return f"template {listed} has" if len(names) == 1 else f"templates {listed} have"


def _means(
    pair: Contrast, reference: Prompts, keys: list[Key], group: Int[Tensor, " reference"], memory: int | float | None
) -> dict[Key, Float[Tensor, "group pos ..."]]:
    """Means over the reference prompts of each group by position, over those that reach it; 0 where none does.

    They are summed in float32 or wider, some prompts at a time.
    """
    model, (n_reference, n_pos) = pair.model, reference.tokens.shape
    reached = torch.arange(n_pos, device=model.device) < reference.lengths[:, None]
    member = torch.nn.functional.one_hot(group, int(group.max()) + 1).T.to(model.device)
    weight = (member[:, :, None] * reached).to(torch.promote_types(model.dtype, torch.float32))
    totals: dict[Key, Tensor] = {}

    def add(rows: range) -> None:
        kept = _run_of(pair, reference).values(model.config, model.weights, keys, rows)
        sums = {
            # a pattern's destination comes second, as any position
            key: einsum(weight[:, list(rows)], _by_pos(key, kept.pop(key)).to(weight), "g n p, n p ... -> g p ...")
            for key in keys
        }
        totals.update({key: totals[key] + part if key in totals else part for key, part in sums.items()})

    one = recording_bytes(model.config, n_pos, keys, model.dtype.itemsize)
    in_portions(n_reference, budget_bytes(memory, model.device) // 2 // one, add)
    count = weight.sum(1).clamp_min(1)
    return {key: (x / count.reshape(*count.shape, *(1,) * (x.ndim - 2))).to(model.dtype) for key, x in totals.items()}


def _by_pos(key: Key, value: Tensor) -> Tensor:
    """A site's tensor with positions second; the same again turns it back."""
    return value.movedim(2, 1) if SITES[key[0]].rows == "attention" else value


def _laid(means: Float[Tensor, "group pos ..."], group: Int[Tensor, " prompt"], n_pos: int, key: Key) -> Tensor:
    """Means of some prompts' groups, in their site's shape."""
    laid = _by_pos(key, _fit(means[group.to(means.device)], n_pos, 1))
    return _fit(laid, n_pos, 3) if SITES[key[0]].rows == "attention" else laid


def _fit(values: Tensor, n_pos: int, dim: int) -> Tensor:
    """`values` with `n_pos` positions along `dim`: cut, or filled up with zeros that only padding meets."""
    have = values.shape[dim]
    if have >= n_pos:
        return values.narrow(dim, 0, n_pos)
    shape = list(values.shape)
    shape[dim] = n_pos - have
    return torch.cat([values, values.new_zeros(shape)], dim)


def _paired(clean: Prompts, reference: Prompts) -> Prompts:
    """Reference prompts, one for each clean one, padded alike. Raises InputError where they are not."""
    n_pos = clean.tokens.shape[1]
    if not torch.equal(reference.lengths.cpu(), clean.lengths.cpu()):
        raise InputError(
            f"reference: expected {len(clean)} prompts of the clean prompts' lengths, one for each, got "
            f"{len(reference)}; use how='mean' for prompts of another number or length"
        )
    as_wide = reference.tokens.shape[1] == n_pos
    return reference if as_wide else replace(reference, tokens=reference.tokens[:, :n_pos])
