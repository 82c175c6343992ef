"""What the study measures, against loops that do the same by hand."""

from typing import Any

import numpy as np
import pytest
import torch

import unweave as uw
from tests.studies.palindrome.models import tiny_subject, trained_subject
from unweave.methods.blind_spots import changed, class_probability
from unweave.metrics import CrossEntropy
from unweave.nodes import head_name
from unweave.studies.palindrome import ablations, behaviour, choice, confusions
from unweave.studies.palindrome.palindrome_study import palindrome_steps
from unweave.studies.palindrome.sequences import PALINDROME
from unweave.tasks.palindromes import palindromic


def test_right_counts_each_sequence() -> None:
    subject = tiny_subject()
    right = behaviour.right(subject)
    prompts = subject.task.prompts
    assert prompts.answers is not None
    for row in range(len(prompts)):
        logits = subject.model.run(prompts.tokens[row : row + 1]).logits_at()[0]
        assert right.values[row] == float(logits.argmax() == prompts.answers[row])
        assert right["probability"].values[row] == pytest.approx(float(logits.softmax(-1)[PALINDROME]), abs=1e-12)
    palindrome = palindromic(prompts.tokens[:, 1:-1])
    assert np.array_equal(right["mismatches"].values == 0, palindrome.numpy())


def test_more_wrong_values_are_as_many_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, seen = tiny_subject(), []

    def recorded(model: uw.Model, tokens: torch.Tensor, label: int) -> torch.Tensor:
        seen.append(behaviour.mismatched_pairs(tokens))
        return class_probability(model, tokens, label)

    monkeypatch.setattr(behaviour, "class_probability", recorded)
    called = behaviour.by_mismatches(subject)
    assert [set(pairs.tolist()) for pairs in seen] == [{0}, {1}, {2}, {3}]
    plain = class_probability(subject.model, subject.matched.prompts, PALINDROME) > 0.5
    assert np.array_equal(called.sel(pairs=0), plain.numpy())


def test_cases_are_attention_with_and_without_the_change() -> None:
    subject = tiny_subject()
    mirror, ends = behaviour.mirror_attention(subject), behaviour.end_attention(subject)
    rows = range(mirror.sizes["prompt"])
    prompts, others = subject.matched.prompts.take(rows), subject.others[list(rows)]
    assert mirror["pos"].values.tolist() == [4, 5, 6]
    for pos in (4, 6):
        for case, shown in ((behaviour.MATCHES, prompts), (behaviour.DIFFERS, changed(prompts, [pos], others))):
            pattern = subject.model.run(shown, keep=("pattern", 1))["pattern", 1][:, 0].numpy()
            found = {"address": "1.0", "case": case, "pos": pos}
            np.testing.assert_allclose(mirror.sel(found), pattern[:, pos, 7 - pos], atol=1e-12)
            np.testing.assert_allclose(ends.sel(found), pattern[:, -1, pos], atol=1e-12)


def test_what_is_said_through_a_pair_is_attribution_through_it() -> None:
    subject = tiny_subject()
    said = behaviour.said_through(subject, [((0, 1), (1, 0))])
    prompts = subject.matched.prompts.take(range(said.sizes["prompt"]))
    plain = uw.classifier.attribution_through(subject.model, prompts, "0.1", "1.0", outputs=(1, 0))
    np.testing.assert_allclose(
        said.sel(address="0.1 → 1.0", case=behaviour.MATCHES), plain.sel(pos=said["pos"]), atol=1e-12
    )


def test_circuits_by_position_are_those_of_the_pair() -> None:
    subject = trained_subject()
    found: dict[str, Any] = {"parts": uw.classifier.class_attribution(subject.model, subject.task.prompts, (1, 0))}
    steps = {step.name: step for step in palindrome_steps(subject)}
    for name in ("paths", "k-circuits", "v-circuits"):
        found[name] = steps[name].make(found, False)
    for sender, receiver in choice.pairs_of(found):
        name = behaviour.pair_name((sender, receiver))
        said = uw.weights.v_composition(subject.model, sender, receiver, outputs=(1, 0))
        np.testing.assert_array_equal(found["v-circuits"].sel(address=name), said)
        query = uw.weights.mean_query(subject.model, subject.task.prompts, receiver)
        asked = uw.weights.k_composition(subject.model, sender, receiver, query=query)
        np.testing.assert_allclose(found["k-circuits"].sel(address=name), asked, atol=1e-4)


@pytest.mark.parametrize(("how", "replacement"), [("zero", "zero"), ("mean", "mean")])
def test_ablations_are_knockouts(how: str, replacement: str) -> None:
    subject = tiny_subject()
    table = ablations.ablations(subject, CrossEntropy(), False)
    assert table.sizes == {"prompt": 20, "how": 3, "part": 4, "address": 4}
    pair = subject.both_classes(CrossEntropy())
    for part, kind in (("output", "z"), ("key", "k")):
        single = uw.knockout(pair, kind, uw.Replacement(replacement, "clean"), measure="change", progress=False)
        for layer, head in ((0, 1), (1, 0)):
            cell = table.sel(how=how, part=part, address=head_name((layer, head)))
            np.testing.assert_allclose(cell, single.sel(layer=layer, head=head), atol=1e-10)


def test_zero_queries_and_zero_keys_are_the_same_ablation() -> None:
    table = ablations.ablations(tiny_subject(), CrossEntropy(), False).sel(how="zero")
    np.testing.assert_allclose(table.sel(part="query"), table.sel(part="key"), atol=1e-10)
    assert float(abs(table.sel(part="query")).max()) > 1e-3


def test_subsets_are_the_other_heads_knocked_out() -> None:
    subject = tiny_subject(prompts=33)
    found = ablations.subsets(subject, False)
    assert found.sizes["kept"] == 16
    pair = subject.both_classes()
    np.testing.assert_array_equal(found.sel(kept="0.0 + 0.1 + 1.0 + 1.1"), pair.clean_scores)
    change = uw.knockout(pair, [[(0, 1), (1, 1)]], "mean", measure="change", source="clean")
    np.testing.assert_allclose(found.sel(kept="0.0 + 1.0"), pair.clean_scores.numpy() + change.values[:, 0], atol=1e-12)


def test_paths_are_path_patches() -> None:
    subject = tiny_subject()
    found = ablations.paths(subject, [(1, 0)], False)
    assert found["receiver"].values.tolist() == ["logits", "1.0 q", "1.0 k", "1.0 v", "1.0 k, v", "1.0 q, k, v"]
    both = uw.path_patch(subject.pair, [(1, 0, "k"), (1, 0, "v")], progress=False)
    np.testing.assert_allclose(found.sel(sender="0.1", receiver="1.0 k, v"), both.sel(layer=0, head=1), atol=1e-12)
    assert not found.sel(sender="1.1", receiver="1.0 k, v").any()  # the same layer sends it nothing


def test_every_value_stands_in_place_of_every_other(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, seen = tiny_subject(), []

    def recorded(model: uw.Model, tokens: torch.Tensor, label: int) -> torch.Tensor:
        seen.append(tokens)
        return (tokens[:, 4] == 2).double()  # says palindrome where a 2 stands at position 4

    monkeypatch.setattr(confusions, "class_probability", recorded)
    found = confusions.confusions(subject, False)
    assert found.dims == ("prompt", "wrong", "right")
    first = seen[0].reshape(6, 6, 8)
    for wrong in range(6):
        for right in range(6):
            tokens = first[wrong, right]
            assert (int(tokens[4]), int(tokens[3])) == (wrong, right)
            assert int(behaviour.mismatched_pairs(tokens[None])) == (wrong != right)
    at_four = found.isel(prompt=0)
    assert float(at_four.sel(wrong=2).sum()) == 5
    assert float(at_four.drop_sel(wrong=2).sum()) == 0
    assert np.isnan(np.diagonal(at_four.values)).all()


def test_adversarial_sequences_are_no_palindromes_and_fool_the_model() -> None:
    subject = trained_subject()
    found = {
        "blind": uw.classifier.blind_spots(
            subject.model, subject.matched.prompts, PALINDROME, subject.others, range(1, 21), False
        ),
        "confusions": confusions.confusions(subject, False),
    }
    made = confusions.adversarial(subject, found)
    tokens = torch.from_numpy(made.values).long()
    assert not palindromic(tokens[:, 1:-1]).any()
    assert (behaviour.mismatched_pairs(tokens) == len(made.attrs["changed"].split())).all()
    for row, given in zip(tokens, made["probability"].values, strict=True):
        alone = float(class_probability(subject.model, row[None], PALINDROME))
        assert alone > 0.5
        assert alone == pytest.approx(float(given), abs=1e-5)


def test_a_model_that_is_never_fooled_has_no_adversarial_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = trained_subject()
    blind = uw.classifier.blind_spots(
        subject.model, subject.matched.prompts, PALINDROME, subject.others, range(1, 21), False
    )
    found = {"blind": blind, "confusions": confusions.confusions(subject, False)}

    def refuses(*arguments: object) -> None:
        raise uw.InputError("none is fooled")

    monkeypatch.setattr(confusions, "adversarial_prompts", refuses)
    with pytest.raises(uw.InputError, match="none of 400 sequences with a wrong value fools the model"):
        confusions.adversarial(subject, found)
    with pytest.raises(uw.InputError, match="needs the result `confusions`"):
        confusions.adversarial(subject, {"blind": blind})
