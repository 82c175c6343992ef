"""Prompts as the model sees them: token by token, roles underlined, clean above corrupted; and sequences, a line each.

    START |04|16|06|[27]|[00]|06|16|04| END -> 0.003

In a sequence, tokens that do not match their mirror image are marked: a terminal and a page colour them, plain text
puts brackets around them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
import xarray as xr
from jaxtyping import Bool, Float
from rich.console import Group
from rich.text import Text
from torch import Tensor

from unweave.errors import InputError
from unweave.models.prompts import Prompts
from unweave.results.labels import TOKENS, number
from unweave.views.blocks import Block, Details, drawn
from unweave.views.wording import counted, visible

SHOWN_PROMPTS = 3


@dataclass(frozen=True)
class PromptPair:
    """One prompt and its corruption.

    `roles` gives positions in both. `answer` and `wrong` are tokens; `clean_score` and `corrupted_score` the metric on
    the two, in the unit of the metric. What is unknown is empty or None.
    """

    clean: tuple[str, ...]
    corrupted: tuple[str, ...] = ()
    roles: Mapping[str, int] = field(default_factory=dict)
    answer: str = ""
    wrong: str = ""
    clean_score: float | None = None
    corrupted_score: float | None = None


@dataclass(frozen=True)
class PromptList:
    """Prompts one under the other, numbered from `first`. `metric` names the scores: `logit difference`."""

    pairs: tuple[PromptPair, ...]
    title: str = ""
    caption: str = ""
    metric: str = "logit difference"
    first: int = 1

    def html(self) -> str:
        items = [_item(place, pair, self.metric) for place, pair in enumerate(self.pairs, start=self.first)]
        return drawn("prompts", self, items)

    def __rich__(self) -> Group:
        lines = [Text(self.title, style="bold")] if self.title else []
        for place, pair in enumerate(self.pairs, start=self.first):
            lines += _terminal(place, pair, self.metric)
        return Group(*lines)


def prompt_pairs(
    prompts: Prompts,
    corrupted: Prompts | None = None,
    *,
    answers: Sequence[str] = (),
    wrong: Sequence[str] = (),
    scores: tuple[Sequence[float], Sequence[float]] | None = None,
    most: int | None = None,
) -> tuple[PromptPair, ...]:
    """Pairs to show, from a task's prompts.

    Args:
        prompts, corrupted: the clean prompts, and the corrupted ones in the same order.
        answers, wrong: the right and the wrong answer of each prompt as text. Left out, an answer that stands in some
            prompt is named from there, and one that does not is not named.
        scores: the metric on the clean and on the corrupted prompts, one number a prompt each.
        most: how many prompts, from the first; all by default.

    Raises:
        InputError: prompts without the text of their tokens, or lists of unequal length.
    """
    if not prompts.str_tokens or (corrupted is not None and not corrupted.str_tokens):
        raise InputError("prompts: they hold no token texts; make them with a task, or set str_tokens")
    n_prompts = len(prompts)
    lists = {"corrupted": corrupted, "answers": answers, "wrong": wrong}
    lists |= dict(zip(("scores[0]", "scores[1]"), scores or ((), ()), strict=True))
    for name, given in lists.items():
        if given is not None and len(given) not in (0, n_prompts):
            raise InputError(f"{name}: expected one entry for each of the {n_prompts} prompts, got {len(given)}")
    words = _words(prompts)
    right = list(answers) or [words.get(entry, "") for entry in _entries(prompts.answers, n_prompts)]
    not_right = list(wrong) or [words.get(entry, "") for entry in _entries(prompts.wrong, n_prompts)]
    return tuple(
        PromptPair(
            clean=prompts.str_tokens[row],
            corrupted=corrupted.str_tokens[row] if corrupted is not None else (),
            roles={name: int(places[row]) for name, places in prompts.roles.items()},
            answer=right[row],
            wrong=not_right[row],
            clean_score=None if scores is None else float(scores[0][row]),
            corrupted_score=None if scores is None else float(scores[1][row]),
        )
        for row in range(n_prompts if most is None else min(most, n_prompts))
    )


def prompt_blocks(pairs: Sequence[PromptPair], metric: str) -> list[Block]:
    """The first prompts, and the others folded away; none of no pairs."""
    if not pairs:
        return []
    says = "As the model sees them: a dot is a space that belongs to the token"
    says += ", roles are underlined" if pairs[0].roles else ""
    if pairs[0].corrupted:
        says += ", and the corrupted prompt stands below the clean one, its differing tokens marked"
    shown = PromptList(tuple(pairs[:SHOWN_PROMPTS]), "The prompts", f"{says}.", metric)
    others = PromptList(tuple(pairs[SHOWN_PROMPTS:]), metric=metric, first=SHOWN_PROMPTS + 1)
    said = f"The other {counted(len(others.pairs), 'prompt')}"
    return [shown, Details(said, (others,))] if others.pairs else [shown]


def pairs_of_results(results: Sequence[xr.DataArray], most: int | None = None) -> tuple[PromptPair, ...]:
    """The prompts that results about the same prompts remember between them.

    A result names the tokens of the prompts that it ran: the corrupted ones where a corrupted run was restored, else
    the clean ones. Results over roles know where these stand; all know both baselines. Without tokens, no pairs.
    """
    tokens: dict[bool, list[tuple[str, ...]]] = {}
    roles: list[dict[str, int]] = []
    scores: list[tuple[float, float]] = []
    for result in results:
        if "prompt" not in result.dims:
            continue
        corrupted = result.attrs.get("direction") == "denoise" or result.attrs.get("prompts") == "corrupted"
        for dim, name in TOKENS.items():
            if dim in result.dims and name in result.coords and _whole(result, dim):
                for key, of in ((False, f"clean_{name}"), (corrupted, name)):
                    if of in result.coords:
                        rows = result[of].transpose("prompt", dim).values.tolist()
                        tokens.setdefault(key, [real_tokens(row) for row in rows])
        if "role" in result.dims and "role_pos" in result.coords and not roles:
            names = [str(role) for role in result["role"].values]
            places = result["role_pos"].transpose("prompt", "role").values.tolist()
            roles = [dict(zip(names, row, strict=True)) for row in places]
        if {"clean", "corrupted"} <= set(result.coords) and not scores:
            scores = list(zip(result["clean"].values.tolist(), result["corrupted"].values.tolist(), strict=True))
    if not tokens:
        return ()
    clean = tokens.get(False) or tokens[True]
    both = len(tokens) == 2
    return tuple(
        PromptPair(
            clean=row,
            corrupted=tokens[True][place] if both else (),
            roles=roles[place] if roles else {},
            clean_score=scores[place][0] if scores else None,
            corrupted_score=scores[place][1] if scores else None,
        )
        for place, row in enumerate(clean[:most])
    )


def real_tokens(row: Sequence[str]) -> tuple[str, ...]:
    """The tokens of a row without the empty ones at its end, which are beyond the prompt."""
    texts = tuple(map(str, row))
    return texts[: max((place + 1 for place, text in enumerate(texts) if text), default=0)]


def _whole(result: xr.DataArray, dim: str) -> bool:
    """Whether a result has every position, so that its tokens are the prompts."""
    places = result[dim].values.tolist()
    return places == list(range(int(result.attrs.get("n_pos", len(places)))))


def _entries(column: object, n_prompts: int) -> list[int]:
    return [-1] * n_prompts if column is None else column.tolist()  # pyright: ignore[reportAttributeAccessIssue]


def _words(prompts: Prompts) -> dict[int, str]:
    """Vocabulary entry to text, of every token that stands in the prompts."""
    rows = zip(prompts.tokens.tolist(), prompts.str_tokens, strict=True)
    return {entry: text for entries, texts in rows for entry, text in zip(entries, texts, strict=False)}


def _columns(pair: PromptPair) -> list[tuple[str, str, list[str]]]:
    """For each position the clean token, the corrupted one, and the roles that stand there."""
    both = enumerate(zip_longest(pair.clean, pair.corrupted, fillvalue=""))
    return [(*tokens, [name for name, place in pair.roles.items() if place == at]) for at, tokens in both]


def _outcome(pair: PromptPair, metric: str) -> str:
    """What is asked and how it went, in a line."""
    said = []
    if pair.answer:
        said.append(f"{visible(pair.answer)}, not {visible(pair.wrong)}" if pair.wrong else visible(pair.answer))
    if pair.clean_score is not None and pair.corrupted_score is not None:
        said.append(f"{metric} {number(pair.clean_score)}, corrupted {number(pair.corrupted_score)}")
    return " · ".join(said)


def _item(place: int, pair: PromptPair, metric: str) -> dict[str, object]:
    """What the template writes of a prompt."""
    two = bool(pair.corrupted)
    spoken = "clean: " + "".join(pair.clean) + ("; corrupted: " + "".join(pair.corrupted) if two else "")
    outcome = _outcome(pair, metric)
    return {"place": place, "outcome": outcome, "two": two, "spoken": spoken, "columns": _columns(pair)}


def _terminal(place: int, pair: PromptPair, metric: str) -> list:
    clean, corrupted = Text(f"{place:>3}  "), Text("     ")
    for token, other, names in _columns(pair):
        clean.append(visible(token), style="underline bold" if names else "")
        clean.append(f"[{','.join(names)}] " if names else " ", style="dim")
        corrupted.append(visible(other), style="bold dark_orange" if token != other else "dim")
        corrupted.append(" ")
    lines = [clean, corrupted] if pair.corrupted else [clean]
    outcome = _outcome(pair, metric)
    return [*lines, Text(f"     {outcome}", style="green")] if outcome else lines


_DARK, _LIGHT = "bold dark_orange", "bold red"


@dataclass(frozen=True)
class SequenceLine:
    """One sequence: its tokens, which of them are marked, and the probability that stands after it."""

    tokens: tuple[str, ...]
    marked: tuple[bool, ...]
    probability: float | None = None

    def __str__(self) -> str:
        first, *inner, last = [f"[{token}]" if mark else token for token, mark in self.pieces()]
        return f"{first} |{'|'.join(inner)}| {last}{self.outcome()}"

    def pieces(self) -> list[tuple[str, bool]]:
        """Each token as it is shown, and whether it is marked."""
        return [(visible(token), mark) for token, mark in zip(self.tokens, self.marked, strict=True)]

    def outcome(self) -> str:
        return "" if self.probability is None else f" -> {self.probability:.3f}"


@dataclass(frozen=True)
class SequenceList:
    """Sequences one under the other; a block of a page, and drawn by rich and by notebooks.

    `light` chooses the colour of marks for a terminal with a light background; pages follow their reader's setting.
    """

    lines: tuple[SequenceLine, ...]
    title: str = ""
    caption: str = ""
    light: bool = False

    def __str__(self) -> str:
        return "\n".join([self.title] * bool(self.title) + [str(line) for line in self.lines])

    __repr__ = __str__

    def __rich__(self) -> Text:
        drawn = [Text(self.title, style="bold")] if self.title else []
        drawn += [_coloured(line, _LIGHT if self.light else _DARK) for line in self.lines]
        return Text("\n").join(drawn)

    def html(self) -> str:
        return drawn("sequences", self)

    def _repr_html_(self) -> str:
        from unweave.views.page import asset

        return f"<style>{asset('sequences.css')}</style>{self.html()}"


def display_seq(
    prompts: Prompts,
    probabilities: Float[Tensor, " prompt"] | Sequence[float] | None = None,
    mask: Bool[Tensor, "prompt pos"] | None = None,
    *,
    title: str = "",
    light: bool = False,
) -> SequenceList:
    """Sequences to look at: `print` them, `rich.print` them, or let a notebook draw them.

    Args:
        prompts: such as those of `uw.tasks.palindromes`.
        probabilities: a number for each, 0 to 1, that is put after it.
        mask: the tokens to mark; by default those that differ from their mirror image, first and last token aside.
        title: a line above.
        light: colours for a terminal with a light background.

    Raises:
        InputError: probabilities or a mask of another size, prompts of one token, or without texts of tokens.
    """
    n_prompts = len(prompts)
    if len(prompts.str_tokens) != n_prompts:
        raise InputError("prompts: they hold no token texts; make them with a task, or set str_tokens")
    if int(prompts.lengths.min()) < 2:
        raise InputError("prompts: expected a first and a last token in each; one prompt has a single token")
    numbers = [None] * n_prompts if probabilities is None else [float(value) for value in probabilities]
    if len(numbers) != n_prompts:
        raise InputError(f"probabilities: expected one for each of the {n_prompts} prompts, got {len(numbers)}")
    marks = mismatches(prompts) if mask is None else mask
    if marks.shape != prompts.tokens.shape:
        raise InputError(f"mask: expected shape {tuple(prompts.tokens.shape)}, got {tuple(marks.shape)}")
    rows = zip(prompts.str_tokens, marks.tolist(), numbers, strict=True)
    lines = tuple(SequenceLine(words, tuple(row[: len(words)]), number) for words, row, number in rows)
    return SequenceList(lines, title, light=light)


def mismatches(prompts: Prompts) -> Bool[Tensor, "prompt pos"]:
    """The tokens that differ from their mirror image in their prompt, its first and last token aside."""
    tokens, last = prompts.tokens, prompts.lengths[:, None] - 1
    pos = torch.arange(tokens.shape[1], device=tokens.device)
    inside = (pos > 0) & (pos < last)
    mirrored = tokens.gather(1, (last - pos).clamp(min=0))
    return inside & (tokens != mirrored)


def _coloured(line: SequenceLine, style: str) -> Text:
    first, *inner, last = [Text(token, style=style if mark else "") for token, mark in line.pieces()]
    middle = Text("|").join(inner)
    return Text.assemble(first, " |", middle, "| ", last, line.outcome())
