from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

import unweave as uw
from unweave.errors import InputError
from unweave.views.page import page
from unweave.views.prompt_list import mismatches


@pytest.fixture
def prompts() -> uw.Prompts:
    return uw.tasks.sequence([[4, 16, 6, 27, 6, 4], [1, 2, 3, 3, 2, 1]])


def coloured(shown) -> str:
    console = Console(file=StringIO(), force_terminal=True, color_system="256", width=120)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_mismatches_are_bracketed_in_plain_text(prompts):
    shown = uw.display_seq(prompts, [0.0031, 0.995], title="two sequences")
    assert str(shown).splitlines() == [
        "two sequences",
        "START |04|[16]|[06]|[27]|[06]|04| END -> 0.003",
        "START |01|02|03|03|02|01| END -> 0.995",
    ]


def test_mismatches_are_coloured_in_a_terminal(prompts):
    dark, light = coloured(uw.display_seq(prompts)), coloured(uw.display_seq(prompts, light=True))
    assert "START |04|\x1b[1;38;5;208m16\x1b[0m|\x1b[1;38;5;208m06\x1b[0m|" in dark
    assert dark.count("\x1b[1;38;5;208m") == 4
    assert light.count("\x1b[1;31m") == 4


def test_html_is_escaped_and_brings_its_styles(prompts):
    odd = replace(prompts, str_tokens=(("START", "<b>", *prompts.str_tokens[0][2:]), prompts.str_tokens[1]))
    shown = uw.display_seq(odd, mask=prompts.tokens == 4, title="<i>")
    assert "START |<mark>&lt;b&gt;</mark>|16|06|27|06|<mark>04</mark>| END" in shown.html()
    assert "<b>" not in shown.html()
    assert "<h3>&lt;i&gt;</h3>" in shown.html()
    assert ".sequences mark" in shown._repr_html_()
    assert "prefers-color-scheme: dark" in shown._repr_html_()
    assert ".sequences mark" in page("sequences", [shown])
    assert ".sequences mark" in uw.show(shown).html


def test_padding_is_not_shown_and_each_prompt_is_mirrored_in_itself():
    tokens = torch.tensor([[9, 1, 2, 1, 8, 0], [9, 1, 2, 3, 4, 8]])
    made = replace(uw.Prompts.from_tokens(tokens, lengths=[5, 6]), str_tokens=(tuple("<121>"), tuple("<1234>")))
    assert mismatches(made).tolist() == [[False] * 6, [False, True, True, True, True, False]]
    assert str(uw.display_seq(made)).splitlines() == ["< |1|2|1| >", "< |[1]|[2]|[3]|[4]| >"]


def test_what_cannot_be_shown(prompts):
    with pytest.raises(InputError, match="one for each of the 2 prompts, got 1"):
        uw.display_seq(prompts, [0.5])
    with pytest.raises(InputError, match=r"mask: expected shape \(2, 8\), got \(2, 3\)"):
        uw.display_seq(prompts, mask=torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="no token texts"):
        uw.display_seq(replace(prompts, str_tokens=()))
    with pytest.raises(InputError, match="single token"):
        uw.display_seq(uw.Prompts.from_tokens(torch.tensor([[1]])))
