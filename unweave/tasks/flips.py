"""Flips: the names of an indirect-object prompt replaced by a pattern, its tokens' number and places kept.

A pattern has one rule for each order of names, `"ABB->XYZ, BAB->XYZ"`. The left side names the prompt's first three
names, A being the indirect object (IO) and B the subject (S): ABB is "When IO and S …, S …", BAB is "When S and IO …,
S …". On the right, A and B keep their names, and any other letter is a random name that is not in the prompt.

    ABC                              ABB->XYZ, BAB->XYZ   three new names: no duplicate, no answer
    swap, both_inverted              ABB->ABA, BAB->BAA   IO and S exchanged by S2 alone
    random_token                     ABB->CDD, BAB->DCD   other names, S1 where it was
    inverted_token                   ABB->BAA, BAB->ABA   IO and S exchanged, S1 where it was
    inverted_position                ABB->BAB, BAB->ABB   the same names, S1 where IO was
    inverted_position_random_token   ABB->DCD, BAB->CDD   other names, S1 where IO was

The last five tell position information from token information (token kept, random or inverted; position kept or
inverted). New names do not depend on the pattern: its first new letter gets the same name in all of them.
"""

import random
import re
from collections.abc import Sequence

from unweave.errors import InputError, did_you_mean

NAMED = {
    "ABC": "ABB->XYZ, BAB->XYZ",
    "swap": "ABB->ABA, BAB->BAA",
    "random_token": "ABB->CDD, BAB->DCD",
    "inverted_token": "ABB->BAA, BAB->ABA",
    "inverted_position": "ABB->BAB, BAB->ABB",
    "inverted_position_random_token": "ABB->DCD, BAB->CDD",
    "both_inverted": "ABB->ABA, BAB->BAA",
}
# The names that a flip may need: those of the prompt, and three others.
NAMES_NEEDED = 5

_RULE = re.compile(r"\s*(ABB|BAB)\s*->\s*([A-Z]{3})\s*")


def parse(how: str) -> dict[str, str]:
    """The rules of a flip by its name or pattern: left side to right side.

    Raises:
        InputError: what is neither, with the names and the grammar.
    """
    found = [_RULE.fullmatch(rule) for rule in NAMED.get(how, how).split(",")]
    rules = {rule[1]: rule[2] for rule in found if rule}
    if len(rules) != len(found):
        raise InputError(
            f"corruption: expected one of {', '.join(NAMED)}, or a pattern such as 'ABB->XYZ, BAB->XYZ': for each "
            "order of the first three names (ABB and BAB; A the indirect object, B the subject) three capital letters; "
            f"got {how!r}.{did_you_mean(how, NAMED)}"
        )
    return rules


def new_names(rules: dict[str, str], taken: Sequence[str], names: Sequence[str], seed: str) -> dict[str, str]:
    """A name out of `names` for every letter of the right sides but A and B, none of them in `taken`.

    The same seed gives the same names, in any process: they are sorted before they are shuffled. Raises InputError
    where there are too few.
    """
    letters = sorted(set("".join(rules.values())) - {"A", "B"})
    free = sorted(set(names) - set(taken))
    if len(free) < len(letters):
        raise InputError(
            f"corruption: it needs {len(letters)} other names, and {len(free)} are one token of this tokenizer"
        )
    random.Random(seed).shuffle(free)
    return dict(zip(letters, free, strict=False))
