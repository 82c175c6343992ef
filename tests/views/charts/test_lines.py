"""Lines: the means, their bands, names that cannot act."""

import numpy as np
import pytest
import xarray as xr

from tests.results.fake import result, with_tokens
from tests.views.drawn import layout, traces
from unweave.errors import InputError
from unweave.results import summary
from unweave.views.charts.lines import lines

STAGES = ["0_pre", "0_mid", "1_pre", "final"]


def lens() -> xr.DataArray:
    fake = result({"prompt": 12, "layer": 4}, seed=3) * 0.1 + np.array([0.0, 0.1, 3.0, 2.5])
    named = fake.rename(layer="stage").assign_coords(stage=STAGES)
    return named.assign_attrs(quantity="logit difference", unit="logits", n_prompts=12)


def test_a_line_and_its_band() -> None:
    table = summary(lens())
    figure = lines(lens(), x="stage")
    band, line = traces(figure)
    assert list(line.x) == STAGES
    np.testing.assert_allclose(line.y, table["mean"])
    np.testing.assert_allclose(band.y, [*table["high"], *table["low"][::-1]])
    assert list(band.x) == STAGES + STAGES[::-1]
    assert layout(figure).yaxis.title.text == "logit difference (logits)"
    assert layout(figure).hovermode == "x unified"
    assert not layout(figure).showlegend


def test_the_title_says_where_it_rises_and_ends() -> None:
    title = layout(lines(lens(), x="stage")).meta["title"]
    assert title.startswith("Logit difference rises most at 1_pre, by 2.86")
    assert title.endswith(f"and ends at {float(lens()[:, -1].mean()):.2f}")
    assert layout(lines(lens(), x="stage", title="mine")).meta["title"] == "mine"


def test_a_series_is_a_line_each() -> None:
    fake = result({"prompt": 5, "layer": 3, "head": 2}).rename(head="part").assign_coords(part=["attn", "mlp"])
    figure = lines(fake, x="layer", series="part")
    drawn = {trace.name: trace for trace in traces(figure) if trace.name}
    np.testing.assert_allclose(drawn["mlp"].y, fake.sel(part="mlp").mean("prompt"), rtol=1e-6)
    assert drawn["attn"].line.color != drawn["mlp"].line.color
    assert layout(figure).showlegend


def test_results_by_name() -> None:
    figure = lines({"23.3": lens(), "<b>": lens() * 2}, x="stage")
    named = [trace for trace in traces(figure) if trace.name]
    assert [trace.name for trace in named] == ["23.3", "&lt;b&gt;"]


def test_gaps_break_no_band() -> None:
    fake = lens()
    fake[:, 1] = np.nan
    band, line = traces(lines(fake, x="stage"))
    assert np.isnan(line.y[1])
    assert "0_mid" not in band.x
    assert np.isfinite(band.y).all()


def test_one_prompt_has_no_band() -> None:
    (line,) = traces(lines(lens()[:1], x="stage"))
    assert "customdata[0]" not in line.hovertemplate


def test_tokens_are_escaped() -> None:
    fake = with_tokens(result({"prompt": 2, "layer": 1, "pos": 2}), [["<i>", " x"]] * 2).isel(layer=0, drop=True)
    assert list(traces(lines(fake, x="pos"))[-1].x) == ["0 &lt;i&gt;", "1 ·x"]


def test_many_labels_are_thinned_out_in_narrow_windows() -> None:
    names = [f"{layer}_{part}" for layer in range(30) for part in ("pre", "mid")]
    fake = result({"prompt": 2, "layer": 60}).rename(layer="stage").assign_coords(stage=names)
    meta = layout(lines(fake, x="stage")).meta
    assert meta["wide"]["xaxis.tickangle"] == meta["narrow"]["xaxis.tickangle"] == -90
    assert meta["narrow"]["xaxis.dtick"] >= 2 * meta["wide"]["xaxis.dtick"] - 1


def test_bad_dimensions_are_named() -> None:
    fake = result({"prompt": 2, "layer": 2, "head": 2})
    with pytest.raises(InputError, match=r"also has the dimension 'head'.*series='head'"):
        lines(fake, x="layer")
    with pytest.raises(InputError, match="'role' is no dimension"):
        lines(fake, x="layer", series="role")
    with pytest.raises(InputError, match=r"series: there are several results already \(a, b\)"):
        lines({"a": fake, "b": fake}, x="layer", series="head")
