"""A tiny random model that reads the texts of the indirect-object task, one token a word."""

from dataclasses import replace

import torch

from tests.readers import ioi_texts, word_tokenizer
from tests.tiny import D_MODEL, Kind, tiny_model
from unweave.models.model import Model


def ioi_model(kind: Kind) -> Model:
    """`tiny_model` with a tokenizer, and with as many words as it has."""
    base, tokenizer = tiny_model(kind), word_tokenizer(ioi_texts())
    n_vocab, draw = len(tokenizer), torch.Generator().manual_seed(1)
    w_e, w_u = torch.randn(2, n_vocab, D_MODEL, generator=draw, dtype=torch.float64)
    config = replace(base.config, d_vocab=n_vocab, d_vocab_out=n_vocab)
    return Model(config, replace(base.weights, w_e=w_e, w_u=w_u, b_u=None), tokenizer)
