"""Pictures of edges: which are drawn, where their paths go, the map's sums, the misses, and results without effects."""

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.tiny import tiny_model, tiny_pair
from tests.views.drawn import traces
from tests.views.made_edges import EFFECTS, edges, verified
from unweave.results import summary
from unweave.views.blocks import Details, Figure, Table, Text
from unweave.views.circuit_drawing import CircuitDrawing
from unweave.views.edge_pictures import edge_table, layer_sums, misses_finding, strongest
from unweave.views.pictures import blocks_of
from unweave.views.wording import SPACE


def drawing(result: Any) -> CircuitDrawing:
    (found,) = [block for block in blocks_of(result) if isinstance(block, CircuitDrawing)]
    return found


def links(result: Any) -> list[str]:
    return re.findall('<g class="link"[^>]*><title>([^<]*)</title>', drawing(result).html().replace("&#39;", "'"))


def test_every_edge_is_drawn_once_with_its_evidence():
    found = links(verified())
    assert len(found) == 4
    (text,) = [text for text in found if text.startswith("embed → mlp 0")]
    for said in ("effect −0.90 (−7.20 logits)", "interval", "adjusted p", "gradient score 0.090", "local score −0.90"):
        assert said in text
    assert "run as one of the largest" in text
    assert sum("run as a random control" in text for text in found) == 1


def test_rows_are_layers_and_columns_are_components():
    text = drawing(edges()).html()
    assert re.findall('<text class="role"[^>]*>([^<]*)', text) == ["embed", "heads", "MLPs", "logits"]
    assert re.findall('<text class="layer"[^>]*>(\\d+)', text) == ["0", "2", "3"]
    places = {
        name: float(y) for y, name in re.findall(r'<rect x="[\d.]+" y="([\d.]+)"[^>]*/><text[^>]*>([^<]*)</text>', text)
    }
    assert places["logits"] < places["3.0"] < places["2.1"] < places["MLP 0"] < places["embed"]


def test_a_shared_key_or_value_is_one_receiver():
    found = drawing(edges())
    ends = {str(edge.sender.short): edge for edge in found.edges if edge.input in ("k", "v")}
    # 3.0 is drawn, and 3.2 and 3.3 are not.
    assert (ends["2.1"].receiver.short, [node.short for node in ends["2.1"].shared]) == ("3.0", ["3.1"])
    assert [node.short for node in (ends["mlp 0"].receiver, *ends["mlp 0"].shared)] == ["3.2", "3.3"]
    boxes = re.findall(r'<g class="node[^>]*>.*?<text[^>]*>([^<]*)</text>', found.html())
    assert sorted(boxes) == ["2.1", "3.0", "3.kv1", "MLP 0", "embed", "logits"]
    assert any("key of 3.0 and 3.1" in text for text in links(edges()))


@pytest.mark.parametrize(
    ("attrs", "turned"),
    [
        ({}, 1),
        ({"direction": "denoise"}, -1),
        ({"better": "lower"}, -1),
        ({"better": "lower", "gap": -8.0}, 1),
    ],
)
def test_what_carries_the_answer_has_one_colour_in_every_direction(attrs: dict, turned: int):
    found = [edge for edge in drawing(edges(**attrs)).edges if (edge.effect or 0) * turned < 0]
    text = drawing(edges(**attrs)).html()
    assert 0 < text.count('class="line for"') == len(found) < len(EFFECTS)


def test_edges_not_different_from_0_are_pale():
    unsure = edges({"embed -> mlp 0": -0.9, "1.0 -> logits": 0.001, "mlp 0 -> logits": -0.3})
    assert drawing(unsure).pale == {"1.0 -> logits"}


def test_the_title_says_what_is_predicted_only():
    scores = edges(method="edge scores", quantity="predicted effect")
    exact, guessed = drawing(edges()).title, drawing(scores).title
    assert all(title.startswith("embed -> mlp 0") and "90" in title for title in (exact, guessed))
    assert ["predicted" in title for title in (exact, guessed)] == [False, True]
    assert all("predicted effect" in text for text in links(scores))
    assert not any("predicted" in text for text in links(edges()))
    assert drawing(edges(at="S2")).title.startswith("At S2: embed -> mlp 0")
    (first, *_) = blocks_of(edges(), title="mine")
    assert isinstance(first, CircuitDrawing)
    assert first.title == "mine"


def test_the_map_holds_the_sums_of_each_prompt():
    found = layer_sums(edges())
    assert found["from"].values.tolist() == ["embed", "0", "2", "3"]
    assert found["to"].values.tolist() == ["0", "2", "3", "logits"]
    one = edges().sel(edge=["2.1 -> logits"]).sum("edge").values
    np.testing.assert_allclose(found.sel({"from": "2", "to": "logits"}), one)
    both = edges({"1.0 -> 2.1 q": 0.2, "1.1 -> 2.1 q": 0.1, "1.1 -> mlp 2": -0.5, "1.1 -> logits": 1.0})
    np.testing.assert_allclose(layer_sums(both).sel({"from": "1", "to": "2"}), both.values[:, :3].sum(1))
    assert bool(found.sel({"from": "3", "to": "0"}).isnull().all())


def test_what_was_not_run_is_not_in_the_map():
    found = layer_sums(verified())
    assert bool(found.sel({"from": "3", "to": "logits"}).isnull().all())
    np.testing.assert_allclose(found.mean("prompt").sel({"from": "2", "to": "3"}), 0.3, atol=1e-9)
    figure = next(block for block in blocks_of(verified()) if isinstance(block, Figure))
    (heat,) = traces(figure.figure, "heatmap")
    assert np.isfinite(heat.z).sum() == 4
    assert not [trace for trace in traces(figure.figure, "scatter") if trace.marker.symbol == "x-thin-open"]
    assert figure.title.endswith(
        "the embeddings to layer 0 (−0.90), layer 2 to layer 3 (0.30) and layer 0 to layer 2 (−0.20)"
    )


def test_scores_stand_against_exact_effects_with_the_worst_miss_named():
    figures = [block for block in blocks_of(verified()) if isinstance(block, Figure)]
    assert len(figures) == 3
    gradient, local = figures[1:]
    points = [trace for trace in traces(gradient.figure) if "markers" in (trace.mode or "")]
    assert sorted(name for trace in points for name in trace.customdata) == sorted(
        name.replace(">", "&gt;") for name in list(EFFECTS)[:4]
    )
    named = [text for trace in points for text in trace.text if text]
    assert "embed -&gt; mlp 0" in named
    assert "embed -> mlp 0 (score 0.090, effect −0.90)" in gradient.title
    x, y = [*EFFECTS.values()][:4], [0.09, -0.2, -0.1, 0.3]
    assert f"correlate at {np.corrcoef(x, y)[0, 1]:.2f}".replace("-", "−") in gradient.title
    assert "correlate at 1.00" in local.title


def test_two_edges_have_no_correlation():
    run = strongest(summary(verified(not_run=4)), 9)
    assert "correlate" not in misses_finding(run, "gradient")


def test_the_table_lists_the_strongest_with_what_is_known_of_them():
    table = edge_table(summary(verified()), 2)
    assert table.header == ("edge", "effect", f"95{SPACE}% interval", "adjusted p", "gradient", "local", "run as")
    assert [row[0] for row in table.rows] == ["embed -> mlp 0", "2.1 -> 3.kv0 k"]
    assert table.rows[0][1::3] == ("−0.90", "0.090")
    assert edge_table(summary(edges())).header == ("edge", "effect", f"95{SPACE}% interval", "adjusted p")


@pytest.mark.parametrize(
    "part",
    [
        lambda result: result.mean("prompt"),
        lambda result: result.isel(prompt=0),
        lambda result: result.isel(prompt=[0]),
        lambda result: summary(result),
        lambda result: result.isel(edge=slice(3)),
        lambda result: result.isel(edge=[0]),
        lambda result: result.transpose("edge", "prompt"),
    ],
)
def test_slices_means_and_summaries_are_drawn(part: Any):
    result = part(verified())
    assert 1 <= len(drawing(result).edges) <= 4
    assert "<svg" in uw.show(result).html
    listing = blocks_of(result)[-1]
    assert isinstance(listing, Details)


def test_a_single_edge_is_a_number():
    (table,) = blocks_of(edges().sel(edge="2.1 -> logits"))
    assert isinstance(table, Table)
    assert table.rows[0][0] == "0.050"


@pytest.mark.parametrize(("value", "said"), [(np.nan, "No edge was run"), (0.0, "exactly 0")])
def test_without_effects_there_is_a_sentence(value: float, said: str):
    (block,) = blocks_of(xr.full_like(edges(), value))
    assert isinstance(block, Text)
    assert said in block.paragraphs[0]


def test_only_the_strongest_are_drawn_and_listed():
    many = {
        f"0.{head} -> {layer}.{other} q": 0.001 * (head + 10 * layer + 1)
        for head in range(4)
        for layer in range(1, 9)
        for other in range(4)
    }
    blocks = blocks_of(edges(many))
    drawn = drawing(edges(many))
    assert len(drawn.edges) == 100
    assert min(abs(edge.effect or 0) for edge in drawn.edges) > 0.015
    assert isinstance(blocks[-1], Details)
    (table,) = blocks[-1].blocks
    assert isinstance(table, Table)
    assert len(table.rows) == 50


@pytest.mark.parametrize("how", ["gradient", "exact", "verified"])
@pytest.mark.parametrize("direction", ["noise", "denoise"])
def test_what_the_method_returns_is_drawn(how: str, direction: str):
    pair = tiny_pair(tiny_model("llama"))
    found = uw.edges(pair, how, direction=direction, verify=40, control=10, progress=False)
    drawn = drawing(found)
    means = np.abs(found.mean("prompt").values)
    largest = np.sort(means[np.isfinite(means)])[::-1]
    assert len(drawn.edges) == min(100, int((largest > 0).sum()))
    sizes = sorted((abs(edge.effect or 0) for edge in drawn.edges), reverse=True)
    np.testing.assert_allclose(sizes, largest[: len(sizes)])
    np.testing.assert_allclose(layer_sums(found).sum(("from", "to")), np.nansum(found.values, 1), rtol=1e-9)
    assert len([block for block in blocks_of(found) if isinstance(block, Figure)]) == (3 if how == "verified" else 1)


def test_edges_over_models_show_the_largest():
    both = xr.concat(
        [edges(), edges()], xr.DataArray([0, 1], dims="model", name="model"), coords="minimal", compat="override"
    )
    (figure,) = blocks_of(both.transpose("prompt", "model", "edge"))
    assert isinstance(figure, Figure)
    assert len({trace.name for trace in traces(figure.figure) if trace.name}) == len(EFFECTS)
