"""Position against token made visible: the table of six data sets, for all heads at once and for each."""

from typing import TYPE_CHECKING

import numpy as np

from unweave.results.labels import number
from unweave.results.summary import summary, told_from_zero
from unweave.views.blocks import Block, Figure, Table
from unweave.views.charts.heatmap import heatmap
from unweave.views.wording import counted, interval, listed

if TYPE_CHECKING:
    import xarray

# One signal counts as the heads' own where its effect is so many times the other's.
_CLEARLY = 2.0
# One head matters by itself from this share of what all do together.
_MATTERS = 0.1


def signal_blocks(result: "xarray.Dataset", title: str = "") -> list[Block]:
    """The 3x2 table of scores, the two effects of each head, and a small table of scores for each head.

    Args:
        result: of `position_token`.
        title: of the first figure; computed if left out.
    """
    score = summary(result["score"])
    whole = heatmap(score.sel(address="all", drop=True), x="position_signal", y="token_signal", values=True)
    caption = (
        "The score when the heads' outputs come from prompts whose subject has its position kept or exchanged (across) "
        "and its token kept, replaced or exchanged (up)."
    )
    blocks: list[Block] = [Figure(whole, title or signal_finding(result), caption), signal_table(result)]
    heads = [name for name in map(str, result["address"].values) if name != "all"]
    if len(heads) > 1:
        each = heatmap(
            score.sel(address=heads), x="position_signal", y="token_signal", facet="address", values=len(heads) <= 6
        )
        blocks.append(Figure(each, _each_finding(result, heads)))
    return blocks


def signal_finding(result: "xarray.Dataset") -> str:
    """Whether the heads, patched at once, carry the subject's position or its token, and which do by themselves."""
    n = result.sizes["address"] - 1
    who = f"The {counted(n, 'head')} together" if n > 1 else "The head"
    if n == 1:
        who = str(result["address"].values[-1])
    effects = _effects(result, "all")
    position, token = effects["position"], effects["token"]
    verb = "carry" if n > 1 else "carries"
    numbers = f"full range {_spread(position)} against {_spread(token)}"
    if not any(_told(effect) for effect in effects.values()):
        return f"{who} {verb} neither position nor token to speak of: {numbers}"
    first, second = sorted(effects, key=lambda name: -abs(effects[name][0]))
    numbers = f"full range {_spread(effects[first])} against {_spread(effects[second])}{_alone(result, first)}"
    if abs(effects[first][0]) >= _CLEARLY * abs(effects[second][0]):
        return f"{who} {verb} the {first} of the subject rather than its {second}: {numbers}"
    return f"{who} {verb} both, the {first} of the subject more than its {second}: {numbers}"


def signal_table(result: "xarray.Dataset") -> Table:
    """For all heads at once and for each: the effects of position and token, and what the fit leaves over."""
    rest = abs(result["residual"].mean("prompt")).max(("token_signal", "position_signal"))
    rows = []
    for name in map(str, result["address"].values):
        effects = _effects(result, name)
        cells = [cell for effect in effects.values() for cell in (number(effect[0]), interval(effect[1], effect[2]))]
        rows.append(("all at once" if name == "all" else name, *cells, number(float(rest.sel(address=name)))))
    unit = str(result["score"].attrs.get("unit", ""))
    header = ("heads", "position", "interval", "token", "interval", "largest rest")
    caption = (
        f"Full range, in {unit or 'the metric'}: the score at full agreement with the clean prompt less that at full "
        "disagreement, by a fit in which the two signals add up; the rest is what it leaves over in a cell."
    )
    return Table(header, tuple(rows), "", caption, align="lrrrrr")


def _each_finding(result: "xarray.Dataset", heads: list[str]) -> str:
    effects = {name: _effects(result, name) for name in heads}
    said = []
    for signal in ("position", "token"):
        most = max(heads, key=lambda name, signal=signal: abs(effects[name][signal][0]))
        said.append(f"the {signal} by {most} ({number(effects[most][signal][0])})")
    return f"One head at a time, most is carried of {' and '.join(said)}"


def _alone(result: "xarray.Dataset", signal: str) -> str:
    """Of several heads patched together, those that matter for a signal by themselves."""
    table = summary(result["full_range"].sel(signal=signal, drop=True))
    joint = float(table["mean"].sel(address="all"))
    single = table.drop_sel(address="all")
    if single.sizes["address"] < 2:
        return ""
    matters = told_from_zero(table)[[name != "all" for name in table["address"].values]]
    matters &= abs(single["mean"].values) >= _MATTERS * abs(joint)
    named = single.isel(address=matters).sortby(-abs(single["mean"][matters]))
    cells = zip(named["address"].values, named["mean"].values.tolist(), strict=True)
    said = [f"{name} ({number(mean)})" for name, mean in cells]
    return f"; by themselves {listed(said)}" if said else "; no single one does by itself"


def _effects(result: "xarray.Dataset", name: str) -> dict[str, tuple[float, float, float]]:
    """Mean and interval of the full-range effect of each signal."""
    table = summary(result["full_range"].sel(address=name, drop=True))
    return {
        str(signal): tuple(float(table[column].sel(signal=signal)) for column in ("mean", "low", "high"))  # type: ignore[misc]
        for signal in table["signal"].values
    }


def _told(effect: tuple[float, float, float]) -> bool:
    return effect[1] > 0 or effect[2] < 0


def _spread(effect: tuple[float, float, float]) -> str:
    return number(effect[0]) + (f" ({interval(effect[1], effect[2])})" if np.isfinite(effect[1]) else "")
