"""Circuit drawings in a real browser: evidence by pointer and by keys, the slider, both widths, paper."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import unweave as uw
from tests.views import made, made_circuits
from tests.views.browser import CHROMIUM, Browser, silent
from tests.views.made_edges import verified
from unweave.views.blocks import Section
from unweave.views.circuit_drawing import circuit_drawing
from unweave.views.page import page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

SAY = "document.querySelector('.circuit-say').textContent"
SHOWN = "[...document.querySelectorAll('.link')].filter(e => getComputedStyle(e).display !== 'none').length"
KEYS = {"ArrowRight": 39, "ArrowLeft": 37}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = [made.heads(), made_circuits.CIRCUIT, made_circuits.NAMED, made_circuits.evaluation()]
    return uw.report(results, tmp_path_factory.mktemp("circuit") / "report.html")


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A page with a drawing of many paths, and no figure."""
    edges = tuple(made_circuits.Edge("1.1", f"5.{head}", "q", 0.1 * head) for head in range(60))
    groups = (
        made_circuits.Group("late", tuple((5, head) for head in range(60)), ("end",)),
        made_circuits.Group("early", ((1, 1),), (made_circuits.HOSTILE,)),
    )
    path = tmp_path / "alone.html"
    path.write_text(page("alone", (circuit_drawing(made_circuits.Circuit(groups, edges)),)))
    return path


def press(browser: Browser, key: str) -> None:
    browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=KEYS[key])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_report_with_a_circuit_is_drawn_whole_and_silently(browser: Browser, report: Path, width: int, dark: bool):
    browser.view(width, 900, dark)
    assert browser.open(report) == "yes"
    silent(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    letters = "document.querySelector('.circuit .node text').getBoundingClientRect().height"
    assert browser.evaluate(letters) >= 9
    ink = browser.evaluate("getComputedStyle(document.querySelector('.circuit .node text')).fill")
    assert ink == ("rgb(227, 230, 234)" if dark else "rgb(28, 33, 39)")


def test_the_drawing_stands_beside_the_facts_on_a_large_screen_and_below_on_a_small_one(browser: Browser, report: Path):
    box = "(s => (({left, right, top}) => [left, right, top])(document.querySelector(s).getBoundingClientRect()))"
    browser.view(1280, 900)
    browser.open(report)
    _, right, top = browser.evaluate(f"{box}('.facts > div')")
    left, _, beside = browser.evaluate(f"{box}('.answer figure.circuit')")
    assert left > right
    assert abs(beside - top) < 60
    assert beside < 500
    # What stands below the drawing has the whole width.
    below, above = browser.evaluate(
        "(d => [...document.querySelectorAll('.facts > div')].map(e => e.getBoundingClientRect())"
        ".reduce((told, e) => (told[e.top >= d.bottom ? 0 : 1].push(e.right), told), [[], []]))"
        "(document.querySelector('.answer .drawing').getBoundingClientRect())"
    )
    assert max(above) < left
    assert min(below, default=1200) > left
    browser.view(400, 900)
    _, _, top = browser.evaluate(f"{box}('.facts')")
    left, _, below = browser.evaluate(f"{box}('.answer figure.circuit')")
    assert left < 40
    assert below > top


def test_a_head_under_the_pointer_says_its_evidence_and_lights_its_paths(browser: Browser, report: Path):
    browser.view(1280, 900)
    browser.open(report)
    node = "[...document.querySelectorAll('.node')].find(e => e.textContent === '5.1')"
    browser.evaluate(f"{node}.dispatchEvent(new MouseEvent('mouseenter'))")
    said = browser.evaluate(SAY)
    assert said == "5.1, mover at end; direct 0.50, end to IO 0.70; to logits 0.50; from 3.0 (q) 0.10"
    assert browser.evaluate("document.querySelectorAll('.link.lit').length") == 2
    assert browser.evaluate("document.querySelectorAll('.node.lit').length") == 3
    browser.evaluate("document.querySelector('.circuit svg').dispatchEvent(new MouseEvent('mouseleave'))")
    assert browser.evaluate(SAY).startswith("Point at a head")
    assert browser.evaluate("document.querySelectorAll('.lit').length") == 0
    link = "document.querySelector('.link[data-rank=\"0\"]')"
    browser.evaluate(f"{link}.dispatchEvent(new MouseEvent('mouseenter'))")
    assert browser.evaluate(SAY) == "5.1 → logits at end: effect 0.50, interval 0.40 to 0.60"
    assert browser.evaluate("document.querySelectorAll('.circuit title').length") == 0
    silent(browser)


def test_arrow_keys_go_from_head_to_head_and_from_path_to_path(browser: Browser, report: Path):
    browser.view(1280, 900)
    browser.open(report)
    assert browser.evaluate("document.querySelectorAll('.circuit [tabindex=\"0\"]').length") == 2
    browser.evaluate("document.querySelector('.node[tabindex=\"0\"]').focus()")
    assert browser.evaluate(SAY).startswith("5.1, mover at end")
    press(browser, "ArrowRight")
    assert browser.evaluate(SAY).startswith("5.0, mover at end")
    press(browser, "ArrowLeft")
    press(browser, "ArrowLeft")
    assert browser.evaluate(SAY).startswith("5.1, mover at end")
    browser.evaluate("document.querySelector('.link[tabindex=\"0\"]').focus()")
    press(browser, "ArrowRight")
    assert browser.evaluate(SAY).startswith("4.2 → logits at end: effect −0.30")
    silent(browser)


def test_the_slider_hides_weak_paths(browser: Browser, alone: Path):
    browser.view(1280, 900)
    assert browser.open(alone) == "yes"
    assert browser.evaluate(SHOWN) == 40
    slider = "document.querySelector('.circuit-bar input')"
    browser.evaluate(f"(s => {{ s.value = '5'; s.dispatchEvent(new Event('input')); }})({slider})")
    assert browser.evaluate(SHOWN) == 5
    assert browser.evaluate("document.querySelector('.circuit-bar output').textContent") == (
        "5 of 60, of size 5.5 and more"
    )
    assert browser.evaluate("document.querySelectorAll('.node.bare').length") == 55
    browser.evaluate(f"(s => {{ s.value = '60'; s.dispatchEvent(new Event('input')); }})({slider})")
    assert browser.evaluate(SHOWN) == 60
    assert browser.evaluate("document.querySelectorAll('.node.bare').length") == 0
    silent(browser)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_edges_are_drawn_whole_and_silently(browser: Browser, tmp_path: Path, width: int, dark: bool):
    page = uw.report([verified(), uw.stability(verified(), 2)], tmp_path / "edges.html")
    browser.view(width, 900, dark)
    assert browser.open(page) == "yes"
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate(SHOWN) == 4
    browser.evaluate("document.querySelector('.link[data-rank=\"0\"]').dispatchEvent(new MouseEvent('mouseenter'))")
    assert "gradient score 0.090" in browser.evaluate(SAY)
    silent(browser)


def test_a_wide_drawing_scrolls_in_its_frame_and_shows_hostile_roles_as_text(browser: Browser, alone: Path):
    browser.view(400, 900)
    browser.open(alone)
    assert browser.evaluate("document.documentElement.scrollWidth") == 400
    assert browser.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.circuit-view'))")
    roles = "[...document.querySelectorAll('.role')].map(e => e.textContent)"
    assert made_circuits.HOSTILE in browser.evaluate(roles)
    assert browser.evaluate("[...document.scripts].filter(s => s.textContent.includes('alert(1)')).length") == 0
    silent(browser)


def test_joined_lines_still_draw(browser: Browser, alone: Path, tmp_path: Path):
    joined = tmp_path / "joined.html"
    joined.write_text(alone.read_text().replace("\n", " "))
    assert browser.open(joined) == "yes"
    assert browser.evaluate("document.querySelector('.circuit-say') !== null")
    silent(browser)


def test_the_drawing_is_readable_without_scripts(alone: Path):
    text = alone.read_text()
    drawing = text[text.index('<figure class="circuit"') : text.index("</figure>")]
    assert drawing.count('<g class="link"') == 60
    assert "<title>1.1 → query of 5.59: effect 5.90</title>" in drawing


def test_two_drawings_on_a_page_do_not_meddle(browser: Browser, tmp_path: Path):
    first = circuit_drawing(made_circuits.CIRCUIT)
    path = tmp_path / "two.html"
    path.write_text(page("two", (Section("a", (first,)), Section("b", (replace(first, title="second"),)))))
    browser.view(1280, 900)
    browser.open(path)
    browser.evaluate("document.querySelectorAll('figure.circuit')[1].querySelector('.node').focus()")
    says = browser.evaluate("[...document.querySelectorAll('.circuit-say')].map(e => e.textContent.slice(0, 5))")
    assert says == ["Point", "5.1, "]
    silent(browser)
