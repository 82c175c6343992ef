"""The pages in a real browser: drawn without an error or a request, at both widths, light and dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr

import unweave as uw
from tests.results.fake import result
from tests.views import made
from tests.views.browser import CHROMIUM, Browser, silent
from unweave.results import summary
from unweave.views.blocks import Figure, Section
from unweave.views.charts.heatmap import heatmap
from unweave.views.page import page
from unweave.views.pictures import blocks_of
from unweave.views.prompt_list import PromptList, pairs_of_results

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def document() -> str:
    stream = made.stream()
    figures = [Figure(heatmap(summary(stream), x="pos"), f"figure {n}") for n in range(6)]
    prompts = PromptList(pairs_of_results([stream, made.stream("role")], most=2))
    sections = (
        Section("Prompts", (prompts,)),
        Section("Figures", figures),
        Section("Look", blocks_of(made.patterns())),
    )
    return page("page", sections, contents=True)


@pytest.fixture(scope="module")
def path(document: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(document)
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_drawn_whole_and_silently(browser: Browser, path: Path, width: int, dark: bool):
    browser.view(width, 900, dark)
    assert browser.open(path) == "yes"
    silent(browser)
    assert browser.evaluate("document.querySelectorAll('.canvas .main-svg').length") >= 6
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    paper = browser.evaluate("getComputedStyle(document.querySelector('.main-svg')).backgroundColor")
    assert paper == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")


def test_titles_below_small_panels_leave_cells_and_labels_alone(browser: Browser, tmp_path: Path):
    small = xr.Dataset({site: result({"prompt": 8, "layer": 2, "head": 2}, site=site) for site in "zqv"})
    roles = result({"prompt": 8, "layer": 2, "role": 2}).assign_coords(role=["the value that should", "end"])
    figures = [Figure(heatmap(small, x="head")), Figure(heatmap(roles, x="role"))]
    path = tmp_path / "small.html"
    path.write_text(page("small", figures))
    for width in (1280, 400):
        browser.view(width, 900)
        browser.open(path)
        rooms = browser.evaluate(
            "[...document.querySelectorAll('.canvas')].map(c => {"
            "const boxes = (s, names) => [...c.querySelectorAll(s)]"
            ".filter(e => !names || names.includes(e.textContent)).map(e => e.getBoundingClientRect());"
            "const titles = boxes('.annotation', ['head', 'role']), labels = boxes('.xtick text');"
            "return [titles.length, Math.max(...labels.map(e => e.bottom)), Math.min(...titles.map(e => e.top)),"
            "Math.max(...titles.map(e => e.bottom)), c.getBoundingClientRect().bottom];})"
        )
        assert [n for n, *_ in rooms] == [3, 1]
        for _, labels, title, foot, end in rooms:
            assert labels <= title
            assert foot <= end


def test_shares_are_coloured_from_the_page_up(browser: Browser, tmp_path: Path):
    shares = abs(result({"prompt": 8, "layer": 2, "head": 2})).assign_attrs(quantity="attention", unit="share")
    path = tmp_path / "shares.html"
    path.write_text(page("shares", [Figure(heatmap(shares, x="head"))]))
    for dark, lowest in ((False, "#f7f8f9"), (True, "#1d2126")):
        browser.view(1280, 900, dark)
        browser.open(path)
        axis = browser.evaluate(
            "(a => [a.cmin, a.colorscale[0][1]])(document.querySelector('.canvas')._fullLayout.coloraxis)"
        )
        assert axis == [0, lowest]


def test_figures_follow_the_colour_scheme_and_the_width(browser: Browser, path: Path):
    browser.view(1280, 900)
    browser.open(path)
    wide = browser.evaluate("document.querySelector('.canvas').layout.margin.l")
    browser.view(400, 900, dark=True)
    browser.evaluate("new Promise(done => setTimeout(done, 300))")
    assert browser.evaluate("document.querySelector('.canvas').layout.template.layout.paper_bgcolor") == "#14171b"
    assert browser.evaluate("document.querySelector('.canvas').layout.dragmode") is False
    assert browser.evaluate("document.querySelector('.canvas .main-svg').clientWidth") <= 400
    assert wide > 0
    silent(browser)


def test_a_script_in_a_prompt_is_shown_and_not_run(browser: Browser, path: Path):
    browser.view(1280, 900)
    browser.open(path)
    tokens = "[...document.querySelectorAll('code, .att-tokens span')]"
    assert browser.evaluate(f"{tokens}.filter(e => e.textContent.includes('<script>')).length") >= 4
    assert browser.evaluate("[...document.scripts].filter(s => s.textContent.includes('alert')).length") == 0
    silent(browser)


def test_joined_lines_still_draw(browser: Browser, document: str, tmp_path: Path):
    joined = tmp_path / "joined.html"
    joined.write_text(document.replace("\n", " "))
    assert browser.open(joined) == "yes"
    silent(browser)


def test_attention_answers_to_pointer_and_keys(browser: Browser, path: Path):
    browser.view(1280, 900)
    browser.open(path)
    assert "Head 5.1, from ·to (token 8): ·<script>alert(1)</script> (4) .82" in browser.evaluate(
        "document.querySelector('.att-say').textContent"
    )
    browser.evaluate("document.querySelectorAll('.att-heads button')[1].click()")
    assert "Head 3.0, from ·to (token 8): <bos> (0) .60" in browser.evaluate(
        "document.querySelector('.att-say').textContent"
    )
    browser.evaluate("document.querySelector('.att-tokens button[tabindex=\"0\"]').focus()")
    for _ in range(7):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", windowsVirtualKeyCode=37)
    assert "from When (token 1): <bos> (0) .50, When (1) .50" in browser.evaluate(
        "document.querySelector('.att-say').textContent"
    )
    strip = "[...document.querySelectorAll('.att-tokens')[1].children]"
    seen = browser.evaluate(f"{strip}.map(e => e.lastChild.textContent)")
    assert seen == ["", ".50", ".33", ".25", ".20", ".17", ".14", ".13", ".05"]
    browser.evaluate(
        "(s => { s.value = '2'; s.dispatchEvent(new Event('change')); })(document.querySelector('.att-prompt select'))"
    )
    assert "Head 3.0, from When" in browser.evaluate("document.querySelector('.att-say').textContent")
    silent(browser)


def test_an_emptied_page_fails_this_test_of_silence(browser: Browser, tmp_path: Path):
    noisy = tmp_path / "noisy.html"
    noisy.write_text(page("noisy", ()).replace("<main>", '<main><img src="https://example.invalid/a.png">'))
    browser.open(noisy)
    with pytest.raises(AssertionError):
        silent(browser)
    silent(browser)


def test_a_frame_in_a_notebook_takes_the_height_of_its_content(browser: Browser, tmp_path: Path):
    notebook = tmp_path / "notebook.html"
    script = "<script>window.unweave = {ready: Promise.resolve()}</script>"
    notebook.write_text(f"<!doctype html>{script}<body>{uw.show(made.patterns())._repr_html_()}</body>")
    browser.view(900, 900)
    browser.open(notebook)
    ready = "document.querySelector('iframe').contentWindow.unweave.ready"
    browser.evaluate(f"new Promise(done => setTimeout(done, 200)).then(() => {ready})")
    browser.evaluate("new Promise(done => setTimeout(done, 300))")
    inner = browser.evaluate("document.querySelector('iframe').contentDocument.documentElement.scrollHeight")
    assert abs(browser.evaluate("document.querySelector('iframe').clientHeight") - inner) <= 4
    assert inner > 300
    silent(browser)


def test_the_page_prints(browser: Browser, path: Path, tmp_path: Path):
    browser.view(1280, 900, dark=True)
    browser.open(path)
    browser.print(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    silent(browser)
