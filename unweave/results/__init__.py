"""Results with labels: summarised, ranked, saved and read back.

A result is an xarray DataArray with a `prompt` dimension, then the dimensions that were asked for; several sites are a
Dataset.
"""

from unweave.results.store import load, save
from unweave.results.summary import summary
from unweave.results.top import Row, Top, top

__all__ = ["Row", "Top", "load", "save", "summary", "top"]
