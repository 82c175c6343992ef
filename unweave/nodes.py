"""Places in a model, written and read in one way everywhere: nodes, several of them, and edges between them.

A node is a site and a layer, and if given a head, key/value head or neuron, and a position or a role:

    "z 9.6"  "9.6"  "L9H6"  (9, 6)       a head's output, layer first
    "q 9.6"  "9.6 q"  (9, 6, "q")        its query; its attention is "pattern 9.6"
    "v 20.kv1"  "v 20.1"  (20, 1, "v")   a value of a key/value head, which several query heads may share
    "mlp 3"  "mlp_out 3"  "3_mlp"        what an MLP writes; one of its neurons is "mlp_post 3.n17"
    "resid_pre 5 @S2"  "z 9.6 @12"       at a role, at a position (counted from 0)
    ("z", 9)  "blocks.9.attn.hook_z"     all heads of a layer
    "result 9.6"                         a head's output as it is added to the residual stream
    "layer 3"                            what attention and MLP of a layer write
    "embed"  "pos_embed"  "logits"       the two ends of a circuit

Numbers may be Python's, numpy's or a tensor's. Rows of `uw.top`, and the names that it prints, are read too. A list of
nodes is several; a list in the list, and `"9.6 + mlp 3"`, is several together. What is None is meant as a whole.

A site is where a value can be read, kept or replaced. Shapes, with `kv_head` where keys and values are grouped:

    embed pos_embed resid_pre attn_out resid_mid mlp_out resid_post final   [prompt pos d_model]
    q z                                                                     [prompt pos head d_head]
    k v                                                                     [prompt pos kv_head d_head]
    scores pattern                                                          [prompt head q_pos k_pos]
    mlp_pre mlp_post                                                        [prompt pos d_mlp]

`q` and `k` are taken before rotation. `scores` are scaled and masked. `mlp_pre` is what the activation function reads,
`mlp_post` what the output matrix reads. `final` is the residual stream after the last norm. In models in half precision
`scores` and `pattern` are float32.
"""

import math
import operator
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, SupportsIndex

from unweave.errors import InputError, did_you_mean

Rows = Literal["resid", "head", "kv_head", "attention", "neuron"]
Head = tuple[int, int]


@dataclass(frozen=True)
class Site:
    """One kind of activation: its TransformerLens name (`{}` is the layer), its shape, and whether layers have it."""

    name: str
    lens_name: str
    rows: Rows
    in_layers: bool = True


SITES: dict[str, Site] = {
    site.name: site
    for site in (
        Site("embed", "hook_embed", "resid", in_layers=False),
        Site("pos_embed", "hook_pos_embed", "resid", in_layers=False),
        Site("resid_pre", "blocks.{}.hook_resid_pre", "resid"),
        Site("q", "blocks.{}.attn.hook_q", "head"),
        Site("k", "blocks.{}.attn.hook_k", "kv_head"),
        Site("v", "blocks.{}.attn.hook_v", "kv_head"),
        Site("scores", "blocks.{}.attn.hook_attn_scores", "attention"),
        Site("pattern", "blocks.{}.attn.hook_pattern", "attention"),
        Site("z", "blocks.{}.attn.hook_z", "head"),
        Site("attn_out", "blocks.{}.hook_attn_out", "resid"),
        Site("resid_mid", "blocks.{}.hook_resid_mid", "resid"),
        Site("mlp_pre", "blocks.{}.mlp.hook_pre", "neuron"),
        Site("mlp_post", "blocks.{}.mlp.hook_post", "neuron"),
        Site("mlp_out", "blocks.{}.hook_mlp_out", "resid"),
        Site("resid_post", "blocks.{}.hook_resid_post", "resid"),
        Site("final", "ln_final.hook_normalized", "resid", in_layers=False),
    )
}
# Nodes that are no single activation of a run, but are named as one.
_NO_SITE = {
    "result": Site("result", "blocks.{}.attn.hook_result", "head"),
    "layer": Site("layer", "", "resid"),
    "logits": Site("logits", "", "resid", in_layers=False),
}
NODE_SITES = {**SITES, **_NO_SITE}
_BY_LENS_NAME = {site.lens_name: site for site in NODE_SITES.values() if site.lens_name}

_NUMBER = re.compile(r"(-?\d+)(?:\.(kv|n)?(\d+))?|L(\d+)H(\d+)")
_INPUTS = ("q", "k", "v")
_EXAMPLES = "(9, 6), '9.6', 'q 9.6', 'mlp 3' or 'resid_pre 5 @S2'"


@dataclass(frozen=True)
class Node:
    """A place in a model: `Node("z", 9, 6)`, `Node("resid_pre", 5, at="S2")`. What is None is meant as a whole.

    Prints as `read_node` reads it: `z 9.6`, `mlp 3`, `v 20.kv1 @end`.

    Args:
        site: a site, by its name or its TransformerLens name; or `mlp` (`mlp_out`), `layer`, `result`, `logits`.
        layer: counted from 0, or from the end if negative; -1 of a site that layers do not have.
        part: a head, at `k` and `v` a key/value head, or a neuron.
        at: a role, or a position counted from 0; of a pattern, the destination.
        kv: whether key/value heads are shared, so that they are written `20.kv1`.

    Raises:
        InputError: a site that does not exist, a part of a site that has none, or no whole number.
    """

    site: str
    layer: int = -1
    part: int | None = None
    at: int | str | None = None
    kv: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        site, layer = site_named(self.site, NODE_SITES)
        given = whole("layer", self.layer)
        if layer is not None and given not in (-1, layer):
            raise InputError(f"layer: the site names layer {layer}, and layer={given} was given")
        if not site.in_layers and given != -1:
            raise InputError(f"layer: {site.name} belongs to no layer, got {given}; leave the number out")
        if self.part is not None and site.rows == "resid":
            raise InputError(f"head: {site.name} has no heads and no neurons; write '{site.name} {given}'")
        values = {"site": site.name, "layer": given if layer is None else layer}
        values |= {} if self.part is None else {"part": whole("head", self.part)}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def kind(self) -> Site:
        """Its site, with shape and TransformerLens name."""
        return NODE_SITES[self.site]

    @property
    def name(self) -> str:
        """Its site as it is printed: `mlp` for `mlp_out`."""
        return "mlp" if self.site == "mlp_out" else self.site

    @property
    def head(self) -> Head:
        """Layer and head."""
        return self.layer, -1 if self.part is None else self.part

    @property
    def short(self) -> str:
        """As it is called if its site goes without saying: `9.6`, `20.kv1`, `5.n17`; without a part as `str`."""
        if self.part is None:
            return str(self)
        mark = "n" if self.kind.rows == "neuron" else "kv" if self.kv and self.kind.rows == "kv_head" else ""
        return f"{self.layer}.{mark}{self.part}{self._at}"

    @property
    def _at(self) -> str:
        return "" if self.at is None else f" @{self.at}"

    def __str__(self) -> str:
        if self.part is not None:
            return f"{self.name} {self.short}"
        return f"{self.name} {self.layer}{self._at}" if self.kind.in_layers else self.name + self._at


# One node as a user writes it.
NodeText = Node | str | Sequence[SupportsIndex | str]


@dataclass(frozen=True, init=False, repr=False)
class Edge:
    """A path from a node to an input of another: `Edge("8.6", "9.9", "q", effect=-0.1, role="end")`.

    Both ends are read as nodes: heads, MLPs (`"mlp 9"`), `"embed"`, `"pos_embed"`, `"logits"`. Prints as
    `8.6 -> 9.9 q @end`.

    Args:
        sender, receiver: nodes; `"9.9 q"` names the receiver with its input.
        input: the receiver's "q", "k" or "v", and "" if it has one input.
        effect: of the path on the metric, between `low` and `high` if an interval is known, and finite.
        role: where the receiver reads, "" for everywhere.
        shared: other heads of the circuit that read the same key or value: one path, which they receive together.

    Raises:
        InputError: an end that is no node.
    """

    sender: Node
    receiver: Node
    input: str = ""
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    role: str = ""
    shared: tuple[Node, ...] = ()

    def __init__(
        self,
        sender: NodeText,
        receiver: NodeText,
        input: str = "",
        effect: float | None = None,
        low: float | None = None,
        high: float | None = None,
        role: str = "",
        shared: Iterable[NodeText] = (),
    ) -> None:
        where = f"edge {sender} -> {receiver}"
        writes, reads = (read_node(one, where) for one in (sender, receiver))
        if reads.site in _INPUTS:
            input, reads = input or reads.site, replace(reads, site="z")
        if input not in ("", *_INPUTS):
            raise InputError(f"{where}: input: expected 'q', 'k', 'v' or '', got {input!r}")
        # too few prompts for an interval
        known = low is None or high is None or (math.isfinite(low) and math.isfinite(high))
        ends = (low, high) if known else (None, None)
        others = tuple(read_node(one, where) for one in shared)
        values = (writes, reads, input, effect, *ends, role, others)
        for name, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        shared = f", shared with {', '.join(node.short for node in self.shared)}" if self.shared else ""
        return f"Edge({str(self)!r}{'' if self.effect is None else f', effect {self.effect:.4g}'}{shared})"

    def __str__(self) -> str:
        place = f" @{self.role}" if self.role else ""
        return f"{self.sender.short} -> {self.receiver.short} {self.input}".rstrip() + place


def head_name(head: Head) -> str:
    """`9.6` for layer 9, head 6."""
    return Node("z", *head).short


def joint_name(nodes: Iterable[Node]) -> str:
    """`z 9.6 + mlp 3`: nodes that are taken together."""
    return " + ".join(map(str, nodes))


def site_named(name: str, known: Mapping[str, Site] = SITES) -> tuple[Site, int | None]:
    """The site of a name or a TransformerLens name, and the layer if the name holds one.

    >>> site_named("blocks.9.attn.hook_z")[1]
    9

    Raises:
        InputError: no such site; the message lists them and the nearest name.
    """
    name = "mlp_out" if name == "mlp" and known is not SITES else name
    if name in known:
        return known[name], None
    layer = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    site = _BY_LENS_NAME.get(f"blocks.{{}}.{layer[2]}" if layer else name)
    if site and site.name in known:
        return site, int(layer[1]) if layer else None
    hint = did_you_mean(name, known)
    raise InputError(f"site: {name!r} is not a site.{hint} The sites are {' '.join(known)}, or TransformerLens names")


def read_node(given: object, argument: str = "node", site: str = "z") -> Node:
    """One node as users write it (see the module's docstring); `site` is that of a head whose site is not written.

    >>> [str(read_node(given)) for given in [(9, 6), "L9H6", "9.6 q @S2", (8, 1, "v"), "3_mlp", "blocks.9.attn.hook_z"]]
    ['z 9.6', 'z 9.6', 'q 9.6 @S2', 'v 8.1', 'mlp 3', 'z 9']

    Raises:
        InputError: what is no node, with how to write one; `argument` stands before the message.
    """
    if isinstance(given, Node):
        return given
    if hasattr(given, "nodes"):  # a row of `uw.top`
        nodes: Sequence[Node] = given.nodes  # pyright: ignore[reportAttributeAccessIssue]
        if len(nodes) != 1:
            raise _unreadable(argument, str(getattr(given, "label", given)))
        return nodes[0]
    if isinstance(given, str):
        return _parsed(given, argument, site)
    words, numbers = _words_and_numbers(given)
    if not is_node(given):
        raise _unreadable(argument, given)
    return _made(argument, given, words[0] if words else site, *numbers)


def read_nodes(given: object, argument: str = "nodes", site: str = "z") -> tuple[Node, ...]:
    """Nodes that are taken together: one, a list, or `"9.6 + mlp 3"`. Raises InputError as `read_node`."""
    if hasattr(given, "nodes") and given.nodes:  # pyright: ignore[reportAttributeAccessIssue]
        return given.nodes  # pyright: ignore[reportAttributeAccessIssue]
    parts = given.split("+") if isinstance(given, str) else listed(given, argument)
    return tuple(read_node(part, argument, site) for part in parts)


def listed(given: object, argument: str = "nodes") -> list[Any]:
    """What was given, one node or several, as a list. Raises InputError for what is neither."""
    if is_node(given):
        return [given]
    if _words_and_numbers(given)[1]:
        raise _unreadable(argument, given)
    if not isinstance(given, Iterable):
        raise InputError(f"{argument}: expected a list such as [(9, 6), '9.9'], got {given!r}")
    return list(given)


def is_node(given: object) -> bool:
    """Whether something is written as one node, and not as a list of nodes."""
    if isinstance(given, (str, Node)) or hasattr(given, "nodes"):
        return True
    words, numbers = _words_and_numbers(given)
    return (len(numbers) == 2 and len(words) <= 1) or len(numbers) == len(words) == 1


def check_once(names: Sequence[Hashable], argument: str) -> None:
    """Raises InputError for a name that stands twice."""
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        twice = joint_name(twice) if isinstance(twice, tuple) else twice
        raise InputError(f"{argument}: {twice} is named twice; name each once")


def whole(argument: str, number: object) -> int:
    """A whole number of Python, numpy or torch as an int. Raises InputError for anything else."""
    try:
        return operator.index(number)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise InputError(f"{argument}: expected a whole number, got {number!r}") from error


def real(argument: str, number: object) -> float:
    """A number of Python, numpy or torch as a float. Raises InputError for anything else."""
    try:
        return float("text" if isinstance(number, str) else number)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError) as error:
        raise InputError(f"{argument}: expected a number, got {number!r}") from error


def _parsed(text: str, argument: str, site: str) -> Node:
    """A node's text: in any order a site, numbers, and a position after `@`."""
    place, _, at = text.partition("@")
    words, numbers = [], []
    for word in place.split():
        match = _NUMBER.fullmatch(word.removesuffix("_mlp"))
        words += ["mlp"] if match and word.endswith("_mlp") else [] if match else [word]
        numbers += [match] if match else []
    if len(words) == 2 and "layer" in words:  # `uw.top` prints `resid_pre layer 5`
        words.remove("layer")
    at = at.strip()
    if len(words) > 1 or len(numbers) > 1 or not (words or numbers) or len(at.split()) > 1 or ("@" in text and not at):
        raise _unreadable(argument, text)
    layer, mark, part, *lens = numbers[0].groups() if numbers else (None,) * 5
    layer, part = lens[0] or layer, lens[1] or part
    if not words and part is None:
        raise _unreadable(argument, text)
    name = words[0] if words else "k" if mark == "kv" and site != "v" else "mlp_post" if mark == "n" else site
    found = _made(argument, text, name, *(int(number) for number in (layer, part) if number is not None))
    wrong = {"kv": found.kind.rows != "kv_head", "n": found.kind.rows != "neuron"}.get(mark or "", False)
    if wrong and mark == "kv":
        raise InputError(
            f"{argument}: {text!r} names a key/value head, which k and v have; {found.name} has query heads"
        )
    if wrong or (found.kind.in_layers and not numbers and "." not in name):
        raise _unreadable(argument, text)
    where = int(at) if at.removeprefix("-").isdecimal() else at or None
    return Node(found.site, found.layer, found.part, where, kv=mark == "kv")


def _made(argument: str, given: object, site: str, *numbers: int) -> Node:
    try:
        site_named(site, NODE_SITES)
    except InputError as error:
        raise _unreadable(argument, given, did_you_mean(site, ["mlp", *NODE_SITES])) from error
    try:
        return Node(site, **dict(zip(("layer", "part"), numbers, strict=False)))
    except InputError as error:
        raise InputError(f"{argument}: {given!r} cannot be read: {error}") from error


def _words_and_numbers(given: object) -> tuple[list[str], list[int]]:
    """A tuple's texts and whole numbers; neither if there is anything else in it, or it is no tuple."""
    words, numbers = [], []
    try:
        for one in given:  # pyright: ignore[reportGeneralTypeIssues]
            words, numbers = (
                ([*words, one], numbers) if isinstance(one, str) else (words, [*numbers, operator.index(one)])
            )
    except TypeError:
        return [], []
    return words, numbers


def _unreadable(argument: str, given: object, hint: str = "") -> InputError:
    return InputError(f"{argument}: {given!r} is not a place in a model; write {_EXAMPLES}.{hint}".removesuffix("."))
