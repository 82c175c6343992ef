"""Figures as a browser draws them: what a reader sees and gets on hover."""

from pathlib import Path

import numpy as np
import pytest

from tests.results.fake import result, with_tokens
from tests.views.browser import CHROMIUM, Browser
from unweave.views.blocks import Figure
from unweave.views.charts.bars import bars
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.lines import lines
from unweave.views.page import page

BAD = ["<script>document.title='run'</script>", "<b>bold</b>", "%{x}", "$x$", "&lt;", " a"]
HOVER = """(() => {
  const figure = document.querySelector('.canvas');
  Plotly.Fx.hover(figure, {xval: 1, yval: 2}, 'xy');
  return [...figure.querySelectorAll('.hoverlayer tspan')].map(line => line.textContent);
})()"""
TICKS = """[...document.querySelectorAll('.canvas')].map(
  figure => [...figure.querySelectorAll('.xtick, .ytick')].map(tick => tick.textContent)
)"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to draw in")
@pytest.mark.parametrize("width", [1280, 400])
def test_tokens_are_seen_letter_by_letter_and_cells_speak(tmp_path: Path, width: int) -> None:
    fake = with_tokens(result({"prompt": 20, "layer": 3, "pos": len(BAD)}), [BAD] * 20)
    fake[:, 2, 1] = 0.25 + 0.1 * (-1) ** np.arange(20)
    figures = (heatmap(fake, x="pos"), bars(fake, 18), lines(fake.isel(layer=0, drop=True), x="pos"))
    path = tmp_path / "figures.html"
    path.write_text(page("figures", [Figure(figure, "found") for figure in figures]), encoding="utf-8")
    with Browser(width=width) as browser:
        assert browser.open(path) == "yes"
        drawn = browser.evaluate(TICKS)
        hover = browser.evaluate(HOVER)
        assert browser.evaluate("document.title") == "figures"
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.messages == []
    for ticks in drawn:
        shown = " ".join(ticks)
        assert "<b>bold</b>" in shown
        assert "%{x}" in shown
        assert "$x$" in shown
        assert "&lt;" in shown
        assert "·a" in shown
    assert "<script>document.title='run'</script>" in " ".join(drawn[1])
    assert hover[0].startswith("layer 2 @ 1  <b>bold</b>")
    assert {"effect 0.250", "95\u00a0% interval 0.202 to 0.298", "20 prompts"} <= set(hover)
