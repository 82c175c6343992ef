"""The study of indirect object identification on a tiny random model: every step, its files, and its report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.tiny_folder import write_tiny_folder
from unweave.studies import ioi as study
from unweave.studies.ioi import study_ioi
from unweave.studies.ioi_report import command
from unweave.studies.ioi_sections import agreement, clear_heads, control_values, scores
from unweave.studies.ioi_subject import IoiSettings, ask


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> IoiSettings:
    folder = write_tiny_folder(tmp_path_factory.mktemp("model"))
    return IoiSettings(model=str(folder), prompts=6, out=tmp_path_factory.mktemp("report"), dtype="float64")


@pytest.fixture(scope="module")
def told(settings: IoiSettings) -> list[str]:
    """What the whole study says while it runs; its files are in `settings.out`."""
    lines: list[str] = []
    assert study_ioi(settings, lines.append) == settings.out / "index.html"
    return lines


@pytest.mark.usefixtures("told")
def test_every_step_is_saved(settings: IoiSettings) -> None:
    saved = {file.stem for file in (settings.out / "results").iterdir()}
    assert saved == {step.name for step in study.plan(settings, ask(settings))}


@pytest.mark.usefixtures("told")
def test_saved_results_are_what_the_methods_give(settings: IoiSettings) -> None:
    subject = ask(settings)
    heads = uw.load(settings.out / "results" / "heads.nc")
    assert isinstance(heads, xr.Dataset)
    assert list(heads.data_vars) == ["z", "q", "k", "v", "pattern"]
    again = uw.patch(subject.pair, "z", ("layer", "head"), progress=False)
    np.testing.assert_allclose(heads["z"], again, rtol=0, atol=1e-12)
    other = uw.load(settings.out / "results" / "heads-other.nc")
    assert (heads["z"].attrs["corruption"], other.attrs["corruption"]) == ("swap", "ABC")
    assert np.array_equal(other["clean"], heads["clean"])


@pytest.mark.usefixtures("told")
def test_controls_are_exact(settings: IoiSettings) -> None:
    controls = uw.load(settings.out / "results" / "controls.nc")
    assert isinstance(controls, xr.DataArray)
    values = control_values(controls)
    assert (values.n, values.largest) == (3, 0.0)
    assert values.whole == pytest.approx(1.0, abs=1e-12)
    assert "exactly 0" in values.finding
    assert "where it should be 0" in replace(values, largest=0.01).finding


def test_the_answer_names_the_leading_heads_with_their_intervals(told: list[str], settings: IoiSettings) -> None:
    top = uw.top(uw.load(settings.out / "results" / "heads.nc")["z"], 6)
    assert str(top) in told
    assert told[-1] == f"The report: {settings.out / 'index.html'}"
    assert len(told) == 3 + len(study.plan(settings, ask(settings)))


@pytest.mark.usefixtures("told")
def test_the_report_says_how_it_was_made(settings: IoiSettings) -> None:
    page = (settings.out / "index.html").read_text(encoding="utf-8")
    assert command(settings) in page
    assert "results/heads-role.nc" in page
    assert torch.__version__ in page
    assert "path patching is no step of this study yet" in page
    assert "the eight fixed prompts" in page


def test_the_command_repeats_every_setting_that_is_not_usual() -> None:
    assert command(IoiSettings()) == "unweave study ioi"
    changed = IoiSettings(model="a b", prompts=5, seed=2, corruption="ABC", dtype="float64", bos=False, quick=True)
    assert command(changed) == (
        "unweave study ioi --model 'a b' --prompts 5 --seed 2 --corruption ABC --dtype float64 --no-bos --quick"
    )


def test_a_quick_study_says_what_it_left_out(settings: IoiSettings, tmp_path: Path) -> None:
    study_ioi(replace(settings, quick=True, out=tmp_path), lambda line: None)
    saved = {file.stem for file in (tmp_path / "results").iterdir()}
    assert not saved & set(study.LONG)
    heads = uw.load(tmp_path / "results" / "heads.nc")
    assert isinstance(heads, xr.Dataset)
    assert set(heads.data_vars) == set(study.QUICK_PARTS)
    assert (tmp_path / "index.html").read_text(encoding="utf-8").count("left out by --quick") == len(study.LONG) + 1


def test_ctrl_c_writes_a_report_of_what_was_finished(
    settings: IoiSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_arguments: object, **_options: object) -> xr.DataArray:
        raise uw.Interrupted("interrupted")

    monkeypatch.setattr(study, "patch", stopped)
    with pytest.raises(uw.Interrupted, match="in the step 'tokens'; 4 of 12 steps"):
        study_ioi(replace(settings, out=tmp_path), lambda line: None)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "the study was stopped before it" in page
    assert {file.stem for file in (tmp_path / "results").iterdir()} == {"lens", "layers", "heads-direct", "neurons"}


def test_swept_prompts_are_the_first_of_those_that_are_checked(settings: IoiSettings) -> None:
    subject = ask(settings)
    assert len(subject.checked.prompts) == 100
    assert subject.pair.prompts.texts == subject.checked.prompts.texts[:6]
    torch.testing.assert_close(subject.pair.clean, subject.checked.clean[:6], rtol=1e-9, atol=1e-9)
    assert np.array_equal(scores(subject.checked, [3, 1]), subject.checked.clean[[3, 1]])


def heads(values: np.ndarray, corruption: str = "swap") -> xr.DataArray:
    attrs = {"method": "activation patching", "quantity": "effect", "site": "z", "corruption": corruption}
    coords = {"layer": range(values.shape[1]), "head": range(values.shape[2])}
    return xr.DataArray(values, dims=("prompt", "layer", "head"), coords=coords, attrs=attrs)


def test_clear_heads_are_those_told_from_zero() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(0, 0.1, (16, 2, 3))
    values[:, 1, 2] += 1
    values[:, 0, 0] = [8, *[0] * 15]  # a large mean of one prompt alone
    assert [row.label for row in clear_heads(heads(values))] == ["1.2"]
    noise = heads(draw.normal(0, 1, (16, 2, 3)))
    assert len(clear_heads(noise)) == 5


def test_agreement_of_two_corruptions() -> None:
    values = np.arange(12.0).reshape(1, 3, 4).repeat(2, 0)
    assert "swap and ABC the effects correlate at 1.00; 6 of the first 6" in agreement(
        heads(values), heads(2 * values, "ABC")
    )
    assert "correlate at −1.00" in agreement(heads(values), heads(-values, "ABC"))


def test_the_model_is_not_loaded_for_a_folder_that_is_not_there() -> None:
    with pytest.raises(uw.ModelError, match="nowhere"):
        study_ioi(IoiSettings(model="nowhere"))


def test_fixed_prompts_that_do_not_fit_the_tokenizer_are_left_out(
    settings: IoiSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unfit(*_arguments: object, **_options: object) -> uw.Task:
        raise uw.InputError("the name ' Sid' is 2 tokens")

    monkeypatch.setattr(study, "ioi_fixed", unfit)
    study_ioi(replace(settings, quick=True, out=tmp_path), lambda line: None)
    assert "the name ' Sid' is 2 tokens" in (tmp_path / "index.html").read_text(encoding="utf-8").replace("&#x27;", "'")


def test_neurons_are_left_out_where_there_are_none() -> None:
    layers = xr.DataArray(
        np.ones((2, 3, 1)), dims=("prompt", "layer", "part"), coords={"layer": range(3), "part": ["attn"]}
    )
    with pytest.raises(uw.InputError, match="no MLPs"):
        study._mlp({"layers": layers})
    both = xr.concat([layers, (-2 * layers).where(layers["layer"] == 1, 0).assign_coords(part=["mlp"])], "part")
    assert study._mlp({"layers": both}) == 1
