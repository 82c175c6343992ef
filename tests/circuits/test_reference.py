"""Reference prompts for template means: drawn on from the pair's own where those are too few."""

import pytest
import torch

import unweave as uw
from tests.tiny_folder import write_tiny_folder
from unweave.circuits.ablation import PER_TEMPLATE, ablation_of, reference_prompts
from unweave.circuits.circuit import Circuit, Group
from unweave.errors import InputError
from unweave.metrics.contrast import Contrast

CIRCUIT = Circuit((Group("mover", ((2, 1),), ("end",)), Group("early", ((0, 1),), ("S2",))), task="ioi")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> uw.Model:
    return uw.load_model(str(write_tiny_folder(tmp_path_factory.mktemp("tiny"))))


def pair_of(model: uw.Model, n_prompts: int, corruption: str = "ABC", bos: bool = True) -> Contrast:
    task = uw.tasks.ioi(model, n_prompts=n_prompts, seed=3, bos=bos)
    return Contrast(model, task.prompts, task.corrupt(corruption), uw.LogitDiff())


@pytest.mark.parametrize("bos", [True, False])
def test_it_continues_the_pairs_own_corrupted_prompts(model: uw.Model, bos: bool) -> None:
    pair = pair_of(model, 5, bos=bos)
    drawn = reference_prompts(pair, 4)
    assert drawn.groups is not None
    assert pair.prompts.groups is not None
    assert sorted(drawn.groups.tolist()) == sorted(pair.prompts.groups.tolist() * 4)
    assert set(pair.corrupted.texts) < set(drawn.texts)
    for group, length in zip(pair.prompts.groups.tolist(), pair.prompts.lengths.tolist(), strict=True):
        assert set(drawn.lengths[drawn.groups == group].tolist()) == {length}


def test_few_prompts_of_a_template_bring_more(model: uw.Model) -> None:
    pair = pair_of(model, 5, "swap")
    about = ablation_of(CIRCUIT, pair).about
    assert about["how"] == "template"
    assert f"means over {5 * PER_TEMPLATE} swap prompts of 5 templates" in str(about["notes"])
    assert "seed 3" in str(about["notes"])


def test_the_means_are_those_of_the_drawn_prompts(model: uw.Model) -> None:
    pair = pair_of(model, 5)
    drawn = reference_prompts(pair)
    values = ablation_of(CIRCUIT, pair).values(range(5))["z", 1]
    assert drawn.groups is not None
    assert pair.prompts.groups is not None
    for row, (group, length) in enumerate(
        zip(pair.prompts.groups.tolist(), pair.prompts.lengths.tolist(), strict=True)
    ):
        alike = drawn.take((drawn.groups == group).nonzero()[:, 0])
        expected = model.run(alike, keep=("z", 1))["z", 1].mean(0)
        torch.testing.assert_close(values[row, :length], expected[:length], rtol=0, atol=1e-5)


def test_enough_prompts_of_each_template_are_their_own_reference(model: uw.Model) -> None:
    about = ablation_of(CIRCUIT, pair_of(model, 18 * 5)).about
    assert about["source"] == "corrupted"
    assert about["notes"] == ""


def test_what_cannot_be_drawn(model: uw.Model) -> None:
    task = uw.tasks.ioi_fixed(model)
    fixed = Contrast(model, task.prompts, task.corrupt(), uw.LogitDiff())
    with pytest.raises(InputError, match="made it from its own templates"):
        reference_prompts(fixed)
    assert ablation_of(CIRCUIT, fixed).about["source"] == "corrupted"
