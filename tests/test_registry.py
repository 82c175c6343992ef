"""Every method is registered once, beside its function, and a name that none has is an error."""

import ast
from pathlib import Path

import pytest
import xarray as xr

import unweave as uw
from tests.views import made
from unweave import registry
from unweave.registry import ROOMS, SECTIONS, Method, method_of, referenced, register

PACKAGE = Path(uw.__file__).parent


def methods() -> list[Method]:
    registry.import_all()
    return list(registry._REGISTERED.values())


def test_methods_are_registered_in_the_rooms_that_are_looked_through() -> None:
    named = set()
    for file in PACKAGE.rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        if any(isinstance(call.func, ast.Name) and call.func.id == "register" for call in calls):
            named.add(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts))
    assert {name.rpartition(".")[0] for name in named} == set(ROOMS)


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_what_a_method_names_is_there(method: Method) -> None:
    assert method.section in SECTIONS
    for reference in filter(None, (method.picture, method.title)):
        assert callable(referenced(reference))
    assert bool(method.picture) == bool(method.dims)


def test_a_name_that_no_method_has_is_an_error_and_none_is_none(tmp_path: Path) -> None:
    strange = made.heads().assign_attrs(method="activation patchin")
    with pytest.raises(uw.InputError, match="Did you mean 'activation patching'"):
        uw.show(strange)
    with pytest.raises(uw.InputError, match="no method is called"):
        uw.report([strange], tmp_path / "a.html")
    assert method_of({}) is None
    assert uw.show(xr.DataArray([[1.0, 2.0]], {"layer": [0], "head": [0, 1]}, ("layer", "head"))).blocks


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="is registered already"):
        register(Method("logit lens", quantity="something else"))


def test_dimensions_are_read_in_the_order_of_the_picture() -> None:
    method = Method("m", dims=("prompt?", "query/q_pos", "key"))
    assert method.order({"key", "q_pos"}) == ("q_pos", "key")
    assert method.order({"key", "query", "prompt"}) == ("prompt", "query", "key")
    assert method.order({"key"}) is None
    assert method.order({"key", "query", "layer"}) is None
    assert method.order({"key", "query", "layer"}, more=True) == ("query", "key")
