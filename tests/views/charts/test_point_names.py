"""Names of points that do not cover each other."""

import numpy as np

from unweave.views.charts.scatter import name_places

RANGES, SIZE = ([0.0, 10.0], [0.0, 10.0]), (400, 300)


def places(x: list[float], y: list[float], names: list[str]) -> list[str]:
    return name_places(np.array(x, dtype=float), np.array(y, dtype=float), names, RANGES, SIZE)


def test_points_apart_have_their_names_above() -> None:
    assert places([2, 8], [5, 5], ["23.0", "23.1"]) == ["top center"] * 2


def test_one_and_the_same_place_holds_several_names() -> None:
    found = places([5] * 5, [5] * 5, ["S-inhibition", "induction", "a", "b", "c"])
    assert found == ["top center", "bottom center", "middle right", "middle left", ""]


def test_names_give_way_to_names_and_to_the_signs_of_named_points() -> None:
    # The second stands where the first one's name would be.
    assert places([5, 5], [5, 5.4], ["23.0", "23.1"]) == ["bottom center", "top center"]
    # A point without a name is in nobody's way.
    assert places([5, 5], [5, 5.4], ["23.0", ""]) == ["top center", ""]


def test_names_stay_in_the_drawing_area() -> None:
    assert places([5], [9.9], ["23.0"]) == ["bottom center"]
    assert places([0.1], [5], ["23.0"]) == ["middle right"]
    assert places([9.9], [5], ["23.0"]) == ["middle left"]
    assert places([5], [5], ["a" * 80]) == [""]
