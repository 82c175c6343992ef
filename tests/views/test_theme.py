"""The colours can be told apart, by people with colour-vision deficiencies too, and stay with their heads."""

import itertools
import json
from typing import Any

import numpy as np
import pytest

from unweave.views import theme

# Machado, Oliveira and Fernandes 2009, severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
SCHEMES = (theme.LIGHT, theme.DARK)


def linear(colour: str) -> np.ndarray:
    rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    scaled = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    light, dark = sorted((float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def layout(scheme: dict[str, Any]) -> dict[str, Any]:
    return scheme["template"]["layout"]


@pytest.mark.parametrize("vision", VISION)
def test_palette_can_be_told_apart(vision: str) -> None:
    seen = [lab(np.array(VISION[vision]) @ linear(colour)) for colour in theme.PALETTE]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 25
    # Negative control: red and green of equal lightness, which deuteranopia confuses, would not pass.
    if vision == "deuteranopia":
        red, green = (lab(np.array(VISION[vision]) @ linear(colour)) for colour in ("#c0603c", "#8a7d2d"))
        assert np.linalg.norm(red - green) < 25


@pytest.mark.parametrize("scheme", SCHEMES)
def test_palette_stands_out_from_the_page(scheme: dict[str, Any]) -> None:
    assert min(contrast(colour, layout(scheme)["paper_bgcolor"]) for colour in theme.PALETTE) > 2.4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_words_are_readable(scheme: dict[str, Any]) -> None:
    parts = layout(scheme)
    assert contrast(parts["font"]["color"], parts["paper_bgcolor"]) > 7
    assert contrast(parts["xaxis"]["tickfont"]["color"], parts["paper_bgcolor"]) > 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("vision", VISION)
def test_the_diverging_scale_is_centred_on_the_page(scheme: dict[str, Any], vision: str) -> None:
    parts = layout(scheme)
    steps = parts["colorscale"]["diverging"]
    assert [colour for _, colour in parts["colorscale"]["sequential"]] == [colour for _, colour in steps[4:]]
    assert [place for place, _ in steps] == pytest.approx(np.linspace(0, 1, 9))
    colours = [colour for _, colour in steps]
    seen = [lab(np.array(VISION[vision]) @ linear(colour)) for colour in colours]
    page = lab(linear(parts["paper_bgcolor"]))
    away = [np.linalg.norm(colour - page) for colour in seen]
    assert away[4] < 8
    assert np.all(np.diff(away[4:]) > 0)
    assert np.all(np.diff(away[:5]) < 0)
    assert min(np.linalg.norm(seen[4 - step] - seen[4 + step]) for step in (2, 3, 4)) > 25


def test_pages_get_plain_json_and_no_upload_button() -> None:
    json.dumps([theme.LIGHT, theme.DARK, theme.CONFIG])
    assert "sendChartToCloud" in str(theme.CONFIG["modeBarButtonsToRemove"])
    assert theme.CONFIG["plotlyServerURL"] == ""
