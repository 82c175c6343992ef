"""Circuits and results about them whose finding is known, by the schema of the methods that make them."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from tests.views import made
from unweave.circuits.circuit import Circuit, Group
from unweave.methods.head_types import HeadTypes, NamedHead, Rule
from unweave.nodes import Edge

HOSTILE = "<script>alert(1)</script>"
HEADS = ("5.1", "5.0", "3.0", "4.2", "1.1")
GROUPS = ("mover", "mover", "inhibitor", "against", "previous")


def head_types(*heads: NamedHead) -> HeadTypes:
    """Named heads, as by one rule."""
    return HeadTypes(heads, (Rule("name mover", "end", (("copying", 0.5, np.inf),)),), xr.Dataset())


CIRCUIT = Circuit(
    (
        Group("mover", ((5, 1), (5, 0)), ("end",)),
        Group("inhibitor", ((3, 0),), ("end", "S2")),
        Group("against", ((4, 2),), ("end",), (2,)),
        Group("previous", ((1, 1),), (HOSTILE,)),
    ),
    (
        Edge("5.1", "logits", "", 0.5, 0.4, 0.6, "end"),
        Edge("5.0", "logits", "", 0.2, 0.1, 0.3, "end"),
        Edge("4.2", "logits", "", -0.3, -0.4, -0.2, "end"),
        Edge("3.0", "5.1", "q", 0.1, 0.05, 0.15, "end"),
        Edge("1.1", "3.0", "v", 0.02, 0.01, 0.03, HOSTILE),
        Edge("2_mlp", "3.0", "k", 0.03, None, None, "S2"),
        Edge("embed", "1.1", "k"),
    ),
)
NAMED = head_types(
    NamedHead((5, 1), "name mover", "end", {"direct": 0.5, "end to IO": 0.7}),
    NamedHead((5, 0), "name mover", "end", {"direct": 0.2}, ("induction",)),
    NamedHead((3, 0), "S-inhibition", "end", {"end to S2": 0.41}),
)


def faithfulness(ratio: float = 0.8, randoms: Sequence[float] = (0.05, -0.03), n_prompts: int = 20) -> xr.Dataset:
    """F(M) is 4 on average; the circuit has the given share of it."""
    kept = ["model", "circuit", "nothing", *(f"random {place + 1}" for place in range(len(randoms)))]
    ratios = np.array([1.0, ratio, 0.0, *randoms])
    members = {"model": HEADS, "circuit": HEADS, "nothing": [], **{name: ["0.0"] for name in kept[3:]}}
    attrs = {"method": "faithfulness", "metric": "logit difference", "model_heads": 18, "how": "template"}
    attrs |= {"members": members}
    wide = 0.1 if n_prompts > 1 else np.nan
    coords = {
        "heads": [18, 5, 0, *[5] * len(randoms)],
        "difference": 4 - 4 * ratios,
        "difference_low": 4 - 4 * ratios - wide,
        "difference_high": 4 - 4 * ratios + wide,
        "ratio": ratios,
        "ratio_low": ratios - wide,
        "ratio_high": ratios + wide,
        "share": ratios,
        "share_low": ratios - wide,
        "share_high": ratios + wide,
    }
    return _test({"score": 4 * ratios}, ("kept", kept), coords, attrs, n_prompts)


def curve(better: str = "higher") -> xr.Dataset:
    """5.1 alone has half of the score, which goes from 0 to 4, or, where lower is better, from 4 to 0.8."""
    joined = ["", *HEADS]
    ratio = np.array([0.0, 0.5, 0.7, 0.8, 0.7, 0.8])
    rest = np.array([0.8, 0.32, 0.1, 0.1, 0.0, 0.0])
    higher = better == "higher"
    columns = {"score": 4 * ratio, "rest": 4 * rest} if higher else {"score": 4 * (1 - ratio), "rest": 4 * (1 - rest)}
    whole = 4.0 if higher else 0.8
    coords: dict[str, object] = {"address": joined}
    for prefix, shares, scores in (("", ratio, columns["score"]), ("rest_", rest, columns["rest"])):
        coords[f"{prefix}difference"] = whole - scores
        for name, values in (("ratio", scores / whole), ("share", shares if higher else shares / 0.8)):
            coords |= {
                f"{prefix}{name}": values,
                f"{prefix}{name}_low": values - 0.1,
                f"{prefix}{name}_high": values + 0.1,
            }
    attrs = {"method": "faithfulness curve", "better": better, "chosen_on": 12, "measured_on": 8, "how": "template"}
    return _test(columns, ("size", list(range(6))), coords, attrs)  # type: ignore[arg-type]


def completeness() -> xr.Dataset:
    """Nine sets K; the greedy one has the widest gap, 2.0."""
    circuit = np.array([3.2, 1.0, 2.5, 3.0, 2.6, 2.0, 1.5, 2.2, 0.5])
    model = np.array([4.0, 2.0, 2.6, 3.9, 3.0, 2.6, 2.5, 2.0, 2.5])
    removed = ["none", "mover", "inhibitor", "against", "previous", "random 1", "random 2", "random 3", "greedy 1"]
    texts = ["", "5.1 5.0", "3.0", "4.2", "1.1", "5.1", "3.0 1.1", "4.2 1.1", "5.1 5.0 3.0"]
    members = {name: text.split() for name, text in zip(removed, texts, strict=True)}
    coords = {
        "kind": ["none", *["group"] * 4, *["random"] * 3, "greedy"],
        "size": [len(heads) for heads in members.values()],
        "difference": circuit - model,
        "difference_low": circuit - model - 0.2,
        "difference_high": circuit - model + 0.2,
        "gap": np.abs(circuit - model),
    }
    attrs = {"method": "completeness", "how": "template", "members": members}
    return _test({"circuit": circuit, "model": model}, ("removed", removed), coords, attrs)


def minimality() -> xr.Dataset:
    """5.1 matters most, and 1.1 not beyond its interval."""
    share = np.array([0.5, 0.2, 0.1, -0.15, 0.004])
    coords = {
        "group": list(GROUPS),
        "share": share,
        "share_low": share - 0.05,
        "share_high": share + 0.05,
        "size": np.abs(share),
    }
    members = dict(zip(HEADS, (["5.0"], ["5.1"], [], [], []), strict=True))
    attrs = {"method": "minimality", "how": "template", "members": members}
    columns = {"change": share, "without_k": share * 4, "without_both": share * 0}
    return _test(columns, ("address", list(HEADS)), coords, attrs)


def evaluation() -> xr.DataTree:
    """The three tests, as `uw.evaluate` returns them."""
    tests = {
        "faithfulness": faithfulness(),
        "curve": curve(),
        "completeness": completeness(),
        "minimality": minimality(),
    }
    return xr.DataTree.from_dict(tests)


def attribution(change: Mapping[tuple[int, int], float] | None = None, scale: float = 0.1) -> xr.DataArray:
    """Before and after a knockout of 5.1: by default 4.2 grows by 1.0, of which `scale` is the norm's doing."""
    given = {(4, 2): 1.0} if change is None else change
    before = made.result({"layer": range(6), "head": range(3)}, {(5, 1): 2.0, (4, 2): -0.5})
    moved = made.result({"layer": range(6), "head": range(3)}, {(5, 1): -1.5, **given})
    runs = {"before": before, "after": before + moved, "change": moved, "from scale": scale * moved}
    result = xr.concat(list(runs.values()), xr.DataArray(list(runs), dims="run", name="run"), coords="minimal")
    attrs = {
        **{**made.ATTRS, **made.ATTRIBUTION},
        "method": "knockout attribution",
        "knocked_out": ["z 5.1"],
        "how": "mean",
    }
    totals = {"total_before": 4.0, "total_after": 3.5, "scale_ratio": 0.97}
    rows = {name: ("prompt", np.full(made.N_PROMPTS, value)) for name, value in totals.items()}
    return result.transpose("prompt", "run", "layer", "head").assign_coords(rows).assign_attrs(attrs)


def backup(grown: Mapping[tuple[int, int], float], backups: str = "", weakened: str = "") -> xr.DataArray:
    """Growth when 5.1 is out, which had 2.0 of 4.0 logits; without it 2.9 are left where 2.0 were expected."""
    growth = made.result({"layer": range(6), "head": range(3)}, grown)
    rows = {"own": 2.0, "naive": 2.0, "without": 2.9, "total": 4.0}
    attrs = {
        "method": "backup heads",
        "quantity": "growth",
        "unit": "share of the clean logit difference",
        "zero": "no reaction",
        "one": "makes up for the whole logit difference",
        "knocked_out": ["z 5.1"],
        "threshold": 0.02,
        "backups": backups.split(),
        "weakened": weakened.split(),
    }
    # Numbers of one prompt differ from the next one's, as they do in a real result.
    spread = np.linspace(-0.2, 0.2, made.N_PROMPTS)
    coords = {name: ("prompt", value + spread) for name, value in rows.items()}
    return growth.assign_coords(coords).assign_attrs(attrs)


def signals(position: float, token: float, heads: Sequence[str] = ("3.0", "4.2")) -> xr.Dataset:
    """Scores that are 1 + position and token terms of half the given full ranges; each head has the same."""
    rng = np.random.default_rng(3)
    names = ["all", *heads]
    noise = rng.normal(scale=0.01, size=(made.N_PROMPTS, len(names), 1, 1))
    table = 1 + position / 2 * np.array([1, -1])[None, :] + token / 2 * np.array([1, 0, -1])[:, None]
    score = table[None, None] + noise
    attrs = {**made.ATTRS, "method": "position and token", "quantity": "logit difference"}
    coords = {"address": names, "token_signal": ["original", "random", "inverted"]}
    cells = {**coords, "position_signal": ["original", "inverted"]}
    dims = ("prompt", *cells)
    ranges = np.array([position, token])[None, None] + noise[..., 0]
    full = xr.DataArray(
        ranges, dims=("prompt", "address", "signal"), coords={"address": names, "signal": ["position", "token"]}
    )
    arrays = {"score": xr.DataArray(score, dims=dims, coords=cells, attrs=attrs)}
    arrays["residual"] = xr.zeros_like(arrays["score"])
    arrays["full_range"] = full.assign_attrs(attrs)
    return xr.Dataset(arrays, attrs=attrs)


def head_scores() -> xr.DataArray:
    """3.0 is an induction head, 1.1 a previous-token head; of duplicate tokens none takes note."""
    cells = {("induction", 3, 0): 0.8, ("previous token", 1, 1): 0.9}
    scores = ["duplicate token", "previous token", "induction"]
    axes = {"score": scores, "layer": range(6), "head": range(3)}
    attention = {**made.ATTENTION, "zero": "does not look there", "one": "looks only there"}
    result = made.result(axes, cells, **{**attention, "method": "head scores"})
    return result.copy(data=np.abs(result.values)).drop_vars(["clean", "corrupted", "total"])


def role_attention() -> xr.DataArray:
    """From end, 5.1 looks at IO and 3.0 at S2; nothing looks at S1."""
    roles = ["IO", "S1", "S2", "end"]
    cells = {(5, 1, "end", "IO"): 0.7, (3, 0, "end", "S2"): 0.5, (4, 2, "S2", "S1"): 0.9}
    axes = {"layer": range(6), "head": range(3), "q_role": roles, "k_role": roles}
    return made.result(axes, cells, **{**made.ATTENTION, "method": "attention between roles"})


def contribution() -> xr.Dataset:
    """5.1 looks at IO and writes for it, 4.2 looks there and writes against it."""
    axes = {"role": ["IO", "S1"], "layer": range(6), "head": range(3)}
    looks = {("IO", 5, 1): 0.8, ("IO", 4, 2): 0.5}
    writes = {("IO", 5, 1): 1.5, ("IO", 4, 2): -0.5, ("IO", 0, 0): 3.0}
    attention = made.result(axes, looks, **made.ATTENTION)
    written = made.result(axes, writes, **made.ATTRIBUTION)
    attrs = {**made.ATTRS, "method": "attention against contribution"}
    return xr.Dataset({"attention": attention, "contribution": written}, attrs=attrs)


def _test(
    columns: Mapping[str, np.ndarray],
    axis: tuple[str, list[str]],
    coords: Mapping[str, object],
    attrs: Mapping[str, object],
    n_prompts: int = 20,
) -> xr.Dataset:
    """A test of a circuit: every prompt has the mean, with a spread that adds up to nothing."""
    spread = np.zeros(1) if n_prompts == 1 else np.linspace(-0.5, 0.5, n_prompts)
    name, labels = axis
    every = {**made.ATTRS, "quantity": "logit difference", "level": 0.95, **attrs}
    arrays = {key: (("prompt", name), values[None] + spread[:, None]) for key, values in columns.items()}
    return xr.Dataset(arrays, {name: labels, **{key: (name, values) for key, values in coords.items()}}, every)
