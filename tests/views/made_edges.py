"""Effects of edges that are known, as `uw.edges` labels them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from tests.views import made
from unweave.nodes import read_node

EFFECTS = {
    "embed -> mlp 0": -0.9,
    "mlp 0 -> 2.1 q": -0.2,
    "mlp 0 -> 3.kv1 v": -0.1,
    "2.1 -> 3.kv0 k": 0.3,
    "2.1 -> logits": 0.05,
    "3.0 -> logits": -0.4,
}


def edges(effects: Mapping[str, float] = EFFECTS, **attrs: Any) -> xr.DataArray:
    """Effects as `uw.edges` labels them, of a model in which two query heads share a key and a value."""
    method = {"method": "edges", "measure": "effect", "direction": "noise", "at": "all positions", "how": "exact"}
    says = {**method, "gap": 8.0, "metric_unit": "logits", "n_heads": 4, "n_kv_heads": 2, "better": "higher"}
    found = made.result({"edge": list(effects)}, {(name,): effect for name, effect in effects.items()}, **says | attrs)
    ends = [name.split(" -> ") for name in effects]
    receivers = [end.rsplit(" ", 1) if end[-1] in "qkv" else (end, "") for _, end in ends]
    columns = {
        "sender": [sender for sender, _ in ends],
        "receiver": [receiver for receiver, _ in receivers],
        "input": [kind for _, kind in receivers],
        "sender_layer": [read_node(sender).layer for sender, _ in ends],
        "receiver_layer": [read_node(receiver).layer for receiver, _ in receivers],
    }
    return found.assign_coords({name: ("edge", values) for name, values in columns.items()})


def verified(not_run: int = 2) -> xr.DataArray:
    """The same, of which the last were not run; the gradient has the first with the wrong sign."""
    found = edges(how="verified", verify=3, control=1)
    values = found.values.copy()
    values[:, len(EFFECTS) - not_run :] = np.nan
    gradient = np.array([*EFFECTS.values()]) * [-0.1, 1, 1, 1, 1, 1]
    kinds = ["largest", "largest", "largest", "drawn", "", ""]
    scores = {"gradient": gradient, "local": np.array([*EFFECTS.values()]), "run": kinds}
    return found.copy(data=values).assign_coords({name: ("edge", each) for name, each in scores.items()})
