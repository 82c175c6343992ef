"""What is left without a head, or without one of its inputs; and with some heads alone."""

from collections.abc import Sequence
from itertools import combinations

import torch
import xarray as xr

from unweave.errors import InputError
from unweave.methods.knockout import knockout
from unweave.methods.path_patching import path_patch
from unweave.methods.replacement import Replacement
from unweave.methods.to_xarray import to_xarray
from unweave.methods.weights.head_matrices import chosen_heads
from unweave.metrics.contrast import Contrast
from unweave.metrics.metric import Metric
from unweave.nodes import Head, head_name
from unweave.progress import Progress
from unweave.registry import Method, register
from unweave.results.origin import stamped
from unweave.studies.palindrome.subject import PalindromeSubject

ALONE = register(Method("heads alone", quantity="share right", unit="share", zero="always wrong", one="always right"))

HOWS = {"zero": "zero", "mean": "mean", "random": "gaussian"}
PARTS = {"output": "result", "query": "q", "key": "k", "value": "v"}
# All subsets of more heads than this are too many to try: 2^8 runs of all sequences.
MOST_HEADS = 8
NOBODY = "none"
INPUTS, BOTH, TOGETHER = ("q", "k", "v"), "k, v", "q, k, v"
Report = Progress | bool


def ablations(subject: PalindromeSubject, metric: Metric, report: Report) -> xr.DataArray:
    """What the metric gains, `[prompt, how, part, address]`, with one part of one head replaced."""
    pair = subject.both_classes(metric)
    rows = []
    for name, how in HOWS.items():
        fill = Replacement(how, "clean", seed=subject.settings.seed)
        for part, kind in PARTS.items():
            found = knockout(pair, kind, fill, measure="change", progress=False)
            rows.append(_flat(found).expand_dims(how=[name], part=[part]))
            if callable(report):
                report(len(rows), len(HOWS) * len(PARTS))
    n = len(PARTS)
    kinds = [xr.concat(rows[at : at + n], "part", combine_attrs="drop_conflicts") for at in range(0, len(rows), n)]
    joined = xr.concat(kinds, "how", combine_attrs="drop_conflicts")
    return stamped(joined.transpose("prompt", "how", "part", "address").assign_attrs(site="", how=""))


def _flat(found: xr.DataArray) -> xr.DataArray:
    """Layers and heads as one axis of names."""
    head = "kv_head" if "kv_head" in found.dims else "head"
    names = [head_name((int(layer), int(n))) for layer in found["layer"].values for n in found[head].values]
    flat = found.stack(address=("layer", head)).reset_index("address", drop=True)
    return flat.assign_coords(address=names).transpose("prompt", "address").rename(None)


def paths(subject: PalindromeSubject, receivers: Sequence[Head], report: Report) -> xr.DataArray:
    """What every head sends to the logits and to the inputs of the receivers, each alone and all together.

    Returns:
        Effects `[prompt, sender, receiver]` of one mismatch: 0 = still a palindrome, −1 = as bad as the mismatch.
    """
    asked = {"logits": "logits"}
    for head in (head for head in receivers if head[0]):
        asked |= {f"{head_name(head)} {kind}": [(*head, kind)] for kind in INPUTS}
        for together in (BOTH, TOGETHER):
            asked[f"{head_name(head)} {together}"] = [(*head, kind) for kind in together.split(", ")]
    each = [f"{kind} {head_name(head)}" for head in receivers if head[0] for kind in INPUTS]
    rows = []
    for receiver in asked.values():
        rows.append(_flat(path_patch(subject.pair, receiver, progress=False)))
        if callable(report):
            report(len(rows), len(asked))
    joined = xr.concat(rows, "receiver", combine_attrs="drop_conflicts")
    named = joined.rename(address="sender").assign_coords(receiver=list(asked))
    return stamped(named.transpose("prompt", "sender", "receiver").assign_attrs(receivers=["logits", *each]))


def subsets(subject: PalindromeSubject, report: Report) -> xr.DataArray:
    """1 where the model is right with some heads alone, all others at their means by position; `[prompt, kept]`.

    Raises:
        InputError: a model with too many heads for all subsets to be tried.
    """
    heads, pair = chosen_heads(subject.model, None), subject.both_classes()
    if len(heads) > MOST_HEADS:
        raise InputError(
            f"{subject.model.config.name} has {len(heads)} heads; all subsets of at most {MOST_HEADS} are tried"
        )
    chosen = [kept for n in range(len(heads) + 1) for kept in combinations(heads, n)]
    rows = []
    for kept in chosen:
        rows.append(_alone(pair, [head for head in heads if head not in kept]))
        if callable(report):
            report(len(rows), len(chosen))
    attrs = ALONE.attrs(notes="heads that are not kept are at their mean over the sequences, position by position")
    axes = {"kept": [", ".join(map(head_name, kept)) or NOBODY for kept in chosen]}
    return to_xarray(pair, torch.stack(rows, 1), axes, attrs)


def _alone(pair: Contrast, without: Sequence[Head]) -> torch.Tensor:
    if not without:
        return pair.clean_scores
    change = knockout(pair, [list(without)], "mean", measure="change", progress=False, source="clean")
    return pair.clean_scores + torch.from_numpy(change.values[:, 0]).to(pair.clean_scores)
