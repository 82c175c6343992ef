"""`python -m benchmarks.edge_lists`: how good ways to list a model's edges are, on SmolLM2-135M and indirect objects.

curves      circuits of the first edges by each list, scored on prompts that did not make the lists: CMD and CPR
verified    whether `uw.edges` with its defaults runs every edge of 2 % or more: beside exact effects of edges drawn
            from layers of rank by the size that chooses what is run
"""

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Annotated, TypeVar

import numpy as np
import torch
import typer
import xarray as xr
from rich.console import Console
from rich.table import Table

import unweave as uw
from benchmarks import naive_edges
from benchmarks.by_hand import load
from unweave.engine.context import context_of
from unweave.engine.edge_graph import EdgeGraph
from unweave.engine.edges import edge_runs
from unweave.engine.executor import execute
from unweave.metrics.contrast import Contrast
from unweave.models.default import KNOWN
from unweave.models.loading import DEFAULT_MODEL

T = TypeVar("T")
app = typer.Typer(add_completion=False, help=__doc__)
Corruption = Annotated[str, typer.Option(help="ABC or swap.")]
# Ranks by the larger of two sizes, in the layers that are sampled alike.
RANKS = (0, 1000, 2000, 5000, 10000, 20000, 40000, 10**6)


@app.command()
def curves(
    prompts: Annotated[int, typer.Option(min=4, help="Prompts that make the lists, and as many others.")] = 16,
    corruption: Corruption = "ABC",
    verify: Annotated[int, typer.Option(min=1, help="Edges that are run exactly.")] = 1000,
    seed: int = 0,
) -> None:
    """CMD (smaller is better) and CPR of each list, with intervals, and of random edges."""
    made, other = _pairs(prompts, corruption, seed)
    verified = uw.edges(made, verify=verify, control=0)
    run = verified.where(verified["run"] != "")
    lists = {name: uw.edges(made, name) for name in ("gradient", "integrated", "local")}
    lists |= {"verified, the rest by local": verified, "verified alone": run.drop_vars(["gradient", "local", "run"])}
    lists["random"] = verified.copy(data=np.random.default_rng(seed).normal(size=verified.shape))
    console, shown = Console(), Table("list", "order", "CMD", "CPR", "edges kept at 1 %, 5 %", "share at 1 %, 5 %")
    for name, effects in lists.items():
        for by in ("size", "greedy"):
            found = uw.curve(other, effects, by=by)
            shown.add_row(name, by, *(_area(found, area) for area in ("cmd", "cpr")), *_at(found, (0.01, 0.05)))
    for threshold in (0.05, 0.02, 0.01):
        start = uw.Circuit.from_edges(verified, 2 * verify)
        pruned = uw.prune(made, threshold, "metric", start=start)
        score = uw.evaluate(pruned, other, effort=uw.EvaluationOptions(controls=0, subsets=0))
        share = float(score["faithfulness"].to_dataset()["share"].sel(kept="circuit"))
        shown.add_row(f"pruned at {threshold:g}", "", "", "", str(len(pruned.edges)), f"{share:.2f}")
    console.print(f"{prompts} prompts make the lists, {len(other.prompts)} others score them; {corruption}")
    console.print(shown)


@app.command()
def times(
    corruption: Annotated[list[str] | None, typer.Option(help="ABC or swap, instead of both.")] = None,
    sample: Annotated[int, typer.Option(min=8, help="Edges that are run exactly.")] = 500,
    by_hand: Annotated[int, typer.Option(min=4, help="Of these, as many by hooks too.")] = 24,
    seed: int = 0,
) -> None:
    """Seconds, on the eight fixed prompts. The exact effects of both sides have to agree."""
    model = uw.load_model(DEFAULT_MODEL)
    hf, graph = load(KNOWN[DEFAULT_MODEL].converted), EdgeGraph(model.config)
    task, shown = uw.tasks.ioi_fixed(model), Table("corruption", "what", "seconds", "an edge", "ratio", "largest error")
    for kind in corruption or ("ABC", "swap"):
        pair = uw.Contrast(model, task.prompts, task.corrupt(kind), uw.LogitDiff())
        for how in ("gradient", "local"):
            seconds, _ = _timed(partial(uw.edges, pair, how, progress=False))
            shown.add_row(kind, how, f"{seconds:.1f}", "", "", "")
        draw = np.random.default_rng(seed)
        chosen = np.sort(draw.choice(int(graph.joined.sum()), sample, replace=False))
        few = draw.choice(sample, by_hand, replace=False)
        ours, effects = _timed(partial(_exact, pair, chosen))
        shown.add_row(kind, f"exact, {sample} edges", f"{ours:.1f}", f"{1000 * ours / sample:.0f} ms", "", "")
        numbers = graph.joined.nonzero()[torch.from_numpy(chosen[few])].tolist()
        edges = [(graph.senders[sender], graph.receivers[receiver]) for sender, receiver in numbers]
        theirs, scores = naive_edges.run(hf, pair.prompts, pair.corrupted, edges)
        error = np.abs(pair.effect(scores, "noise").mean(1).numpy() - effects[few]).max()
        ratio = f"{theirs / by_hand * sample / ours:.1f}"
        each = f"{1000 * theirs / by_hand:.0f} ms"
        shown.add_row(kind, f"hooks, {by_hand} edges", f"{theirs:.1f}", each, ratio, f"{error:.1e}")
    Console().print(shown)


def _timed(run: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    made = run()
    return time.perf_counter() - start, made


@app.command()
def verified(
    prompts: Annotated[int, typer.Option(min=4)] = 8,
    corruption: Corruption = "ABC",
    sample: Annotated[int, typer.Option(min=8, help="Edges drawn, in equal parts of each layer of rank.")] = 3000,
    seed: int = 1,
) -> None:
    """The largest exact effect in each layer of rank, and how many reach 2 %."""
    pair, _ = _pairs(prompts, corruption, seed)
    scores = xr.Dataset({name: uw.edges(pair, name).mean("prompt") for name in ("gradient", "local")})
    sizes = np.maximum(abs(scores["gradient"].values), abs(scores["local"].values))
    order = np.argsort(-sizes, kind="stable")
    draw, names = np.random.default_rng(seed), scores["edge"].values
    console, shown = Console(), Table("rank", "drawn", "largest", "2 % or more", "which")
    for first, last in pairwise(RANKS):
        layer = order[first:last]
        chosen = draw.choice(layer, size=min(len(layer), sample // (len(RANKS) - 1)), replace=False)
        size = np.abs(_exact(pair, np.sort(chosen)))
        large = names[np.sort(chosen)[size >= 0.02]]
        ranks = f"{first} to {min(last, len(names))}"
        shown.add_row(ranks, str(len(chosen)), f"{size.max():.3%}", str(len(large)), ", ".join(large[:5]))
    console.print(f"{prompts} prompts, {corruption}, seed {seed}; `uw.edges` runs ranks 0 to 1000")
    console.print(shown)


def _exact(pair: Contrast, chosen: np.ndarray) -> np.ndarray:
    """Mean exact effects of some edges, by their numbers among all."""
    graph = EdgeGraph(pair.model.config)
    edges = [(int(sender), int(receiver)) for sender, receiver in graph.joined.nonzero()[torch.tensor(chosen)]]
    scores = execute(edge_runs(context_of(pair, "noise"), graph, edges)).complete()
    return pair.effect(scores, "noise").mean(1).cpu().double().numpy()


def _pairs(n: int, corruption: str, seed: int) -> tuple[Contrast, Contrast]:
    """Two pairs of other prompts."""
    model = uw.load_model(DEFAULT_MODEL)
    task = uw.tasks.ioi(model, n_prompts=2 * n, seed=seed)
    clean, corrupted = task.prompts, task.corrupt(corruption)
    halves = range(n), range(n, 2 * n)
    first, second = (uw.Contrast(model, clean.take(at), corrupted.take(at), uw.LogitDiff()) for at in halves)
    return first, second


def _area(found: xr.DataArray, name: str) -> str:
    value, low, high = (float(found.attrs[name + end]) for end in ("", "_low", "_high"))
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _at(found: xr.DataArray, shares: tuple[float, ...]) -> tuple[str, str]:
    none, whole = (float(found[name].mean()) for name in ("none", "whole"))
    f = (found.mean("prompt") - none) / (whole - none)
    kept = ", ".join(str(int(found["kept"].sel(share=share))) for share in shares)
    return kept, ", ".join(f"{float(f.sel(share=share)):.2f}" for share in shares)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    app()
