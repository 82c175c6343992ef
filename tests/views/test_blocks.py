import base64
import gzip
import json
import re

import plotly.graph_objects as go
import pytest

from unweave.views.blocks import Answer, Block, Code, Details, Fact, Figure, Section, Table, Text, alignment, pack

EVIL = "<script>alert(1)</script>\"'&"
BLOCKS = (
    Text((EVIL,)),
    Code(EVIL),
    Table((EVIL, "b"), ((EVIL, "1"),), EVIL, EVIL),
    Figure(go.Figure(go.Bar(x=[EVIL], y=[1])), EVIL, EVIL),
    Details(EVIL, (Text((EVIL,)),)),
    Section(EVIL, (Text((EVIL,)),)),
    Section("title", (), EVIL),
    Answer(EVIL, EVIL, (Fact(EVIL, EVIL, EVIL), Fact(EVIL, EVIL, EVIL, True)), EVIL),
)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: type(block).__name__)
def test_any_text_is_shown_and_none_is_markup(block: Block):
    html = block.html()
    assert "<script>alert" not in html
    assert "\"'&" not in html  # neither an attribute is left nor an entity begun


def test_words_between_backticks_are_code():
    assert Text(("run `a<b` now",)).html() == "<p>run <code>a&lt;b</code> now</p>"


def test_packed_text_comes_back_and_is_the_same_every_time():
    text = "a < b </script> ·é" * 50
    assert gzip.decompress(base64.b64decode(pack(text))).decode() == text
    assert pack(text) == pack(text)


def test_numbers_stand_to_the_right_and_names_to_the_left():
    table = Table(
        ("head", "effect", "interval", "note"), (("23.3", "−0.2", "–", "3 a"), ("20.0", "< 0.1", "0.1 to 2", "b"))
    )
    assert alignment(table) == "lrrl"
    assert alignment(Table(("a", "b"), ())) == "ll"
    assert alignment(Table(("a", "b"), (("1", "2"),), align="rl")) == "rl"


def test_a_figure_brings_its_title_and_caption_and_the_page_may_say_otherwise():
    figure = go.Figure(layout={"meta": {"title": "found & so", "caption": "its caption", "wide": {"height": 333}}})
    assert "found &amp; so" in Figure(figure).html()
    assert "its caption" in Figure(figure).html()
    assert "height:333px" in Figure(figure).html()
    other = Figure(figure, "mine", "my caption").html()
    assert "found" not in other
    assert "my caption" in other


def test_the_drawing_has_no_title_and_no_width_of_its_own():
    figure = go.Figure(layout={"title": {"text": "TITLE"}, "width": 500})
    data = re.search(r'class="data">([^<]+)<', Figure(figure).html())
    assert data is not None
    layout = json.loads(gzip.decompress(base64.b64decode(data[1])))["layout"]
    assert "TITLE" not in json.dumps(layout)
    assert "width" not in layout
    assert figure.to_dict()["layout"]["title"]["text"] == "TITLE"  # the figure that was given stays as it was


def test_sections_are_linked_by_a_name_made_from_the_title():
    assert Section("What carries it?").anchor == "what-carries-it"
    assert Section("a", id="b").anchor == "b"
    assert Section("…").anchor == "section"
