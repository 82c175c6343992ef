"""A model whose heads are made by hand, without norms or MLPs: what they attend to is known beforehand.

The stream holds the token, the position, and the token before, each as a one-hot vector. Heads of layer 0: a
previous-token head, which writes the token that it sees to the third part, and a duplicate-token head, which writes
nothing. Heads of layer 1: an induction head that writes the token that it sees, and one that writes
its opposite, or the token itself, and attends to everything alike, or from one position to another.
"""

import torch
from torch import Tensor

from unweave.models.config import Config
from unweave.models.model import Model
from unweave.models.weights import LayerWeights, NormWeights, Weights

N_VOCAB, N_CTX = 400, 16
D_MODEL, D_HEAD = 2 * N_VOCAB + N_CTX, N_VOCAB + N_CTX
SHARP = 40.0


def made_model(mover: tuple[int, int] | None = None, sign: int = -1) -> Model:
    """Two layers of two heads. `mover`: where head 1.1 looks from and to; `sign`: of the token that it writes."""
    config = Config(
        name="made by hand",
        family="made",
        n_layers=2,
        n_heads=2,
        n_kv_heads=2,
        d_model=D_MODEL,
        d_head=D_HEAD,
        d_mlp=0,
        d_vocab=N_VOCAB,
        d_vocab_out=N_VOCAB,
        n_ctx=N_CTX,
        norm="none",
        norm_eps=0.0,
        block="serial",
        positions="learned",
        score_scale=1.0,
        activation="relu",
        gated_mlp=False,
    )
    none = torch.zeros(D_HEAD, D_MODEL, dtype=torch.float64)
    token, place = none.clone(), none.clone()
    token[:N_VOCAB, :N_VOCAB] = torch.eye(N_VOCAB)
    place[N_VOCAB:, N_VOCAB : N_VOCAB + N_CTX] = torch.eye(N_CTX)
    before = none.clone()
    before[:N_VOCAB, N_VOCAB + N_CTX :] = torch.eye(N_VOCAB)
    shift = none.clone()  # the query of position p is the key of position p - 1
    shift[N_VOCAB : N_VOCAB + N_CTX - 1, N_VOCAB + 1 : N_VOCAB + N_CTX] = torch.eye(N_CTX - 1)
    to_before, to_token = torch.zeros(2, D_MODEL, D_HEAD, dtype=torch.float64)
    to_before[N_VOCAB + N_CTX :, :N_VOCAB] = torch.eye(N_VOCAB)
    to_token[:N_VOCAB, :N_VOCAB] = torch.eye(N_VOCAB)
    moves = none.clone()
    if mover is not None:
        moves[N_VOCAB + mover[1], N_VOCAB + mover[0]] = SHARP
    layers = (
        # The duplicate-token head would look at itself: its query takes its own position off.
        _layer([SHARP * shift, SHARP * (token - place)], [place, token + place], [token, none], [to_before, to_token]),
        _layer([SHARP * token, moves], [before, place], [token, token], [to_token, sign * to_token]),
    )
    embedding = torch.zeros(N_VOCAB, D_MODEL, dtype=torch.float64)
    embedding[:, :N_VOCAB] = torch.eye(N_VOCAB)
    positions = torch.zeros(N_CTX, D_MODEL, dtype=torch.float64)
    positions[:, N_VOCAB : N_VOCAB + N_CTX] = torch.eye(N_CTX)
    return Model(config, Weights(embedding, positions, layers, NormWeights(), embedding.clone(), None))


def _layer(q: list[Tensor], k: list[Tensor], v: list[Tensor], o: list[Tensor]) -> LayerWeights:
    return LayerWeights(
        norm1=NormWeights(),
        w_qkv=torch.cat([*q, *k, *v]),
        b_qkv=None,
        w_o=torch.cat(o, dim=1),
        b_o=None,
        norm2=NormWeights(),
        w_in=None,
        b_in=None,
        w_out=None,
        b_out=None,
    )
