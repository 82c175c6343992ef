"""The tests of a circuit that keeps edges, in the tables of those of heads.

They are:

    faithfulness    the scores of the circuit, of the model, of no edge, and of random circuits of as many edges, grown
                    from the logits backwards as a circuit is: edges drawn from all would lead nowhere
    curve           the scores of the circuit's first k edges, the largest effects first, and of the others
    completeness    circuit and model without the same edges: none, all of the circuit's, and random halves of them
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from unweave.circuits.circuit import Circuit
from unweave.circuits.completeness import COMPLETENESS
from unweave.circuits.edge_circuits import mask_from, number_of
from unweave.circuits.edge_order import in_order
from unweave.circuits.edge_runs import EdgeAblation, masked_scores
from unweave.circuits.faithfulness import CURVE, FAITHFULNESS, sizes_of
from unweave.circuits.tables import SCALES, Tested, gaps_of, scales, table
from unweave.engine.edge_graph import EdgeGraph, Mask
from unweave.errors import InputError
from unweave.progress import Progress

Edges = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class EdgeTests:
    """What the tests share: the edges of the circuit in the model's graph, the largest effects first.

    `names` are the edges as they print, in the same order.
    """

    tested: Tested
    ablation: EdgeAblation
    edges: Edges
    names: Sequence[str]
    memory: int | float | None

    @staticmethod
    def of(circuit: Circuit, ablation: EdgeAblation, memory: int | float | None) -> EdgeTests:
        graph, pair = ablation.graph, ablation.pair
        edges = sorted(circuit.edges, key=lambda edge: -abs(edge.effect or 0.0))
        whole, none = masked_scores(ablation, [graph.joined, torch.zeros_like(graph.joined)], memory)
        about = {
            **ablation.about,
            "parts": "edges",
            "circuit_edges": len(edges),
            "model_edges": int(graph.joined.sum()),
            "ablated": "every edge that is not kept",
        }
        tested = Tested(circuit, pair, whole, none, about)
        return EdgeTests(tested, ablation, [number_of(graph, edge) for edge in edges], [*map(str, edges)], memory)

    @property
    def graph(self) -> EdgeGraph:
        return self.ablation.graph

    def scores(self, masks: Sequence[Mask], told: Progress | None = None) -> Float[Tensor, "variant prompt"]:
        return masked_scores(self.ablation, masks, self.memory, told)

    def mask(self, edges: Edges) -> Mask:
        return mask_from(self.graph.joined, edges)

    def faithfulness(self, controls: int, seed: int, told: Progress | None = None) -> xr.Dataset:
        """Scores `(prompt, kept)`, as those of heads; the coordinate `edges` is the number kept."""
        others = [self._grown(number, seed) for number in range(controls)]
        masks = [self.mask(self.edges), *others]
        score = torch.cat([self.tested.whole[None], self.scores(masks, told)])
        score = torch.cat([score[:2], self.tested.none[None], score[2:]])
        labels = ["model", "circuit", "nothing", *(f"random {number}" for number in range(1, controls + 1))]
        counts = [int(self.graph.joined.sum()), len(self.edges), 0, *(int(mask.sum()) for mask in others)]
        coords = {"edges": counts, **scales(self.tested, score)}
        attrs = {"method": FAITHFULNESS.name, "convention": SCALES, "controls_seed": seed}
        return table(self.tested, ("kept", labels), {"score": score}, coords, attrs)

    def curve(self, told: Progress | None = None) -> xr.Dataset:
        """`score` of the first k edges and `rest` of the circuit without them, `(prompt, size)`."""
        sizes = sizes_of(len(self.edges))
        masks = [self.mask(self.edges[:size]) for size in sizes] + [self.mask(self.edges[size:]) for size in sizes]
        score, rest = self.scores(masks, told).split(len(sizes))
        coords = {
            "address": ["", *(self.names[size - 1] for size in sizes[1:])],
            **scales(self.tested, score),
            **{f"rest_{name}": values for name, values in scales(self.tested, rest).items()},
        }
        attrs = {"method": CURVE.name, "convention": SCALES, "order": "the largest effects first"}
        return table(self.tested, ("size", sizes), {"score": score, "rest": rest}, coords, attrs)

    def completeness(self, subsets: int, seed: int, told: Progress | None = None) -> xr.Dataset:
        """`circuit` = F(C \\ K) and `model` = F(M \\ K), `(prompt, removed)`, for sets K of edges."""
        rng = random.Random(f"{seed} subsets")
        halves = [[edge for edge in self.edges if rng.random() < 0.5] for _ in range(subsets)]
        sets: Mapping[str, Edges] = {
            "none": [],
            "the circuit": self.edges,
            **{f"random {number}": half for number, half in enumerate(halves, start=1)},
        }
        removed, own = [self.mask(edges) for edges in sets.values()], self.mask(self.edges)
        masks = [own & ~one for one in removed] + [self.graph.joined & ~one for one in removed]
        circuit, model = self.scores(masks, told).split(len(sets))
        coords = {
            "kind": ["none", "group", *["random"] * subsets],
            "size": [len(edges) for edges in sets.values()],
            **gaps_of(self.tested, circuit, model),
        }
        attrs = {
            "method": COMPLETENESS.name,
            "convention": "difference = F(C \\ K) - F(M \\ K), of means over prompts",
            "subsets": subsets,
            "subsets_seed": seed,
        }
        return table(self.tested, ("removed", [*sets]), {"circuit": circuit, "model": model}, coords, attrs)

    def _grown(self, number: int, seed: int) -> Mask:
        """A random circuit of as many edges, each into what is there already, from the logits backwards."""
        draw = torch.rand(self.graph.joined.shape, generator=torch.Generator().manual_seed(seed * 100003 + number))
        return self.mask(in_order(self.graph.joined, self.graph.feeds, draw, "greedy")[: len(self.edges)])


def edge_tests(
    tests: EdgeTests, controls: int, subsets: int, seed: int, report: Progress | None
) -> Iterator[tuple[str, xr.Dataset]]:
    """The tests, one after the other. Raises InputError where the model's score is no better than that of no edge."""
    whole, none = tests.tested.whole, tests.tested.none
    if not float((whole - none).mean().abs()) > 1e-6 * float(whole.abs().max()):
        raise InputError(
            "pair: the model scores as it does with every edge ablated, so a circuit's share has no meaning; give "
            "another corruption, metric or how="
        )

    def told(part: int) -> Progress:
        return lambda done, total: None if report is None else report(part + done / total, 3.0)

    yield "faithfulness", tests.faithfulness(controls, seed, told(0))
    yield "curve", tests.curve(told(1))
    yield "completeness", tests.completeness(subsets, seed, told(2))
