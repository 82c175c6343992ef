"""What is saved comes back as it was; what cannot be read is said in one line."""

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.results.fake import heads, result, with_tokens
from unweave.errors import InputError
from unweave.results import load, save, store, summary

ODD = ["", " ", "·", "a\x00b", "\ud800", "é\u0301", "😀", "\u202e", "\\x00", "<script>", "\n", "\ufffd", "'\"", "nan"]


def same(one: xr.DataArray | xr.Dataset, other: object) -> None:
    """Equal in values, names, types, and types of attributes."""
    assert type(one) is type(other)
    xr.testing.assert_identical(one, other)
    assert isinstance(other, (xr.DataArray, xr.Dataset))
    for name in one.coords:
        assert one[name].dtype == other[name].dtype
    for name, value in one.attrs.items():
        assert type(value) is type(other.attrs[name])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool"])
def test_an_array_comes_back(tmp_path: Path, dtype: str) -> None:
    fake = heads().astype(dtype)
    save(fake, tmp_path / "heads.nc")
    back = load(tmp_path / "heads.nc")
    same(fake, back)
    assert isinstance(back, xr.DataArray)
    assert back.dtype == fake.dtype
    assert back.name == "z"


def test_gaps_and_negative_zero_come_back(tmp_path: Path) -> None:
    fake = heads()
    fake[0, 0] = [np.nan, -0.0, np.inf]
    save(fake, tmp_path / "a.nc")
    back = load(tmp_path / "a.nc")
    assert isinstance(back, xr.DataArray)
    assert back.values.tobytes() == fake.values.tobytes()


def test_odd_tokens_come_back(tmp_path: Path) -> None:
    fake = with_tokens(result({"prompt": 2, "layer": 2, "pos": len(ODD)}), [ODD, ODD[::-1]])
    fake = fake.assign_coords(text=("prompt", ["<b>", "x\x00y"]), scalar="one")
    save(fake, tmp_path / "a.nc")
    same(fake, load(tmp_path / "a.nc"))


def test_roles_come_back(tmp_path: Path) -> None:
    fake = result({"prompt": 2, "layer": 2, "role": 5})
    fake = fake.assign_coords(role_pos=(("prompt", "role"), np.arange(10).reshape(2, 5)))
    back = load(save(fake, tmp_path / "a.nc"))
    same(fake, back)
    assert isinstance(back, xr.DataArray)
    assert back.sel(role="S1+1").equals(fake.sel(role="S1+1"))


def test_objects_stay_objects(tmp_path: Path) -> None:
    fake = heads().assign_coords(text=("prompt", np.array(["a\x00", *"bcdefgh"], dtype=object)))
    save(fake, tmp_path / "a.nc")
    back = load(tmp_path / "a.nc")
    same(fake, back)
    assert isinstance(back, xr.DataArray)
    assert back["text"].values[0] == "a\x00"


def test_attributes_come_back(tmp_path: Path) -> None:
    odd = {
        "flag": True,
        "off": False,
        "huge": 2**70,
        "nul": "a\x00b",
        "empty": "",
        "share": 0.1,
        "unicode": "−→·",
        "n": -3,
        "none": None,
        "names": ["a", 1, None, [True]],
        "nested": {"a": [1.5]},
        "units": "days since 2000-01-01",
        "scale_factor": 3.0,
        "_FillValue": 0.0,
    }
    fake = heads().assign_attrs(odd)
    fake["layer"].attrs["unit"] = "layers"
    fake["layer"].attrs["add_offset"] = 5
    save(fake, tmp_path / "a.nc")
    back = load(tmp_path / "a.nc")
    same(fake, back)
    assert isinstance(back, xr.DataArray)
    assert back["layer"].attrs == {"unit": "layers", "add_offset": 5}


def test_attributes_of_numpy_come_back_as_plain_values(tmp_path: Path) -> None:
    odd = {"n": np.int64(3), "share": np.float32(0.5), "flag": np.bool_(True), "row": np.arange(2), "pair": (1, "b")}
    back = load(save(heads().assign_attrs(odd), tmp_path / "a.nc"))
    assert {name: back.attrs[name] for name in odd} == {
        "n": 3,
        "share": 0.5,
        "flag": True,
        "row": [0, 1],
        "pair": [1, "b"],
    }


@pytest.mark.parametrize("dtype", ["bool", "float16", "int8", "uint8", "int64", "U2"])
def test_what_methods_say_does_not_change_the_type(tmp_path: Path, dtype: str) -> None:
    """Results have an attribute `dtype`, by which xarray marks booleans; coordinates of any type stand beside them."""
    fake = heads().astype(dtype).assign_attrs(dtype="float32", units="logits")
    fake = fake.assign_coords(odd=("prompt", np.arange(8).astype(dtype)), one=np.ones((), dtype)[()])
    fake["odd"].attrs["dtype"] = "int32"
    same(fake, load(save(fake, tmp_path / "a.nc")))
    same(fake.isel(prompt=0, layer=0, head=0), load(save(fake.isel(prompt=0, layer=0, head=0), tmp_path / "b.nc")))
    both = xr.Dataset({"z": fake, "q": heads()}, attrs={"dtype": "float32"})
    same(both, load(save(both, tmp_path / "c.nc")))


def test_several_sites_come_back_in_order(tmp_path: Path) -> None:
    both = xr.Dataset({site: heads() for site in ("z", "q", "k", "v", "pattern")}, attrs={"metric": "m"})
    save(both, tmp_path / "a.nc")
    back = load(tmp_path / "a.nc")
    same(both, back)
    assert isinstance(back, xr.Dataset)
    assert list(back.data_vars) == ["z", "q", "k", "v", "pattern"]


def test_summaries_come_back(tmp_path: Path) -> None:
    both = xr.Dataset({"z": heads(), "k": result({"prompt": 8, "layer": 4, "kv_head": 2}, site="k")})
    one, tree = summary(both["z"]), summary(both)
    same(one, load(save(one, tmp_path / "one.nc")))
    back = load(save(tree, tmp_path / "tree.nc"))
    assert isinstance(back, xr.DataTree)
    assert back.identical(tree)


@pytest.mark.parametrize("name", [None, "layer"])
def test_an_array_without_a_name_of_its_own(tmp_path: Path, name: str | None) -> None:
    fake = heads().rename(None)
    fake.name = name
    same(fake, load(save(fake, tmp_path / "a.nc")))


def test_other_readers_see_values_and_names(tmp_path: Path) -> None:
    fake = with_tokens(result({"prompt": 1, "layer": 2, "pos": 2}), [[" a", "b"]])
    save(fake, tmp_path / "a.nc")
    plain = xr.load_dataset(tmp_path / "a.nc", engine="h5netcdf")
    np.testing.assert_array_equal(plain["z"], fake)
    assert plain["token"].values.tolist() == [[" a", "b"]]
    assert plain["z"].attrs["metric"] == "logit difference"


def test_a_saved_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    save(heads(), path)
    save(heads() * 2, path)
    same(heads() * 2, load(path))
    assert os.listdir(tmp_path) == ["a.nc"]


def test_a_failed_save_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    path = save(heads(), tmp_path / "a.nc")
    with pytest.raises(InputError, match=r"attrs\['n'\] is a set"):
        save(heads().assign_attrs(n={1}), path)
    with pytest.raises(InputError, match="'text' holds a dict"):
        save(heads().assign_coords(text=("prompt", [{}] * 8)), path)
    assert os.listdir(tmp_path) == ["a.nc"]
    same(heads(), load(path))


def test_unwritable_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "none" / "a.nc", tmp_path / "file" / "a.nc"):
        with pytest.raises(InputError, match=f"path: cannot write {path}") as error:
            save(heads(), path)
        assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    good = save(heads(n_prompts=64), tmp_path / "good.nc").read_bytes()
    half = len(good) // 2
    bad = {
        "cut.nc": good[:-100],
        "half.nc": good[:half],
        "empty.nc": b"",
        "text.nc": b"cell,effect\n",
        "altered.nc": good.replace(_some_values(good), bytes(64)),
    }
    for name, content in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"path: {path} is damaged, or no netCDF file") as error:
            load(path)
        assert "\n" not in str(error.value)


def _some_values(content: bytes) -> bytes:
    """A stretch of compressed values: what stands behind the longest run without zeros."""
    runs = sorted(content.split(b"\x00\x00\x00"), key=len)
    return runs[-1][100:164]


def test_other_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        load(tmp_path / "none.nc")
    with pytest.raises(InputError, match="is a folder"):
        load(tmp_path)
    heads().to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="that unweave did not save"):
        load(tmp_path / "foreign.nc")


def test_a_circuit_is_read_by_its_own_function(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"uw\.Circuit\.load reads circuits"):
        load(path)


@pytest.mark.parametrize(
    "result",
    [
        xr.DataArray([1.0, 2.0], dims="a/b"),
        xr.DataArray([1.0], dims="a", name="x/y"),
        xr.DataArray([1.0], dims="a", coords={"k/k": ("a", [1])}),
        xr.Dataset({"a/b": ("q", [1.0])}),
    ],
)
def test_a_slash_in_a_name_is_named(result: xr.DataArray | xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rename"):
        save(result, tmp_path / "a.nc")
    assert not list(tmp_path.iterdir())


def test_lists_that_the_first_format_held_as_texts_come_back_as_lists(tmp_path: Path, monkeypatch) -> None:
    texts = {
        "over": "layer head",
        "roles": "S2, end",
        "receivers": "v 8.6, mlp 9",
        "knocked_out": "z 9.6 + mlp 3",
        "at": "S2 end",
    }
    fake = heads().assign_attrs(texts)
    with monkeypatch.context() as patched:
        patched.setattr(store, "FORMAT", 1)
        save(fake, tmp_path / "old.nc")
    back = load(tmp_path / "old.nc")
    assert isinstance(back, xr.DataArray)
    expected = {"over": ["layer", "head"], "roles": ["S2", "end"], "receivers": ["v 8.6", "mlp 9"]}
    expected |= {"knocked_out": ["z 9.6", "mlp 3"], "at": ["S2", "end"]}
    assert expected.items() <= back.attrs.items()


def test_heads_that_the_first_format_held_as_a_coordinate(tmp_path: Path, monkeypatch) -> None:
    coords = {"removed": ["none", "mover"], "members": ("removed", ["", "9.6 9.9"])}
    old = xr.Dataset({"gap": ("removed", [0.0, 1.0])}, coords, {"at": "all positions"})
    with monkeypatch.context() as patched:
        patched.setattr(store, "FORMAT", 1)
        save(old, tmp_path / "old.nc")
    back = load(tmp_path / "old.nc")
    assert isinstance(back, xr.Dataset)
    assert back.attrs["members"] == {"none": [], "mover": ["9.6", "9.9"]}
    assert back.attrs["at"] == []
