"""State dicts in TransformerLens naming: read, written, and refused with every name that does not fit."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import unweave as uw
from tests.models.gguf_files import tokenizer
from tests.models.reference import gpt2, llama, neox, reference_logits
from tests.models.reference import random_model as hf_model
from tests.readers import unchecked
from tests.small import random_model, random_state
from tests.tiny import tiny_model
from unweave.models.state_dict import shapes_of, state_dict_of, weights_from_state_dict

CONFIG = uw.small_config(2, 2, 8, 4, 7, 6, 3, d_mlp=5, name="tiny")


def file_of(folder: Path, state: dict[str, Any]) -> Path:
    torch.save(state, folder / "tiny.pt")
    return folder / "tiny.pt"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_files(tmp_path: Path, suffix: str) -> None:
    state = random_state(CONFIG)
    file = tmp_path / f"tiny{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    model = uw.load_model(file, config=CONFIG, dtype="float64", device="cpu")
    tokens = torch.tensor([[0, 3, 5, 6]])
    assert torch.equal(model.run(tokens).logits, random_model(CONFIG).run(tokens).logits)
    assert (model.config.name, model.config.source) == ("tiny", str(file))
    assert uw.load_model(str(file), config=CONFIG).dtype == torch.float32


def test_the_revision_is_that_of_the_weights_whatever_file_holds_them(tmp_path: Path) -> None:
    state = random_state(CONFIG)
    save_file(state, tmp_path / "tiny.safetensors")
    models = [uw.load_model(f, config=CONFIG) for f in (file_of(tmp_path, state), tmp_path / "tiny.safetensors")]
    assert models[0].config.revision == models[1].config.revision
    state["unembed.b_U"][0] += 1e-9
    changed = uw.load_model(file_of(tmp_path, state), config=CONFIG)
    assert changed.config.revision != models[0].config.revision


def test_a_dict_and_a_json_file_as_config(tmp_path: Path) -> None:
    file = file_of(tmp_path, random_state(CONFIG))
    fields = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 7, "n_ctx": 6, "d_mlp": 5}
    model = uw.load_model(file, config={**fields, "d_vocab_out": 3})
    assert model.config.name == "tiny"
    assert replace(model.config, source="", revision="") == CONFIG


def test_buffers_are_left_out(tmp_path: Path) -> None:
    buffers = {"blocks.0.attn.mask": torch.ones(6, 6, dtype=torch.bool), "blocks.1.attn.IGNORE": torch.tensor(-1e5)}
    file = file_of(tmp_path, {**random_state(CONFIG), **buffers})
    assert uw.load_model(file, config=CONFIG).config.n_layers == 2


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox"])
def test_any_model_is_written_and_read(kind: str) -> None:
    """Grouped keys, gates, rotation, parallel blocks, folded norms; missing biases come back as zeros."""
    tokens = torch.randint(0, 23, (2, 6), generator=torch.Generator().manual_seed(0))
    for model in (tiny_model(kind), tiny_model(kind).process("all")):  # type: ignore[arg-type]
        state = state_dict_of(model)
        again = uw.Model(model.config, weights_from_state_dict(model.config, state))
        torch.testing.assert_close(again.run(tokens).logits, model.run(tokens).logits, rtol=0, atol=1e-12)
        assert state.keys() == shapes_of(model.config).keys()


def test_names_and_shapes_are_those_of_the_format() -> None:
    state = state_dict_of(random_model(CONFIG))
    for name, value in random_state(CONFIG).items():
        assert torch.equal(state[name], value), name
    assert state["blocks.1.attn.W_Q"].shape == (2, 8, 4)
    assert state["blocks.1.attn.W_O"].shape == (2, 4, 8)
    assert state["blocks.0.mlp.W_in"].shape == (8, 5)
    assert state["unembed.W_U"].shape == (8, 3)


def test_what_is_written_is_no_view_of_the_model() -> None:
    model = random_model(CONFIG)
    state_dict_of(model)["embed.W_E"].zero_()
    assert model.weights.w_e.abs().max() > 0.1


def test_a_tied_unembedding_stays_one_tensor() -> None:
    config = replace(CONFIG, tied_unembed=True, d_vocab_out=7)
    state = random_state(config)
    with pytest.raises(uw.ModelError, match=r"unembed\.W_U is not the transpose of embed\.W_E"):
        weights_from_state_dict(config, state)
    weights = weights_from_state_dict(config, {**state, "unembed.W_U": state["embed.W_E"].T})
    assert weights.w_u is weights.w_e


def test_all_that_does_not_fit_is_named(tmp_path: Path) -> None:
    state = random_state(CONFIG)
    del state["blocks.1.attn.b_K"], state["ln_final.w"]
    state["blocks.2.attn.W_Q"] = torch.zeros(2, 8, 4)
    state["embed.W_E"] = torch.zeros(8, 7)
    state["unembed.b_U"] = torch.zeros(3, dtype=torch.long)
    with pytest.raises(uw.ModelError) as caught:
        uw.load_model(file_of(tmp_path, state), config=CONFIG)
    message = str(caught.value)
    assert "missing: blocks.1.attn.b_K [2, 4], ln_final.w [8]" in message
    assert "extra: blocks.2.attn.W_Q [2, 8, 4]" in message
    assert "misshaped: embed.W_E is [8, 7], expected [7, 8]" in message
    assert "not of a floating type: unembed.b_U is of torch.int64" in message
    assert "tiny.pt" in message
    assert "\n" not in message


def test_a_checkpoint_of_another_config(tmp_path: Path) -> None:
    file = file_of(tmp_path, random_state(CONFIG))
    with pytest.raises(uw.ModelError, match=r"extra: blocks\.0\.ln1\.w .*ln_final\.b \[8\]"):
        uw.load_model(file, config=replace(CONFIG, norm="none"))
    with pytest.raises(uw.ModelError, match=r"missing: blocks\.2\.ln1\.w"):
        uw.load_model(file, config=replace(CONFIG, n_layers=3))


def test_a_gated_bias_has_no_place() -> None:
    config = replace(CONFIG, gated_mlp=True)
    with pytest.raises(uw.ModelError, match=r"mlp\.b_in: TransformerLens adds it behind the gate"):
        weights_from_state_dict(config, random_state(config))


def test_the_config_is_asked_for(tmp_path: Path) -> None:
    file = file_of(tmp_path, random_state(CONFIG))
    with pytest.raises(uw.InputError, match=r"config: tiny\.pt holds weights alone.*config=uw\.small_config"):
        uw.load_model(file)


def test_a_dict_in_memory() -> None:
    state, tokens = random_state(CONFIG), torch.tensor([[0, 3, 5, 6]])
    expected = random_model(CONFIG).run(tokens).logits
    fields = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 7, "n_ctx": 6, "d_mlp": 5}
    wrapped = {f"module._orig_mod.{name}": value for name, value in state.items()}
    for given, config in ((state, CONFIG), (wrapped, CONFIG), (state, {**fields, "d_vocab_out": 3})):
        model = uw.load_model(given, config=config, dtype="float64", device="cpu")
        assert torch.equal(model.run(tokens).logits, expected)
    model.weights.w_e.fill_(7)
    assert not state["embed.W_E"].eq(7).any()
    with pytest.raises(uw.InputError, match=r"config: .*config=uw\.small_config"):
        uw.load_model(state)


@pytest.mark.parametrize("make", [gpt2, llama, neox])
def test_names_of_transformers_go_with_its_config(make: Any, tmp_path: Path) -> None:
    hf = hf_model(make())
    tokens = torch.tensor([[0, 3, 5, 6]])
    expected = reference_logits(hf, tokens)
    torch.save(hf.state_dict(), tmp_path / "tiny.pt")
    hf.config.to_json_file(tmp_path / "config.json")
    words = tokenizer()
    for source in (hf.state_dict(), tmp_path / "tiny.pt"):
        for config in (hf.config, hf.config.to_dict(), tmp_path / "config.json"):
            model = uw.load_model(source, config=config, dtype="float64", tokenizer=words)
            torch.testing.assert_close(model.run(tokens).logits, expected, atol=1e-9, rtol=0)
            assert (model.config.family, len(model.config.revision)) == (hf.config.model_type, 12)
            assert model.tokenizer is words


def test_each_naming_has_its_config() -> None:
    hf = hf_model(llama())
    with pytest.raises(uw.ModelError, match=r"model\.embed_tokens\.weight.*embed\.W_E.*config of transformers"):
        uw.load_model(hf.state_dict(), config=CONFIG)
    with pytest.raises(uw.InputError, match=r"config: .*TransformerLens.*small_config"):
        uw.load_model(random_state(CONFIG), config=hf.config)
    with pytest.raises(uw.ModelError, match="config: model_type is 'bert'"):
        uw.load_model(hf.state_dict(), config={"model_type": "bert"})


@pytest.mark.parametrize(
    ("source", "told"), [({"model": {}}, "'model'"), ({1: torch.zeros(2)}, "entry 1"), ({"w": [1.0]}, "'w'")]
)
def test_a_dict_that_is_no_state_dict(source: Any, told: str) -> None:
    with unchecked(), pytest.raises(uw.ModelError, match=f"in memory: expected a state dict.*{told}"):
        uw.load_model(source, config=CONFIG)


def test_copies_in_two_dtypes_are_tied_if_they_hold_the_same_values() -> None:
    config = replace(CONFIG, tied_unembed=True, d_vocab_out=7)
    state = random_state(config)
    rounded = state["embed.W_E"].half()
    weights = weights_from_state_dict(config, {**state, "embed.W_E": rounded, "unembed.W_U": rounded.T.double()})
    assert weights.w_u is weights.w_e
    with pytest.raises(uw.ModelError, match="tied_unembed=False"):
        weights_from_state_dict(config, {**state, "unembed.W_U": rounded.T})


def test_a_config_where_none_belongs(tmp_path: Path) -> None:
    with pytest.raises(uw.InputError, match="config: it goes with a state dict, and smollm2-135m is not"):
        uw.load_model("smollm2-135m", config=CONFIG)
    uw.save_model(random_model(CONFIG), tmp_path)
    with pytest.raises(uw.InputError, match="has its own config; leave config out"):
        uw.load_model(tmp_path, config=CONFIG)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, protocol: str) -> None:
    content = {**random_state(CONFIG), "trap": Trap(tmp_path / "ran")}
    file = file_of(tmp_path, content)
    if protocol == "pickle":
        file.write_bytes(pickle.dumps(content))
    with pytest.raises(uw.ModelError, match="holds more than names and tensors, and no code of a file is run"):
        uw.load_model(file, config=CONFIG)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"state_dict": {}}, {1: torch.zeros(2)}, torch.zeros(2)])
def test_what_is_no_state_dict(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "tiny.pt")
    with pytest.raises(uw.ModelError, match=r"tiny\.pt: expected a state dict, names with tensors"):
        uw.load_model(tmp_path / "tiny.pt", config=CONFIG)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(uw.UnweaveError, match=r"none\.pt"):
        uw.load_model(tmp_path / "none.pt", config=CONFIG)
