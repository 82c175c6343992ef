"""Two halves of prompts: alike, without a prompt in common, clusters whole."""

from dataclasses import replace

import pytest
import torch

import unweave as uw
from unweave.circuits.halves import FEWEST, halves


def prompts(n: int, clusters: list[int] | None = None) -> uw.Prompts:
    made = uw.Prompts.from_tokens(torch.zeros(n, 3, dtype=torch.long))
    return replace(made, clusters=None if clusters is None else torch.tensor(clusters))


@pytest.mark.parametrize("n", [8, 9, 16, 31, 100])
def test_every_prompt_is_in_one_half(n: int) -> None:
    chosen, measured = halves(prompts(n))
    assert sorted([*chosen, *measured]) == list(range(n))
    assert abs(len(chosen) - len(measured)) <= 1
    assert halves(prompts(n)) == (chosen, measured)


@pytest.mark.parametrize("period", [2, 4])
def test_kinds_that_alternate_are_in_both(period: int) -> None:
    for half in halves(prompts(32)):
        assert [sum(row % period == kind for row in half) for kind in range(period)] == [16 // period] * period


def test_clusters_stay_together() -> None:
    clusters = [7, 7, 3, 3, 3, 0, 1, 2, 4, 5, 6, 8, 7]
    chosen, measured = ({clusters[row] for row in half} for half in halves(prompts(13, clusters)))
    assert not chosen & measured
    assert chosen | measured == set(clusters)


def test_too_few_serve_twice() -> None:
    chosen, measured = halves(prompts(FEWEST - 1))
    assert chosen == measured == list(range(FEWEST - 1))
    chosen, measured = halves(prompts(20, [row % (FEWEST - 1) for row in range(20)]))
    assert chosen == measured == list(range(20))
