"""Tokens as the model sees them, and labels that plotly shows letter by letter."""

import pytest

from unweave.views.wording import label, visible


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (" went", "·went"),
        ("   ", "···"),
        ("a b", "a·b"),
        ("\n\n", "⏎⏎"),
        ("\t", "⇥"),
        ("\r", "\\x0d"),
        ("\x00", "\\x00"),
        ("\u200b", "\\u200b"),
        ("\u202eabc", "\\u202eabc"),
        ("\u00a0", "\\xa0"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("\ufffd", "\ufffd"),
        ("é", "é"),
        ("日本", "日本"),
        ("😀", "😀"),
        ("<b>", "<b>"),
        ("", ""),
    ],
)
def test_tokens(token: str, expected: str) -> None:
    assert visible(token) == expected


def test_labels_hold_no_markup() -> None:
    assert label("<b>x</b> & $y$ %{z}") == "&lt;b&gt;x&lt;/b&gt; &amp; &#36;y&#36; %&#123;z}"
    assert label("5 ·went") == "5 ·went"
