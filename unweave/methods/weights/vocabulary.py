"""Words of a model's vocabulary, as methods that read the weights are given them."""

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.model import Model


def chosen_tokens(
    model: Model, words: Sequence[str] | Sequence[int] | Tensor
) -> tuple[Int[Tensor, " token"], list[str]]:
    """Token ids of words, and a name for each, no two alike.

    Args:
        model: the model whose vocabulary it is.
        words: words of one token each (`" Mary"`), or token ids.

    Raises:
        InputError: no word, a word of several tokens, a word given twice, or an id that there is not.
    """
    given = words.tolist() if isinstance(words, Tensor) else [words] if isinstance(words, str) else list(words)
    ids = [model.to_single_token(word) if isinstance(word, str) else int(word) for word in given]
    if not ids:
        raise InputError("words: none was given; write [' Mary', ' John'], or token ids")
    if len(set(ids)) < len(ids):
        raise InputError("words: a word is given twice; give each once")
    wrong = [i for i in ids if not 0 <= i < model.config.d_vocab]
    if wrong:
        raise InputError(f"words: token ids must lie in 0 to {model.config.d_vocab - 1}, got {wrong[0]}")
    return torch.tensor(ids, device=model.device), token_names(model, ids)


def token_names(model: Model, ids: Sequence[int]) -> list[str]:
    """The text of each token, or its number where the model has no tokenizer; texts that recur carry their number."""
    if model.tokenizer is None:
        return [str(i) for i in ids]
    texts = model.to_str_tokens(list(ids))
    times = Counter(texts)
    return [text if times[text] == 1 else f"{text} #{i}" for text, i in zip(texts, ids, strict=True)]
