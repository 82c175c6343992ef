"""Heads that are live in a frozen pass: what they write when some of their inputs are read, the others the recipient's.

A receiving head that is not frozen takes the inputs that receive from the rows in flight; its other inputs, and the
keys and values of its prefix, are the recipient's. So its `z` changes, and what it writes: thus a receiver acts on
later ones where attention is frozen by `q k v` outside the receivers.
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.recording import Recording
from unweave.models.config import Config
from unweave.models.forward import attend, attention_pattern, attention_scores, rotate, split_qkv


@dataclass(frozen=True)
class LiveHeads:
    """The heads of a layer whose `z` depends on `columns` of the fused queries, keys and values."""

    layer: int
    columns: Int[Tensor, " column"]
    groups: tuple[int, ...]
    heads: tuple[int, ...]

    @staticmethod
    def reading(config: Config, layer: int, columns: Int[Tensor, " column"]) -> "LiveHeads":
        """The heads that read these columns. Query heads that share a key and value head are taken together."""
        share, blocks = config.heads_per_kv, {int(column) // config.d_head for column in columns}
        groups = {n // share if n < config.n_heads else (n - config.n_heads) % config.n_kv_heads for n in blocks}
        heads = [group * share + n for group in sorted(groups) for n in range(share)]
        return LiveHeads(layer, columns, tuple(sorted(groups)), tuple(heads))

    def change(
        self, recording: Recording, prompt: int, first: int, inputs: Float[Tensor, "run pos column"]
    ) -> Float[Tensor, "run pos head d_head"]:
        """The change of these heads' `z` in runs of one prompt that read `inputs` from position `first` on."""
        config, span = recording.config, slice(first, first + inputs.shape[1])
        own = recording.fused(self.layer)[prompt, span].repeat(len(inputs), 1, 1)
        own[..., self.columns] = inputs
        q, k, v = split_qkv(config, own)
        chosen = list(self.groups)
        q = rearrange(q[:, :, list(self.heads)], "run pos head e -> run head pos e")
        k, v = (rearrange(x[:, :, chosen], "run pos kv_head e -> run kv_head pos e") for x in (k, v))
        sight = recording.sight
        if sight.tables is not None:
            cos, sin = (table[span] for table in sight.tables)
            q, k = rotate(q, (cos, sin)), rotate(k, (cos, sin))
        if first:
            k, v = (
                torch.cat([prefix[prompt, chosen, :first].expand(len(inputs), -1, -1, -1), x], dim=2)
                for prefix, x in zip(recording.prefix(self.layer), (k, v), strict=True)
            )
        seen = None if sight.seen is None else sight.seen[prompt, : span.stop].expand(len(inputs), -1)
        z = attend(attention_pattern(attention_scores(config, q, k, seen)), v)
        theirs = recording.recipient["z", self.layer][prompt, span][:, list(self.heads)]
        return rearrange(z, "run head pos e -> run pos head e") - theirs

    def written(
        self, recording: Recording, change: Float[Tensor, "run pos head d_head"]
    ) -> Float[Tensor, "run pos d_model"]:
        """What a change of their `z` writes to the residual stream."""
        w_o = rearrange(recording.weights.layers[self.layer].w_o, "d (head e) -> head e d", e=recording.config.d_head)
        return einsum(change, w_o[list(self.heads)], "run pos head e, head e d -> run pos d")
