"""A plan's results are on disk as soon as they are there, whatever comes after."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from unweave.circuits.circuit import Group
from unweave.methods.head_types import HeadTypes
from unweave.progress import Progress
from unweave.studies.plan import Record, Result, Results, Step, carry_out, finished, reported


def table(*values: float) -> xr.DataArray:
    return xr.DataArray(np.array([values]), dims=("prompt", "layer"), attrs={"quantity": "effect"})


def steps(*names: str) -> list[Step]:
    """A step a name: `fine` gives its number, `unfit` does not fit, `half` is stopped in the middle, `warns` warns."""

    def make(name: str, number: int, found: Results) -> xr.DataArray:
        if name == "unfit":
            raise uw.InputError("roles: this task has none")
        if name == "half":
            raise uw.Interrupted("interrupted", table(1.0, np.nan, np.nan, 2.0))
        if name == "nothing":
            raise KeyboardInterrupt
        if name == "warns":
            warnings.warn("few prompts", UserWarning, stacklevel=1)
        return table(
            number, sum(float(np.sum(part.to_numpy())) for part in found.values() if isinstance(part, xr.DataArray))
        )

    def step(number: int, name: str) -> Step:
        def made(found: Results, report: Progress | bool) -> xr.DataArray:
            return make(name, number, found)

        return Step(f"{number}-{name}", name, made)

    return [step(number, name) for number, name in enumerate(names, start=1)]


def test_results_are_saved_told_and_passed_on(tmp_path: Path) -> None:
    told = []
    record = carry_out(
        steps("fine", "fine"), tmp_path, lambda step, record: told.append((step.name, record.seconds[step.name]))
    )
    assert [name for name, _ in told] == ["1-fine", "2-fine"]
    assert all(seconds == record.seconds[name] for name, seconds in told)
    assert uw.load(tmp_path / "results" / "2-fine.nc").equals(table(2, 1))  # pyright: ignore[reportArgumentType]
    assert not record.left_out
    assert not record.stopped


def test_a_step_that_does_not_fit_is_left_out_with_its_reason(tmp_path: Path) -> None:
    record = carry_out(steps("unfit", "fine"), tmp_path, lambda *_: None)
    assert record.left_out == {"unfit": "roles: this task has none"}
    assert list(record.results) == ["2-fine"]


def test_ctrl_c_keeps_what_is_there_and_leaves_out_the_rest(tmp_path: Path) -> None:
    record = carry_out(steps("fine", "half", "fine"), tmp_path, lambda *_: None)
    assert record.stopped == "2-half"
    assert list(record.results) == ["1-fine"]
    assert set(record.left_out) == {"half", "fine"}
    assert "50%" in record.left_out["half"]
    assert sorted(file.name for file in (tmp_path / "results").iterdir()) == ["1-fine.nc", "2-half.partial.nc"]
    assert finished(uw.load(tmp_path / "results" / "2-half.partial.nc")) == 0.5


def test_ctrl_c_before_anything_is_finished_leaves_no_file(tmp_path: Path) -> None:
    record = carry_out(steps("nothing"), tmp_path, lambda *_: None)
    assert record.stopped == "1-nothing"
    assert not list((tmp_path / "results").iterdir())


def test_an_earlier_study_leaves_nothing_behind_and_other_files_stay(tmp_path: Path) -> None:
    earlier = steps("fine", "half")
    carry_out(earlier, tmp_path, lambda *_: None)
    (tmp_path / "results" / "mine.nc").write_bytes(b"mine")
    later = [replace(step, name=name.name) for step, name in zip(steps("nothing", "half"), earlier, strict=True)]
    carry_out(later, tmp_path, lambda *_: None)
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["mine.nc"]


def test_warnings_are_told_once(tmp_path: Path) -> None:
    record = carry_out(steps("warns", "warns"), tmp_path, lambda *_: None)
    assert record.warned == ["UserWarning: few prompts"]


@pytest.mark.parametrize(
    ("result", "share"), [(None, 0.0), (table(1, np.nan), 0.5), (xr.Dataset({"z": table(np.nan)}), 0)]
)
def test_finished_is_the_share_of_cells_reached(result: object, share: float) -> None:
    assert finished(result) == share


def circuit(*heads: tuple[int, int]) -> uw.Circuit:
    return uw.Circuit((Group("level 1 @end", heads, ("end",)),))


def test_each_kind_of_result_has_its_file(tmp_path: Path) -> None:
    made: dict[str, Result] = {
        "circuit": circuit((1, 2)),
        "names": HeadTypes((), (), xr.Dataset({"direct": table(0.5)})),
        "evaluation": xr.DataTree.from_dict({"faithfulness": xr.Dataset({"score": table(1.0)})}),
    }
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "circuit.partial.json").write_text("of an earlier study", encoding="utf-8")
    plan = [Step(name, name, lambda found, report, name=name: made[name]) for name in made]
    record = carry_out(plan, tmp_path, lambda *_: None)
    assert {name: file.name for name, file in record.files.items()} == {
        "circuit": "circuit.json",
        "names": "names.nc",
        "evaluation": "evaluation.nc",
    }
    assert uw.Circuit.load(record.files["circuit"]) == made["circuit"]
    measures = uw.load(record.files["names"])
    assert isinstance(measures, xr.Dataset)
    assert float(measures["direct"].sum()) == 0.5
    assert {file.name for file in (tmp_path / "results").iterdir()} == {file.name for file in record.files.values()}


@pytest.mark.parametrize(
    ("partial", "file"),
    [
        (circuit((0, 1)), "1.partial.json"),
        (xr.DataTree.from_dict({"faithfulness": xr.Dataset({"score": table(1.0)})}), "1.partial.nc"),
        (xr.DataTree(), None),
        (table(np.nan), None),
        (None, None),
    ],
)
def test_what_a_stopped_step_had_found_is_kept(tmp_path: Path, partial: object, file: str | None) -> None:
    def make(found: Results, report: Progress | bool) -> xr.DataArray:
        raise uw.Interrupted("interrupted", partial)

    record = carry_out([Step("1", "sketch", make)], tmp_path, lambda *_: None)
    assert [saved.name for saved in (tmp_path / "results").iterdir()] == ([file] if file else [])
    assert (f"results/{file}" in record.left_out["sketch"]) == bool(file)


def test_ctrl_c_while_the_report_is_written_says_where_the_results_are(tmp_path: Path) -> None:
    record = carry_out(steps("fine", "fine"), tmp_path, lambda *_: None)
    with pytest.raises(uw.Interrupted) as stop, reported(record, 3, tmp_path):
        raise KeyboardInterrupt
    where = tmp_path / "results"
    assert (
        str(stop.value)
        == f"while the report was written; 2 of 3 steps were finished and are in {where}, without a report"
    )
    assert stop.value.partial is record.results
    assert len(list(where.iterdir())) == 2


def test_a_study_that_was_stopped_ends_with_its_report(tmp_path: Path) -> None:
    stopped = Record(stopped="heads")
    with (
        pytest.raises(uw.Interrupted, match=r"in the step 'heads'; 0 of 3 .* are in "),
        reported(stopped, 3, tmp_path) as page,
    ):
        page.write_text("the report")
    with reported(Record(), 3, tmp_path) as page:
        assert page.read_text() == "the report"
