"""Where the names of points stand, so that none covers another or a named point's sign.

A name without room is left out.
In the order of the points each name takes the first free place: above, below, to the right, to the left. All in pixels
of a drawing area of the given size, with letters of a mean width, since a browser's fonts are not known beforehand.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

_LETTER, _LINE, _AWAY = 6.4, 13.0, 7.0

# Left, right, lower and upper end.
Box = tuple[float, float, float, float]


def name_places(
    x: Float[np.ndarray, " point"],
    y: Float[np.ndarray, " point"],
    names: Sequence[str],
    ranges: Sequence[Sequence[float]],
    size: tuple[int, int],
) -> list[str]:
    """plotly's `textposition` of every name; empty for a name that is empty, or has no room.

    Args:
        x, y: of the points, in data units.
        names: of the points; empty where a point has none.
        ranges: the ends of the two axes, in data units.
        size: width and height of the drawing area in pixels.
    """
    points = [_pixels(values, ends, room) for values, ends, room in zip((x, y), ranges, size, strict=True)]
    signs = [
        (across - _AWAY, across + _AWAY, up - _AWAY, up + _AWAY) if name else None
        for name, across, up in zip(names, *points, strict=True)
    ]
    taken: list[Box] = []
    places = []
    for own, (name, across, up) in enumerate(zip(names, *points, strict=True)):
        others = [sign for at, sign in enumerate(signs) if sign and at != own]
        free = (
            (place, box)
            for place, box in _boxes(name, across, up)
            if _inside(box, size) and not any(_overlap(box, other) for other in (*taken, *others))
        )
        place, box = next(free, ("", None)) if name else ("", None)
        places.append(place)
        taken += [box] if box else []
    return places


def _pixels(values: Float[np.ndarray, " point"], ends: Sequence[float], room: int) -> list[float]:
    return ((values - ends[0]) / ((ends[1] - ends[0]) or 1.0) * room).tolist()


def _boxes(name: str, across: float, up: float) -> list[tuple[str, Box]]:
    wide = _LETTER * len(name)
    middle, level = (across - wide / 2, across + wide / 2), (up - _LINE / 2, up + _LINE / 2)
    return [
        ("top center", (*middle, up + _AWAY, up + _AWAY + _LINE)),
        ("bottom center", (*middle, up - _AWAY - _LINE, up - _AWAY)),
        ("middle right", (across + _AWAY, across + _AWAY + wide, *level)),
        ("middle left", (across - _AWAY - wide, across - _AWAY, *level)),
    ]


def _inside(box: Box, size: tuple[int, int]) -> bool:
    return box[0] >= 0 and box[1] <= size[0] and box[2] >= 0 and box[3] <= size[1]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]
