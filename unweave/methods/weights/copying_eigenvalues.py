"""Copying scores from eigenvalues of the full OV circuit, read off the weights.

Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits". A positive eigenvalue of `W_E OV W_U` means
that there is a mixture of tokens which raises its own logits. The score is `sum of eigenvalues / sum of their sizes`: 1
where all are positive, -1 where all are negative. They are found in `d_head x d_head`: the eigenvalues of a product
that are not 0 are those of the product the other way round.
"""

from __future__ import annotations

import torch
import xarray as xr

from unweave.errors import InputError
from unweave.methods.to_xarray import weights_to_xarray
from unweave.methods.weights.head_matrices import ov_matrices, through_norm
from unweave.models.factored import FactoredMatrix
from unweave.models.model import Model
from unweave.models.precision import without_autocast
from unweave.registry import Method, register

EIGENVALUES = register(
    Method(
        "copying eigenvalues",
        quantity="copying score",
        zero="copies as much as it suppresses",
        one="every mixture of tokens raises itself",
        picture="unweave.views.weight_pictures:copying_blocks",
        dims=("layer", "head"),
    )
)


@without_autocast
def copying_eigenvalues(model: Model) -> xr.DataArray:
    """How much each head copies the tokens that it looks at, whatever they are.

    Args:
        model: a model whose outputs are its vocabulary.

    Returns:
        Scores from -1 to 1, `[layer, head]`. Biases, positions, MLPs and the scales of norms are left out.

    Raises:
        InputError: a model that answers with classes.
    """
    config, weights = model.config, model.weights
    if config.d_vocab_out != config.d_vocab:
        raise InputError(f"model: {config.name} answers with classes, so none of its tokens can be copied")
    with torch.no_grad():
        unembed = through_norm(config, weights.norm_final, weights.w_u)
        again = unembed.mT.double() @ weights.w_e.double()  # from the stream to logits, and back as an embedding
        scores = [_scores(model, layer, again) for layer in range(config.n_layers)]
    axes = {"layer": range(config.n_layers), "head": range(config.n_heads)}
    return weights_to_xarray(model, torch.stack(scores), axes, EIGENVALUES.attrs())


def _scores(model: Model, layer: int, again: torch.Tensor) -> torch.Tensor:
    ov = ov_matrices(model, [(layer, head) for head in range(model.config.n_heads)])
    values = FactoredMatrix(ov.left.double(), ov.right.double() @ again).eigenvalues()
    return values.sum(-1).real / values.abs().sum(-1)
