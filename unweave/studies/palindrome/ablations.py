"""What is left without a head, or without one of its inputs; with some heads only; and what paths carry."""

from collections.abc import Sequence
from itertools import combinations

import torch
import xarray as xr

from unweave.errors import InputError
from unweave.methods.knockout import knockout
from unweave.methods.path_patching import path_patch
from unweave.methods.replacement import Replacement
from unweave.methods.to_xarray import to_xarray
from unweave.metrics.metric import Metric
from unweave.nodes import Head, head_name
from unweave.registry import ENOUGH, Method, register
from unweave.results.origin import stamped
from unweave.studies.palindrome.sequences import PalindromeSubject
from unweave.studies.plan import Report, each

SUBSETS = register(
    Method("subsets of heads", ENOUGH, quantity="share right", unit="share", zero="always wrong", one="always right")
)

HOWS = {"zero": "zero", "mean": "mean", "random": "gaussian"}
PARTS = {"output": "result", "query": "q", "key": "k", "value": "v"}
# All subsets of more heads than this are too many to try: 2^8 runs of all sequences.
MOST_HEADS = 8
NOBODY = "none"
INPUTS, BOTH, TOGETHER = ("q", "k", "v"), "k, v", "q, k, v"


def ablations(subject: PalindromeSubject, metric: Metric, report: Report) -> xr.DataArray:
    """What the metric gains, `[prompt, how, part, address]`, with one part of one head replaced."""
    pair, hows = subject.both_classes(metric), []
    asked = each([(how, part) for how in HOWS for part in PARTS], report)
    found = {
        (how, part): _flat(
            knockout(
                pair, PARTS[part], Replacement(HOWS[how], "clean", seed=subject.seed), measure="change", progress=False
            )
        )
        for how, part in asked
    }
    for how in HOWS:
        hows.append(_joined([found[how, part] for part in PARTS], "part", list(PARTS)))
    joined = _joined(hows, "how", list(HOWS))
    return stamped(joined.transpose("prompt", "how", "part", "address").assign_attrs(site="", how=""))


def paths(subject: PalindromeSubject, receivers: Sequence[Head], report: Report) -> xr.DataArray:
    """What every head sends to the logits and to the inputs of the receivers, each by itself and all together.

    Returns:
        Effects `[prompt, sender, receiver]` of one mismatch: 0 = still a palindrome, −1 = as bad as the mismatch.
    """
    late = [head for head in receivers if head[0]]
    asked: dict[str, str | list] = {"logits": "logits"}
    for head in late:
        for inputs in (*INPUTS, BOTH, TOGETHER):
            asked[receiver_name(head, inputs)] = [(*head, kind) for kind in inputs.split(", ")]
    rows = [
        _flat(path_patch(subject.pair, receiver, progress=False)) for receiver in each(list(asked.values()), report)
    ]
    single = [f"{kind} {head_name(head)}" for head in late for kind in INPUTS]
    joined = _joined(rows, "receiver", list(asked)).rename(address="sender")
    return stamped(joined.transpose("prompt", "sender", "receiver").assign_attrs(receivers=["logits", *single]))


def receiver_name(head: Head, inputs: str = TOGETHER) -> str:
    """`1.0 k, v`"""
    return f"{head_name(head)} {inputs}"


def subsets(subject: PalindromeSubject, report: Report) -> xr.DataArray:
    """1 where the model is right with some heads only, all others at their means by position; `[prompt, kept]`.

    Raises:
        InputError: a model with too many heads for all subsets to be tried.
    """
    heads, pair = subject.heads, subject.both_classes()
    if len(heads) > MOST_HEADS:
        name = subject.model.config.name
        raise InputError(f"{name} has {len(heads)} heads; all subsets of at most {MOST_HEADS} are tried")
    chosen = [kept for n in range(len(heads) + 1) for kept in combinations(heads, n)]

    def only(kept: Sequence[Head]) -> torch.Tensor:
        without = [head for head in heads if head not in kept]
        if not without:
            return pair.clean_scores
        change = knockout(pair, [without], "mean", measure="change", progress=False, source="clean")
        return pair.clean_scores + torch.from_numpy(change.values[:, 0]).to(pair.clean_scores)

    rows = [only(kept) for kept in each(chosen, report)]
    attrs = SUBSETS.attrs(notes="heads that are not kept are at their mean over the sequences, position by position")
    return to_xarray(pair, torch.stack(rows, 1), {"kept": list(map(subset_name, chosen))}, attrs)


def subset_name(heads: Sequence[Head]) -> str:
    """`0.0 + 1.1`, as `read_nodes` reads it, or `none`."""
    return " + ".join(map(head_name, heads)) or NOBODY


def _joined(rows: list[xr.DataArray], dim: str, names: list[str]) -> xr.DataArray:
    return xr.concat(rows, dim, combine_attrs="drop_conflicts").assign_coords({dim: names})


def _flat(found: xr.DataArray) -> xr.DataArray:
    """Layers and heads as one axis of names."""
    head = "kv_head" if "kv_head" in found.dims else "head"
    names = [head_name((int(layer), int(n))) for layer in found["layer"].values for n in found[head].values]
    flat = found.stack(address=("layer", head)).reset_index("address", drop=True)
    return flat.assign_coords(address=names).transpose("prompt", "address").rename(None)
