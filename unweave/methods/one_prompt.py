"""One prompt and one answer: what the model says next, and the rank of the answer.

An answer of several tokens is read step by step, each token given those before it: its probability is the product.
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from rich.console import Group
from rich.text import Text
from torch import Tensor

from unweave.errors import InputError
from unweave.models.model import Model
from unweave.models.tokens import token_ids
from unweave.results.text_table import TextTable
from unweave.tasks.texts import tokenizer_of


@dataclass(frozen=True)
class Candidate:
    """A token that could come next. `rank` counts the tokens with larger logits: 0 is the likeliest."""

    token: str
    rank: int
    logit: float
    probability: float


@dataclass(frozen=True)
class Step:
    """One token of the answer, and the likeliest tokens in its place."""

    answer: Candidate
    top: tuple[Candidate, ...]


@dataclass(frozen=True)
class PromptTest:
    """What `uw.test_prompt` found. Prints as tables, in a terminal and in a notebook too."""

    model: str
    tokens: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """The rank of each token of the answer."""
        return tuple(step.answer.rank for step in self.steps)

    @property
    def probability(self) -> float:
        """Of the whole answer."""
        return float(torch.tensor([step.answer.probability for step in self.steps], dtype=torch.float64).prod())

    @property
    def tables(self) -> tuple[TextTable, ...]:
        """The answer's tokens, then what is likeliest in place of each."""
        found = [step.answer for step in self.steps]
        whole = f", probability of all {_share(self.probability)}" if len(found) > 1 else ""
        answer = TextTable(
            f"answer {''.join(each.token for each in found)!r}{whole}",
            ("token", "rank", "logit", "probability"),
            tuple((repr(each.token), str(each.rank), *_numbers(each)) for each in found),
        )
        return (answer, *(_top_table(step) for step in self.steps))

    @property
    def title(self) -> str:
        """The model and the prompt's tokens."""
        return f"{self.model}, {len(self.tokens)} tokens: {' '.join(map(repr, self.tokens))}"

    def __str__(self) -> str:
        return "\n\n".join([self.title, *map(str, self.tables)])

    __repr__ = __str__

    def __rich__(self) -> Group:
        return Group(Text(self.title), *self.tables)

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.title)}</p>" + "".join(table._repr_html_() for table in self.tables)


def test_prompt(
    model: Model,
    prompt: str,
    answer: str,
    prepend_space: bool = True,  # noqa: PT028
    bos: bool | None = None,  # noqa: PT028
    top: int = 10,  # noqa: PT028
) -> PromptTest:
    """What the model says after a prompt, and how likely an answer is.

    Args:
        model: with a tokenizer.
        prompt: a text, without the answer and without a space at its end.
        answer: how it may go on, one token or several.
        prepend_space: put a space in front of the answer where it has none.
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.
        top: how many of the likeliest tokens to tell, for each token of the answer.

    Raises:
        InputError: no prompt or answer, a prompt that ends with a space, an answer that the tokenizer does not know, or
            more tokens than the model reads.
    """
    if top < 1:
        raise InputError(f"top: expected at least 1, got {top}")
    if not answer.strip():
        raise InputError(f"answer: expected at least one word, got {answer!r}")
    if prepend_space and prompt[-1:].isspace():
        raise InputError(
            f"prompt: {prompt!r} ends with a space, which belongs to the next word's token; take it off, or give "
            "prepend_space=False if it is meant"
        )
    tokens = model.to_tokens(prompt, bos)[0][0]
    ids = _answer_ids(model, f" {answer}" if prepend_space and not answer[0].isspace() else answer)
    run = model.run(rearrange(torch.cat([tokens, torch.tensor(ids[:-1], dtype=torch.long)]), "pos -> 1 pos"))
    logits = run.logits[0, len(tokens) - 1 :].cpu()
    steps = tuple(_step(model, row, number, top) for row, number in zip(logits, ids, strict=True))
    return PromptTest(model.config.name, model.to_str_tokens(tokens), steps)


# Test collectors take functions of this name for tests.
test_prompt.__test__ = False  # type: ignore[attr-defined]


def _answer_ids(model: Model, answer: str) -> list[int]:
    tokenizer = tokenizer_of(model)
    ids = token_ids(tokenizer, answer)
    if not ids or getattr(tokenizer, "unk_token_id", None) in ids:
        raise InputError(f"answer: {answer!r} is not in the vocabulary of this tokenizer; choose other words")
    return ids


def _step(model: Model, logits: Float[Tensor, " d_vocab_out"], number: int, top: int) -> Step:
    likeliest = logits.topk(min(top, len(logits))).indices.tolist()
    first, *others = _candidates(model, logits, [number, *likeliest])
    return Step(first, tuple(others))


def _candidates(model: Model, logits: Float[Tensor, " d_vocab_out"], numbers: Iterable[int]) -> list[Candidate]:
    shares, ids = logits.softmax(0), list(numbers)
    return [
        Candidate(text, int((logits > logits[number]).sum()), float(logits[number]), float(shares[number]))
        for text, number in zip(model.to_str_tokens(ids), ids, strict=True)
    ]


def _top_table(step: Step) -> TextTable:
    rows = tuple((str(each.rank), *_numbers(each), repr(each.token)) for each in step.top)
    same = tuple(place for place, each in enumerate(step.top) if each == step.answer)
    return TextTable(
        f"the likeliest in place of {step.answer.token!r}", ("rank", "logit", "probability", "token"), rows, same
    )


def _numbers(each: Candidate) -> tuple[str, str]:
    return f"{each.logit:.2f}", _share(each.probability)


def _share(probability: float) -> str:
    return f"{probability:.2%}"
