"""Small tokenizers, and a stand-in for a model that only reads text."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jaxtyping
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.tasks.templates import own_templates

_PIECE = r" ?\w+| ?[^\w\s]|\s"


@dataclass(frozen=True)
class Reader:
    """What tasks use of a model."""

    tokenizer: Any
    config: Config


def reader(tokenizer: Any, n_ctx: int = 64, d_vocab: int = 100_000) -> Reader:
    """A model that reads text with `tokenizer`."""
    return Reader(
        tokenizer,
        Config(
            name="reader",
            family="llama",
            n_layers=1,
            n_heads=1,
            n_kv_heads=1,
            d_model=2,
            d_head=2,
            d_mlp=0,
            d_vocab=d_vocab,
            d_vocab_out=d_vocab,
            n_ctx=n_ctx,
            norm="none",
            norm_eps=0.0,
            block="serial",
            positions="none",
            score_scale=1.0,
            activation="gelu",
            gated_mlp=False,
        ),
    )


def entries_of(prompts: Prompts, which: str = "answers") -> list[int]:
    """The prompts' answers or wrong ones, which must be there."""
    return getattr(prompts, which).tolist()


@contextmanager
def unchecked() -> Iterator[None]:
    """Calls as users make them: without the tests' check of annotations, which would come before our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def word_tokenizer(texts: Iterable[str], *, adds_bos: bool = False, adds_eos: bool = False, **special: str) -> Any:
    """One token a word, its leading space included, for the words of `texts`; others are `<unk>`."""
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **special}
    words = dict.fromkeys(piece for text in texts for piece in re.findall(_PIECE, text))
    vocab = {word: number for number, word in enumerate([*special.values(), "\n", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return _finished(tokenizer, adds_bos, adds_eos, special)


def byte_tokenizer(texts: Iterable[str], n_vocab: int = 400, **special: str) -> Any:
    """A byte-level BPE as GPT-2 has, trained on `texts`; its one special token begins and ends texts, nothing pads."""
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", **special}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab,
        special_tokens=sorted(set(special.values())),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _finished(tokenizer, False, False, special)


def metaspace_tokenizer(words: Iterable[str]) -> Any:
    """One token a word in SentencePiece's manner: a space is put in front of every text, and dropped on decoding."""
    vocab = {word: number for number, word in enumerate(["<s>", "</s>", "<unk>", "▁", "\n", *words])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Split("\n", "isolated")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return _finished(tokenizer, True, False, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def ioi_texts(without: frozenset[str] = frozenset()) -> list[str]:
    """Every word of our own templates as it stands in prompts, and the eight fixed prompts, less those of `without`."""
    words = own_templates()
    fixed = "When After and went to the shops park, gave the bag ball a an apple drink to Mary Sid"
    templates = [re.sub(r" ?\[\w+\]", "", template.text) for template in words.templates]
    fillers = [f" {word}" for word in (*words.names, *words.places, *words.objects)]
    pattern = re.compile(rf" ({'|'.join(without)})\b") if without else None
    texts = [*templates, fixed, "After", *fillers]
    return [pattern.sub("", text) for text in texts] if pattern else texts


def _finished(tokenizer: Tokenizer, adds_bos: bool, adds_eos: bool, special: dict[str, str]) -> Any:
    tokenizer.add_special_tokens(sorted(set(special.values())))
    if adds_bos or adds_eos:
        ends = [special["bos_token"]] * adds_bos, [special["eos_token"]] * adds_eos
        numbers = [(token, tokenizer.token_to_id(token)) for token in (*ends[0], *ends[1])]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join([*ends[0], "$A", *ends[1]]), special_tokens=numbers
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
