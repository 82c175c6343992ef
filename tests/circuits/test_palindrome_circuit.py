"""The circuit of the palindrome classifier: heads 0.0 and 1.0 do most of it, the other two nothing by themselves."""

from pathlib import Path

import pytest

import unweave as uw
from tests.methods import palindromes
from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.evaluate import EvaluationOptions, evaluate


@pytest.mark.parametrize(
    ("heads", "score", "ratio"),
    [
        (((0, 0), (1, 0)), 6.635, 0.888),
        (((0, 0), (1, 0), (0, 1)), None, 0.897),
        (((0, 1), (1, 1)), None, 0.001),
    ],
)
def test_faithfulness(shared_data: Path, heads: tuple[tuple[int, int], ...], score: float | None, ratio: float) -> None:
    prompts, other = (getattr(palindromes.pair(shared_data, "ds500"), side) for side in ("prompts", "corrupted"))
    pair = uw.Contrast(palindromes.classifier(shared_data), prompts, other, uw.LogitDiff())
    effort = EvaluationOptions(controls=0, best=0, subsets=0, searches=0)
    found = evaluate(Circuit((Group("kept", heads),)), pair, pair.prompts, how="mean", effort=effort)
    table = found["faithfulness"].to_dataset()
    assert float(table["score"].sel(kept="model").mean()) == pytest.approx(7.475, abs=5e-4)
    assert float(table["ratio"].sel(kept="circuit")) == pytest.approx(ratio, abs=5e-4)
    if score is not None:
        assert float(table["score"].sel(kept="circuit").mean()) == pytest.approx(score, abs=5e-4)
