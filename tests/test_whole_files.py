"""Files are there whole or not at all, on a disk without room as after an error or Ctrl-C."""

import os
from pathlib import Path

import pytest

from tests.results.fake import heads
from tests.small import small_model
from unweave.circuits.circuit import Circuit
from unweave.errors import InputError
from unweave.models.native import save_model
from unweave.results import save
from unweave.views.page import write_page
from unweave.whole_files import placed


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_what_ends_badly_leaves_what_was_there(tmp_path: Path, stop: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write(text: str) -> None:
        with placed(target) as spare:
            spare.write_text(text)
            raise stop

    with pytest.raises(stop):
        write("half of the n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


def test_what_ends_well_takes_its_place(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with placed(target) as spare:
        spare.write_text("new")
        assert target.read_text() == "old"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "new"}


# HDF5 is one that ends the whole process where it writes to such a disk itself.
WRITERS = {
    "result.nc": lambda path: save(heads(), path),
    "page.html": lambda path: write_page("x" * 10_000, path),
    "circuit.json": lambda path: Circuit.published("ioi-gpt2-small").save(path),
    "model": lambda path: save_model(small_model("layer"), path),
}


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize("name", WRITERS)
def test_without_room_nothing_is_left(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"cannot write \S*{name}.* \(.*[Ff]ile too large.*\); name a place"):
        WRITERS[name](tmp_path / name)
    assert [file for _, _, files in os.walk(tmp_path) for file in files] == []
