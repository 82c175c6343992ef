"""What captions say of the sign, the scope and the subject of results: true for every metric, direction and slice."""

import itertools
import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.views import made
from tests.views.drawn import layout, traces
from unweave.results import summary
from unweave.views.charts.bars import bars
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.histogram import histogram
from unweave.views.charts.lines import lines
from unweave.views.charts.scatter import scatter
from unweave.views.choice import blocks_of
from unweave.views.facts import scope_of, sense_of, subjects
from unweave.views.titles import finding
from unweave.views.wording import SPACE

METRICS = {"higher": ("logit difference", "logits"), "lower": ("cross-entropy", "nats")}
SCALE = {"gap": 4.0, "clean": 3.0}
FOR = ("carr", "missed most", "acts directly", "act directly")
AGAINST = ("against", "the answer gains", "the answer is better")
# Of each word: whether the answer is better, or whether the score is higher, where it stands of a cell.
BETTER = {"restores": True, "brings back": True, "gains": True, "is better": True, "costs": False}
HIGHER = {"raises": True, "lowers": False}
METHODS = [("activation patching", "denoise"), ("activation patching", "noise"), ("knockout", "noise")]
METHODS += [("path patching", "noise"), ("path patching", "denoise")]
CASES = [
    (method, direction, measure)
    for method, direction in METHODS
    for measure in ("effect", "drop", "change")
    if (method != "activation patching" or measure == "effect") and (direction == "noise" or measure != "drop")
]


def planted(
    moved: float, method: str, direction: str, measure: str, better: str, gap: int, clean: int, cut: str
) -> xr.DataArray:
    """A result in which 3.1 moves the score by `moved`, and no other cell by anything; its scale as the metric's."""
    scale = {"effect": gap * SCALE["gap"], "drop": clean * SCALE["clean"], "change": 1.0}[measure]
    name, unit = METRICS[better]
    about: dict[str, Any] = {
        "method": method,
        "direction": direction,
        "measure": measure,
        "quantity": measure,
        "how": "zero",
        "receivers": ["logits"],
        "site": "" if method == "path patching" else "z",
        "metric": name,
        "metric_unit": unit,
        "unit": unit if measure == "change" else "share",
        "better": better,
        "gap": gap * SCALE["gap"],
        "clean_mean": clean * SCALE["clean"],
        "n_layers": 6,
        "n_heads": 3,
    }
    result = made.result({"layer": range(6), "head": range(3)}, {(3, 1): moved / scale}, **about)
    if cut == "nan":
        result = result.copy()
        result[:, 3, 0], result[:, 0, 2], result[::2, 1] = np.nan, np.nan, np.nan
    return {"slice": result.sel(layer=3), "part": result.isel(layer=[2, 3])}.get(cut, result)


@pytest.mark.parametrize("cut", ["whole", "part", "slice", "nan"])
@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize(("method", "direction", "measure"), CASES)
def test_every_word_is_true_of_the_planted_cell(method: str, direction: str, measure: str, better: str, cut: str):
    for moved, gap, clean in itertools.product((1.2, -1.2), (1, -1), (1, -1)):
        result = planted(moved, method, direction, measure, better, gap, clean, cut)
        title = finding(summary(result)).replace(SPACE, " ")
        improved = (moved > 0) == (better == "higher")
        carries = improved == (direction == "denoise")
        size = {"effect": "30 %", "drop": "40 %", "change": "1.20"}[measure]
        assert "3.1" in title
        assert size in title
        assert not re.search(r"\b(?!3\.1\b)[0-5]\.[0-2]\b", title), "another cell is named"
        assert any(word in title for word in FOR) == carries, title
        assert any(word in title for word in AGAINST) == (not carries), title
        for word, good in BETTER.items():
            assert not re.search(rf"\b{word}\b", title) or good == improved, title
        for word, up in HIGHER.items():
            assert word not in title or up == (moved > 0), title


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("gap", [1, -1])
@pytest.mark.parametrize("measure", ["effect", "drop", "change"])
def test_blue_is_for_the_answer_and_an_effect_that_runs_backwards_is_said(measure: str, gap: int, better: str):
    result = planted(-1.2, "knockout", "noise", measure, better, gap, 1, "whole")
    improved = better == "lower"
    first = traces(bars(result), "bar")[0]
    assert (first.marker.color[0] == "#2a6fb4") == improved
    value = float(result.sel(layer=3, head=1).mean())
    turned = bool(layout(heatmap(result, x="head")).coloraxis.reversescale)
    assert ((value > 0) != turned) == improved
    caption = blocks_of(result)[0].caption or layout(blocks_of(result)[0].figure).meta["caption"]  # type: ignore[attr-defined]
    backwards = (gap > 0) != (better == "higher")
    assert ("backwards" in caption) == backwards
    assert ("Below 0" in caption) == (turned and not backwards)
    assert "cross-entropy rises" not in caption


def test_where_the_answer_sits_is_asked_only_where_effects_run_forwards():
    for better, gap, forwards in (("higher", 4.0, True), ("lower", -4.0, True), ("lower", 4.0, False)):
        title = finding(summary(made.stream("role").assign_attrs(better=better, gap=gap, measure="effect")))
        assert ("The answer is carried at S2" in title) == forwards
        assert ("against" in title) == (not forwards)


def test_parts_of_an_attribution_speak_for_the_answer_whatever_the_metric():
    result = made.heads(
        {(5, 1): 2.0}, **{**made.ATTRIBUTION, "better": "lower", "gap": -3.0, "metric": "cross-entropy"}
    )
    assert sense_of(result).good == 1
    assert "5.1 writes towards the answer (2.00)" in blocks_of(result)[0].title  # type: ignore[attr-defined]


def whole(place: str = "pos") -> xr.DataArray:
    return made.stream(place).assign_attrs(
        n_layers=6, n_pos=9, roles=list(made.ROLES), over=["layer", place], measure="effect", gap=8.0
    )


def test_the_whole_has_no_scope():
    assert scope_of(summary(whole())) == ""
    assert scope_of(summary(whole("role"))) == ""
    assert scope_of(summary(made.heads())) == ""


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (lambda x: x.isel(pos=-1), ["position 8"]),
        (lambda x: x.sel(layer=5), ["layer 5"]),
        (lambda x: x.sel(layer=5, pos=7), ["layer 5", "position 7"]),
        (lambda x: x.isel(layer=slice(2, 5)), ["layers 2 to 4"]),
        (lambda x: x.isel(pos=[2, 7]), ["positions 2 and 7"]),
        (lambda x: x.isel(prompt=3), ["prompt=3"]),
        (lambda x: x.mean("pos", keep_attrs=True), ["along pos"]),
        (lambda x: x.mean(("layer", "pos"), keep_attrs=True), ["along layer and pos"]),
    ],
)
def test_a_slice_says_its_place_and_a_mean_its_axis(cut, expected: list[str]):
    for drawn in (cut(whole()), summary(cut(whole())) if "prompt" in cut(whole()).dims else cut(whole())):
        (block,) = blocks_of(drawn)
        for words in expected:
            assert words in block.title.lower()  # type: ignore[attr-defined]


def test_roles_that_were_swept_are_named_where_others_were_not():
    assert "S2" in scope_of(summary(whole("role").isel(role=[2])))
    assert scope_of(summary(whole("role").isel(role=[3, 2, 1, 0]))) == ""


def test_layers_begin_and_end_only_where_they_are_known_to():
    stream = whole("role")
    stream.loc[{"layer": range(6), "role": "S2"}] = 0.9
    every = finding(summary(stream))
    assert "from layer 0 on" in every
    for layers in ([2, 3, 4, 5], [0, 1, 2], [3, 5], [5]):
        title = finding(summary(stream.isel(layer=layers)))
        assert "on:" not in title
        assert ("the last layer" in title) == (5 in layers and 4 not in layers)
    # A layer that was not swept lies between.
    assert "in layers 0 to 1" in finding(summary(stream.isel(layer=[0, 1, 3, 4])))
    assert "in layers 3 to 4" in finding(summary(stream.isel(layer=[0, 1, 3, 4])))


def test_a_lens_without_its_first_or_last_stages_speaks_of_no_final_difference():
    lens = made.lens([0, 0.1, 0.2, 0.3, 0.4, 3.9, 4.0])
    assert "final" in finding(summary(lens))
    for part in (lens.isel(stage=slice(0, 4)), lens.isel(stage=slice(3, 7))):
        assert "final logit difference" not in finding(summary(part))


def test_a_head_of_one_layer_is_named_with_it():
    title = finding(summary(made.heads().sel(layer=5)))
    assert "5.1 carries the answer" in title
    assert [row for row in traces(bars(made.heads().sel(layer=5)), "bar")[0].customdata[0] if row == "5.1"]


def two() -> list[xr.DataArray]:
    """Results of one question by two metrics."""
    other = made.heads({(2, 2): -0.4}).assign_attrs(metric="cross-entropy", better="lower", gap=-1.0, unit="nats")
    return [made.heads(), other.assign_coords(clean=made.heads()["clean"] * 0.1, corrupted=made.heads()["clean"] * 0.5)]


def test_subjects_are_what_differs():
    assert subjects([made.heads(), made.stream()]) == ["", ""]
    assert subjects(two()) == ["logit difference", "cross-entropy"]
    other = made.heads().assign_attrs(task="colors", model="larger")
    assert subjects([made.heads(), other]) == ["tiny, task ioi", "larger, task colors"]
    fewer = made.heads().isel(prompt=slice(5))
    assert subjects([made.heads(), fewer]) == ["20 prompts", "5 prompts"]
    moved = made.heads().assign_coords(clean=made.heads()["clean"] + 1)
    assert subjects([made.heads(), moved]) == ["20 prompts (set 1)", "20 prompts (set 2)"]
    weights = xr.DataArray([1.0], dims="layer", attrs={"model": "tiny", "method": "norm scales"})
    assert subjects([made.heads(), weights]) == ["", ""]


def test_charts_of_two_metrics_say_which_is_which():
    one, other = two()
    panels = [note.text for note in layout(heatmap({"a": one, "b": other}, x="head")).annotations]
    assert panels[:2] == ["a: logit difference", "b: cross-entropy"]
    axes = layout(scatter(one, other))
    assert "logit difference" in axes.xaxis.title.text
    assert "cross-entropy" in axes.yaxis.title.text
    units = {"quantity": "change", "measure": "change"}
    curves = {"a": one.isel(head=0).assign_attrs(units), "b": other.isel(head=0).assign_attrs(units)}
    figure = lines(curves, x="layer")
    named = {trace.name for trace in traces(figure, "scatter")}
    assert {"a: logit difference, change (logits)", "b: cross-entropy, change (nats)"} <= named
    assert layout(figure).yaxis.title.text == ""
    assert {trace.name for trace in traces(histogram({"a": one, "b": other}), "bar")} == {
        "a: logit difference",
        "b: cross-entropy",
    }


def test_tokens_of_both_prompts_stand_on_an_axis_where_they_differ():
    stream = made.stream()
    clean = stream["token"].copy(data=np.where(np.arange(9) == 7, " Mary", stream["token"].values))
    both = stream.assign_coords(clean_token=(("prompt", "pos"), clean.values))
    ticks = traces(heatmap(both, x="pos"), "heatmap")[0].x
    assert ticks[7] == "7 ·Mary/·John"
    assert ticks[2] == "2 ·John"
    assert "clean/corrupted" in layout(heatmap(both, x="pos")).annotations[1].text
    assert "token 7 ·Mary/·John" in finding(summary(both))


def test_cells_without_a_value_are_crossed_and_counted():
    result = made.stream()
    result[:15, :, 8], result[:, 0, 6] = np.nan, np.nan
    (block,) = blocks_of(result)
    figure: Any = block.figure  # type: ignore[attr-defined]
    crosses = next(trace for trace in traces(figure, "scatter") if trace.marker.symbol == "x-thin-open")
    assert (len(crosses.x), crosses.x[0]) == (1, "6 ,")
    assert "5 to 20 prompts" in block.caption or "5 to 20 prompts" in layout(figure).meta["caption"]  # type: ignore[attr-defined]
    nothing = result.copy(data=np.full(result.shape, np.nan))
    for drawn in (nothing, nothing.isel(pos=2), nothing.isel(pos=2, layer=1), nothing.mean("prompt")):
        assert blocks_of(drawn)
