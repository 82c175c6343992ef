"""Pictures of classifiers: what parts say by class, changes that are missed, attention rebuilt from embeddings."""

import numpy as np
import xarray as xr

from unweave.results.labels import number
from unweave.views.attention_view import attention_view
from unweave.views.blocks import Block, Details, Figure, Table
from unweave.views.charts.bars import bars, histogram
from unweave.views.charts.lines import lines, markers
from unweave.views.sense import meaning
from unweave.views.theme import PALETTE
from unweave.views.wording import listed, percent

_MOST_PARTS, _SHOWN = 12, 2
_COLOURS = {"class 0": PALETTE[4], "class 1": PALETTE[0]}
# A position is named as a blind spot from this share of missed changes on.
_BLIND = 0.5


def class_blocks(result: xr.DataArray) -> list[Block]:
    """How each part's contribution is spread in each class: the telling parts, the others folded, and a table.

    Args:
        result: `(prompt, component)` of `uw.classifier.class_attribution`. Without answers, the parts are ranked.
    """
    if "answer" not in result.coords:
        return [Figure(bars(result, n=_MOST_PARTS))]
    classed = result.assign_coords(answer=("prompt", [f"class {label}" for label in result["answer"].values]))
    means = classed.groupby("answer").mean("prompt").transpose("answer", "component")
    spread = means.max("answer") - means.min("answer")
    order = [str(name) for name in spread["component"].values[np.argsort(-spread.values, kind="stable")]][:_MOST_PARTS]
    found = [_histogram(classed, name) for name in order]
    found[0] = Figure(found[0].figure, class_finding(means, order), found[0].caption)
    rest = [Details("The other parts", found[_SHOWN:])] if found[_SHOWN:] else []
    return [*found[:_SHOWN], *rest, _means_table(means)]


def class_finding(means: xr.DataArray, order: list[str]) -> str:
    """The part whose means differ most between classes, and the next."""
    said = []
    for name in order[:_SHOWN]:
        values = [
            f"{number(float(means.sel(answer=label, component=name)))} on {label}" for label in means.answer.values
        ]
        said.append(f"{name} ({listed(values)})")
    return f"The classes differ most in {listed(said)}"


def missed_blocks(result: xr.DataArray) -> list[Block]:
    """The share of single changes that is missed, position by position.

    Args:
        result: `(prompt, pos)` of `uw.classifier.blind_spots`.
    """
    # Every prompt has another token at a place: naming the first prompt's would mislead.
    plain = result.drop_vars("token", errors="ignore")
    return [Figure(markers(plain), missed_finding(result), _missed_caption(result))]


def missed_finding(result: xr.DataArray) -> str:
    """Where changes are missed."""
    share = result.mean("prompt")
    blind = share.where(share >= _BLIND, drop=True)
    others = share.where(share < _BLIND, drop=True)
    most = f"at most {percent(float(others.max()))}" if others.size else "none"
    if not blind.size:
        return f"No position is blind: {most} of single changes are missed at any"
    verb = "position" if blind.size == 1 else "positions"
    sizes = [f"{int(at)} ({percent(float(blind.sel(pos=at)))})" for at in blind["pos"].values]
    elsewhere = f"; elsewhere {most} are" if others.size else ""
    return f"Single changes are missed at {verb} {listed(sizes)}{elsewhere}"


def rebuilt_blocks(result: xr.DataArray) -> list[Block]:
    """A head's attention rebuilt from embeddings next to its own."""
    rebuilt = "Rows are the tokens that look, columns the tokens that are looked at; a row sums to 1."
    note = f"{rebuilt} {str(result.attrs.get('notes', '')).capitalize()}."
    return [attention_view(result, rebuilt_finding(result), note)]


def rebuilt_finding(result: xr.DataArray) -> str:
    """How much of the model's own attention each kind of rebuilt pattern shares, on average over rows."""
    *rebuilt, own = result["address"].values.tolist()
    true = result.sel(address=own)
    shares = {}
    for name in rebuilt:
        both = np.minimum(result.sel(address=name).values, true.values).sum(-1)
        shares[str(name).partition(" ")[2]] = float(both.mean())
    head = str(own).partition(" ")[0]
    said = [f"{name} {percent(share)}" for name, share in shares.items()]
    return f"Of the attention of {head}, its embeddings rebuild: {listed(said)}"


def scale_blocks(result: xr.DataArray) -> list[Block]:
    """Scales of norms by position, a line for each layer; of many layers the means over positions."""
    means = result.mean(("prompt", "pos"))
    first, last = (means["layer"].values[int(at)] for at in (means.values.argmin(), means.values.argmax()))
    ends = [f"by {number(float(means.sel(layer=layer)))} in layer {layer}" for layer in dict.fromkeys((first, last))]
    found = f"The norms before attention divide, on average, {listed(ends)}"
    plain = result.drop_vars("token", errors="ignore")
    if result.sizes["layer"] > len(PALETTE):
        return [Figure(lines(plain.mean("pos", keep_attrs=True), x="layer"), found)]
    named = plain.assign_coords(layer=[f"layer {layer}" for layer in plain["layer"].values])
    return [Figure(lines(named, x="pos", series="layer"), found)]


def _histogram(classed: xr.DataArray, name: str) -> Figure:
    figure = histogram(classed.sel(component=name, drop=True), by="answer", colours=_COLOURS)
    return Figure(figure, f"{name}. {Figure(figure).title}")


def _means_table(means: xr.DataArray) -> Table:
    labels = [str(label) for label in means["answer"].values]
    rows = tuple(
        (str(name), *(number(float(means.sel(answer=label, component=name))) for label in labels))
        for name in means["component"].values[: 4 * _MOST_PARTS]
    )
    return Table(("part", *labels), rows, "Means by class", f"In {means.attrs.get('unit', 'logits')}.")


def _missed_caption(result: xr.DataArray) -> str:
    sure = percent(float(result["unchanged"].mean()))
    given = f"Unchanged, {sure} of {result.sizes['prompt']} prompts are given class {result.attrs['label']}."
    return f"{given} One token a prompt is changed. {', '.join(meaning(result.attrs))}."
