"""Heads are chosen by their numbers: the same model with its heads in another order gives the other names."""

from collections.abc import Iterable

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.studies.palindrome.models import swapped, trained_subject
from unweave.circuits.circuit import Circuit
from unweave.nodes import Head
from unweave.studies.palindrome import ablations, behaviour, choice
from unweave.studies.palindrome import palindrome_findings as findings
from unweave.studies.palindrome.sequences import PalindromeSubject


def measured(subject: PalindromeSubject) -> dict[str, xr.DataArray]:
    parts = uw.classifier.class_attribution(subject.model, subject.task.prompts, (1, 0))
    found = {"parts": parts, "mirror": behaviour.mirror_attention(subject)}
    found["paths"] = ablations.paths(subject, choice.deciding(found), False)
    found["subsets"] = ablations.subsets(subject, False)
    return found


def other(heads: Iterable[Head]) -> list[Head]:
    """The heads that stand in their places."""
    return [(layer, 1 - head) for layer, head in heads]


def test_names_follow_the_heads() -> None:
    model = uw.load_model("palindrome")
    plain, turned = (measured(trained_subject(one)) for one in (model, swapped(model)))
    assert len(choice.deciding(plain)) == 1
    assert choice.deciding(turned) == other(choice.deciding(plain))
    assert choice.comparing(turned) == other(choice.comparing(plain)) != []
    assert list(choice.pairs_of(turned)[0]) == other(choice.pairs_of(plain)[0])
    kept, other_kept = (choice.members(choice.smallest(one["subsets"])) for one in (plain, turned))
    assert list(other_kept) == other(kept)


def test_the_circuit_holds_the_smallest_set_with_its_paths() -> None:
    subject = trained_subject()
    found = measured(subject)
    circuit = choice.circuit_of(subject, found)
    assert isinstance(circuit, Circuit)
    assert circuit.heads == choice.members(choice.smallest(found["subsets"]))
    assert {group.name: group.roles for group in circuit.groups} == {"compare": "all", "decide": ("end",)}
    (straight,) = [edge for edge in circuit.edges if edge.receiver.site == "logits"]
    assert straight.effect is not None
    assert straight.effect == pytest.approx(
        -float(found["paths"].mean("prompt").sel(receiver="logits").min()), abs=1e-6
    )
    assert straight.low is not None
    assert straight.high is not None
    assert straight.low <= straight.effect <= straight.high


def table(values: dict[str, list[float]]) -> xr.DataArray:
    return xr.DataArray(np.array(list(values.values())).T, dims=("prompt", "kept"), coords={"kept": list(values)})


def test_the_smallest_set_is_the_smallest_that_is_enough() -> None:
    enough = table({"none": [1, 0], "0.0": [1, 1], "0.1": [1, 0], "0.0 + 0.1": [1, 1]})
    assert choice.smallest(enough) == "0.0"
    all_needed = table({"none": [1, 0], "0.0": [1, 0], "0.1": [1, 0], "0.0 + 0.1": [1, 1]})
    assert choice.smallest(all_needed) == "0.0 + 0.1"
    assert "All 2 heads are needed" in findings.subset_finding({"subsets": all_needed})


def test_constants_are_what_zero_breaks_and_the_mean_does_not() -> None:
    cells = np.zeros((1, 3, 4, 2))
    coords = {"how": ["zero", "mean", "random"], "part": ["output", "query", "key", "value"], "address": ["0.0", "1.0"]}
    changes = xr.DataArray(cells, dims=("prompt", *coords), coords=coords)
    changes.loc[{"how": "zero", "address": "1.0"}] = -0.4
    changes.loc[{"how": "mean", "address": "1.0", "part": "key"}] = -0.3
    assert set(choice.constants(changes)) == {"the query of 1.0", "the value of 1.0"}
    assert choice.constants(changes * 0) == {}


@pytest.mark.parametrize(
    ("ones", "n", "low", "high"), [(10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (8, 10, 0.4902, 0.9433)]
)
def test_shares_have_wilsons_interval(ones: int, n: int, low: float, high: float) -> None:
    found = findings.share(np.repeat([1.0, 0.0], [ones, n - ones]))
    assert (found.value, found.n) == (ones / n, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_a_coin_does_not_do_the_task() -> None:
    answers = np.repeat([0, 1], 50)
    guess = xr.DataArray(np.tile([0.0, 1.0], 50), dims="prompt", coords={"answer": ("prompt", answers)})
    assert "it is right on 50 %" in findings.shortfall(guess)
    always = xr.DataArray((answers == 1) | (np.arange(100) < 5), dims="prompt", coords={"answer": ("prompt", answers)})
    assert "10 % of other sequences" in findings.shortfall(always.astype(float))
    assert findings.shortfall(xr.ones_like(guess)) == ""
