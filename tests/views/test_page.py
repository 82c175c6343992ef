import re
from importlib.resources import files
from pathlib import Path

import plotly.graph_objects as go
import pytest

import unweave as uw
from tests.views import made
from unweave.views.attention_view import attention_view
from unweave.views.blocks import Answer, Figure, Section, Text
from unweave.views.page import page, script_json, write_page

ASSETS = [path for path in (files("unweave.views") / "assets").iterdir() if path.name.endswith((".js", ".css"))]
SCRIPTS = [path for path in ASSETS if path.name.endswith(".js")]


@pytest.fixture(scope="module")
def whole() -> str:
    figures = [Figure(go.Figure(go.Bar(y=[1, 2])), f"figure {n}") for n in range(2)]
    return page(
        "t <b>", (Section("One", (*figures, attention_view(made.patterns()))), Section("Two", ())), contents=True
    )


def test_nothing_points_to_the_network(whole: str):
    assert re.findall(r"""(?:src|href|action)\s*=\s*["'](?!#|data:)""", whole) == []
    assert "@import" not in whole
    assert re.findall(r"url\((?!data:)", whole) == []
    assert "default-src 'none'" in whole


def test_every_script_that_runs_carries_the_nonce_of_the_policy(whole: str):
    nonce = re.search(r"script-src 'nonce-(\w+)'", whole)
    assert nonce is not None
    tags = re.findall(r"<script([^>]*)>", whole)
    running = [tag for tag in tags if "type=" not in tag]
    assert len(running) == 2
    assert all(f'nonce="{nonce[1]}"' in tag for tag in running)
    assert len(re.findall(r"</script", whole)) == len(tags)


def test_the_nonce_follows_the_content(whole: str):
    other = page("t", (Text(("a",)),))
    nonces = [re.findall(r"nonce-(\w+)", text)[0] for text in (whole, other)]
    assert nonces[0] != nonces[1]


def test_plotly_is_there_once_and_only_where_it_is_needed(whole: str):
    assert whole.count('id="plotly"') == 1
    assert len(whole.encode()) < 3_000_000
    assert len(page("t", (Text(("a",)),)).encode()) < 30_000


def test_the_title_is_escaped_and_the_contents_link_to_the_sections(whole: str):
    assert "<title>t &lt;b&gt;</title>" in whole
    assert '<a href="#two">Two</a>' in whole
    assert '<section id="two">' in whole


def test_every_page_has_one_heading_of_the_first_level(whole: str):
    assert re.findall(r"<h1[^>]*>(.*?)</h1>", whole) == ["t &lt;b&gt;"]
    answered = page("t", [Answer("The answer", "", ())])
    assert re.findall(r"<h1[^>]*>(.*?)</h1>", answered) == ["The answer"]
    # A frame in a notebook is a part of the notebook.
    assert "<h1" not in page("t", [Text(("text",))], embedded=True)


def test_the_same_blocks_give_the_same_page():
    blocks = (Text(("a",)), Figure(go.Figure(go.Bar(y=[1])), "f"))
    assert page("t", blocks) == page("t", blocks)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_survive_when_their_lines_are_joined(script: Path):
    text = script.read_text(encoding="utf-8")
    assert "//" not in text  # it would comment out all that follows
    assert "`" not in text  # a template's line ends would be lost
    assert "</" not in text
    assert "innerHTML" not in text


@pytest.mark.parametrize("asset", ASSETS, ids=lambda path: path.name)
def test_assets_are_small_and_load_nothing(asset: Path):
    text = asset.read_text(encoding="utf-8")
    assert len(text) < 16_000
    assert "http" not in text


def test_json_cannot_end_its_script():
    text = script_json({"a": "</script><!--\u2028"})
    assert "<" not in text
    assert "\u2028" not in text
    assert "\\u003c/script>" in text


def test_a_page_is_written_in_folders_that_are_made(tmp_path: Path):
    path = write_page("first", tmp_path / "new" / "page.html")
    assert path.read_text() == "first"
    write_page("second", path)
    assert path.read_text() == "second"
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(uw.InputError, match=r"path: cannot write .*page\.html"):
        write_page("text", tmp_path / "file" / "page.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(uw.InputError, match="path: cannot write"):
        write_page("text", tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
