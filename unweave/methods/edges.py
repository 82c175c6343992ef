"""Edges: which component acts on which, for all of a model, exactly or by scores that need no run per edge.

An edge joins what a component writes to what a later one reads (see `unweave.engine.edge_graph`). Its effect is that of
one patch: in the recipient's run the receiver reads its residual stream plus what the sender writes in the donor's run
minus what it writes in the recipient's; all that follows is live.

    exact        a run for each edge, of what follows the receiver
    gradient     the change times the gradient at the receiver's input: one forward and backward pass for all edges
    integrated   the gradient averaged on the way from recipient to donor
    local        the receiver's response computed exactly, what follows it linear
    verified     gradient and local for all edges; exact for those with the largest of the two sizes, and for a random
                 sample of the others, which says how large an edge that was not verified may be

Gradients misjudge single edges badly: in SmolLM2-135M on indirect objects, `embed -> mlp 0` is -1.03 and its gradient
+0.09. The larger of both sizes finds every edge of 2 % or more among the first thousand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.engine.context import PatchContext, context_of
from unweave.engine.edge_graph import INPUTS, EdgeGraph, edge_name
from unweave.engine.edges import edge_runs
from unweave.engine.executor import execute
from unweave.engine.memory import budget_bytes
from unweave.engine.path_gradients import check_foreseen
from unweave.errors import InputError, did_you_mean
from unweave.methods.edge_scores import edge_scores
from unweave.methods.effect_scale import measure_attrs
from unweave.methods.targets import Nodes, by_name, joints_of
from unweave.methods.to_xarray import Coords, finished, to_xarray
from unweave.metrics.contrast import Contrast, check_pair
from unweave.nodes import Node
from unweave.progress import Progress, shown
from unweave.registry import BY_EDGES, Attrs, Claim, Method, register

PICTURE = "unweave.views.edge_pictures:edge_blocks"
EDGES = register(
    Method(
        "edges",
        BY_EDGES,
        claim=Claim(
            does=("carries the answer", "carry the answer"),
            change=("{act} this edge", "{act} these edges"),
            restored=("patching", "restores"),
            corrupted=("noising", "costs"),
            against="{name} works against it ({size})",
            none="No single edge carries the answer",
        ),
        picture=PICTURE,
        dims=("prompt?", "edge"),
        asked=lambda says, dims: _asked(says),
    )
)
SCORES = register(
    Method(
        "edge scores",
        BY_EDGES,
        claim=Claim(
            does=("is predicted to carry the answer", "are predicted to carry the answer"),
            change=("{act} this edge", "{act} these edges"),
            restored=("patching", "would restore"),
            corrupted=("noising", "would cost"),
            against="{name} is predicted to work against it ({size})",
            none="No single edge is predicted to carry the answer",
        ),
        picture=PICTURE,
        dims=("prompt?", "edge"),
        asked=lambda says, dims: _asked(says),
    )
)
# Of each way to score edges, the path that its gradient is averaged over.
PATHS = {
    "gradient": "recipient",
    "local": "recipient",
    "integrated": "inputs",
    "integrated activations": "activations",
    "both ends": "ends",
}
HOWS = ("verified", "exact", *PATHS)
CONFIDENCE = 0.95
SENDERS = ("z", "mlp_out", "embed")
RECEIVERS = ("q", "k", "v", "z", "mlp_out", "logits")


def edges(
    pair: Contrast,
    how: str = "verified",
    *,
    direction: str = "noise",
    senders: Nodes | None = None,
    receivers: Nodes | None = None,
    at: str | None = None,
    verify: int = 1000,
    control: int = 500,
    steps: int = 5,
    seed: int = 0,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Effects of edges: of each sender on what each later receiver reads.

    Args:
        pair: the model, both sets of prompts, and the metric.
        how: `"verified"`, `"exact"`, `"local"`, `"gradient"`, or the gradient averaged along a path: `"integrated"` (of
            the embeddings), `"integrated activations"` (of one layer's heads, MLP or the embeddings at a time) or
            `"both ends"`. All but `"exact"` need a metric with a gradient.
        direction: `"noise"` sends corrupted values in the clean run (0 = unharmed, -1 = as bad as corrupted),
            `"denoise"` clean values in the corrupted run (0 = corrupted, 1 = clean).
        senders: `"embed"`, heads and MLPs, `["20.0", "mlp 3"]`; None for all.
        receivers: inputs of heads, MLPs and the logits, `["q 23.3", "v 23.1", "mlp 3", "logits"]`, where a head without
            an input stands for all its inputs; None for all. Keys and values are those of key/value heads.
        at: a role where senders send; None for all positions.
        verify, control: of `"verified"`: how many of the largest edges, and how many others drawn at random, are run.
        steps: of a path.
        seed: of the draw.
        memory, progress: as in `patch`.

    Returns:
        Effects `[prompt, edge]`, named `20.0 -> 23.3 q`, with the coordinates `sender`, `receiver`, `input`,
        `sender_layer` and `receiver_layer` (-1 for the embeddings and the logits). Of `"verified"` the effects are the
        exact ones, NaN of edges that were not run; each edge has its mean scores `gradient` and `local`, and `run` is
        "largest", "drawn" or "". Its attributes say that, with 95 % confidence, at most the share `larger_share` of the
        `n_not_run` other edges is larger in size than `larger_than`, the largest of those drawn.

    Raises:
        InputError: an end or a role that does not exist, no edge between the ends, a number out of range, or a metric
            without a gradient where one is needed.
        Interrupted: Ctrl-C; `partial` holds the exact effects that were finished, NaN elsewhere.
    """
    check_pair(pair)
    _check(how, verify, control, steps)
    pair.sides(direction)
    graph = EdgeGraph(pair.model.config)
    chosen = _chosen(graph, senders, receivers)
    context = context_of(pair, direction)
    places = None if at is None else pair.prompts.role(at).cpu()
    where: dict[str, str | int] = {"direction": direction, "sender_at": at or "all positions", "how": how}
    if how == "exact":
        return _exact(pair, context, graph, chosen, places, where, memory, progress)
    scores = _scored(context, graph, chosen, places, how, steps, memory, progress)
    effects = {name: table[:, *chosen.T] / pair.gap for name, table in scores.items()}
    if how != "verified":
        where |= {"steps": steps} if PATHS[how] in ("inputs", "activations") else {}
        return _result(pair, graph, chosen, effects["local" if how == "local" else "gradient"], where)
    means = {name: effect.double().mean(0).cpu() for name, effect in effects.items()}
    largest = torch.stack([mean.abs().nan_to_num() for mean in means.values()]).max(0).values
    run = _to_run(largest, verify, control, seed)
    extra = {name: (("edge",), mean.numpy()) for name, mean in means.items()}
    extra["run"] = (("edge",), run.tolist())
    where |= {"verify": verify, "control": control, "draw_seed": seed}
    return _exact(pair, context, graph, chosen, places, where, memory, progress, extra)


def _check(how: str, verify: int, control: int, steps: int) -> None:
    if how not in HOWS:
        raise InputError(f"how: expected one of {', '.join(HOWS)}, got {how!r}.{did_you_mean(str(how), HOWS)}")
    for name, number, least in (("verify", verify, 1), ("control", control, 0), ("steps", steps, 1)):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise InputError(f"{name}: expected a whole number of at least {least}, got {number!r}")


def _scored(
    context: PatchContext,
    graph: EdgeGraph,
    chosen: Int[Tensor, "edge 2"],
    places: Int[Tensor, " prompt"] | None,
    how: str,
    steps: int,
    memory: int | float | None,
    progress: Progress | bool | None,
) -> dict[str, Float[Tensor, "prompt sender receiver"]]:
    """The scores of all edges by gradient and, if asked for, by response."""
    if PATHS.get(how, "recipient") == "recipient":
        check_foreseen(context, memory)
    n, wanted = len(context.recipient), torch.zeros_like(graph.joined)
    wanted[tuple(chosen.T)] = True
    with shown(progress, "scoring edges") as report:
        found = edge_scores(
            context,
            graph,
            wanted,
            places,
            budget_bytes(memory, context.weights.w_e.device),
            lambda done: None if report is None else report(done, n),
            PATHS.get(how, "recipient"),
            steps,
            local=how in ("local", "verified"),
        )
    return {name: table for name, table in (("gradient", found.gradient), ("local", found.local)) if table is not None}


def _to_run(sizes: Float[Tensor, " edge"], verify: int, control: int, seed: int) -> np.ndarray:
    """Which edges are run exactly: "largest", "drawn" or ""."""
    order = sizes.argsort(descending=True, stable=True)
    run = np.full(len(sizes), "", dtype="<U7")
    run[order[:verify]] = "largest"
    rest = order[verify:]
    run[rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:control]]] = "drawn"
    return run


def _exact(
    pair: Contrast,
    context: PatchContext,
    graph: EdgeGraph,
    chosen: Int[Tensor, "edge 2"],
    places: Int[Tensor, " prompt"] | None,
    where: Mapping[str, str | int],
    memory: int | float | None,
    progress: Progress | bool | None,
    extra: dict | None = None,
) -> xr.DataArray:
    """Effects of the edges that are to be run, which are all if there is no coordinate `run`."""
    run = torch.ones(len(chosen), dtype=torch.bool)
    if extra is not None:
        run = torch.tensor([bool(kind) for kind in extra["run"][1]])
    numbers = [(int(sender), int(receiver)) for sender, receiver in chosen[run].tolist()]
    scores = execute(edge_runs(context, graph, numbers, places), memory, progress, "edges")
    effects = torch.full((len(chosen), len(context.recipient)), float("nan"), dtype=scores.values.dtype)
    effects[run] = pair.effect(scores.values.to(pair.clean_scores.device), str(where["direction"])).cpu()
    notes = scores.note()
    if extra is not None and not scores.stopped:
        drawn = torch.tensor([kind == "drawn" for kind in extra["run"][1]])
        says = _larger(effects, drawn, int((~run).sum()))
        where, notes = {**where, **says[0]}, "; ".join(filter(None, [notes, says[1]]))
    return finished(_result(pair, graph, chosen, effects.T, {**where, "notes": notes}, extra), scores.stopped)


def _larger(
    effects: Float[Tensor, "edge prompt"], drawn: Bool[Tensor, " edge"], n_not_run: int
) -> tuple[dict[str, float | int], str]:
    """How large the edges that were not run may be, from those drawn: if n drawn ones are at most as large as x, the
    share of larger ones among the rest is at most 1 - 0.05^(1/n), with 95 % confidence."""
    n = int(drawn.sum())
    if not n or not n_not_run:
        return {"n_not_run": n_not_run}, ""
    most = float(effects[drawn].double().mean(1).abs().max())
    share = 1 - (1 - CONFIDENCE) ** (1 / n)
    told = f"with 95 % confidence, at most {share:.1%} of the {n_not_run} edges not run are larger than {most:.2%}"
    return {"n_not_run": n_not_run, "larger_than": most, "larger_share": share}, told


def _result(
    pair: Contrast,
    graph: EdgeGraph,
    chosen: Int[Tensor, "edge 2"],
    effects: Float[Tensor, "prompt edge"],
    where: Mapping[str, str | int | float],
    extra: dict | None = None,
) -> xr.DataArray:
    ends = [(graph.senders[sender], graph.receivers[receiver]) for sender, receiver in chosen.tolist()]
    coords = end_coords(ends) | (extra or {})
    direction = str(where["direction"])
    says = {**measure_attrs("effect", direction), **where}
    predicted = {"quantity": "predicted effect"} if where["how"] in PATHS else {}
    attrs = (SCORES if predicted else EDGES).attrs(**{**says, **predicted})
    names = [edge_name(*each) for each in ends]
    return to_xarray(pair, effects, {"edge": names}, attrs, pair.sides(direction)[0].prompts, coords)


def end_coords(ends: Sequence[tuple[Node, Node]]) -> Coords:
    """The coordinates of edges between these ends."""
    columns = {
        "sender": [sender.short for sender, _ in ends],
        "receiver": [receiver.short for _, receiver in ends],
        "input": [receiver.site if receiver.part is not None else "" for _, receiver in ends],
        "sender_layer": [sender.layer for sender, _ in ends],
        "receiver_layer": [receiver.layer for _, receiver in ends],
    }
    return {name: (("edge",), values) for name, values in columns.items()}


def _chosen(graph: EdgeGraph, senders: Nodes | None, receivers: Nodes | None) -> Int[Tensor, "edge 2"]:
    """Numbers of the senders and receivers of all edges between the ends that are asked for."""
    wanted = graph.joined.clone()
    for axis, (argument, given, known) in enumerate(
        (("senders", senders, graph.senders), ("receivers", receivers, graph.receivers))
    ):
        if given is not None:
            numbers = _numbers(graph, given, known, argument)
            outside = torch.ones(len(known), dtype=torch.bool)
            outside[numbers] = False
            wanted[(slice(None),) * axis + (outside,)] = False
    if not wanted.any():
        raise InputError("edges: no sender writes before any receiver reads; give receivers in later layers")
    return wanted.nonzero()


def _numbers(graph: EdgeGraph, given: Nodes, known: Sequence[Node], argument: str) -> list[int]:
    """The places of nodes among those of the graph; a head among receivers stands for all its inputs."""
    config, among = graph.config, {"senders": SENDERS, "receivers": RECEIVERS}[argument]
    places, numbers = {node: number for number, node in enumerate(known)}, []
    for name, nodes in by_name(config, joints_of(config, given, argument, among), argument).items():
        node, *others = nodes
        if others:
            raise InputError(f"{argument}: {name!r} names several nodes together; an edge has one at each end")
        if node.part is None and node.site in ("z", *INPUTS):
            raise InputError(f"{argument}: {str(node)!r} names no head; write '{node}.0'")
        ends = [node]
        if argument == "receivers" and node.site == "z":
            shared = node.head[1] // config.heads_per_kv
            ends = [Node("q", *node.head), *(Node(site, node.layer, shared) for site in ("k", "v"))]
        numbers += [places[end] for end in ends]
    return list(dict.fromkeys(numbers))


def _asked(says: Attrs) -> str:
    """How it was asked, in a line."""
    ways = {"denoise": "clean values into the corrupted run", "noise": "corrupted values into the clean run"}
    return f"{says['how']}: {ways[says['direction']]}, sent at {says['sender_at']}"
