"""Effects of all heads through some inputs of heads, to first order: what a path patch of each head would do.

    effect of a head ≈ (donor's z - recipient's z) · W_O · dm/dx

1. The recipient's run from the first receiver on, in which receivers read leaves: the gradient of the metric at what
   they read. A receiver does not act on the metric through another one, whose input is given.
2. The recipient's frozen pass at one position of each prompt (attention held, MLPs live), and one backward pass through
   it: `dm/dx`, the gradient where each layer's heads write. Positions do not mix, so a prompt is one row.

The slopes of each prompt's score are scaled to 1 on their way, so that they do not vanish in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.context import PatchContext
from unweave.engine.edge_graph import INPUTS
from unweave.engine.gradients import gradient_bytes
from unweave.engine.memory import budget_bytes, in_portions, is_out_of_memory
from unweave.engine.paths import Receivers
from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.forward import AttentionInputs, block, half_block, mlp, project
from unweave.models.precision import widened, without_autocast
from unweave.models.run import Key

# A gradient that predicts a smaller share of a change is that of a metric at its extreme.
LEAST = 0.01


@without_autocast
def path_gradients(
    context: PatchContext, receivers: Receivers, memory: int | float | None = None
) -> Float[Tensor, "prompt layer head"]:
    """The first-order change of each prompt's score by each head's path to the receivers, in the metric's unit.

    Receivers are inputs of heads at one position of each prompt, where the heads send as well. Heads in the last
    receiver's layer or later have 0. Prompts whose score has no gradient, or one that is 0, have NaN.
    """
    found = _by_portions(context, memory, lambda prompts: _Batch.of(context, receivers, prompts).effects())
    return torch.cat(found)


@without_autocast
def foreseen(context: PatchContext, memory: int | float | None = None) -> float:
    """How much of the scores' change from recipient to donor their gradient by the last residual stream foresees: 1 for
    a linear metric, 0 for one without gradient (a share right, a rank), or at its extreme in the recipient's run (the
    divergence from the clean run).
    """
    key = ("resid_post", context.config.n_layers - 1)

    def changes(prompts: range) -> Float[Tensor, "2 prompt"]:
        number = torch.tensor(list(prompts), device=context.weights.w_e.device)
        at = torch.arange(len(number), device=number.device), context.prompts.role(context.metric.role)[number]
        sides = [
            side.values(context.config, context.weights, [key], prompts)[key][at]
            for side in (context.own, context.donor)
        ]
        own, donor = map(widened, sides)
        linear = (score_slopes(context, own, number) * (donor - own)).sum(-1)
        with torch.no_grad():
            return torch.stack([linear, context.score(donor, number) - context.score(own, number)])

    linear, whole = torch.cat(_by_portions(context, memory, changes), dim=1).abs().sum(1).tolist()
    return linear / whole if whole else 0.0


def check_foreseen(context: PatchContext, memory: int | float | None = None) -> None:
    """Raises InputError for a metric whose gradient in the recipient's run is 0, so that it predicts nothing."""
    if foreseen(context, memory) < LEAST:
        raise InputError(
            f"metric {context.metric.name!r} has no gradient in the run that is patched, so that it predicts nothing "
            "(a divergence from that very run is at its lowest there); use uw.LogitDiff(), the other direction, or "
            "exact effects: uw.patch, or how='exact'"
        )


def _by_portions(context: PatchContext, memory: int | float | None, run: Callable[[range], Tensor]) -> list[Tensor]:
    """What `run` gives for all prompts, as many at once as there is memory for their gradients."""
    found: list[Tensor] = []
    size = budget_bytes(memory, context.weights.w_e.device) // gradient_bytes(context)
    in_portions(len(context.recipient), size, lambda prompts: found.append(run(prompts)))
    return found


@dataclass(frozen=True)
class _Batch:
    """Some prompts; `own` has activations of the recipient's run, `at` are each prompt's row and position."""

    context: PatchContext
    receivers: Receivers
    prompts: range
    own: Mapping[Key, Tensor]
    at: tuple[Int[Tensor, " prompt"], Int[Tensor, " prompt"]]

    @staticmethod
    def of(context: PatchContext, receivers: Receivers, prompts: range) -> _Batch:
        assert receivers.places is not None
        config, weights, columns = context.config, context.weights, receivers.columns
        keys = [("resid_pre", 0), ("resid_pre", min(columns))]
        keys += [(site, layer) for layer in range(max(columns)) for site in ("attn_out", "z")]
        own = context.own.values(config, weights, dict.fromkeys(keys), prompts)
        device = weights.w_e.device
        places = receivers.places[list(prompts)].to(device)
        return _Batch(context, receivers, prompts, own, (torch.arange(len(places), device=device), places))

    def effects(self) -> Float[Tensor, "prompt layer head"]:
        context, config = self.context, self.context.config
        slopes, scale = self._at_receivers()
        written = self._where_written(slopes)
        donor = context.donor.values(
            config, context.weights, [("z", layer) for layer in range(len(written))], self.prompts
        )
        table = scale.new_zeros(len(self.prompts), config.n_layers, config.n_heads)
        for layer, slope in enumerate(written):
            by_head = (widened(slope) @ widened(context.weights.layers[layer].w_o)).unflatten(-1, (config.n_heads, -1))
            change = widened(donor["z", layer][self.at] - self.own["z", layer][self.at])
            table[:, layer] = (change * by_head).sum(-1)
        return table * scale[:, None, None]

    def _at_receivers(self) -> tuple[dict[int, Float[Tensor, "prompt column"]], Float[Tensor, " prompt"]]:
        """The scaled gradient at what each layer's receivers read, in the live run, and the scale of each prompt's."""
        context, config, weights = self.context, self.context.config, self.context.weights
        rows, places = self.at
        parts = {layer: _parts(config, columns) for layer, columns in self.receivers.columns.items()}
        leaves: dict[Key, Tensor] = {}

        def tap(site: str, layer: int, value: Tensor) -> Tensor:
            heads = parts.get(layer, {}).get(site)
            if heads is None:
                return value
            at = rows[:, None], places[:, None], heads.to(rows.device)
            leaves[site, layer] = value[at].detach().requires_grad_()
            return value.index_put(at, leaves[site, layer])

        first, number = min(parts), torch.tensor(list(self.prompts), device=rows.device)
        inputs = AttentionInputs.of(
            config, weights, context.recipient.tokens[number], context.recipient.lengths[number]
        )
        with torch.enable_grad():
            x = self.own["resid_pre", first]
            for layer in range(first, config.n_layers):
                x = block(config, weights.layers[layer], x, inputs, tap, layer)
        end = x[rows, context.prompts.role(context.metric.role).to(number.device)[number]]
        slopes = score_slopes(context, end, number)
        scale = slopes.abs().amax(-1)
        found = torch.autograd.grad(end, list(leaves.values()), (slopes / scale[:, None]).to(end.dtype))
        by_layer: dict[int, list[Tensor]] = {}
        for (_, layer), slope in zip(leaves, found, strict=True):
            by_layer.setdefault(layer, []).append(slope.flatten(1))  # q, k, v, as in the fused projection
        return {layer: torch.cat(each, dim=1) for layer, each in by_layer.items()}, scale

    def _where_written(
        self, slopes: Mapping[int, Float[Tensor, "prompt column"]]
    ) -> list[Float[Tensor, "prompt d_model"]]:
        """The gradient at what the attention of each layer before the last receiver writes, in the frozen pass."""
        config, layers = self.context.config, self.context.weights.layers
        x, last = self.own["resid_pre", 0][self.at], max(slopes)
        written = [self.own["attn_out", layer][self.at].requires_grad_() for layer in range(last)]
        read: dict[int, Tensor] = {}
        with torch.enable_grad():
            for layer, weights in enumerate(layers[: last + 1]):
                if layer in slopes and layer:  # no head writes before the first
                    read[layer] = project(config, weights.of_columns(self.receivers.columns[layer]), x)
                for half in (0, 1) if layer < last else ():
                    attends, feeds = partial(_given, written[layer]), partial(mlp, config, weights)
                    x = half_block(config, half, x, attends, feeds)
        slope = [slopes[layer] for layer in read]
        return list(torch.autograd.grad(list(read.values()), written, slope)) if read else []


def score_slopes(
    context: PatchContext, end: Float[Tensor, "run d_model"], prompt: Int[Tensor, " run"]
) -> Float[Tensor, "run d_model"]:
    """The gradient of the score by the last residual stream where it is read, in float32 or wider; 0 if it has none."""
    with torch.enable_grad():
        stream = widened(end.detach()).requires_grad_()
        try:
            scores = context.score(stream, prompt)
        except RuntimeError as error:  # a metric that computes outside torch
            if is_out_of_memory(error):
                raise
            return torch.zeros_like(stream)
        if not scores.requires_grad:
            return torch.zeros_like(stream)
        (slopes,) = torch.autograd.grad(scores.sum(), stream)
    return slopes


def _given(value: Tensor, _: Tensor) -> Tensor:
    return value


def _parts(config: Config, columns: Int[Tensor, " column"]) -> dict[str, Int[Tensor, " part"]]:
    """The heads whose queries, keys and values fused columns belong to."""
    blocks = columns.unflatten(0, (-1, config.d_head))[:, 0] // config.d_head
    starts = (0, config.n_heads, config.n_heads + config.n_kv_heads, config.n_heads + 2 * config.n_kv_heads)
    there = {
        site: blocks[(blocks >= a) & (blocks < b)] - a
        for site, a, b in zip(INPUTS, starts[:3], starts[1:], strict=True)
    }
    return {site: heads for site, heads in there.items() if len(heads)}
