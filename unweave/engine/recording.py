"""What is kept of the two runs, and the change of the residual stream that each patch makes at its entry.

A change is the donor's value minus the recipient's, carried to the residual stream:

    residual sites, attn_out, mlp_out   donor - recipient
    mlp_post                            (donor - recipient) · W_out
    z                                   (donor - recipient) · W_O of the head
    q k v pattern                       the change of the head's attention with the donor's value, then as z

A query or a row of the pattern at one position changes `z` only at that position; a key or a value changes it at all
later positions as well, and where attention sees both ways at all positions. A grouped key or value changes all heads
that share it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.context import Donor, RunDonor
from unweave.models.config import Config
from unweave.models.forward import AttentionInputs, attend, attention_pattern, stream_site, stream_sites
from unweave.models.run import Key
from unweave.models.weights import Weights

ATTENTION_SITES = ("q", "k", "v", "pattern", "z")


def sites_to_keep(config: Config, patched: Iterable[Key], also: Iterable[Key] = ()) -> tuple[list[Key], list[Key]]:
    """What to keep of the recipient (`also` these) and of the donor for patches at these sites and layers."""
    prefix = [(site, layer) for layer in range(config.n_layers) for site in ("k", "v")]
    targets = list(dict.fromkeys(patched))
    own = [(site, layer) for name, layer in targets for site in ((name, "q") if name in ("k", "v") else (name,))]
    return list(dict.fromkeys([*stream_sites(config), *prefix, *own, *also])), targets


@dataclass
class Recording:
    """Both runs of one batch of prompts. Changes are computed when asked for, and kept for the layer in hand."""

    config: Config
    weights: Weights
    recipient: dict[Key, Tensor]
    donor: dict[Key, Tensor]
    inputs: AttentionInputs
    _memo: dict[tuple, Tensor] = field(default_factory=dict)

    def stream(self, stage: int) -> Float[Tensor, "prompt pos d_model"]:
        """The recipient's residual stream before a stage."""
        return self.recipient[stream_site(self.config, stage)]

    def prefix(self, layer: int) -> tuple[Float[Tensor, "prompt kv_head pos e"], Float[Tensor, "prompt kv_head pos e"]]:
        """The recipient's rotated keys, and its values, shared by all patched runs."""
        return self._rotated(self.recipient, "k", layer), self.recipient["v", layer].transpose(1, 2)

    def fused(self, layer: int) -> Float[Tensor, "prompt pos qkv"]:
        """The recipient's queries, keys and values, in the order of the fused projection."""
        return torch.cat([self.recipient[site, layer].flatten(-2) for site in ("q", "k", "v")], dim=-1)

    def forget(self) -> None:
        """Drops the changes that were computed for earlier layers."""
        self._memo.clear()

    def difference(self, site: str, layer: int) -> Tensor:
        """Donor minus recipient, in the site's own shape."""
        key = (site, layer)
        if key not in self._memo:
            self._memo[key] = self.donor[key] - self.recipient[key]
        return self._memo[key]

    def head_change(
        self, site: str, layer: int, prompt: int, place: int | None = None
    ) -> Float[Tensor, "pos head d_head"]:
        """The change of a prompt's `z` when all heads take the donor's `site`, at one place or everywhere.

        For `q`, `z` and `pattern` the place makes no difference: what happens at a position stays there. Two patterns
        are subtracted before the values are averaged, and values before they are: so the change is exactly 0
        where the donor's value is the recipient's, whatever batch either was run in.
        """
        if site == "z":
            return self.difference("z", layer)[prompt]
        if place is not None and site in ("k", "v"):
            return self._attention_change(site, layer, slice(prompt, prompt + 1), place)[0].transpose(0, 1)
        key = (site, layer, "z")
        if key not in self._memo:
            self._memo[key] = self._attention_change(site, layer, slice(None)).transpose(1, 2)
        return self._memo[key][prompt]

    def _attention_change(
        self, site: str, layer: int, rows: slice, place: int | None = None
    ) -> Float[Tensor, "prompt head pos d_head"]:
        """The change of `z` of all heads of some prompts with the donor's value at `site`."""
        v = self.recipient["v", layer][rows].transpose(1, 2)
        if site == "pattern":
            return attend(self.difference("pattern", layer)[rows], v)
        q, k = (self._rotated(self.recipient, name, layer)[rows] for name in ("q", "k"))
        key = ("own pattern", layer, rows.start)  # made of as many prompts as it is compared with
        if key not in self._memo:
            self._memo[key] = self._pattern(q, k, rows)
        own = self._memo[key]
        if site == "v":
            return attend(own, mixed(v, self.donor["v", layer][rows].transpose(1, 2), place) - v)
        if site == "q":
            q = self._rotated(self.donor, "q", layer)[rows]
        else:
            k = mixed(k, self._rotated(self.donor, "k", layer)[rows], place)
        return attend(self._pattern(q, k, rows) - own, v)

    def _pattern(
        self, q: Float[Tensor, "prompt head pos d_head"], k: Float[Tensor, "prompt kv_head pos d_head"], rows: slice
    ) -> Float[Tensor, "prompt head q_pos k_pos"]:
        """The attention pattern of some prompts' rotated queries and keys."""
        return attention_pattern(self.config, q, k, self.inputs.take(rows))

    def source_change(
        self, layer: int, prompt: int, place: int, sources: Int[Tensor, " source"]
    ) -> Float[Tensor, "source head d_head"]:
        """The change of a prompt's `z` at a place when single entries of the pattern's row there are the donor's."""
        share = self.config.heads_per_kv
        v = repeat(self.recipient["v", layer][prompt, sources], "k_pos kv e -> k_pos (kv share) e", share=share)
        change = self.difference("pattern", layer)[prompt, :, place, sources].to(v.dtype)
        return einsum(change, v, "head k, k head e -> k head e")

    def _rotated(self, side: Mapping[Key, Tensor], site: str, layer: int) -> Float[Tensor, "prompt heads pos d_head"]:
        key = (id(side), site, layer, "rotated")
        if key not in self._memo:
            self._memo[key] = self.inputs.rotated(side[site, layer].transpose(1, 2))
        return self._memo[key]

    def written_by_heads(
        self, layer: int, change: Float[Tensor, "*rows head d_head"], grouped: bool, parts: tuple[int, ...] | None
    ) -> Float[Tensor, "part *rows d_model"]:
        """What a change of `z` writes to the stream: one part a head (or kv head), or all heads as one part."""
        w_o = rearrange(self.weights.layers[layer].w_o, "d (head e) -> head e d", e=self.config.d_head)
        if parts is None:
            return einsum(change, w_o, "... head e, head e d -> ... d")[None]
        share = self.config.heads_per_kv if grouped else 1
        change, w_o = change.unflatten(-2, (-1, share)), w_o.unflatten(0, (-1, share))
        if parts != tuple(range(w_o.shape[0])):
            chosen = torch.tensor(parts, device=change.device)
            change, w_o = change.index_select(-3, chosen), w_o.index_select(0, chosen)
        return einsum(change, w_o, "... part share e, part share e d -> part ... d")


def mixed(
    ours: Float[Tensor, "prompt kv_head pos d_head"],
    theirs: Float[Tensor, "prompt kv_head pos d_head"],
    place: int | None,
) -> Float[Tensor, "prompt kv_head pos d_head"]:
    """The recipient's keys or values, with the donor's at one place, or everywhere."""
    if place is None:
        return theirs
    both = ours.clone()
    both[:, :, place] = theirs[:, :, place]
    return both


def record(
    config: Config,
    weights: Weights,
    recipient: RunDonor,
    donor: Donor,
    batch: Sequence[int],
    patched: Iterable[Key],
    also: Iterable[Key] = (),
) -> Recording:
    """What patches at these (site, layer) pairs need of recipient and donor, for the prompts `batch`."""
    ours, theirs = sites_to_keep(config, patched, also)
    taken = recipient.prompts.take(batch)
    return Recording(
        config,
        weights,
        recipient.values(config, weights, ours, batch),
        donor.values(config, weights, theirs, batch),
        AttentionInputs.of(config, weights, taken.tokens, taken.lengths),
    )
