"""What is taken for prompts, and what is refused, in whatever it is given."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import unweave as uw
from tests.readers import unchecked, word_tokenizer
from tests.tiny import tiny_model
from unweave.models.model import Model

TEXTS = ["When Mary and John went", "After John"]
WORDS = word_tokenizer(["When Mary and John went After"], pad_token="<pad>")


@pytest.fixture(scope="module")
def model() -> Model:
    return uw.Model(tiny_model("llama").config, tiny_model("llama").weights, WORDS)


def read(model: Model, given: Any) -> torch.Tensor:
    """Logits at each prompt's end."""
    with unchecked():
        return model.run(given).logits_at("end")


def tokenized(side: str, **options: Any) -> Any:
    WORDS.padding_side = side
    return WORDS(TEXTS, **options)


@pytest.mark.parametrize(
    "given",
    [
        tuple(TEXTS),
        (text for text in TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        dict(enumerate(TEXTS)).values(),
        tokenized("left", padding=True, return_tensors="pt"),
        tokenized("right", padding=True, return_tensors="pt"),
        tokenized("left", padding=True, return_tensors="np"),
        tokenized("left", padding="max_length", max_length=20),
        dict(tokenized("right", padding=True)),
        tokenized("right"),
        {"input_ids": [[9, 9]] * 2} | dict(tokenized("right")),
        WORDS(TEXTS)["input_ids"],
        [torch.tensor(row) for row in WORDS(TEXTS)["input_ids"]],
        [np.array(row) for row in WORDS(TEXTS)["input_ids"]],
        (row for row in WORDS(TEXTS)["input_ids"]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_texts_and_ids_are_taken_from_what_holds_them(model: Model, given: Any) -> None:
    expected = read(model, TEXTS)
    assert expected.std() > 0.1
    torch.testing.assert_close(read(model, given), expected)


def test_padding_in_front_is_no_part_of_a_prompt(model: Model) -> None:
    prompts = model.prompts(tokenized("left", padding=True, return_tensors="pt"))
    assert prompts.lengths.tolist() == [5, 2]
    assert prompts.tokens[1, :2].tolist() == WORDS(TEXTS[1])["input_ids"]


def test_the_output_of_a_single_text_is_one_prompt(model: Model) -> None:
    alone = read(model, TEXTS[0])
    for options in ({}, {"return_tensors": "pt"}, {"return_tensors": "np"}):
        torch.testing.assert_close(read(model, WORDS(TEXTS[0], **options)), alone)


IDS = torch.tensor([[3, 4, 5]])


@pytest.mark.parametrize(
    "given",
    [
        None,
        5,
        "",
        [],
        [""],
        ["When", ""],
        ["When", None],
        ["When", [3]],
        b"When",
        [b"When"],
        Path("pairs.csv"),
        {"When", "After"},
        {"text": TEXTS},
        {"inputs_embeds": torch.zeros(1, 2, 3)},
        SimpleNamespace(columns=["text"], __iter__=lambda: iter(["text"])),
        [3, 4],
        np.array([3, 4]),
        torch.tensor([3, 4]),
        torch.tensor(3),
        torch.zeros(1, 2, 3, dtype=torch.long),
        torch.zeros(0, 3, dtype=torch.long),
        torch.tensor([[1.0]]),
        torch.tensor([[True]]),
        np.zeros((1, 2)),
        np.array("When"),
        [[]],
        [[3], []],
        [[1.5]],
        [["When"]],
        [{"text": "When"}],
        {"input_ids": IDS, "attention_mask": torch.tensor([[1, 0, 1]])},
        {"input_ids": IDS, "attention_mask": torch.tensor([[0, 0, 0]])},
        {"input_ids": IDS, "attention_mask": torch.tensor([[1, 1]])},
        {"input_ids": IDS, "attention_mask": torch.ones(1, 1, 3, 3)},
    ],
    ids=lambda given: f"{type(given).__name__} {str(given)[:20]}",
)
def test_what_is_no_prompt_is_refused(model: Model, given: Any) -> None:
    with unchecked(), pytest.raises(uw.InputError, match=r"expected|prompt 1"):
        model.run(given)


def test_an_open_file_is_not_gone_through_line_by_line(model: Model, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("When\nAfter\n", encoding="utf-8")
    with (tmp_path / "texts").open(encoding="utf-8") as file, unchecked(), pytest.raises(uw.InputError):
        model.run(file)


@pytest.mark.parametrize(("token", "place"), [(-1, (1, 0)), (23, (0, 2)), (10**6, (1, 1))])
def test_a_token_outside_the_vocabulary_is_named_with_its_place(model: Model, token: int, place: tuple) -> None:
    rows = [[3, 4, 5], [3, 4, 5]]
    rows[place[0]][place[1]] = token
    with pytest.raises(uw.InputError, match=rf"prompt {place[0] + 1} has token id {token} at position {place[1]}"):
        model.run(rows)


def test_padding_outside_the_vocabulary_is_never_read(model: Model) -> None:
    tokens = torch.tensor([[3, 4, 5], [3, 99, -1]])
    prompts = uw.Prompts.from_tokens(tokens, lengths=[3, 1])
    inside = uw.Prompts.from_tokens(tokens.clamp(0, 9), lengths=[3, 1])
    torch.testing.assert_close(read(model, prompts), read(model, inside))


@pytest.mark.parametrize("edits", [[("z", 0)], ("z", 0), "z", None, 5, {"z": 0}, [uw.Edit("z", 0, 0.0), ("z", 1)]])
def test_what_is_no_edit_is_refused_with_what_to_write(model: Model, edits: Any) -> None:
    with unchecked(), pytest.raises(uw.InputError, match=r"edits: .*uw\.Edit\("):
        model.run(TEXTS, edits=edits)


@pytest.mark.parametrize("bos", [None, True])
@pytest.mark.parametrize("adds", [True, False])
def test_the_prompts_say_whether_they_begin_with_the_beginning_token(bos: bool | None, adds: bool) -> None:
    tokenizer = word_tokenizer(["When Mary", " When"], adds_bos=adds)
    weights = tiny_model("llama")
    model = uw.Model(weights.config, weights.weights, tokenizer)
    first = tokenizer.bos_token_id
    assert model.run("When Mary").prompts.bos == adds
    assert model.run("<s>When Mary").prompts.bos
    assert model.run("<s>When Mary").prompts.tokens.tolist() == model.to_tokens("When Mary", bos=True)[0].tolist()
    assert model.run(torch.tensor([[first, 5], [first, 6]])).prompts.bos
    assert not model.run(torch.tensor([[first, 5], [6, 5]])).prompts.bos
    assert uw.tasks.from_texts(model, ["<s>When"], bos=bos).bos
    # One of a pair has it written, the other not: where the tokenizer puts it, or is told to, both have one.
    if adds or bos:
        task = uw.tasks.pairs(model, ["<s>When Mary"], ["When When"], [" Mary"], bos=bos, space="as_is")
        assert task.prompts.bos
        assert task.prompts.tokens[:, 0].tolist() == task.corrupt().tokens[:, 0].tolist() == [first]
