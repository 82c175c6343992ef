"""Methods, each registered once, beside its function: what its numbers are, where a report shows them, and how.

A result carries the name of its method (`attrs["method"]`); views, studies and the command look up the rest here:

    LENS = register(Method("logit lens", section=WRITTEN, quantity="logit difference", unit="logits", …))
    …
    return to_xarray(pair, values, axes, LENS.attrs(norm=norm))

A new method is its file, and its picture if the dimensions do not say which one. Pictures are named by text
(`"package.module:function"`), so that a method's module imports no view.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from unweave.errors import InputError, did_you_mean

# The sections of a report, in the order of an investigation.
TASK = "Does the model do the task?"
WRITTEN = "Where is the answer written?"
CARRIES = "What carries it?"
ACT = "How do these heads act?"
LOOKS = "Where do these heads look?"
DOES = "What does each head do?"
THROUGH = "Which acts through which?"
BY_EDGES = "Which edges carry it?"
WITHOUT = "What happens without them?"
SIGNALS = "Is it position or token?"
ENOUGH = "Is the circuit enough?"
BLIND = "Where is it blind?"
CONTROLS = "Do the controls hold?"
OTHERS = "Other results"
LEFT_OUT = "What was left out"
SECTIONS = (
    *(TASK, WRITTEN, CARRIES, ACT, LOOKS, DOES, THROUGH, BY_EDGES),
    *(WITHOUT, SIGNALS, ENOUGH, BLIND, CONTROLS, OTHERS, LEFT_OUT),
)

# Packages whose modules register methods; all are imported when a name is looked up that none of the imported ones has.
ROOMS = (
    *("unweave.methods", "unweave.methods.weights", "unweave.circuits"),
    *("unweave.results", "unweave.studies.palindrome"),
)
Attrs = Mapping[str, str]
_REGISTERED: "dict[str, Method]" = {}


@dataclass(frozen=True)
class Claim:
    """How a title states what cells do, of one cell and of several.

    Texts may name `{noun}` (what is changed), `{its}` and `{their}` (it, of one and of several cells), `{instead}`
    (what replaces it), `{how}` (directly on the logits, or through which receivers), `{through}` (the second of these,
    or nothing) and `{act}`.

    Args:
        does: what a cell does.
        against: of a cell that works against the answer, by `{name}`, with its `{size}`, or what it `{gains}`.
        none: that no cell does.
        one: that the only cell does not.
        change: the change that shows it; of methods whose numbers are changes of the metric.
        restored, corrupted: the act and its outcome, if a corrupted run is restored, and if a clean run is corrupted.
    """

    does: tuple[str, str]
    against: str
    none: str
    one: str = ""
    change: tuple[str, str] | tuple[()] = ()
    restored: tuple[str, str] = ("", "")
    corrupted: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Method:
    """What a method is.

    Args:
        name: what its results carry; a text that people read.
        section: of a report.
        quantity, unit, zero, one: what its numbers are, and what 0 and 1 mean; empty if that depends on its options.
        picture: `"module:function"`: blocks of a page from a result and a title; left out, the dimensions choose one.
        dims: the dimensions that `picture` reads, in its order: `"query/q_pos"` is either, `"prompt?"` may be missing,
            and `"..."` stands for any others. A slice, a mean or a summary is drawn by the dimensions left to it.
        reads_roles: whether `picture` takes the prompts' roles too.
        together: whether `picture` takes a list of results too, and draws those of the same prompts side by side.
        title: `"module:function"`: what a summary shows, in a sentence, if it has one.
        claim: how a title states what cells do; `direction` is of results that do not say theirs.
        answers: of a site (`""` if there is one), the label of its line in a report's answer.
        asked: how it was asked, in a line of the command, from a result's attributes and dimensions.
    """

    name: str
    section: str = OTHERS
    quantity: str = ""
    unit: str = ""
    zero: str = ""
    one: str = ""
    picture: str = ""
    dims: tuple[str, ...] = ()
    reads_roles: bool = False
    together: bool = False
    title: str = ""
    claim: Claim | None = None
    direction: str = "noise"
    answers: Mapping[str, str] = field(default_factory=dict)
    asked: Callable[[Attrs, tuple[str, ...]], str] | None = None

    def attrs(self, **more: Any) -> dict[str, Any]:
        """The attributes of a result: the method's name, what its numbers are, and more."""
        own = {name: getattr(self, name) for name in ("quantity", "unit", "zero", "one") if self.quantity}
        return {"method": self.name, **own, **more}

    def order(self, dims: set[str], more: bool = False) -> tuple[str, ...] | None:
        """The dimensions that the picture reads, as a result has them; None if it lacks one, or has others (`more`)."""
        left, found = set(dims), []
        for wanted in self.dims:
            name = next((name for name in wanted.rstrip("?").split("/") if name in left), "")
            if not name and not wanted.endswith(("?", "...")):
                return None
            found += [name] if name else []
            left.discard(name)
        return tuple(found) if more or not left or "..." in self.dims else None


def register(method: Method) -> Method:
    """The method, once it can be looked up. A name is registered once."""
    known = _REGISTERED.setdefault(method.name, method)
    if known != method:
        raise ValueError(f"the method {method.name!r} is registered already")
    return method


def method_of(attrs: Mapping[Any, Any]) -> Method | None:
    """The method of a result, by its attributes; None if they name none, as of an array of one's own.

    Raises:
        InputError: a name that no method has.
    """
    name = attrs.get("method")
    if not name:
        return None
    if name not in _REGISTERED:
        import_all()
    if name not in _REGISTERED:
        hint = did_you_mean(str(name), _REGISTERED)
        raise InputError(f"result: no method is called {name!r}.{hint} Its attribute `method` may be taken out")
    return _REGISTERED[name]


def import_all() -> None:
    """Imports every module that may register a method."""
    for room in ROOMS:
        for module in iter_modules(import_module(room).__path__, f"{room}."):
            import_module(module.name)


def referenced(reference: str) -> Callable[..., Any]:
    """The function that `"module:function"` names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
