"""Sweeps: budgets, retries, interrupts, and what costs nothing. The numbers are tested against the oracle."""

import pytest
import torch
import xarray as xr

import unweave as uw
from tests.tiny import N_LAYERS, tiny_model, tiny_pair
from unweave.engine import memory, paths, sweep
from unweave.engine.donor import GivenDonor, RunDonor
from unweave.engine.frozen import FrozenPass
from unweave.engine.question import question_of
from unweave.engine.reach import entry_stage, last_attention
from unweave.engine.sheet import Sheet
from unweave.engine.sweep import Sweep
from unweave.engine.wavefront import Wavefront
from unweave.models.run import Edit

HEAD_SITES = ["z", "q", "k", "v", "pattern"]


def sheets(site: str = "z") -> list[Sheet]:
    return [Sheet(site, layer, 4 * layer, (0, 1, 2, 3)) for layer in range(N_LAYERS)]


def test_runs_differ_from_the_first_token_that_differs():
    pair = tiny_pair(tiny_model("gpt2"))
    assert RunDonor(pair.prompts).first(pair.corrupted) == (3, 3, 3)
    assert RunDonor(pair.prompts).first(pair.prompts) == (7, 7, 7)


def test_given_values_are_patched_at_every_position():
    """Zeros as the donor's `z` are what edits to zero make, also before the first token that differs."""
    pair = tiny_pair(tiny_model("gpt2"))
    zeros = {("z", layer): torch.zeros(3, 7, 4, 4, dtype=torch.float64) for layer in range(N_LAYERS)}
    scores = Sweep(
        question_of(pair, "noise", GivenDonor(lambda rows: {key: zero[list(rows)] for key, zero in zeros.items()})),
        sheets(),
    ).run()
    rows = torch.arange(3)
    for layer, head in ((0, 1), (2, 3)):
        edit = Edit("z", layer, torch.zeros(1, dtype=torch.float64), head=head)
        logits = pair.model.run(pair.prompts, edits=[edit]).logits_at("end")
        expected = logits[rows, pair.prompts.answers] - logits[rows, pair.prompts.wrong]
        torch.testing.assert_close(scores[4 * layer + head], expected, rtol=0, atol=1e-12)


def test_changes_enter_after_the_half_layer_that_made_them():
    serial, parallel = tiny_model("gpt2").config, tiny_model("gpt_neox").config
    assert [entry_stage(serial, site, 1) for site in ("resid_pre", "z", "resid_mid", "mlp_out")] == [2, 3, 3, 4]
    assert [entry_stage(parallel, site, 1) for site in ("resid_pre", "z", "attn_out", "mlp_post")] == [2, 4, 4, 4]
    assert last_attention(serial) == 4


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_a_small_budget_gives_the_same_numbers_in_more_waves(kind):
    pair = tiny_pair(tiny_model(kind))
    question = question_of(pair, "denoise")
    free, tight = Sweep(question, sheets()), Sweep(question, sheets(), memory=1000)
    torch.testing.assert_close(tight.run(), free.run(), rtol=0, atol=1e-12)
    assert free.waves == 1
    assert tight.waves > 4


@pytest.mark.parametrize("over", [("layer", "head"), ("layer", "head", "pos"), ("layer", "role")])
def test_a_small_budget_gives_the_same_numbers_over_any_axes(over):
    pair = tiny_pair(tiny_model("llama"))
    free, tight = (uw.patch(pair, HEAD_SITES, over, memory=size) for size in (None, 1000))
    for site in HEAD_SITES:
        assert abs(free[site] - tight[site]).max() < 1e-12


def test_out_of_memory_halves_the_wavefront_and_goes_on(monkeypatch):
    pair = tiny_pair(tiny_model("gpt2"))
    plain, tried = Sweep(question_of(pair, "denoise"), sheets()).run(), []

    def refusing(self: Wavefront, stage: int) -> None:
        tried.append(self.x.shape[0])
        if self.x.shape[0] > 20:
            raise torch.OutOfMemoryError("refused")
        advance(self, stage)

    advance = Wavefront.advance
    monkeypatch.setattr(Wavefront, "advance", refusing)
    torch.testing.assert_close(Sweep(question_of(pair, "denoise"), sheets()).run(), plain, rtol=0, atol=1e-12)
    assert tried[0] == memory.MOST_ROWS
    assert 10 < tried[-1] <= 20


REFUSED = {
    "runs in flight": (Wavefront, "advance", lambda wave, *_: wave.n_rows > 20),
    "rows that are carried": (FrozenPass, "advance", lambda frozen, *_: frozen.n_rows > 20),
    "prompts that are resumed": (sweep, "resume", lambda *given: len(given[2]) > 1),
    "prompts of a sweep": (sweep, "record", lambda *given: len(given[4]) > 1),
    "prompts of paths": (paths, "record", lambda *given: len(given[4]) > 1),
}
ASKED = {
    "heads": lambda pair: uw.patch(pair, "z", ("layer", "head", "pos")),
    "together": lambda pair: uw.patch_at(pair, [["z 0.1", "k 1.0"]]),
    "paths": lambda pair: uw.path_patch(pair, [(1, 2, "v"), (2, 1, "q")]),
    "paths of a list": lambda pair: uw.path_patch(
        pair, senders=["0.1", ["mlp 1", "embed"], "1.3", "0.3", "0.2", "0.0"]
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_out_of_memory_is_answered_by_less_at_once(what, monkeypatch):
    pair, tried = tiny_pair(tiny_model("gpt2")), []
    plain = {name: ask(pair) for name, ask in ASKED.items()}
    owner, name, much = REFUSED[what]
    whole = getattr(owner, name)

    def refusing(*given: object) -> object:
        tried.append(much(*given))
        if tried[-1]:
            raise torch.OutOfMemoryError("refused")
        return whole(*given)

    monkeypatch.setattr(owner, name, refusing)
    for name, ask in ASKED.items():
        xr.testing.assert_allclose(ask(pair), plain[name], rtol=0, atol=1e-12)
    assert True in tried


def test_out_of_memory_with_one_run_in_flight_is_raised(monkeypatch):
    def refusing(self: Wavefront, stage: int) -> None:
        raise torch.OutOfMemoryError("refused")

    monkeypatch.setattr(Wavefront, "advance", refusing)
    with pytest.raises(torch.OutOfMemoryError):
        Sweep(question_of(tiny_pair(tiny_model("gpt2")), "denoise"), sheets()).run()


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(self: Wavefront, stage: int) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Wavefront, "advance", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        Sweep(question_of(tiny_pair(tiny_model("gpt2")), "denoise"), sheets()).run()


def test_an_interrupt_keeps_the_waves_that_have_landed(monkeypatch):
    pair = tiny_pair(tiny_model("gpt2"))
    whole, landed = uw.patch(pair, "z", ("layer", "head")), []

    def landing(self: Sweep, *given: object) -> None:
        land(self, *given)  # type: ignore[arg-type]
        landed.append(1)
        if len(landed) == 3:
            raise KeyboardInterrupt

    land = sweep.Sweep._land
    monkeypatch.setattr(sweep.Sweep, "_land", landing)
    with pytest.raises(uw.Interrupted) as caught:
        uw.patch(pair, "z", ("layer", "head"), memory=1000)
    partial = caught.value.partial
    assert isinstance(partial, xr.DataArray)
    assert 0 < int(partial.isnull().sum()) < partial.size
    finished = partial.notnull()
    assert float(abs(partial - whole).where(finished).max()) < 1e-12


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
