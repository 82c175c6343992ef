"""Studies on a tiny random model: every step, its files, and the report; of the IOI task and of pairs of one's own."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.tiny_folder import write_tiny_folder
from unweave.studies import standard
from unweave.studies.controls import control_values
from unweave.studies.ioi import IOI
from unweave.studies.plan import Settings, carry_out
from unweave.studies.standard import plan
from unweave.studies.study import Outcome, study
from unweave.studies.study_report import command
from unweave.studies.subject import Kind, Subject, ask

CLEAN, CORRUPTED = "The capital of France is", "The capital of Italy is"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of a random model, which does no task."""
    folder = write_tiny_folder(tmp_path_factory.mktemp("model"))
    out = tmp_path_factory.mktemp("report")
    return Settings(model=str(folder), prompts=6, out=out, dtype="float64", anyway=True)


@pytest.fixture(scope="module")
def told(settings: Settings) -> list[str]:
    """What the whole study says while it runs; its files are in `settings.out`."""
    lines: list[str] = []
    assert study(settings, lines.append) == Outcome(settings.out / "index.html")
    return lines


@pytest.fixture(scope="module")
def subject(settings: Settings) -> Subject:
    return ask(settings, IOI)


def page_of(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8").replace("&#39;", "'")


def array_of(folder: Path, name: str) -> xr.DataArray:
    """A saved result of one site."""
    result = uw.load(folder / "results" / f"{name}.nc")
    assert isinstance(result, xr.DataArray)
    return result


def score_of(folder: Path, name: str) -> xr.Dataset:
    """A saved test of the circuit."""
    result = uw.load(folder / "results" / "evaluation.nc")
    assert isinstance(result, xr.DataTree)
    return result[name].to_dataset()


# The circuit of a random model has no heads that this step could ask about.
LEFT_OUT = "signals"


@pytest.mark.usefixtures("told")
def test_every_step_is_saved(settings: Settings, subject: Subject) -> None:
    saved = {file.stem for file in (settings.out / "results").iterdir()}
    assert saved == {step.name for step in plan(subject)} - {LEFT_OUT}
    assert "no head is named S-inhibition" in page_of(settings.out)
    assert (settings.out / "results" / "circuit.json").exists()


@pytest.mark.usefixtures("told")
def test_saved_results_are_what_the_methods_give(settings: Settings, subject: Subject) -> None:
    heads = uw.load(settings.out / "results" / "heads.nc")
    assert isinstance(heads, xr.Dataset)
    assert list(heads.data_vars) == ["z", "q", "k", "v", "pattern"]
    again = uw.patch(subject.pair, "z", ("layer", "head"), progress=False)
    np.testing.assert_allclose(heads["z"], again, rtol=0, atol=1e-12)
    other = array_of(settings.out, "heads-other")
    assert (heads["z"].attrs["corruption"], other.attrs["corruption"]) == ("swap", "ABC")
    assert np.array_equal(other["clean"], heads["clean"])


@pytest.mark.usefixtures("told")
def test_paths_and_circuit_are_those_of_the_other_corruption(settings: Settings, subject: Subject) -> None:
    paths = array_of(settings.out, "paths")
    np.testing.assert_allclose(paths, uw.path_patch(subject.paths, at="end", progress=False), rtol=0, atol=1e-12)
    assert paths.attrs["corruption"] == "ABC"
    circuit = uw.Circuit.load(settings.out / "results" / "circuit.json")
    assert set(circuit.heads) == set(uw.sketch(subject.paths, progress=False).heads)
    kept = score_of(settings.out, "faithfulness")
    assert int(kept["heads"].sel(kept="circuit")) == len(circuit.heads)
    assert "random 20" in kept["kept"]


@pytest.mark.usefixtures("told")
def test_controls_are_exact(settings: Settings) -> None:
    values = control_values(array_of(settings.out, "controls"))
    assert (values.n, values.largest) == (3, 0.0)
    assert values.whole == pytest.approx(1.0, abs=1e-12)


def test_every_finding_is_told(told: list[str], settings: Settings, subject: Subject) -> None:
    heads = uw.load(settings.out / "results" / "heads.nc")
    assert isinstance(heads, xr.Dataset)
    assert str(uw.top(heads["z"], 6)) in told
    assert told[-1] == f"The report: {settings.out / 'index.html'}"
    assert len(told) == 3 + len({step.name for step in plan(subject)} - {LEFT_OUT})


@pytest.mark.usefixtures("told")
def test_the_report_says_how_it_was_made(settings: Settings) -> None:
    page = page_of(settings.out)
    for said in (command(settings), "results/heads-role.nc", "results/circuit.json", torch.__version__):
        assert said in page
    for section in ("Which acts through which?", "What happens without them?", "Is the circuit enough?"):
        assert f"<h2>{section}</h2>" in page
    assert "the 8 prompts compared by token" in page
    assert '<figure class="circuit"' in page.partition("</header>")[0]
    assert len(page) < 3e6


def test_the_command_repeats_every_setting_that_is_not_usual() -> None:
    assert command(Settings()) == "unweave study ioi"
    changed = Settings(
        task="my pairs.csv", model="m", prompts=5, seed=2, corruption="ABC", dtype="float64", bos=False, quick=True
    )
    assert command(changed) == (
        "unweave study 'my pairs.csv' --model m --prompts 5 --seed 2 --corruption ABC --dtype float64 --no-bos --quick"
    )
    assert command(Settings(bos=True, anyway=True)) == "unweave study ioi --bos --anyway"
    own = Settings(
        task="palindrome", model="my.pt", config=Path("my.json"), prompts=50, seed=3, quick=True, anyway=True
    )
    assert command(own) == (
        "unweave study palindrome --model my.pt --config my.json --prompts 50 --seed 3 --quick --anyway"
    )


def test_ctrl_c_writes_a_report_of_what_was_finished(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_arguments: object, **_options: object) -> xr.DataArray:
        raise uw.Interrupted("interrupted")

    monkeypatch.setattr(standard, "patch", stopped)
    with pytest.raises(uw.Interrupted, match="in the step 'tokens'; 5 of 27 steps"):
        study(replace(settings, out=tmp_path), lambda line: None)
    assert "the study was stopped before it" in page_of(tmp_path)
    assert {file.stem for file in (tmp_path / "results").iterdir()} == {
        "lens",
        "layers",
        "heads-direct",
        "heads-split",
        "neurons",
    }


def test_swept_prompts_are_the_first_of_those_that_are_checked(subject: Subject) -> None:
    assert len(subject.checked.prompts) == 100
    assert subject.pair.prompts.texts == subject.checked.prompts.texts[:6] == subject.paths.prompts.texts
    torch.testing.assert_close(subject.pair.clean_scores, subject.checked.clean_scores[:6], rtol=1e-9, atol=1e-9)


def test_the_model_is_not_loaded_for_what_is_not_there() -> None:
    with pytest.raises(uw.ModelError, match="nowhere"):
        study(Settings(model="nowhere"))
    with pytest.raises(uw.InputError, match=r"no 'oi'\..* Choose among ioi, .* or give a file of pairs"):
        study(Settings(task="oi", model="nowhere"))
    with pytest.raises(uw.InputError, match=r"no file none\.jsonl"):
        study(Settings(task="none.jsonl", model="nowhere"))


def pairs_file(folder: Path, answer: str = " Paris", wrong: str = " Rome", **more: object) -> Path:
    """Two pairs, the second with more words in front."""
    pairs = [
        {"clean": lead + CLEAN, "corrupted": lead + CORRUPTED, "answer": answer, "wrong": wrong, **more}
        for lead in ("", "John went to the park. ")
    ]
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def own(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A quick study of a file of pairs; what it made is in `own.out`."""
    folder = tmp_path_factory.mktemp("own")
    file = pairs_file(folder, **{"role:country": " France"})
    own = replace(settings, task=str(file), prompts=None, out=folder, quick=True)
    study(own, lambda line: None)
    return own


def test_pairs_of_ones_own_get_the_standard_steps(own: Settings) -> None:
    assert array_of(own.out, "paths").sizes["prompt"] == 2
    roles = uw.load(own.out / "results" / "roles.nc")
    assert isinstance(roles, xr.Dataset)
    assert roles["role"].to_numpy().tolist() == ["country", "end"]
    page = page_of(own.out)
    assert "<h1>The pairs of pairs.jsonl in " in page
    # Answers that stand in no prompt are named too.
    assert "·Paris, not ·Rome · logit difference" in page
    assert "After “The capital of France is” comes “Paris”." in page
    assert "the prompts are 5 to 11 tokens long" in page
    assert not (own.out / "results" / "tokens.nc").exists()
    assert "Mary" not in page.partition("</header>")[0]
    assert f"unweave study {own.task}" in page


def test_a_quick_study_says_what_it_left_out(own: Settings, subject: Subject) -> None:
    edges = {"edges", "edge-circuit", "edge-curve", "head-curve"}
    assert {step.name for step in plan(subject) if step.long} == {
        *edges,
        *("heads-noise", "heads-role", "heads-other", "signals"),
    }
    long = {step.name for step in standard.standard_steps(subject) if step.long}
    assert not {file.stem for file in (own.out / "results").iterdir()} & long
    heads = uw.load(own.out / "results" / "heads.nc")
    assert isinstance(heads, xr.Dataset)
    assert set(heads.data_vars) == set(standard.QUICK_PARTS)
    assert standard.QUICK_EFFORT.searches == 0
    assert not (
        own.out / "results" / "evaluation.nc"
    ).exists()  # with two prompts no head is significant: there is no circuit
    assert page_of(own.out).count("left out by --quick") == len(long) + len(standard.SHORTER)


def test_what_a_task_lacks_is_left_out_and_said(settings: Settings, tmp_path: Path) -> None:
    file = pairs_file(tmp_path)
    study(replace(settings, task=str(file), prompts=1, out=tmp_path, quick=True), lambda line: None)
    saved = {file.stem for file in (tmp_path / "results").iterdir()}
    assert {"tokens", "heads", "paths"} <= saved
    assert not {"roles", "heads-role", "role-attention", "circuit", "evaluation"} & saved
    page = page_of(tmp_path)
    assert "the task names no positions but the last" in page
    assert "1 prompt is too few" in page
    assert "it needs the result `circuit`, which was left out" in page


def test_without_anything_before_the_change_there_are_no_controls(settings: Settings, subject: Subject) -> None:
    bare = ask(replace(settings, bos=False), IOI)
    assert standard._controls(bare.pair)[0] == "resid_pre 0 @start"
    swapped = uw.Contrast(
        bare.model,
        replace(bare.pair.prompts, tokens=bare.pair.prompts.tokens.roll(1, 1)),
        bare.pair.prompts,
        uw.LogitDiff(),
    )
    with pytest.raises(uw.InputError, match="first token"):
        standard._controls(swapped)


def test_only_a_tasks_own_kind_changes_its_steps(subject: Subject) -> None:
    names = [step.name for step in standard.standard_steps(subject)]
    own = [step.name for step in plan(subject)]
    assert [name for name in own if name in names] == names
    assert set(own) - set(names) == {"heads-other", "contributions", "names", "signals"}
    assert plan(replace(subject, kind=Kind()))[0].name == names[0]
    assert len(plan(replace(subject, kind=Kind()))) == len(names)


def test_fixed_prompts_that_do_not_fit_the_tokenizer_are_left_out(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unfit(*_arguments: object, **_options: object) -> uw.Task:
        raise uw.InputError("the name ' Sid' is 2 tokens")

    monkeypatch.setattr("unweave.studies.ioi.ioi_fixed", unfit)
    record = carry_out([step for step in plan(subject) if step.name == "tokens"], tmp_path, lambda *_: None)
    assert record.left_out == {"patching by layer and token": "the name ' Sid' is 2 tokens"}


def test_neurons_are_left_out_where_there_are_none() -> None:
    layers = xr.DataArray(
        np.ones((2, 3, 1)), dims=("prompt", "layer", "part"), coords={"layer": range(3), "part": ["attn"]}
    )
    with pytest.raises(uw.InputError, match="no MLPs"):
        standard._mlp({"layers": layers})
    both = xr.concat([layers, (-2 * layers).where(layers["layer"] == 1, 0).assign_coords(part=["mlp"])], "part")
    assert standard._mlp({"layers": both}) == 1
