"""Runs in which only some edges are live: every other edge carries its sender's ablated value.

A receiver reads the ablated run's residual stream plus, for each edge that is kept, what the sender writes now minus
what it writes ablated. With all edges kept this is the clean run, with none the ablated one. Each head's query, key and
value read streams of their own (Conmy et al. 2023, arXiv 2304.14997; Hanna et al. 2024, arXiv 2403.17806).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from unweave.engine.edge_graph import EdgeGraph
from unweave.models.forward import AttentionInputs, attention_z, halves, mlp, norm
from unweave.models.run import Key
from unweave.models.weights import Weights

Masks = Bool[Tensor, "variant sender receiver"]


@dataclass(frozen=True)
class EdgeMaskRuns:
    """Runs of one batch of prompts.

    Args:
        embedded: the clean prompts' residual stream before the first block.
        ablated: of the ablated run `resid_pre` of layer 0, each layer's `z`, and `mlp_out` where there are MLPs.
    """

    graph: EdgeGraph
    weights: Weights
    inputs: AttentionInputs
    embedded: Float[Tensor, "prompt pos d_model"]
    ablated: Mapping[Key, Tensor]

    def streams(self, masks: Masks) -> Float[Tensor, "variant prompt pos d_model"]:
        """What the logits read, for each choice of edges that are kept."""
        config, n_prompts = self.graph.config, len(self.embedded)
        kept = masks.transpose(1, 2).to(self.embedded.dtype)
        number = {receiver: n for n, receiver in enumerate(self.graph.receivers)}
        base = self.ablated["resid_pre", 0]
        now = (self.embedded - base).expand(len(masks), -1, -1, -1)[:, :, None]
        for layer in range(config.n_layers):
            for half in filter(None, halves(config)):
                written, ablated = [], torch.zeros_like(base)
                for part in half:
                    if part == "attention":
                        first = number[self.graph.receivers_of(layer)[0]]
                        read = self._read(base, now, kept[:, first : first + config.n_heads + 2 * config.n_kv_heads])
                        change, whole = self._attention(layer, read)
                    elif config.d_mlp:
                        at = number[self.graph.receivers_of(layer)[-1]]
                        read = self._read(base, now, kept[:, at : at + 1])[:, :, 0]
                        whole = self.ablated["mlp_out", layer]
                        change = (mlp(config, self.weights.layers[layer], read) - whole)[:, :, None]
                    else:
                        continue
                    written.append(change)
                    ablated = ablated + whole
                base, now = base + ablated, torch.cat([now, *written], dim=2)
        return self._read(base, now, kept[:, -1:])[:, :, 0].reshape(len(masks), n_prompts, *base.shape[1:])

    def _read(
        self,
        base: Float[Tensor, "prompt pos d_model"],
        now: Float[Tensor, "variant prompt sender pos d_model"],
        kept: Float[Tensor, "variant receiver every_sender"],
    ) -> Float[Tensor, "variant prompt receiver pos d_model"]:
        """What some receivers read: the ablated stream, and the changes that the edges kept bring."""
        brought = einsum(kept[:, :, : now.shape[2]], now, "v r s, v n s p d -> v n r p d")
        return base[:, None] + brought

    def _attention(
        self, layer: int, read: Float[Tensor, "variant prompt receiver pos d_model"]
    ) -> tuple[Float[Tensor, "variant prompt head pos d_model"], Float[Tensor, "prompt pos d_model"]]:
        """What each head writes now minus what it writes ablated, and what all write ablated."""
        config, weights = self.graph.config, self.weights.layers[layer]
        normed = norm(config, weights.norm1, read)
        qkv = einsum(normed, weights.w_qkv.unflatten(0, (-1, config.d_head)), "v n r p d, r e d -> v n p r e").flatten(
            3
        )
        qkv = qkv if weights.b_qkv is None else qkv + weights.b_qkv
        inputs = self.inputs.take(torch.arange(qkv.shape[1], device=qkv.device).repeat(qkv.shape[0]))
        z = attention_z(config, qkv.flatten(0, 1), inputs).unflatten(0, (qkv.shape[0], -1))
        w_o = weights.w_o.unflatten(1, (-1, config.d_head))
        own = self.ablated["z", layer]
        change = einsum(z - own, w_o, "v n p h e, d h e -> v n h p d")
        whole = einsum(own, w_o, "n p h e, d h e -> n p d")
        return change, whole if weights.b_o is None else whole + weights.b_o
