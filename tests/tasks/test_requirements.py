from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

import unweave as uw
from tests.readers import word_tokenizer
from tests.tiny import tiny_model
from unweave.errors import InputError
from unweave.tasks.margins import Rule, choose, margins

TEXTS = ["a b c are", "d e are", "a b c are", "a b is"]
OTHERS = ["a b d are", "d a are", "a c c are", "a d is"]


@pytest.fixture(scope="module")
def model() -> uw.Model:
    return replace(tiny_model("gpt2"), tokenizer=word_tokenizer([*TEXTS, " a a b"]))


@pytest.fixture(scope="module")
def task(model) -> uw.Task:
    return uw.tasks.pairs(model, TEXTS, OTHERS, [" a"] * 4, [" b"] * 4)


def by_name(found, part: str):
    (row,) = [row for row in found.rows if part in row.name]
    return row


def test_failing_prompts_are_named_and_counted(model, task):
    found = uw.tasks.check(model, task, endings=("are",))
    right = [number for number, margin in enumerate(margins(model, task.prompts).tolist(), 1) if margin <= 0]
    turned = [number for number, margin in enumerate(margins(model, task.corrupt()).tolist(), 1) if margin >= 0]
    assert by_name(found, "above the wrong one").failing == tuple(right)
    assert by_name(found, "with 'given' it is below").failing == tuple(turned)
    assert 0 < len(right) + len(turned) < 8
    assert by_name(found, "stands there once").failing == (1, 3)
    assert by_name(found, "ends with 'are'").failing == (4,)
    assert by_name(found, "as many tokens").n_met == 4
    assert by_name(found, "tokens, as most").n_met == 2
    assert not found.met


def test_a_task_that_meets_all(model):
    tokens = torch.randint(0, 20, (60, 3), generator=torch.Generator().manual_seed(0))
    right = margins(model, uw.Prompts.from_tokens(tokens, answers=[1] * 60, wrong=[2] * 60)) > 0
    clean = replace(uw.Prompts.from_tokens(tokens[right][:2], answers=[1, 1], wrong=[2, 2]), texts=("a b", "b a"))
    task = uw.Task("made", clean, ("turned",), lambda _: uw.Prompts.from_tokens(tokens[~right][:2]))
    assert uw.tasks.check(model, task).met
    assert not uw.tasks.check(model, task, threshold=1e6).met


def test_it_prints_as_a_table(model, task):
    found = uw.tasks.check(model, task)
    lines = str(found).splitlines()
    assert lines[0].startswith("pairs: ")
    assert lines[1].split() == ["requirement", "met", "share", "failing", "prompts"]
    assert next(line for line in lines if "once" in line).split()[3:] == ["2", "of", "4", "50%", "1,", "3"]
    console = Console(width=120, file=StringIO())
    console.print(found)
    assert "stands there once" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "<td>50%</td>" in found._repr_html_()


def test_choosing_stops_when_there_are_enough(model):
    draw = torch.Generator().manual_seed(0)
    rows = [(torch.randint(0, 20, (4,), generator=draw), torch.randint(0, 20, (4,), generator=draw)) for _ in range(90)]

    def prompts_of(records) -> uw.Prompts:
        return uw.Prompts.from_tokens(torch.stack(list(records)), [1] * len(records), [2] * len(records))

    every = margins(model, prompts_of([row for pair in rows for row in pair])).view(90, 2).amin(1)
    threshold = float(every.median())
    expected = [pair for pair, low in zip(rows, every.tolist(), strict=True) if low > threshold][:5]
    asked = iter(rows)
    chosen = choose(model, asked, prompts_of, Rule(5, threshold, 80))
    assert [id(row) for row in chosen.records] == [id(row) for pair in expected for row in pair]
    assert len(list(asked)) > 10
    with pytest.raises(InputError, match=r"160 prompts were tried"):
        choose(model, iter(rows), prompts_of, Rule(90, threshold, 80))
    with pytest.raises(InputError, match="No prompt was tried"):
        choose(model, iter([]), prompts_of, Rule(1, threshold, 80))


def test_prompts_without_answers(model):
    with pytest.raises(InputError, match="a right and a wrong answer"):
        margins(model, uw.Prompts.from_tokens(torch.tensor([[1, 2]])))
