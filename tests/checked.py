"""Every annotated shape of unweave is checked at each call, cheaply.

jaxtyping's import hook wraps every function, and binds its arguments at each call. Here only signatures that name axes
are checked; pyright reads the others.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype

_with_axes = jaxtyping.jaxtyped


def install() -> None:
    """Check unweave's modules from here on; must stand before the first is imported."""
    jaxtyping.install_import_hook("unweave", "beartype.beartype")
    jaxtyping.jaxtyped = _checked  # what the hook puts on each function and class, by this name


def _checked(*, typechecker: object) -> Callable[[Any], Any]:
    return _check


def _check(item: Any) -> Any:
    if inspect.isclass(item):
        if "__dataclass_fields__" in vars(item) and "__init__" in vars(item):
            item.__init__ = _check(item.__init__)
        return item
    # Rare, so as jaxtyping does it: properties and class methods; generators, whose body runs within other axes.
    if not inspect.isfunction(item) or inspect.isgeneratorfunction(item):
        return _with_axes(item, typechecker=beartype)
    item.__annotations__ = {name: _resolved(hint, item.__globals__) for name, hint in item.__annotations__.items()}
    if "jaxtyping." not in str(item.__annotations__):
        return item
    typed, config = beartype(item), jaxtyping.config

    @functools.wraps(item)
    def within_axes(*args: Any, **kwargs: Any) -> Any:
        if config.jaxtyping_disable:
            return item(*args, **kwargs)
        with _with_axes("context"):
            return typed(*args, **kwargs)

    return within_axes


def _resolved(hint: object, names: dict[str, Any]) -> object:
    """A hint that is quoted, or `Any` where its name is imported for type checkers alone, or made within a function."""
    try:
        return eval(hint, names) if isinstance(hint, str) else hint
    except (AttributeError, NameError):
        return Any
