"""Runs within a budget: retries, interrupts, what is continued, and what costs nothing. The numbers are tested against
the oracle."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.oracle.both import both, table
from tests.scarce import Products
from tests.tiny import N_LAYERS, tiny_model, tiny_pair
from unweave.engine import memory
from unweave.engine.context import context_of
from unweave.engine.executor import execute
from unweave.engine.patches import NodeGrid, patch_runs
from unweave.metrics.contrast import Contrast

HEAD_SITES = ["z", "q", "k", "v", "pattern"]
CASES = {
    "resid_pre": ("layer", "pos"),
    "z": ("layer", "head"),
    "k": ("layer", "head", "role"),
    "pattern": ("layer", "head", "q_pos"),
    "mlp_post": ("layer", "neuron"),
}
ASKED: dict[str, Callable[[Contrast], xr.DataArray]] = {
    "heads": lambda pair: uw.patch(pair, "z", ("layer", "head", "pos")),
    "together": lambda pair: uw.patch_at(pair, [["z 0.1", "k 1.0"], ["pattern 1.2", "mlp_post 1.3 @end"]]),
    "paths": lambda pair: uw.path_patch(pair, [(1, 2, "v"), (2, 1, "q")]),
    "paths of a list": lambda pair: uw.path_patch(
        pair, senders=["0.1", ["mlp 1", "embed"], "1.3", "0.3", "0.2", "0.0"]
    ),
    "knockouts": lambda pair: uw.knockout(pair, ["layer 1", (0, 1), [(0, 2), "mlp 1"]], "zero"),
    "noise": lambda pair: uw.knockout(pair, "result", "gaussian"),
}


def test_given_values_are_patched_at_every_position():
    """Zeros in place of `z` are what edits to zero make, also before the first token that differs."""
    pair = tiny_pair(tiny_model("gpt2"))
    scores = uw.knockout(pair, "heads", "zero", measure="change")
    rows = torch.arange(3)
    for layer, head in ((0, 1), (2, 3)):
        edit = uw.Edit("z", layer, torch.zeros(1, dtype=torch.float64), head=head)
        logits = pair.model.run(pair.prompts, edits=[edit]).logits_at("end")
        expected = logits[rows, pair.prompts.answers] - logits[rows, pair.prompts.wrong] - pair.clean_scores
        np.testing.assert_allclose(scores.sel(layer=layer, head=head), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["llama-grouped", "gpt2", "neox-parallel"])
@pytest.mark.parametrize("site", CASES)
def test_small_budgets_give_the_same_numbers_in_more_products(name: str, site: str, monkeypatch) -> None:
    contrast, counts = both(name, "unequal", "ABC").contrast, []
    for budget in (None, 2**22, 1):  # from room for all to room for one run at a time
        with monkeypatch.context() as patched:
            products = Products(patched)
            budget_args = {} if budget is None else {"memory": budget}
            found = table(contrast, site, CASES[site], **budget_args).values  # pyright: ignore[reportArgumentType]
        counts.append(len(products.rows))
        expected = found if budget is None else expected
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert counts[0] <= counts[1] <= counts[2]
    assert counts[0] < counts[2]


@pytest.mark.parametrize("name", ["llama-grouped", "gpt2", "neox-parallel"])
def test_portions_of_products_do_not_matter(name: str, monkeypatch) -> None:
    """Matrix products, attention and scoring in portions of a few rows, which the tiny models never fill otherwise."""
    contrast = both(name, "unequal", "ABC").contrast
    expected = {site: table(contrast, site, over).values for site, over in CASES.items()}
    for constant, few in (("CHUNK_ROWS", 7), ("CHUNK_KEYS", 20), ("PORTION", 100)):
        monkeypatch.setattr(memory, constant, few)
    for site, over in CASES.items():
        np.testing.assert_allclose(table(contrast, site, over).values, expected[site], rtol=0, atol=1e-12)


@pytest.mark.parametrize("over", [("layer", "head"), ("layer", "head", "pos"), ("layer", "role")])
def test_a_small_budget_gives_the_same_numbers_over_any_axes(over):
    pair = tiny_pair(tiny_model("llama"))
    free, tight = (uw.patch(pair, HEAD_SITES, over, memory=size) for size in (None, 1000))
    for site in HEAD_SITES:
        assert abs(free[site] - tight[site]).max() < 1e-12


@pytest.mark.parametrize("ask", ASKED)
@pytest.mark.parametrize("limit", ["rows", "prompts"])
def test_out_of_memory_is_answered_by_less_at_once(ask: str, limit: str, monkeypatch):
    with monkeypatch.context() as patched:  # a pair that kept nothing, so that its prompts are run again
        patched.setattr("unweave.models.cache_policy.free_bytes", lambda _: 0)
        pair = tiny_pair(tiny_model("gpt2"))
    plain = ASKED[ask](pair)
    rows = 8 if ask in ("together", "paths of a list") else 20
    products = Products(monkeypatch, rows) if limit == "rows" else Products(monkeypatch, prompts=1)
    xr.testing.assert_allclose(ASKED[ask](pair), plain, rtol=0, atol=1e-12)
    assert products.refused


def test_out_of_memory_with_one_run_in_flight_is_raised(monkeypatch):
    pair = tiny_pair(tiny_model("gpt2"))
    Products(monkeypatch, rows=0)
    with pytest.raises(torch.OutOfMemoryError):
        uw.patch(pair, "z")


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    pair = tiny_pair(tiny_model("gpt2"))
    monkeypatch.setattr("torch.nn.functional.linear", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        uw.patch(pair, "z")


def stopping(after: float) -> Callable[[float, float], None]:
    """Progress that is interrupted when so many scores are under way."""

    def told(done: float, total: float) -> None:
        if done >= after:
            raise KeyboardInterrupt

    return told


def test_an_interrupt_keeps_what_was_finished():
    pair = tiny_pair(tiny_model("gpt2"))
    whole = uw.patch(pair, "z", ("layer", "head"))
    with pytest.raises(uw.Interrupted) as caught:
        uw.patch(pair, "z", ("layer", "head"), memory=1000, progress=stopping(12))
    partial = caught.value.partial
    assert isinstance(partial, xr.DataArray)
    assert 0 < int(partial.isnull().sum()) < partial.size
    assert float(abs(partial - whole).where(partial.notnull()).max()) < 1e-12


def test_scores_are_continued_and_cut_into_shards(monkeypatch):
    """What is done is not run again, whoever did it."""
    pair = tiny_pair(tiny_model("gpt2"))
    grids: list[NodeGrid] = [NodeGrid("z", layer, 4 * layer, (0, 1, 2, 3)) for layer in range(N_LAYERS)]
    runs = patch_runs(context_of(pair, "denoise"), grids)
    whole = execute(runs, progress=False)
    first = execute(runs, 1000, stopping(12))
    assert first.stopped
    assert 0 < int(first.done.sum()) < first.done.numel()
    first.stopped = False
    torch.testing.assert_close(execute(runs, progress=False, scores=first).complete(), whole.values, rtol=0, atol=1e-12)
    products = Products(monkeypatch)
    execute(runs, progress=False, scores=first)
    assert not products.rows


def test_what_cannot_matter_is_exactly_zero():
    pair = tiny_pair(tiny_model("gpt2"))
    where = uw.patch(pair, ["resid_pre", "mlp_out"], ("layer", "pos"))
    assert (where["resid_pre"].sel(pos=[0, 1, 2]) == 0).all()
    assert (where["resid_pre"].sel(layer=0, pos=5, prompt=[0, 2]) == 0).all()  # the tokens are the same there
    assert (where["mlp_out"].sel(layer=N_LAYERS - 1, pos=3) == 0).all()  # nothing reads it
    assert where["resid_pre"].sel(prompt=1, pos=[5, 6]).isnull().all()  # beyond the prompt's end
    assert (where["resid_pre"].sel(layer=0, pos=3, prompt=0) != 0).all()


def test_patching_everything_is_the_other_run():
    pair = tiny_pair(tiny_model("llama"))
    for direction, end in (("denoise", 1), ("noise", -1)):
        effect = uw.patch(pair, "resid_pre", ("layer",), direction)
        assert effect.mean("prompt").values == pytest.approx([end] * N_LAYERS, abs=1e-12)


def test_progress_grows_to_the_whole():
    seen = []
    uw.patch(
        tiny_pair(tiny_model("gpt2")), "z", ("layer", "head"), progress=lambda done, total: seen.append((done, total))
    )
    done = [n for n, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1] == 12 * 3


def test_twice_the_same_bit_for_bit():
    pair = tiny_pair(tiny_model("llama", torch.float32))
    first, second = (uw.patch(pair, HEAD_SITES, ("layer", "head")) for _ in range(2))
    assert first.identical(second)


@pytest.mark.parametrize(("given", "message"), [(0, "memory"), (1.5, "share"), (-0.1, "share"), (True, "bytes")])
def test_a_budget_is_bytes_or_a_share(given, message):
    with pytest.raises(uw.InputError, match=message):
        memory.budget_bytes(given, torch.device("cpu"))
    assert memory.budget_bytes(10**6, torch.device("cpu")) == 10**6
