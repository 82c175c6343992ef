"""Published circuits, as they were published, for whoever has the model.

ioi-gpt2-small         Wang et al. 2022 (arXiv 2211.00593): 26 heads in 7 groups, and its sets K for minimality
ioi-gpt2-small-naive   the same paper: name movers, S-inhibition and the heads below them, without backups
"""

from importlib.resources import files

from unweave.circuits.circuit import Circuit
from unweave.circuits.files import parse_circuit
from unweave.errors import InputError

PUBLISHED = ("ioi-gpt2-small", "ioi-gpt2-small-naive")


def published(name: str) -> Circuit:
    """A published circuit by its name. Raises InputError with the names that there are."""
    if name not in PUBLISHED:
        raise InputError(f"circuit: {name!r} does not come with unweave; {' and '.join(PUBLISHED)} do")
    file = f"{name}.json"
    return parse_circuit(files("unweave.circuits").joinpath("data", file).read_text(encoding="utf-8"), file)
