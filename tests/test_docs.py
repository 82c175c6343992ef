"""The pages stay true: README.md and docs/ are run, their links lead somewhere, and the commands in them exist.

In a page, `python` blocks are executed one after another; `pycon` blocks too, and what they print is compared; lines of
`bash` blocks that begin with `unweave` must be commands with options that there are.
"""

import doctest
import functools
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

import unweave as uw
from unweave.cli.app import app

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DECIMAL = re.compile(r"-?\d+\.(\d+)")


class Rounded(doctest.OutputChecker):
    """Takes a decimal that differs by one in its last digit: processors round what lies between two digits each way."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        pairs = list(zip(DECIMAL.finditer(want), DECIMAL.finditer(got), strict=False))
        near = all(
            len(a[1]) == len(b[1]) and abs(float(a[0]) - float(b[0])) < 1.5 * 10.0 ** -len(a[1]) for a, b in pairs
        )
        want, got = (DECIMAL.sub("0.0", text) if near else text for text in (want, got))
        return super().check_output(want, got, optionflags)


def blocks(page: Path) -> list[tuple[str, str, int]]:
    """Language, content and line number of every fenced block."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [(match[1], match[2], text.count("\n", 0, match.start()) + 1) for match in found]


def parametrized(language: str) -> list:
    """The pages that have blocks of a language; those that load a model are `real`."""
    return [
        pytest.param(page, id=page.name, marks=[pytest.mark.real] if "load_model" in page.read_text("utf-8") else [])
        for page in PAGES
        if any(block[0].startswith(language) for block in blocks(page))
    ]


@pytest.mark.parametrize("page", parametrized("py"))
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for language, content, line in blocks(page):
        if language == "python":
            exec(compile("\n" * line + content, page.name, "exec"), namespace)
        elif language == "pycon":
            test = doctest.DocTestParser().get_doctest(content, namespace, page.name, str(page), line)
            report: list[str] = []
            runner = doctest.DocTestRunner(Rounded(), optionflags=OPTIONS, verbose=False)
            runner.run(test, out=report.append, clear_globs=False)
            assert not report, "".join(report)
            namespace = test.globs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_links(page: Path) -> None:
    for language, content, _ in blocks(page):
        if language == "bash":
            for line in content.replace("\\\n", " ").splitlines():
                if line.startswith("unweave "):
                    parse(shlex.split(line.partition(" | ")[0], comments=True)[1:])
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target} is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_exist_in_prose_and_in_blocks_that_take_too_long_to_run(page: Path) -> None:
    for name in re.findall(r"\buw\.([\w.]*\w)", page.read_text(encoding="utf-8")):
        assert functools.reduce(getattr, name.split("."), uw), f"{page.name}: uw.{name}"


def parse(arguments: list[str]) -> None:
    """Raises where there is no such command or option; runs nothing."""
    command, name, rest = typer.main.get_command(app), "unweave", list(arguments)
    while rest and isinstance(command, TyperGroup) and not rest[0].startswith("-"):
        name, *rest = rest
        command = command.commands[name]
    command.make_context(name, rest)


def test_the_help_of_every_command_has_an_example_that_could_be_run() -> None:
    whole = typer.main.get_command(app)
    assert isinstance(whole, TyperGroup)
    groups = [command for command in whole.commands.values() if isinstance(command, TyperGroup)]
    every = [command for group in (whole, *groups) for command in group.commands.values() if command not in groups]
    for command in (command for command in every if command.params):
        found = re.search(r"Example: unweave (.+)", command.help or "")
        assert found, f"{command.name}: its help has no example"
        parse(shlex.split(found[1]))


def test_an_example_that_prints_something_else_would_fail(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```pycon\n>>> 1 + 1\n3\n```\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError, match="Expected"):
        test_examples_run(page, tmp_path, patch)


@pytest.mark.parametrize(("printed", "right"), [("0.52", True), ("0.53", False), ("1.51", False), ("0.5", False)])
def test_numbers_may_differ_by_one_in_the_last_digit(printed: str, right: bool) -> None:
    assert Rounded().check_output("23.3: 0.51\n", f"23.3: {printed}\n", OPTIONS) == right


def test_an_option_that_is_not_there_would_fail() -> None:
    parse(["patch", "z", "--over", "layer,head"])
    with pytest.raises(Exception, match="No such option"):
        parse(["patch", "z", "--otherwise"])
