"""Configs of small models: what is filled in, what is refused, and how they come from dicts and files."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

import unweave as uw
from unweave.models.small import config_from

SHAPE = {"n_layers": 1, "n_heads": 2, "d_model": 6, "d_head": 4, "d_vocab": 5, "n_ctx": 3}


def test_what_is_not_given_is_as_small_models_have_it() -> None:
    config = uw.small_config()
    assert (config.n_layers, config.n_heads, config.d_model, config.d_head) == (2, 2, 28, 14)
    assert (config.d_vocab, config.d_vocab_out, config.n_ctx, config.d_mlp) == (33, 33, 22, 0)
    assert (config.norm, config.norm_eps, config.positions, config.block) == ("layer", 1e-5, "learned", "serial")
    assert config.score_scale == 14**-0.5
    assert config.causal
    assert uw.small_config(d_vocab_out=2).d_vocab_out == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_layers": 0}, "n_layers: expected at least 1, got 0"),
        ({"d_head": 0}, "d_head: expected at least 1"),
        ({"d_mlp": -1}, "d_mlp: expected the MLPs' width, or 0"),
        ({"norm": "LN"}, "norm: expected one of layer, rms, none, got 'LN'"),
        ({"activation": "tanh"}, "activation: expected one of gelu, gelu_new, silu, relu, got 'tanh'"),
        ({"pad_token": 0}, "pad_token: padding stands behind a prompt, where causal attention never looks"),
        ({"pad_token": 5, "causal": False}, "pad_token: expected an entry of the vocabulary, 0 to 4"),
    ],
)
def test_what_no_small_model_can_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(uw.InputError, match=message):
        uw.small_config(**{**SHAPE, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_kv_heads": 3}, "n_kv_heads: 2 query heads cannot share 3 evenly"),
        ({"positions": "rotary"}, "rotary_dim: expected an even number up to d_head=4, got 0"),
        ({"positions": "rotary", "rotary_dim": 6}, "rotary_dim: expected an even number up to d_head=4, got 6"),
        ({"rotary_dim": 2}, "rotary_dim: 2 dimensions to rotate, and positions='learned'"),
        ({"gated_mlp": True}, "gated_mlp: d_mlp=0 leaves no MLP to gate"),
        ({"tied_unembed": True, "d_vocab_out": 2}, "tied_unembed: 2 outputs cannot be read off 5 embeddings"),
        ({"score_scale": 0.0}, "score_scale: expected what scores are multiplied by"),
        ({"norm_eps": -1.0}, "norm_eps: expected 0 or more"),
        ({"n_layer": 2}, "'n_layer' is not a field of a config. Did you mean 'n_layers'"),
        ({"n_layers": "2"}, "n_layers must be of type int, got '2'"),
        ({"causal": 1}, "causal must be of type bool, got 1"),
        ({"n_heads": True}, "n_heads must be of type int, got True"),
        ({"norm_eps": "1e-5"}, "norm_eps must be of type float"),
    ],
)
def test_dicts_that_contradict_themselves_are_refused(options: dict, message: str) -> None:
    with pytest.raises(uw.InputError, match=message):
        config_from({**SHAPE, **options})


def test_a_dict_must_say_the_shape() -> None:
    with pytest.raises(uw.InputError, match="config: n_heads, d_vocab must be given"):
        config_from({key: value for key, value in SHAPE.items() if key not in ("n_heads", "d_vocab")})


def test_a_dict_a_file_and_arguments_make_the_same_config(tmp_path: Path) -> None:
    options = {**SHAPE, "norm": "none", "d_mlp": 3, "causal": False, "pad_token": 1, "norm_eps": 1}
    file = tmp_path / "shape.json"
    file.write_text(json.dumps({**options, "format": "unweave 1"}), encoding="utf-8")
    made = config_from(file)
    assert made.name == "shape"
    assert made.norm_eps == 1.0
    assert made == config_from({**options, "name": "shape"})
    file.write_text(json.dumps(asdict(made)), encoding="utf-8")
    assert config_from(str(file)) == made
    assert config_from(made) is made


def test_a_file_is_named_in_the_error(tmp_path: Path) -> None:
    file = tmp_path / "shape.json"
    file.write_text(json.dumps({**SHAPE, "heads": 2}), encoding="utf-8")
    with pytest.raises(uw.ModelError, match=r"shape\.json: config: 'heads' is not a field"):
        config_from(file)
    with pytest.raises(uw.ModelError, match=r"nothing\.json: cannot be read as JSON"):
        config_from(tmp_path / "nothing.json")
