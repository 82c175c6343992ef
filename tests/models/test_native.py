"""Our own format: written, read, and refused where it was altered."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import unweave as uw
from tests.small import random_model, small_model
from tests.tiny import tiny_model
from tests.tiny_folder import write_tiny_folder
from unweave.models import native

TOKENS = torch.tensor([[0, 3, 5, 6], [2, 2, 1, 4]])


@pytest.mark.parametrize("kind", ["layer", "none", "rotary", "gpt2", "llama", "gpt_neox"])
def test_what_is_saved_comes_back(tmp_path: Path, kind: str) -> None:
    model = small_model(kind) if kind in ("layer", "none", "rotary") else tiny_model(kind)  # type: ignore[arg-type]
    model = model.process("all")
    assert uw.save_model(model, tmp_path / "mine") == tmp_path / "mine"
    again = uw.load_model(tmp_path / "mine", dtype="float64", device="cpu")
    assert replace(again.config, source="", revision="") == model.config
    assert again.config.source == str(tmp_path / "mine" / "model.safetensors")
    torch.testing.assert_close(again.run(TOKENS).logits, model.run(TOKENS).logits, rtol=0, atol=1e-12)
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["config.json", "model.safetensors"]


def test_the_weights_file_is_enough_to_name_the_folder(tmp_path: Path) -> None:
    uw.save_model(small_model("layer"), tmp_path)
    assert uw.load_model(tmp_path / "model.safetensors").config == uw.load_model(tmp_path).config


def test_the_same_weights_have_the_same_revision(tmp_path: Path) -> None:
    revisions = []
    for seed in (1, 1, 2):
        uw.save_model(random_model(uw.small_config(d_vocab_out=2), seed), tmp_path / str(len(revisions)))
        revisions.append(uw.load_model(tmp_path / str(len(revisions))).config.revision)
    assert revisions[0] == revisions[1] != revisions[2]
    assert len(revisions[0]) == 12


def test_a_tokenizer_comes_along(tmp_path: Path) -> None:
    write_tiny_folder(tmp_path / "hf")
    model = uw.load_model(tmp_path / "hf")
    uw.save_model(model, tmp_path / "mine")
    again = uw.load_model(tmp_path / "mine")
    assert again.to_str_tokens(" Mary gave the ball") == model.to_str_tokens(" Mary gave the ball")
    torch.testing.assert_close(again.run(" Mary gave").logits, model.run(" Mary gave").logits)


def test_a_save_goes_over_the_last_one_and_over_nothing_else(tmp_path: Path) -> None:
    uw.save_model(small_model("layer"), tmp_path / "mine")
    uw.save_model(small_model("none"), tmp_path / "mine")
    assert uw.load_model(tmp_path / "mine").config.norm == "none"
    write_tiny_folder(tmp_path / "hf")
    before = (tmp_path / "hf" / "model.safetensors").read_bytes()
    with pytest.raises(uw.InputError, match=r"folder: .*hf holds a model in another format"):
        uw.save_model(small_model("layer"), tmp_path / "hf")
    assert (tmp_path / "hf" / "model.safetensors").read_bytes() == before


def test_a_save_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uw.save_model(small_model("layer"), tmp_path)

    def refused(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(native, "save_file", refused)
    with pytest.raises(uw.InputError, match=r"cannot write .*No space left on device"):
        uw.save_model(small_model("none"), tmp_path)
    assert uw.load_model(tmp_path).config.norm == "layer"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(uw.InputError, match="folder: cannot write"):
        uw.save_model(small_model("layer"), tmp_path / "file" / "inside")


def rewritten(folder: Path, **changes: object) -> None:
    """The folder's config with some fields changed."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **changes}), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "unweave 2"}, r"config\.json: format 'unweave 2', and this version of unweave reads 'unweave 1'"),
        ({"heads": 2}, r"config\.json: config: 'heads' is not a field"),
        ({"n_layers": 0}, r"config\.json: n_layers: expected at least 1"),
        ({"n_layers": 3}, r"model\.safetensors: the state dict and the config do not fit: missing: blocks\.2"),
        ({"revision": "0" * 12}, r"model\.safetensors: not the weights that config\.json was written with"),
    ],
)
def test_an_altered_config(tmp_path: Path, changes: dict, message: str) -> None:
    uw.save_model(small_model("layer"), tmp_path)
    rewritten(tmp_path, **changes)
    with pytest.raises(uw.ModelError, match=message):
        uw.load_model(tmp_path)


def test_altered_weights(tmp_path: Path) -> None:
    uw.save_model(small_model("layer"), tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["embed.W_E"][0, 0] += 1
    save_file(tensors, file)
    with pytest.raises(uw.ModelError, match="not the weights"):
        uw.load_model(tmp_path)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(uw.ModelError, match="truncated or altered"):
        uw.load_model(tmp_path)
    file.unlink()
    with pytest.raises(uw.ModelError, match=r"no model\.safetensors beside the config"):
        uw.load_model(tmp_path)
