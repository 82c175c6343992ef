"""What replaces an activation that is knocked out.

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

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.engine.memory import budget_bytes, forward_bytes
from unweave.errors import InputError
from unweave.metrics.contrast import Contrast
from unweave.models.config import Config
from unweave.models.forward import seen_keys
from unweave.models.precision import widened, without_autocast
from unweave.models.prompts import Prompts
from unweave.models.run import Key
from unweave.models.sites import SITES, n_heads_at

# Values in the place of some sites, of the prompts with these numbers.
Values = Callable[[Sequence[int]], dict[Key, Tensor]]

KINDS = ("zero", "mean", "template", "resample", "gaussian")
_SIDES = ("clean", "corrupted")


@final
@dataclass(frozen=True)
class Replacement:
    """How activations are replaced: `Replacement("mean", reference="corrupted")`.

    Args:
        how: `zero mean template resample gaussian`.
        reference: the prompts that means and resampled activations are taken from: `"clean"`, `"corrupted"` (the
            default), or other prompts.
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
    def attrs(self) -> dict[str, str]:
        """As results say it: how values were made, and whose they are."""
        return {"how": self.how, "source": self.reference_name}

    @property
    def reference_name(self) -> str:
        """`clean`, `corrupted` or `other prompts`; empty where none are used."""
        if not self.uses_reference:
            return ""
        if self.reference is None:
            return "corrupted"
        return self.reference if isinstance(self.reference, str) else "other prompts"

    def reference_of(self, pair: Contrast) -> Prompts:
        """The prompts that values are taken from."""
        if isinstance(self.reference, Prompts):
            return pair.model.prompts(self.reference)
        return pair.side(self.reference_name)


def replacement_of(how: str | Replacement, source: str | Prompts | None = None) -> Replacement:
    """`how` with its default options, of values from `source`.

    Raises:
        InputError: an unknown `how` or `source`, or a `source` where there is nothing to take from it.
    """
    if source is None:
        return how if isinstance(how, Replacement) else Replacement(how)
    if isinstance(how, Replacement):
        raise InputError("source: how= has its own; give only Replacement(…, reference=…)")
    if isinstance(source, str) and source not in _SIDES:
        raise InputError(f"source: expected 'clean', 'corrupted' or prompts, got {source!r}")
    fill = Replacement(how, source)
    if not fill.uses_reference:
        raise InputError(f"source: {how!r} takes no values from prompts; leave source out, or use how='mean'")
    return fill


def replacing(
    pair: Contrast, keys: Iterable[Key], how: Replacement, memory: int | float | None = None
) -> tuple[Values, str]:
    """What replaces these sites and layers, each in its site's shape: a function of the prompts' numbers; and a note.

    Means are kept once per group, summed in float32 or wider; reference prompts are run in batches that fit a quarter
    of `memory`.

    Raises:
        InputError: reference prompts that do not fit the clean ones; for `template`, prompts without templates, of
            unequal lengths in one template, or a template of one prompt (unless `lone="keep"`).
    """
    wanted = list(dict.fromkeys(keys))
    if not how.uses_reference:
        return lambda rows: {key: _made(pair, key, how, rows) for key in wanted}, ""
    reference = how.reference_of(pair)
    if how.how == "resample":
        reference = _paired(pair.prompts, reference)
        return lambda rows: dict(pair.model.run(reference.take(rows), keep=wanted).kept), ""
    group, group_of, note = _groups(pair.prompts, reference, how)
    means = _group_means(pair, reference, wanted, group, memory)

    def values(rows: Sequence[int]) -> dict[Key, Tensor]:
        of = group_of[list(rows)]
        return {key: _laid(pair, key[0], mean[of.to(mean.device)], rows) for key, mean in means.items()}

    return values, note


def site_shape(config: Config, site: str, n_prompts: int, n_pos: int) -> tuple[int, ...]:
    """The shape of a site's tensor in this model."""
    n_heads = n_heads_at(config, SITES[site])
    if SITES[site].rows == "attention":
        return (n_prompts, config.n_heads, n_pos, n_pos)
    return (n_prompts, n_pos, config.d_model) if n_heads is None else (n_prompts, n_pos, n_heads, config.d_head)


def values_bytes(pair: Contrast, keys: Iterable[Key]) -> int:
    """What the values of one prompt hold at these sites and layers."""
    config, n_pos = pair.model.config, pair.prompts.tokens.shape[1]
    return sum(math.prod(site_shape(config, site, 1, n_pos)) for site, _ in keys) * pair.model.dtype.itemsize


def gaussian(shape: tuple[int, ...], seed: int, site: str, layer: int) -> Tensor:
    """N(0, 1) in float32. A site and layer has its own stream: its draws do not depend on what else is drawn."""
    number = (seed * len(SITES) + list(SITES).index(site)) * 4096 + layer
    return torch.randn(shape, generator=torch.Generator().manual_seed(number))


def _made(pair: Contrast, key: Key, how: Replacement, rows: Sequence[int]) -> Tensor:
    """Zeros or draws for some prompts. All prompts are drawn: a prompt's draws do not depend on its batch."""
    shape = site_shape(pair.model.config, key[0], *pair.prompts.tokens.shape)
    every = torch.zeros(shape) if how.how == "zero" else gaussian(shape, how.seed, *key)
    return _within(pair, key[0], every[list(rows)].to(pair.model.weights.w_e), rows)


def _within(pair: Contrast, site: str, value: Tensor, rows: Sequence[int]) -> Tensor:
    """A pattern's values, 0 where the clean prompts have no entry; any other site's as they are."""
    if site != "pattern":
        return value
    clean = pair.prompts.take(rows)
    seen = seen_keys(pair.model.config, clean.tokens, clean.lengths)
    return value.tril() if seen is None else value * seen[:, None, None]


def _groups(clean: Prompts, reference: Prompts, how: Replacement) -> tuple[Tensor, Tensor, str]:
    """The group of each reference prompt, the group whose mean each clean prompt gets, and a note."""
    if how.how == "template":
        return _template_groups(clean, reference, how.lone)
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


def _template_groups(clean: Prompts, reference: Prompts, lone: str) -> tuple[Tensor, Tensor, str]:
    """A group per template. Reference prompts without templates of their own are paired with the clean ones."""
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


@without_autocast
def _group_means(
    pair: Contrast,
    reference: Prompts,
    keys: Sequence[Key],
    group: Int[Tensor, " reference"],
    memory: int | float | None,
) -> dict[Key, Tensor]:
    """Means over the reference prompts of each group by position, `[group pos …]`; 0 where none reaches a position."""
    device, n_pos = pair.model.device, reference.tokens.shape[1]
    reached = torch.arange(n_pos) < reference.lengths.cpu()[:, None]
    weight = torch.nn.functional.one_hot(group, int(group.max()) + 1).T[:, :, None] * reached
    count = weight.sum(1).clamp_min(1).to(device)
    itemsize = pair.model.dtype.itemsize
    kept = sum(math.prod(site_shape(pair.model.config, site, 1, n_pos)) for site, _ in keys) * itemsize
    at_once = budget_bytes(memory, device) // 4 // (kept + forward_bytes(pair.model.config, n_pos, itemsize))
    means: dict[Key, Tensor] = {}
    for batch in torch.arange(len(reference)).split(max(1, at_once)):
        run = pair.model.run(reference.take(batch), keep=keys)
        for key in keys:
            wide = widened(run[key].movedim(2, 1) if SITES[key[0]].rows == "attention" else run[key])
            total = torch.einsum("gnp,np...->gp...", weight[:, batch].to(wide), wide)
            part = total / count.reshape(*count.shape, *(1,) * (total.ndim - 2))
            means[key] = means[key] + part if key in means else part
    return {key: mean.to(run[key].dtype) for key, mean in means.items()}


def _laid(pair: Contrast, site: str, mean: Tensor, rows: Sequence[int]) -> Tensor:
    """Each prompt's mean, `[prompt pos …]`, as values of its site, for the positions of the clean prompts."""
    n_pos = pair.prompts.tokens.shape[1]
    laid = _fit(mean, n_pos, 1)
    if SITES[site].rows == "attention":  # a pattern's destination comes second, as any position
        laid = _fit(laid.movedim(1, 2), n_pos, 3)
    return _within(pair, site, laid, rows)


def _fit(values: Tensor, n_pos: int, dim: int) -> Tensor:
    """`values` with `n_pos` positions along `dim`: cut, or filled up with zeros that only padding meets."""
    have = values.shape[dim]
    if have >= n_pos:
        return values.narrow(dim, 0, n_pos)
    shape = list(values.shape)
    shape[dim] = n_pos - have
    return torch.cat([values, values.new_zeros(shape)], dim)


def _paired(clean: Prompts, reference: Prompts) -> Prompts:
    """Reference prompts, one for each clean one, padded no further. Raises InputError where they are not."""
    if not torch.equal(reference.lengths.cpu(), clean.lengths.cpu()):
        raise InputError(
            f"reference: expected {len(clean)} prompts of the clean prompts' lengths, one for each, got "
            f"{len(reference)}; use how='mean' for prompts of another number or length"
        )
    return replace(reference, tokens=reference.tokens[:, : clean.tokens.shape[1]])
