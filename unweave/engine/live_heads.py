"""Heads that are live in a frozen pass: what they write when some of their inputs are read, the others the recipient's.

A receiving head that is not frozen takes the inputs that receive from the rows in flight; its other inputs, and the
keys and values of its prefix, are the recipient's. So its `z` changes, and what it writes: thus a receiver acts on
later ones where attention is frozen by `q k v` outside the receivers.
"""

from dataclasses import dataclass, replace

from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.recording import Recording
from unweave.models.config import Config
from unweave.models.forward import attention_z


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
        n_kv, groups = config.n_kv_heads, list(self.groups)
        blocks = [*self.heads, *(config.n_heads + n for n in groups), *(config.n_heads + n_kv + n for n in groups)]
        chosen = own.unflatten(-1, (-1, config.d_head))[:, :, blocks].flatten(-2)
        few = replace(config, n_heads=len(self.heads), n_kv_heads=len(groups))
        prefix = None
        if first:
            k, v = (x[prompt, groups, :first].expand(len(inputs), -1, -1, -1) for x in recording.prefix(self.layer))
            prefix = k, v
        seen = recording.inputs.take(slice(prompt, prompt + 1), span.stop)
        z = attention_z(few, chosen, seen, first=first, prefix=prefix)
        return z - recording.recipient["z", self.layer][prompt, span][:, list(self.heads)]

    def written(
        self, recording: Recording, change: Float[Tensor, "run pos head d_head"]
    ) -> Float[Tensor, "run pos d_model"]:
        """What a change of their `z` writes to the residual stream."""
        w_o = rearrange(recording.weights.layers[self.layer].w_o, "d (head e) -> head e d", e=recording.config.d_head)
        return einsum(change, w_o[list(self.heads)], "run pos head e, head e d -> run pos d")
