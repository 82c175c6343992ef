"""The eight indirect-object prompts that the field's introductions to activation patching begin with.

Four sentences, each asked with either of its names as the subject, so that neighbours (1 and 2, 3 and 4, …) are each
other's corruption by a swap of S2, and every pair of names occurs in both directions.
"""

from dataclasses import replace
from functools import partial

from unweave.models.tokens import is_single_token
from unweave.tasks import flips
from unweave.tasks.indirect_object import QUESTION, IoiPrompt, flipped, ioi_prompts
from unweave.tasks.task import Task
from unweave.tasks.templates import Template, own_templates
from unweave.tasks.texts import TextModel, tokenizer_of

# The sentence, its names in the order of the first clause, and the answer of the first of its two prompts.
_SENTENCES = (
    ("When [1] and [2] went to the shops, [3] gave the bag to", ("John", "Mary"), "Mary"),
    ("When [1] and [2] went to the park, [3] gave the ball to", ("Tom", "James"), "Tom"),
    ("When [1] and [2] went to the shops, [3] gave an apple to", ("Dan", "Sid"), "Dan"),
    ("After [1] and [2] went to the park, [3] gave a drink to", ("Martin", "Amy"), "Martin"),
)
FIXED_CORRUPTIONS = ("swap", *(name for name in flips.NAMED if name != "swap"))


def ioi_fixed(model: TextModel, bos: bool | None = True) -> Task:
    """The eight prompts, by default with a beginning-of-sequence token in front.

    Args:
        model: whose tokenizer reads them.
        bos: None as the tokenizer does it, True, or False.

    Returns:
        A task whose `corrupt` takes "swap" (the default: the neighbour's prompt) and all that `uw.tasks.ioi` takes.

    Raises:
        InputError: a name that is not one token of this model.
    """
    records = tuple(_record(group, second) for group in range(len(_SENTENCES)) for second in (False, True))
    prompts = replace(ioi_prompts(model, records, bos), source={"task": "ioi-fixed"})
    tokenizer = tokenizer_of(model)
    names = tuple(name for name in own_templates().names if is_single_token(tokenizer, f" {name}"))
    return Task(
        name="ioi-fixed",
        prompts=prompts,
        corruptions=FIXED_CORRUPTIONS,
        make=partial(flipped, model, records, names, 0, bos),
        patterns=True,
        description="Indirect object identification: four sentences, each with either name as the subject.",
        question=QUESTION,
        title="Indirect object identification, eight fixed prompts",
    )


def _record(group: int, second: bool) -> IoiPrompt:
    text, names, answer = _SENTENCES[group]
    other = names[1 - names.index(answer)]
    io, subject = (other, answer) if second else (answer, other)
    return IoiPrompt(Template(text), group, "ABBA" if io == names[0] else "BABA", io, subject)
