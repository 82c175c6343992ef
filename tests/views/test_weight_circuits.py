"""Pictures of what is read off the weights: what titles say, what is drawn, what is left out."""

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from unweave.views.pictures import blocks_of
from unweave.views.weight_pictures import circuit_finding, composition_finding

N = 6
WEIGHTS: dict[str, Any] = {
    "over": "tokens",
    "zero": "nothing",
    "one": "all",
    "notes": "",
    "unit": "",
    "quantity": "score",
}


def circuit(tables: dict[str, np.ndarray], rows: str = "query", columns: str = "key", **attrs: str) -> xr.DataArray:
    names = [str(n) for n in range(N)]
    values = np.stack(list(tables.values()))
    coords = {"address": list(tables), rows: names, columns: names[: values.shape[2]]}
    about = {**WEIGHTS, "method": "QK circuit", **attrs}
    return xr.DataArray(values, dims=("address", rows, columns), coords=coords, attrs=about)


def composed(high: float = 0.9) -> xr.DataArray:
    values = np.full((3, 2, 2), 0.2)
    values[1, 0, 1] = high
    values[:, 1, 0] = np.nan
    coords = {
        "kind": ["Q", "K", "V"],
        "sender": ["0.0", "1.0"],
        "receiver": ["1.1", "2.0"],
        "sender_layer": ("sender", [0, 1]),
        "receiver_layer": ("receiver", [1, 2]),
    }
    about = {**WEIGHTS, "method": "composition scores", "baseline_mean": 0.2, "baseline_std": 0.01}
    about |= {"baseline_pairs": 300, "seed": 0}
    return xr.DataArray(values, dims=("kind", "sender", "receiver"), coords=coords, attrs=about)


def test_titles_say_where_rows_look() -> None:
    column = np.zeros((N, N))
    column[:, 4] = 1
    said = circuit_finding(circuit({"0.0": np.eye(N), "1.0": column}))
    assert "0.0 looks most at itself from 100" in said
    assert "1.0 looks most at 4, from 100" in said
    scattered = np.eye(N)[[1, 2, 3, 4, 5, 0]]
    assert "0.0 looks at nothing in particular" in circuit_finding(circuit({"0.0": scattered}))


def test_a_mirror_image_under_a_mask_is_looked_for_after_the_middle() -> None:
    table = np.tril(np.eye(N) * 0.5 + np.eye(N)[:, ::-1])
    places = circuit({"0.0": table}, "q_pos", "k_pos", over="positions")
    said = circuit_finding(places.assign_coords(q_pos=range(N), k_pos=range(N)))
    assert re.findall(r"(mirror image|itself) from (\d+)", said) == [("mirror image", "100"), ("itself", "50")]


def test_titles_say_what_is_written() -> None:
    table = np.zeros((N, 3))
    table[2, 1], table[4, 0] = 0.7, -0.3
    said = circuit_finding(circuit({"0.0": table}, "key", "output", method="OV circuit"))
    assert said == "Token by token, 0.0 writes most for 2 → 1 (0.70) and least for 4 → 0 (−0.30)"


def test_of_many_heads_the_largest_are_drawn_and_the_others_counted() -> None:
    tables = {f"0.{head}": np.eye(N) * (head + 1) for head in range(7)}
    (block,) = blocks_of(circuit(tables))
    html = block.html()
    assert "Left out: 3 heads with smaller cells." in html
    assert "0.6 looks most" in html
    assert "0.2 looks most" not in html


def test_more_cells_than_can_be_drawn_are_refused() -> None:
    large = xr.DataArray(np.zeros((1, 400, 400)), dims=("address", "query", "key"), attrs={"method": "QK circuit"})
    with pytest.raises(uw.InputError, match=r"result.isel\(query=slice\(50\)\)"):
        uw.show(large)


def test_composition_is_told_from_chance() -> None:
    assert composition_finding(composed()) == "0.0 composes with 2.0 (K 0.90), above random pairs (0.20 ± 0.010)"
    assert composition_finding(composed(0.21)).startswith("No pair composes more than random matrices do")
    figure, table = blocks_of(composed())
    assert "300 pairs of random matrices" in figure.html()
    assert "Crosses" in figure.html()
    assert "0.0 → 2.0" in table.html()
    assert "70.00" in table.html()  # 0.9 is seventy times 0.01 above 0.2
    assert "Crosses" not in blocks_of(composed().isel(sender=[0]))[0].html()


def test_many_heads_compose_by_layer() -> None:
    names = [f"{n // 10}.{n % 10}" for n in range(50)]
    layers = [n // 10 for n in range(50)]
    one = composed().isel(sender=[0] * 50, receiver=[1] * 50)
    many = one.assign_coords(sender=names, receiver=names)
    many = many.assign_coords(sender_layer=("sender", layers), receiver_layer=("receiver", layers))
    assert "The largest score of each pair of layers." in blocks_of(many)[0].html()


def test_copying_is_a_heat_map_of_heads() -> None:
    scores = xr.DataArray(
        np.array([[0.1, 0.9], [-0.8, 0.0]]),
        dims=("layer", "head"),
        coords={"layer": [0, 1], "head": [0, 1]},
        attrs={**WEIGHTS, "method": "copying eigenvalues", "quantity": "copying score"},
    )
    html = uw.show(scores).html
    assert "Copying score: 0.1 (0.90) and 0.0 (0.10) are highest, 1.0 (−0.80) is lowest" in html
