"""Text to tokens and back, over any Hugging Face tokenizer.

Tokenizers differ in whether they put a beginning-of-sequence token in front, in what a leading space does, and in
whether they can decode one token alone. These functions hide that: `encode` takes the first as an argument,
`single_token` reads a word as it continues a text, and `str_tokens` keeps the space that a token begins with.
"""

from collections.abc import Sequence
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.inputs import shown

# Words are read behind a line break: no tokenizer joins it to a word, and a word's leading space stays with the word.
_ANCHOR = "\n"
# What a decoder writes for a part of a character.
_PART = "\ufffd"


@runtime_checkable
class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer, fast or slow."""

    def __call__(self, text: Any, *, add_special_tokens: bool = ..., verbose: bool = ...) -> Any: ...

    def decode(self, token_ids: Any) -> Any: ...


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], bos: bool | None = None
) -> tuple[Int[Tensor, "prompt pos"], Int[Tensor, " prompt"]]:
    """Token ids `[prompt pos]`, right-padded, and how many of each row count `[prompt]`.

    Args:
        tokenizer: any Hugging Face tokenizer; it needs no padding token, since padding is never read.
        texts: one text a prompt. Nothing is put behind a text, also where the tokenizer would end it.
        bos: None as the tokenizer does it, True exactly one beginning-of-sequence token in front, False none. None
            puts none in front of a text that begins with it.

    Raises:
        InputError: no text, an empty text, or a beginning-of-sequence token that the tokenizer lacks or the text holds.
    """
    if not texts:
        raise InputError("texts: expected at least one text, got none")
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not text:
            raise InputError(f"texts: expected a text that is not empty, got {shown(text)} as text {number}")
    rows = [_with_bos(tokenizer, text, bos) for text in texts]
    for number, row in enumerate(rows, start=1):
        if not row:
            raise InputError(f"texts: text {number} has no tokens; expected at least one")
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.full((len(rows), int(lengths.max())), _pad_id(tokenizer))
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = torch.tensor(row)
    return tokens, lengths


def str_tokens(tokenizer: Tokenizer, ids: Int[Tensor, " pos"] | Sequence[int]) -> tuple[str, ...]:
    """The text of each token, with the space that it begins with. A piece of a character that takes several is `�`.

    Raises:
        InputError: an entry that is no token id.
    """
    numbers = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    for number in numbers:
        if not isinstance(number, SupportsIndex) or not 0 <= int(number) < 2**31:
            raise InputError(f"tokens: expected token ids, whole numbers from 0, got {number!r}")
    text_of = {number: _text_of(tokenizer, number) for number in set(numbers)}
    return tuple(text_of[number] for number in numbers)


def pieces(tokenizer: Tokenizer, ids: Int[Tensor, " pos"] | Sequence[int]) -> tuple[str, ...]:
    """What each token adds to the text. A character that takes several tokens is added by the last of them."""
    numbers = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    found: list[str] = []
    group: list[int] = []  # tokens since the last whole character, and the text that they have added
    added = ""
    for number, text in zip(numbers, str_tokens(tokenizer, numbers), strict=True):
        group.append(number)
        whole = text if len(group) == 1 else _text_of(tokenizer, *group)
        found.append(whole.rstrip(_PART)[len(added) :])
        added += found[-1]
        if not whole.endswith(_PART):
            group, added = [], ""
    return tuple(found)


def single_token(tokenizer: Tokenizer, word: str) -> int:
    """The one token of `word`, read as it continues a text: " Mary" and "Mary" are different tokens.

    Raises:
        InputError: `word` is empty, takes several tokens, or is unknown to the tokenizer.
    """
    ids = token_ids(tokenizer, word)
    if len(ids) == 1 and not _is_unknown(tokenizer, ids[0], word):
        return ids[0]
    if len(ids) == 1:
        raise InputError(f"{word!r} is not in the vocabulary of this tokenizer; choose another word")
    hint = f"{' ' + word!r} is one" if word and is_single_token(tokenizer, f" {word}") else "choose another word"
    raise InputError(f"{word!r} is {len(ids)} tokens {list(str_tokens(tokenizer, ids))}, expected one; {hint}")


def is_single_token(tokenizer: Tokenizer, word: str) -> bool:
    """Whether `single_token` finds one."""
    ids = token_ids(tokenizer, word)
    return len(ids) == 1 and not _is_unknown(tokenizer, ids[0], word)


def token_ids(tokenizer: Tokenizer, word: str) -> list[int]:
    """The tokens of `word` as it continues a text, without special tokens."""
    anchor, joined = _bare(tokenizer, _ANCHOR), _bare(tokenizer, _ANCHOR + word)
    # A tokenizer that does join the anchor to the word, as to a second line break, leaves the word by itself.
    return joined[len(anchor) :] if joined[: len(anchor)] == anchor else _bare(tokenizer, word)


def bos_id(tokenizer: Tokenizer) -> int | None:
    """The beginning-of-sequence token, or None where there is none."""
    return getattr(tokenizer, "bos_token_id", None)


def begins_with_bos(tokenizer: Tokenizer | None, tokens: Int[Tensor, "prompt pos"]) -> bool:
    """Whether every row begins with the beginning-of-sequence token."""
    first = None if tokenizer is None else bos_id(tokenizer)
    return first is not None and bool((tokens[:, 0] == first).all())


def _with_bos(tokenizer: Tokenizer, text: str, bos: bool | None) -> list[int]:
    first, bare = bos_id(tokenizer), _bare(tokenizer, text)
    written = next((n for n, token in enumerate(bare) if token != first), len(bare))
    if bos is None:
        last, full = getattr(tokenizer, "eos_token_id", None), _ids(tokenizer, text, special=True)
        ended = full[-1:] == [last] and bare[-1:] != [last]
        full = full[:-1] if ended else full
        # The text's own first token is the one: a model has seen no text that begins with two.
        return bare if written and full == [first, *bare] else full
    if bos and first is None:
        raise InputError("bos=True: this tokenizer has no beginning-of-sequence token; give bos=None or bos=False")
    if not bos and written:
        raise InputError(f"bos=False: the text {text!r} itself begins with that token; take it out, or give bos=None")
    return [first, *bare[written:]] if bos and first is not None else bare


def _bare(tokenizer: Tokenizer, text: str) -> list[int]:
    return _ids(tokenizer, text, special=False)


def _ids(tokenizer: Tokenizer, text: str, special: bool) -> list[int]:
    # Not verbose: a text that is too long is refused by the model's own check, with a better message.
    return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _text_of(tokenizer: Tokenizer, *ids: int) -> str:
    # Decoders drop the space at the beginning of a text, so tokens are decoded twice over and the first time cut off.
    once, twice = tokenizer.decode([*ids]), tokenizer.decode([*ids, *ids])
    return twice[len(once) :]


def _pad_id(tokenizer: Tokenizer) -> int:
    found = (getattr(tokenizer, name, None) for name in ("pad_token_id", "eos_token_id"))
    return next((number for number in found if number is not None), 0)


def _is_unknown(tokenizer: Tokenizer, number: int, word: str) -> bool:
    # GPT-2 gives its end-of-text token as the unknown one: written out, it is known.
    return number == getattr(tokenizer, "unk_token_id", None) and word.strip() != getattr(tokenizer, "unk_token", None)
