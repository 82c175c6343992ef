import pytest

import unweave as uw
from tests.cli.command import Command, one_line


def test_the_table_is_that_of_python(run: Command, folder) -> None:
    assert run("prompt", "The capital of France is", "--answer", "Paris", "--model", folder, "--top", 3) == 0
    found = uw.test_prompt(uw.load_model(str(folder)), "The capital of France is", "Paris", top=3)
    answer = found.tables[0]
    assert run.table()[:2] == [list(answer.header), list(answer.rows[0])]
    assert run.out.count("\n") == 1 + sum(2 + len(table.rows) for table in found.tables)
    assert run.out.startswith(f"# {found.title}\n# answer ")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("", "--answer", "b"), ["PROMPT", "empty"]),
        (("a", "--answer", " "), ["--answer"]),
        (("a ", "--answer", "b"), ["ends with a space", "--no-space"]),
        (("a",), ["Missing option '--answer'"]),
        (("a", "--answer", "b", "--top", "0"), ["--top"]),
        (("a", "--answer", "b", "--model", "no-such-model"), ["no-such-model"]),
    ],
)
def test_bad_input_is_one_line(run: Command, arguments, parts) -> None:
    assert run("prompt", *arguments) == 2
    one_line(run, *parts)
