"""Indirect object identification (IOI): "When Mary and John went out, John gave a book to" goes on with " Mary".

The task of Wang et al. 2022 (arXiv 2211.00593), with our own templates and words (or the user's).

1. Names, places and objects that are not one token of the model's are left out, so that the prompts of one template
   have the same tokens but for these words.
2. Templates are gone through in a shuffled order, again and again. ABBA prompts name the indirect object (IO) first,
   BABA prompts the subject (S); `mixed` alternates, so that both are equally frequent in all and over each template.
3. Names, place and object are drawn; a prompt that is there already is drawn again. The first n prompts of a seed are
   the same whatever their number.
4. Roles are read off the tokens: IO, S1 and S2 are the mentions of the two names, `IO-1` and `S1+1` and their like the
   tokens beside them, `start` the first token, `punct` the last comma or full stop, `end` the last token.
5. `corrupt` replaces names by a flip (see `unweave.tasks.flips`); roles and answers stay those of the original.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from unweave.errors import InputError
from unweave.models.prompts import Prompts, clusters_of
from unweave.models.tokens import Tokenizer, is_single_token
from unweave.tasks import flips
from unweave.tasks.task import Task
from unweave.tasks.templates import Template, TemplateSet, own_templates, read_templates
from unweave.tasks.texts import Row, TextModel, find_word, pieces_of, tokenize, tokenizer_of

QUESTION = (
    "After “When Mary and John went to the shop, John gave a book to” comes “Mary”, the name that stands there once. "
    "Which parts of the model find it, and from where?"
)
Order = Literal["ABBA", "BABA", "mixed"]

# So many draws of names, place and object, all of them there already, mean that there are no others.
_MOST_DRAWS = 1000


@dataclass(frozen=True)
class IoiPrompt:
    """What one prompt was made of. `order` is "ABBA" or "BABA"; `group` numbers the template."""

    template: Template
    group: int
    order: str
    io: str
    subject: str
    place: str = ""
    thing: str = ""

    @property
    def text(self) -> str:
        return self.spelled(self.order[:3], {})

    def spelled(self, letters: str, others: Mapping[str, str]) -> str:
        """The text with the names that three letters stand for: A the IO, B the subject, others as given."""
        names = {"A": self.io, "B": self.subject, **others}
        first, second, third = (names[letter] for letter in letters)
        return self.template.fill((first, second, third), self.place, self.thing)


def ioi(
    model: TextModel,
    n_prompts: int = 32,
    seed: int = 0,
    *,
    order: Order = "mixed",
    bos: bool | None = None,
    templates: str | Path | TemplateSet | None = None,
) -> Task:
    """Indirect-object prompts from templates.

    Args:
        model: whose tokenizer reads them.
        n_prompts: how many.
        seed: of the draws; the same seed gives the same prompts and corruptions in any process.
        order: "ABBA" (the indirect object first), "BABA" (the subject first), or "mixed".
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.
        templates: a JSON file (see `unweave.tasks.templates`); our own by default.

    Returns:
        A task whose `corrupt` takes "ABC" (the default), "swap" and the other names of `unweave.tasks.flips`, and
        patterns such as "ABB->XYZ, BAB->XYZ". `prompts.groups` numbers the templates; both orders of one share its
        number, and are one cluster: prompts that share a sentence are not independent.

    Raises:
        InputError: templates that cannot be read, or too few words that are one token of this model.
    """
    if order not in ("ABBA", "BABA", "mixed"):
        raise InputError(f"order: expected 'ABBA', 'BABA' or 'mixed', got {order!r}")
    if n_prompts < 1:
        raise InputError(f"n_prompts: expected at least 1, got {n_prompts}")
    given = own_templates() if templates is None else templates
    words = usable(tokenizer_of(model), given if isinstance(given, TemplateSet) else read_templates(given))
    records = _draw(words, n_prompts, seed, order)
    source = {"task": "ioi", "seed": seed, "order": order, "templates": words.source}
    prompts = replace(ioi_prompts(model, records, bos), source=source)
    return Task(
        name="ioi",
        prompts=prompts,
        corruptions=tuple(flips.NAMED),
        make=partial(flipped, model, records, words.names, seed, bos),
        patterns=True,
        description=f"Indirect object identification, {len(words.templates)} templates, names as {order}.",
        question=QUESTION,
        title="Indirect object identification",
    )


def flipped(
    model: TextModel, records: Sequence[IoiPrompt], names: Sequence[str], seed: int, bos: bool | None, how: str
) -> Prompts:
    """The prompts with their names replaced by a flip, given by its name or pattern; without roles and answers."""
    rules = flips.parse(how)
    missing = [record.order[:3] for record in records if record.order[:3] not in rules]
    if missing:
        raise InputError(
            f"corruption: {how!r} has no rule for the {len(missing)} prompts that begin as {missing[0]}; "
            f"add one: '{how}, {missing[0]}->…'"
        )
    rows = []
    for number, record in enumerate(records):
        others = flips.new_names(rules, (record.io, record.subject), names, f"{seed} {number}")
        rows.append(Row(record.spelled(rules[record.order[:3]], others), f"prompt {number + 1}"))
    return tokenize(model, rows, bos=bos)


def usable(tokenizer: Tokenizer, words: TemplateSet) -> TemplateSet:
    """The words that are one token behind a space. Raises InputError where too few are left."""
    kept = {
        key: tuple(word for word in getattr(words, key) if is_single_token(tokenizer, f" {word}"))
        for key in ("names", "places", "objects")
    }
    needed = {"names": flips.NAMES_NEEDED}
    for key, marker in (("places", "[PLACE]"), ("objects", "[OBJECT]")):
        needed[key] = int(any(marker in template.text for template in words.templates))
    for key, least in needed.items():
        if len(kept[key]) < least:
            raise InputError(
                f"templates: {len(kept[key])} of the {len(getattr(words, key))} {key} are one token of this tokenizer, "
                f"and {least} are needed; give others in a file: templates='file.json'"
            )
    return replace(words, **kept)


def ioi_prompts(model: TextModel, records: Sequence[IoiPrompt], bos: bool | None) -> Prompts:
    """Records as prompts with their roles, answers (IO) and wrong answers (S)."""
    rows = [
        Row(record.text, f"prompt {number}", answer=f" {record.io}", wrong=f" {record.subject}")
        for number, record in enumerate(records, start=1)
    ]
    prompts = tokenize(model, rows, bos=bos)
    places = [
        roles_of(words, record.io, record.subject)
        for words, record in zip(pieces_of(model, prompts), records, strict=True)
    ]
    groups = [record.group for record in records]
    # A role that a prompt lacks (no comma, say) is left out of all.
    shared = [role for role in places[0] if all(role in place for place in places)]
    return replace(
        prompts,
        roles={role: torch.tensor([place[role] for place in places]) for role in shared},
        groups=torch.tensor(groups),
        clusters=clusters_of([[group] for group in groups]),
    )


def roles_of(words: Sequence[str], io: str, subject: str) -> dict[str, int]:
    """Positions of the roles in one prompt's tokens, in the order in which they are shown."""
    found_io, found_s = find_word(words, io), find_word(words, subject)
    if len(found_io) != 1 or len(found_s) != 2:
        raise InputError(
            f"templates: {''.join(words)!r} should name {io!r} once and {subject!r} twice; change its words"
        )
    places = {"start": 0, **_beside("IO", found_io[0]), **_beside("S1", found_s[0])}
    stops = [at for at, word in enumerate(words) if word.strip() in (",", ".")]
    if stops:
        places["punct"] = stops[-1]
    return {**places, "S2": found_s[1], "end": len(words) - 1}


def _beside(role: str, at: int) -> dict[str, int]:
    return {name: place for name, place in ((f"{role}-1", at - 1), (role, at), (f"{role}+1", at + 1)) if place >= 0}


def _draw(words: TemplateSet, n_prompts: int, seed: int, order: str) -> list[IoiPrompt]:
    rng = random.Random(seed)
    groups = rng.sample(range(len(words.templates)), len(words.templates))
    records: list[IoiPrompt] = []
    seen: set[str] = set()
    for number in range(n_prompts):
        turn, which = divmod(number, len(groups))
        # With an even number of templates every turn begins with the other order, so that each template meets both.
        parity = (number + turn * (len(groups) % 2 == 0)) % 2
        own_order = ("ABBA", "BABA")[parity] if order == "mixed" else order
        record = _draw_one(rng, words, groups[which], own_order, seen)
        seen.add(record.text)
        records.append(record)
    return records


def _draw_one(rng: random.Random, words: TemplateSet, group: int, order: str, seen: set[str]) -> IoiPrompt:
    for _ in range(_MOST_DRAWS):
        io, subject = rng.sample(words.names, 2)
        place, thing = (rng.choice(nouns) if nouns else "" for nouns in (words.places, words.objects))
        record = IoiPrompt(words.templates[group], group, order, io, subject, place, thing)
        if record.text not in seen:
            return record
    raise InputError(f"n_prompts: the templates give no more than {len(seen)} different prompts or so; ask for fewer")
