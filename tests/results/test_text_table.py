from io import StringIO

from rich.console import Console

from unweave.results.text_table import TextTable

TABLE = TextTable("a <title>", ("name", "n"), (("[b]bold[/b]", "1"), ("<i>", "22")), strong=(1,))


def test_plain_text_has_columns():
    assert str(TABLE).splitlines() == ["a <title>", "name         n", "[b]bold[/b]  1", "<i>          22"]


def test_a_terminal_shows_brackets_as_they_are():
    console = Console(file=StringIO(), force_terminal=True, width=60, color_system="standard")
    console.print(TABLE)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[b]bold[/b]" in text
    assert "\x1b[1m" in next(line for line in text.splitlines() if "<i>" in line)


def test_html_is_escaped_and_strong_rows_are_bold():
    html = TABLE._repr_html_()
    assert "<caption>a &lt;title&gt;</caption>" in html
    assert '<tr style="font-weight: 600"><td>&lt;i&gt;</td>' in html
    assert html.count("style=") == 1
