"""What a point says under the pointer: its value, its interval, its adjusted p-value, and of how many prompts."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from unweave.views.text import label
from unweave.views.wording import percent

if TYPE_CHECKING:
    import xarray


def hover_data(table: "xarray.Dataset") -> Float32[np.ndarray, "*cell 4"]:
    """Low, high, adjusted p and n of every cell, in the order that `hover_lines` reads them."""
    return np.stack([table[name].values for name in ("low", "high", "p_holm", "n")], axis=-1).astype(np.float32)


def hover_lines(table: "xarray.Dataset", value: str) -> str:
    """Lines of a plotly template for a trace with `hover_data`; `value` names the trace's number: `z`, `y`, `x`."""
    what = label(str(table.attrs.get("quantity", "mean")))
    if not (table["n"] > 1).any():
        return f"{what} %{{{value}:.3f}}"
    level = float(table.attrs.get("level", 0.95))
    interval = f"{percent(level)} interval %{{customdata[0]:.3f}} to %{{customdata[1]:.3f}}"
    return (
        f"{what} %{{{value}:.3f}}<br>{interval}<br>adjusted p %{{customdata[2]:.2g}}<br>%{{customdata[3]:.0f}} prompts"
    )
