"""`unweave show` of edges and of what was made of them."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.cli.command import Command


def test_edges_are_saved_printed_and_shown(run: Command, folder: Path) -> None:
    asked = ("--model", str(folder), "--prompts", "3", "--how", "verified", "--verify", "20", "--control", "5")
    assert run("edges", *asked, "--out", "edges.nc", "--top", "4") == 0
    rows = [line.split("\t") for line in run.out.splitlines() if " -> " in line]
    saved = uw.load("edges.nc")
    assert [row[0] for row in rows] == [row.label for row in uw.top(saved, 4)]
    assert run("show", "edges.nc", "--top", "4", "--out", "edges.html") == 0
    assert [line.split("\t") for line in run.out.splitlines() if " -> " in line] == rows
    text = Path("edges.html").read_text()
    assert text.count('<g class="link"') == 25
    assert len(text) < 3_000_000


def test_curves_and_stability_are_shown(run: Command, pair: uw.Contrast) -> None:
    edges = uw.edges(pair, "gradient", progress=False)
    uw.save(uw.curve(pair, edges, [0.01, 1.0], progress=False), "curve.nc")
    uw.save(uw.stability(edges, 5, draws=20), "stable.nc")
    for name in ("curve", "stable"):
        assert run("show", f"{name}.nc", "--out", f"{name}.html") == 0
        assert "<h3>" in Path(f"{name}.html").read_text()


@pytest.mark.parametrize(("value", "said"), [(np.nan, "known"), (0.0, "exactly 0")])
def test_edges_without_effects_are_said_to_have_none(run: Command, pair: uw.Contrast, value: float, said: str) -> None:
    edges = uw.edges(pair, "gradient", progress=False)
    uw.save(xr.full_like(edges, value), "edges.nc")
    assert run("show", "edges.nc", "--out", "edges.html") == 0
    assert said in run.out
