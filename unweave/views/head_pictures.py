"""What heads do, with the numbers for it: named heads, scores, attention between roles, position against token."""

import numpy as np
import xarray as xr

from unweave.methods.head_types import HeadTypes, NamedHead
from unweave.nodes import head_name
from unweave.results.labels import number
from unweave.results.summary import significant, summary
from unweave.results.top import top
from unweave.views.blocks import Block, Figure, Table
from unweave.views.captions import with_values
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.scatter import scatter
from unweave.views.wording import capital, counted, few, interval, listed, percent, spread

_MOST_NAMED = 3
# Measures that chance can make are shown with their intervals.
_EFFECTS = ("direct", "wrong", "effect", "through movers", "growth")
# A head is said to look somewhere from this share of its attention on.
_LOOKS = 0.3


def roles_table(found: HeadTypes) -> Table:
    """Heads with their names and the numbers that earn them."""
    # A column in which nobody has anything takes room from the evidence on a small screen.
    more = any(head.also for head in found.heads)
    rows = tuple(
        (head_name(head.head), f"{head.name} at {head.at}" if head.at else head.name, _said(head))
        + ((", ".join(head.also) or "–",) if more else ())
        for head in found.heads
    )
    rules = f"Rules, the first that holds gives the name: {'; '.join(map(str, found.rules))}." if found.rules else ""
    header = ("head", "name", "evidence", *(["also"] if more else []))
    note = " ".join(filter(None, (rules, *map(_both_names, found.heads))))
    return Table(header, rows, roles_finding(found), note, "l" * len(header))


def roles_finding(found: HeadTypes) -> str:
    """How many heads have which name."""
    named: dict[str, list[str]] = {}
    for head in found.heads:
        named.setdefault(head.name, []).append(head_name(head.head))
    if not named:
        return "No head has a name by these rules"
    said = [
        f"{counted(len(heads), name if name.endswith(('mover', 'suppressor')) else f'{name} head')} "
        f"({few(heads, _MOST_NAMED)})"
        for name, heads in named.items()
    ]
    return listed(said)


def _both_names(head: NamedHead) -> str:
    """What is to be said of a mover that raises the wrong answer too, and what becomes of the difference."""
    right, wrong, effect = (head.evidence.get(name, np.nan) for name in ("right", "wrong", "effect"))
    if head.name != "name mover" or not (right > 0 and wrong > 0):
        return ""
    low, high = head.intervals.get("effect", (np.nan, np.nan))
    change = f"{'larger' if effect > 0 else 'smaller'} by {percent(abs(effect))} of the gap"
    sure = "" if low > 0 or high < 0 else f" ({percent(low)} to {percent(high)}, not significant)"
    return (
        f"{head_name(head.head)} raises both names above the mean one, the right by {percent(right)} and the wrong by "
        f"{percent(wrong)} of the logit difference; with the corrupted prompt's output in its place the difference is "
        f"{change}{sure}."
    )


def split_blocks(result: xr.DataArray) -> list[Block]:
    """What each part does to the right answer against what it does to the wrong one.

    Args:
        result: of `uw.attribute(…, split=True)`: `(prompt, answer, …)`.
    """
    right, wrong = (result.sel(answer=answer, drop=True) for answer in ("right", "wrong"))
    figure = scatter(right, wrong, diagonal=True)
    figure.update_xaxes(title_text="to the right answer (logits)")
    figure.update_yaxes(title_text="to the wrong answer (logits)")
    caption = (
        "Against the mean of all answers and wrong answers of the prompts. Below the line a part helps the right "
        "answer: it raises that one, or lowers the wrong one."
    )
    return [Figure(figure, split_finding(right, wrong), note=caption)]


def split_finding(right: xr.DataArray, wrong: xr.DataArray) -> str:
    """Of the parts with the largest contributions, what each does to the right and to the wrong answer."""
    tables = [summary(side) for side in (right, wrong)]
    said = []
    for row in top(right - wrong, _MOST_NAMED):
        to_right, to_wrong = (number(float(table["mean"].sel(row.where))) for table in tables)
        said.append(f"{row.label} writes {to_right} to the right answer and {to_wrong} to the wrong one")
    return "; ".join(said)


def head_evidence(found: HeadTypes) -> dict[str, str]:
    """For each head, by its name, what its rule read: for the `evidence` of a circuit's drawing."""
    return {head_name(head.head): _said(head) for head in found.heads}


def score_blocks(result: xr.DataArray) -> list[Block]:
    """A panel for each score of every head.

    Args:
        result: of `uw.heads.head_scores` (prompts) or `copying_scores` (words): `(prompt | word, score, layer, head)`.
    """
    over = "word" if "word" in result.dims else "prompt"
    tables = {str(name): summary(result.sel(score=name, drop=True), dim=over) for name in result["score"].values}
    said = [f"{name}: {_largest(table)}" for name, table in tables.items()]
    return [Figure(heatmap(tables, x="head"), capital("; ".join(said)), _over(result, over))]


def role_attention_blocks(result: xr.DataArray) -> list[Block]:
    """Attention from the last role, a panel for each role that some head looks at.

    Args:
        result: `(prompt, layer, head, q_role, k_role)` of `role_attention`.
    """
    last = str(result["q_role"].values[-1])
    tables = {str(role): summary(result.sel(q_role=last, k_role=role, drop=True)) for role in result["k_role"].values}
    seen = {role: table for role, table in tables.items() if float(table["mean"].max()) >= _LOOKS}
    said = []
    for role, table in seen.items():
        first = next(iter(top(table, 1, by="high")))
        said.append(f"{first.label} looks at {role}{' itself' if role == last else ''} ({number(first.mean)})")
    finding = f"From {last}, {listed(said)}" if said else f"From {last}, no head looks much at any role"
    left = [role for role in tables if role not in seen]
    note = f"Left out, where no head looks with {percent(_LOOKS)}: {', '.join(left)}." if seen and left else ""
    # A panel is called "to" and its role: a role with the name of a site must not be shown as that site.
    figure = heatmap({f"to {role}": table for role, table in (seen or tables).items()}, x="head")
    return [Figure(figure, finding, note=note)]


def contribution_blocks(result: xr.Dataset) -> list[Block]:
    """How much each head looks at a role's token against how much it then writes for that token.

    Args:
        result: `attention` and `contribution`, `(prompt, role, layer, head)`, of `attention_contribution`.
    """
    blocks: list[Block] = []
    for role in map(str, result["role"].values):
        looks, writes = (result[name].sel(role=role, drop=True) for name in ("attention", "contribution"))
        figure = scatter(looks, writes)
        blocks.append(Figure(figure, _contribution_finding(looks, writes, role)))
    return blocks


def _contribution_finding(looks: xr.DataArray, writes: xr.DataArray, role: str) -> str:
    share, written = looks.mean("prompt"), writes.mean("prompt")
    looking, much = share >= _LOOKS, percent(_LOOKS)
    n, here = int(looking.sum()), written.where(looking, 0.0)
    first = next(iter(top(here if n else share, 1)), None)
    if first is None or not n:
        most = f"{first.label} ({percent(first.mean)})" if first else "none"
        return f"No head gives {role} {much} of its attention; the most gives {most}"
    up, down = int((here > 0).sum()), int((here < 0).sum())
    looked = number(float(share.sel(first.where)))
    return (
        f"Of {counted(n, 'head')} that give {role} {much} or more of their attention, {up} "
        f"{'writes' if up == 1 else 'write'} for its token and {down} against it; most {first.label} "
        f"(attention {looked}, {number(first.mean)} logits)"
    )


def _largest(table: xr.Dataset) -> str:
    rows = [row for row in top(table, table["mean"].size, by="high") if row.mean >= _LOOKS]
    if not rows:
        return f"no head above {percent(_LOOKS)}"
    shown = with_values(rows[:_MOST_NAMED])
    return shown if len(rows) <= _MOST_NAMED else f"{shown} most, of {len(rows)} above {percent(_LOOKS)}"


def _over(result: xr.DataArray, over: str) -> str:
    n = counted(result.sizes[over], "random sequence" if over == "prompt" else "word")
    quantity = str(result.attrs.get("quantity", "score"))
    ends = (str(result.attrs.get("zero", "")), str(result.attrs.get("one", "")))
    scale = f"; 0: {ends[0]}, 1: {ends[1]}" if all(ends) else ""
    return f"Means over {n} of the {quantity}{scale}."


def _said(head: NamedHead) -> str:
    ends = {name: spread(*interval) for name, interval in head.intervals.items() if name in _EFFECTS}
    return ", ".join(
        f"{name} {number(value)}{ends.get(name, '')}" for name, value in head.evidence.items() if np.isfinite(value)
    )


# One signal counts as the heads' own where its effect is so many times the other's.
_CLEARLY = 2.0
# One head matters by itself from this share of what all do together.
_MATTERS = 0.1


def signal_blocks(result: xr.Dataset) -> list[Block]:
    """The 3x2 table of scores, the two effects of each head, and a small table of scores for each head.

    Args:
        result: of `position_token`.
    """
    score = summary(result["score"])
    whole = heatmap(score.sel(address="all", drop=True), x="position_signal", y="token_signal", values=True)
    caption = (
        "The score when the heads' outputs come from prompts whose subject has its position kept or exchanged (across) "
        "and its token kept, replaced or exchanged (up)."
    )
    blocks: list[Block] = [Figure(whole, signal_finding(result), caption), signal_table(result)]
    heads = [name for name in map(str, result["address"].values) if name != "all"]
    if len(heads) > 1:
        each = heatmap(
            score.sel(address=heads), x="position_signal", y="token_signal", facet="address", values=len(heads) <= 6
        )
        blocks.append(Figure(each, _each_finding(result, heads)))
    return blocks


def signal_finding(result: xr.Dataset) -> str:
    """Whether the heads, patched at once, carry the subject's position or its token, and which do by themselves."""
    n = result.sizes["address"] - 1
    who = f"The {counted(n, 'head')} together" if n > 1 else "The head"
    if n == 1:
        who = str(result["address"].values[-1])
    effects = _effects(result, "all")
    position, token = effects["position"], effects["token"]
    verb = "carry" if n > 1 else "carries"
    if not any(low > 0 or high < 0 for _, low, high in effects.values()):
        numbers = f"full range {_with_ends(position)} against {_with_ends(token)}"
        return f"{who} {verb} neither position nor token to speak of: {numbers}"
    first, second = sorted(effects, key=lambda name: -abs(effects[name][0]))
    numbers = f"full range {_with_ends(effects[first])} against {_with_ends(effects[second])}{_alone(result, first)}"
    if abs(effects[first][0]) >= _CLEARLY * abs(effects[second][0]):
        return f"{who} {verb} the {first} of the subject rather than its {second}: {numbers}"
    return f"{who} {verb} both, the {first} of the subject more than its {second}: {numbers}"


def signal_table(result: xr.Dataset) -> Table:
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


def _each_finding(result: xr.Dataset, heads: list[str]) -> str:
    effects = {name: _effects(result, name) for name in heads}
    said = []
    for signal in ("position", "token"):
        most = max(heads, key=lambda name, signal=signal: abs(effects[name][signal][0]))
        said.append(f"the {signal} by {most} ({number(effects[most][signal][0])})")
    return f"One head at a time, most is carried of {' and '.join(said)}"


def _alone(result: xr.Dataset, signal: str) -> str:
    """Of several heads patched together, those that matter for a signal by themselves."""
    table = summary(result["full_range"].sel(signal=signal, drop=True))
    joint = float(table["mean"].sel(address="all"))
    single = table.drop_sel(address="all")
    if single.sizes["address"] < 2:
        return ""
    matters = significant(table)[[name != "all" for name in table["address"].values]]
    matters &= abs(single["mean"].values) >= _MATTERS * abs(joint)
    named = single.isel(address=matters).sortby(-abs(single["mean"][matters]))
    cells = zip(named["address"].values, named["mean"].values.tolist(), strict=True)
    said = [f"{name} ({number(mean)})" for name, mean in cells]
    return f"; by themselves {listed(said)}" if said else "; no single one does by itself"


def _effects(result: xr.Dataset, name: str) -> dict[str, tuple[float, float, float]]:
    """Mean and interval of the full-range effect of each signal."""
    table = summary(result["full_range"].sel(address=name, drop=True))
    return {
        str(signal): tuple(float(table[column].sel(signal=signal)) for column in ("mean", "low", "high"))  # type: ignore[misc]
        for signal in table["signal"].values
    }


def _with_ends(effect: tuple[float, float, float]) -> str:
    return number(effect[0]) + spread(*effect[1:])
