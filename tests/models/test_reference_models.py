"""The trained models of the reference data: loaded from their state dicts, they do what their figures say."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import unweave as uw
from tests.methods import palindromes

STEPS = ("center_writing", "center_unembed", "fold_norm", "fold_value_bias")


def load(folder: Path, name: str, config: uw.Config, dtype: str = "float64", process: tuple[str, ...] = ()) -> uw.Model:
    return uw.load_model(folder / "models" / name, config=config, device="cpu", dtype=dtype, process=process)


def palindrome(folder: Path, dtype: str = "float64", process: tuple[str, ...] = ()) -> uw.Model:
    return load(folder, "palindrome_classifier.pt", uw.small_config(d_vocab_out=2), dtype, process)


def cumsum(folder: Path) -> uw.Model:
    return load(folder, "cumsum_model.pt", uw.small_config(1, 1, 24, 12, 11, 20, 3, 8, norm="none", name="cumsum"))


def brackets(folder: Path) -> uw.Model:
    config = uw.small_config(3, 2, 56, 28, 5, 42, 2, 56, causal=False, pad_token=1, name="brackets")
    return load(folder, "brackets_model_state_dict.pt", config)


@pytest.mark.parametrize("process", [(), STEPS, ("all",)], ids=["as stored", "as the notebook", "all"])
def test_palindromes(shared_data: Path, process: tuple[str, ...]) -> None:
    found = palindromes.reference(shared_data)
    tokens, labels = (torch.tensor(found["inputs"][f"ds500.{name}"]) for name in ("toks", "is_palindrome"))
    logits = palindrome(shared_data, process=process).run(tokens).logits_at("end")
    figures = found["reference"]
    assert float((logits.argmax(-1) == labels).double().mean()) == figures["ds500.accuracy"] == 0.998
    assert float(F.cross_entropy(logits, labels.long())) == pytest.approx(figures["ds500.loss"], abs=1e-11)
    if process:
        expected = torch.tensor(figures["ds500.logits_end_first20"], dtype=torch.float64)
        torch.testing.assert_close(logits[:20], expected, rtol=0, atol=1e-8)
    single = palindrome(shared_data, "float32", process).run(tokens).logits_at("end")
    torch.testing.assert_close(single.double().log_softmax(-1), logits.log_softmax(-1), rtol=0, atol=1e-4)


def test_processed_weights(shared_data: Path) -> None:
    figures, model = palindromes.reference(shared_data)["reference"], palindrome(shared_data, process=STEPS)
    direction = torch.tensor(figures["nonpal_dir"], dtype=torch.float64)
    torch.testing.assert_close(model.W_U[:, 0] - model.W_U[:, 1], direction, rtol=0, atol=1e-9)
    b_u = model.weights.b_u
    assert b_u is not None
    torch.testing.assert_close(b_u, torch.tensor(figures["b_U"], dtype=torch.float64), rtol=0, atol=1e-9)
    assert model.W_U.sum(1).abs().max() < 1e-12
    written = [model.W_E, *(layer.w_o.T for layer in model.weights.layers)]
    assert max(float(matrix.mean(-1).abs().max()) for matrix in written) < 1e-12


def test_running_sums(shared_data: Path) -> None:
    """The class at each position is the sign of the sum so far.

    The figure of the data is for values whose sign is, seven times of ten, turned against the sum so far: that makes
    sums of zero common.
    """
    draw = torch.Generator().manual_seed(0)
    drawn = torch.randint(-5, 6, (5000, 20), generator=draw)
    against = torch.rand(drawn.shape, generator=draw) < 0.7
    total, values = torch.zeros_like(drawn[:, 0]), []
    for value, turned in zip(drawn.T, against.T, strict=True):
        sign = torch.where(turned, -1, 1) * total.sign()
        values.append(torch.where(total == 0, value, value.abs() * sign))
        total = total + values[-1]
    tokens, labels = torch.stack(values, 1) % 11, torch.stack(values, 1).cumsum(1).sign() + 1
    model = cumsum(shared_data)
    logits = model.run(tokens).logits
    assert bool((logits.argmax(-1) == labels).all())
    assert float(F.cross_entropy(logits.flatten(0, 1), labels.flatten())) == pytest.approx(0.0727, abs=0.002)
    with pytest.raises(uw.InputError, match="center_writing is refused for cumsum: the model has no norm"):
        model.process("center_writing")


def bracket_prompts(n_prompts: int) -> tuple[uw.Prompts, list[str]]:
    """Strings of brackets, half of them balanced: start, brackets, end, padding. Class 1 is balanced."""
    draw = torch.Generator().manual_seed(0)

    texts = []
    for number in range(n_prompts):
        n_pairs = int(torch.randint(1, 21, (1,), generator=draw))
        steps = torch.tensor([1, -1]).repeat(n_pairs)[torch.randperm(2 * n_pairs, generator=draw)]
        if number % 2:  # read round from behind its lowest point, such a string is balanced
            steps = steps.roll(-int(steps.cumsum(0).argmin()) - 1)
        elif number % 4:
            steps = 1 - 2 * torch.randint(2, steps.shape, generator=draw)
        texts.append("".join("(" if step == 1 else ")" for step in steps.tolist()))
    tokens = torch.ones(n_prompts, 42, dtype=torch.long)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text) + 2] = torch.tensor([0, *(3 + "()".index(bracket) for bracket in text), 2])
    labels = [int(is_balanced(text)) for text in texts]
    lengths, wrong = [len(text) + 2 for text in texts], [1 - label for label in labels]
    roles = {"start": [0] * n_prompts}
    return uw.Prompts.from_tokens(tokens, labels, wrong, roles, lengths), texts


def is_balanced(text: str) -> bool:
    heights = torch.tensor([1 if bracket == "(" else -1 for bracket in text]).cumsum(0)
    return bool(heights.min() >= 0) and int(heights[-1]) == 0


def answers(prompts: uw.Prompts) -> Tensor:
    assert prompts.answers is not None
    return prompts.answers


def test_brackets(shared_data: Path) -> None:
    model, (prompts, _) = brackets(shared_data), bracket_prompts(1000)
    assert 0.45 < float(answers(prompts).double().mean()) < 0.6
    logits = model.run(prompts).logits_at("start")
    assert bool((logits.argmax(-1) == answers(prompts)).all())
    by_token = model.run(prompts.tokens).logits[:, 0]
    torch.testing.assert_close(by_token, logits, rtol=0, atol=1e-12)
    causal = uw.Model(uw.small_config(3, 2, 56, 28, 5, 42, 2, 56), model.weights).run(prompts).logits_at("start")
    assert not bool((causal.argmax(-1) == answers(prompts)).all())


def test_patching_the_bracket_classifier(shared_data: Path) -> None:
    """One bracket turned over, anywhere: every patch of all of the stream restores the class, read at the start."""
    from tests.methods.by_edits import sweep

    prompts, texts = bracket_prompts(12)
    at = [row for row, label in enumerate(answers(prompts).tolist()) if label][:4]
    clean = prompts.take(at)
    turned = clean.tokens.clone()
    for row, text in enumerate(texts[n] for n in at):
        turned[row, 1 + len(text) // 2] = 7 - turned[row, 1 + len(text) // 2]
    pair = uw.Contrast(
        brackets(shared_data), clean, uw.Prompts.from_tokens(turned, lengths=clean.lengths), uw.LogitDiff("start")
    )
    heads = uw.patch(pair, "z", over=("layer", "head"))
    expected = sweep(pair, "z", ("layer", "head"), "denoise")
    torch.testing.assert_close(torch.tensor(heads.values), expected, atol=1e-9, rtol=0)
    assert abs(expected).max() > 0.1
    whole = uw.patch(pair, "resid_pre", over=("layer",)).mean("prompt")
    assert abs(whole - 1).max() < 1e-9
