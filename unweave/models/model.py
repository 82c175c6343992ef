"""The model that users hold: a config, its weights, its tokenizer, and `run`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models import tokens as text
from unweave.models.config import Config
from unweave.models.forward import seen_keys
from unweave.models.inputs import column, shown, texts_of
from unweave.models.prompts import Prompts, check_answers
from unweave.models.run import Edit, Keep, Run, keys_to_keep, run_model
from unweave.models.weights import Weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def _readable(prompts: Prompts, config: Config) -> Prompts:
    """Prompts whose every token the embedding holds: padding, which is never read, becomes token 0 where it does not.

    Raises:
        InputError: a prompt that is too long, or a token of one that is no entry of the vocabulary.
    """
    longest, tokens = int(prompts.lengths.max()), prompts.tokens[:, : config.n_ctx]
    if longest > config.n_ctx:
        raise InputError(f"prompts: {longest} tokens, and {config.name} reads {config.n_ctx}; shorten them")
    outside = (tokens < 0) | (tokens >= config.d_vocab)
    wrong = outside & (torch.arange(tokens.shape[1], device=tokens.device) < prompts.lengths[:, None])
    if wrong.any():
        row, pos = wrong.nonzero()[0].tolist()
        raise InputError(
            f"prompts: prompt {row + 1} has token id {int(tokens[row, pos])} at position {pos}; "
            f"token ids must lie in 0 to {config.d_vocab - 1}, the vocabulary of {config.name}"
        )
    same = tokens.shape == prompts.tokens.shape and not outside.any()
    return prompts if same else replace(prompts, tokens=tokens.masked_fill(outside, 0))


@final
@dataclass(frozen=True, eq=False)
class Model:
    """A decoder-only transformer: its config, weights and tokenizer. Made by `uw.load_model`; no call changes it.

    `W_Q[layer, head, d_model, d_head]` and its like are stacks in TransformerLens order, copied from the fused storage.
    Biases that the model lacks are zeros; matrices that it lacks are an InputError.
    """

    config: Config
    weights: Weights
    tokenizer: PreTrainedTokenizerBase | None = None

    @property
    def device(self) -> torch.device:
        return self.weights.w_e.device

    @property
    def dtype(self) -> torch.dtype:
        return self.weights.w_e.dtype

    def run(
        self,
        prompts: Prompts | str | Iterable | Mapping,
        keep: Keep | Iterable[Keep] = (),
        edits: Edit | Sequence[Edit] = (),
    ) -> Run:
        """One forward pass.

        Args:
            prompts: prompts, a text, texts, token ids `[prompt pos]`, or a tokenizer's output with its mask.
            keep: sites to keep: `"z"`, `("z", 9)`, `"blocks.9.attn.hook_z"`, a predicate over such names, or `"all"`.
            edits: values to put in place of what the model computes, one or several, made in the order given.

        Returns:
            A `Run`: `run["z", 9]`, and `run.logits` `[prompt pos d_vocab_out]`.

        Raises:
            InputError: a site, layer or head that the model lacks; a value that does not fit; too many tokens.
        """
        batch = self.prompts(prompts)
        return run_model(self.config, self.weights, batch, keys_to_keep(self.config, keep), _edits(edits))

    def prompts(self, prompts: Prompts | str | Iterable | Mapping) -> Prompts:
        """`prompts` as `Prompts` on this model's device. Raises InputError where they do not fit the model."""
        batch = prompts if isinstance(prompts, Prompts) else self._made(prompts)
        if len(batch) == 0:
            raise InputError("prompts: expected at least one prompt, got none")
        bos = batch.bos if self.tokenizer is None else text.begins_with_bos(self.tokenizer, batch.tokens)
        batch = replace(_readable(batch, self.config), bos=bos)
        seen = seen_keys(self.config, batch.tokens, batch.lengths)
        if seen is not None and not seen.any(1).all():
            number = int((~seen.any(1)).nonzero()[0]) + 1
            raise InputError(f"prompts: prompt {number} is nothing but padding (token {self.config.pad_token})")
        check_answers(batch, self.config.d_vocab_out)
        return batch.to(self.device)

    def _made(self, given: str | Iterable | Mapping) -> Prompts:
        """Texts or token ids as prompts."""
        if isinstance(given, Iterator) and not hasattr(given, "read"):
            given = list(given)  # a generator can be gone through once; a file is refused
        texts = texts_of(given)
        if texts is None:
            return Prompts.from_tokens(given)
        ids, lengths = self.to_tokens(texts)
        words = tuple(self.to_str_tokens(row[:n]) for row, n in zip(ids, lengths.tolist(), strict=True))
        return replace(Prompts.from_tokens(ids, lengths=lengths), texts=tuple(texts), str_tokens=words)

    def to_tokens(
        self, texts: str | Iterable[str], bos: bool | None = None
    ) -> tuple[Int[Tensor, "prompt pos"], Int[Tensor, " prompt"]]:
        """Token ids, right-padded, and each text's length. `bos`: None as the tokenizer does it, True, or False."""
        given = [texts] if isinstance(texts, str) else column("texts", texts)
        return text.encode(self._tokenizer(), given, bos)

    def to_str_tokens(
        self, tokens: str | Int[Tensor, " pos"] | Sequence[int], bos: bool | None = None
    ) -> tuple[str, ...]:
        """The text of each token."""
        if isinstance(tokens, str):
            tokens = self.to_tokens(tokens, bos)[0][0]
        return text.str_tokens(self._tokenizer(), tokens)

    def to_single_token(self, word: str) -> int:
        """The one token of a word. Raises InputError where it is not one token."""
        return text.single_token(self._tokenizer(), word)

    def process(self, *steps: str) -> Model:
        """A model of the same function with processed weights: `model.process("fold_norm", "center_unembed")`.

        Raises:
            InputError: a step that would change this model's function, with the reason.
        """
        from unweave.models.processing import process

        config, weights = process(self.config, self.weights, steps)
        return replace(self, config=config, weights=weights)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Model:
        """The same model on another device or in another dtype."""
        return replace(self, weights=self.weights.to(device, dtype))

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        if self.tokenizer is None:
            raise InputError(f"{self.config.name} has no tokenizer; give token ids through uw.Prompts.from_tokens")
        return self.tokenizer

    def __repr__(self) -> str:
        c = self.config
        shape = f"{c.n_layers} layers x {c.n_heads} heads, d_model {c.d_model}"
        return f"Model({c.name!r}, {shape}, {self.dtype}, {self.device})"

    def _qkv(self, first: int, count: int) -> Float[Tensor, "layer heads d_model d_head"]:
        e = self.config.d_head
        rows = [layer.w_qkv[first * e : (first + count) * e] for layer in self.weights.layers]
        return rearrange(torch.stack(rows), "layer (head e) d_model -> layer head d_model e", e=e)

    def _b_qkv(self, first: int, count: int) -> Float[Tensor, "layer heads d_head"]:
        e = self.config.d_head
        whole = self._stack("b_qkv", self.weights.layers[0].w_qkv.shape[0])
        return rearrange(whole[:, first * e : (first + count) * e], "layer (head e) -> layer head e", e=e)

    def _stack(self, name: str, width: int = 0) -> Float[Tensor, "layer ..."]:
        """A tensor of every layer; zeros of a width where a layer has none."""
        rows = [getattr(layer, name) for layer in self.weights.layers]
        return torch.stack([self.weights.w_e.new_zeros(width) if row is None else row for row in rows])

    def _hidden(self, name: str, width: int = 0) -> Float[Tensor, "layer ..."]:
        """`_stack` of an MLP's tensor. Raises InputError where there are no MLPs."""
        if not self.config.d_mlp:
            raise InputError(f"model: {self.config.name} has no MLPs, so it has none of their weights")
        return self._stack(name, width)

    @property
    def W_Q(self) -> Float[Tensor, "layer head d_model d_head"]:  # noqa: N802
        return self._qkv(0, self.config.n_heads)

    @property
    def W_K(self) -> Float[Tensor, "layer kv_head d_model d_head"]:  # noqa: N802
        return self._qkv(self.config.n_heads, self.config.n_kv_heads)

    @property
    def W_V(self) -> Float[Tensor, "layer kv_head d_model d_head"]:  # noqa: N802
        return self._qkv(self.config.n_heads + self.config.n_kv_heads, self.config.n_kv_heads)

    @property
    def W_O(self) -> Float[Tensor, "layer head d_head d_model"]:  # noqa: N802
        stack = torch.stack([layer.w_o for layer in self.weights.layers])
        return rearrange(stack, "layer d_model (head e) -> layer head e d_model", e=self.config.d_head)

    @property
    def b_Q(self) -> Float[Tensor, "layer head d_head"]:  # noqa: N802
        return self._b_qkv(0, self.config.n_heads)

    @property
    def b_K(self) -> Float[Tensor, "layer kv_head d_head"]:  # noqa: N802
        return self._b_qkv(self.config.n_heads, self.config.n_kv_heads)

    @property
    def b_V(self) -> Float[Tensor, "layer kv_head d_head"]:  # noqa: N802
        return self._b_qkv(self.config.n_heads + self.config.n_kv_heads, self.config.n_kv_heads)

    @property
    def b_O(self) -> Float[Tensor, "layer d_model"]:  # noqa: N802
        return self._stack("b_o", self.config.d_model)

    @property
    def W_in(self) -> Float[Tensor, "layer d_model d_mlp"]:  # noqa: N802
        """What MLPs read; of a gated MLP the linear part."""
        return self._hidden("w_in")[:, -self.config.d_mlp :].mT

    @property
    def W_gate(self) -> Float[Tensor, "layer d_model d_mlp"]:  # noqa: N802
        if not self.config.gated_mlp:
            raise InputError(f"W_gate: {self.config.name} has no gated MLPs")
        return self._hidden("w_in")[:, : self.config.d_mlp].mT

    @property
    def b_in(self) -> Float[Tensor, "layer d_mlp"]:
        return self._hidden("b_in", self.config.d_mlp)[:, -self.config.d_mlp :]

    @property
    def W_out(self) -> Float[Tensor, "layer d_mlp d_model"]:  # noqa: N802
        return self._hidden("w_out").mT

    @property
    def b_out(self) -> Float[Tensor, "layer d_model"]:
        return self._hidden("b_out", self.config.d_model)

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:  # noqa: N802
        return self.weights.w_e

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab_out"]:  # noqa: N802
        return self.weights.w_u.T

    @property
    def b_U(self) -> Float[Tensor, " d_vocab_out"]:  # noqa: N802
        return self.weights.w_u.new_zeros(self.config.d_vocab_out) if self.weights.b_u is None else self.weights.b_u

    @property
    def W_pos(self) -> Float[Tensor, "n_ctx d_model"]:  # noqa: N802
        if self.weights.w_pos is None:
            raise InputError(f"W_pos: {self.config.name} has no learned position embeddings")
        return self.weights.w_pos


def _edits(given: object) -> list[Edit]:
    """Edits as a list. Raises InputError for what is none."""
    edits = []
    for edit in given if isinstance(given, Iterable) and not isinstance(given, str) else [given]:
        if not isinstance(edit, Edit):
            raise InputError(
                f"edits: expected uw.Edit values, such as uw.Edit('z', 9, value=0.0, head=6), got {shown(edit)}"
            )
        edits.append(edit)
    return edits


def check_model(model: object) -> None:
    """Raises InputError where a method that reads one model is given anything else."""
    if not isinstance(model, Model):
        raise InputError(f"model: expected a Model, got {shown(model)}; uw.load_model makes one")
