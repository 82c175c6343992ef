"""`load_model` from every kind of source, and what it says of those it cannot use."""

import json
import logging
import pickle
import warnings
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BertConfig, BertModel, LlamaConfig

from tests.models.gguf_files import tokenizer, write_gguf
from tests.models.reference import gpt2, llama, neox, random_model, reference_logits
from tests.readers import unchecked
from unweave.errors import InputError, ModelError
from unweave.models.loading import load_model
from unweave.models.native import save_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Llama in HF layout, with a tokenizer."""
    words = tokenizer()
    hf = random_model(llama(vocab_size=len(words)), torch.float32)
    hf.save_pretrained(tmp_path / "tiny-llama")
    words.save_pretrained(tmp_path / "tiny-llama")
    return tmp_path / "tiny-llama"


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(23, (2, 7), generator=torch.Generator().manual_seed(1))


def read_back(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    return reference_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokens)


def test_folder(folder: Path, tokens: torch.Tensor) -> None:
    model = load_model(folder)
    torch.testing.assert_close(model.run(tokens).logits, read_back(folder, tokens), atol=1e-4, rtol=0)
    assert model.config.name == "tiny-llama"
    assert model.config.source == str(folder)
    assert model.to_str_tokens(" John gave milk", bos=True) == ("<s>", " John", " gave", " milk")
    assert not any(w.requires_grad for w in (model.weights.w_e, model.weights.w_u, model.weights.layers[0].w_o))


def test_folder_as_text_with_dtype_and_processing(folder: Path, tokens: torch.Tensor) -> None:
    model = load_model(str(folder), dtype="float64", device="cpu", process="fold_norm")
    assert model.dtype == torch.float64
    assert model.config.processing == ("fold_norm",)
    expected = read_back(folder, tokens).double()
    torch.testing.assert_close(model.run(tokens).logits, expected, atol=1e-4, rtol=0)
    steps = ("fold_norm", "fold_value_bias")
    assert load_model(folder, process=steps).config.processing == steps


def test_folder_in_shards(folder: Path, tmp_path: Path, tokens: torch.Tensor) -> None:
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    hf.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    shards = sorted((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(shards) > 1
    model = load_model(tmp_path / "shards")
    assert model.tokenizer is None
    torch.testing.assert_close(model.run(tokens).logits, reference_logits(hf.eval(), tokens), atol=1e-4, rtol=0)
    shards[1].unlink()
    with pytest.raises(ModelError, match=f"{shards[1].name}: no such file"):
        load_model(tmp_path / "shards")


def test_folder_with_pytorch_weights(folder: Path, tokens: torch.Tensor) -> None:
    expected = load_model(folder).run(tokens).logits
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(load_model(folder).run(tokens).logits, expected)

    whole = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: cannot be read"):
        load_model(folder)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_pickled_code_is_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"w": Trap(tmp_path / "ran")}))
    with pytest.raises(ModelError, match=r"pytorch_model\.bin"):
        load_model(folder)
    assert not (tmp_path / "ran").exists()


def test_older_spellings_in_config(folder: Path, tokens: torch.Tensor) -> None:
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope["rope_theta"], "rope_scaling": None, "torch_dtype": "float32", "temperature": 0.7}
    expected = load_model(folder).run(tokens).logits
    (folder / "config.json").write_text(json.dumps(config))
    assert torch.equal(load_model(folder).run(tokens).logits, expected)


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json in this folder"):
        load_model(tmp_path)


def test_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no weights.*model\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"model\.safetensors: truncated or altered"):
        load_model(folder)


def test_weights_of_another_config(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({name: t for name, t in tensors.items() if "layers.1" not in name}, file)
    with pytest.raises(ModelError, match=r"tiny-llama: tensor layers\.1\.\S+ is missing"):
        load_model(folder)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "expected a JSON object"),
        ("{}", "model_type is missing; unweave reads the families gpt2, gpt_neox, llama"),
        ('{"model_type": "mamba"}', "model_type is 'mamba'; unweave reads the families gpt2, gpt_neox, llama"),
        ('{"model_type": "llama", "hidden_size": "wide"}', "transformers cannot read this config"),
    ],
)
def test_config_that_cannot_be_used(folder: Path, text: str, told: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert str(caught.value).startswith(f"{folder / 'config.json'}: {told}")


def broken(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def sentencepiece(folder: Path) -> None:
    """Only a file that needs a package which is not installed, or is no file of that package."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "tokenizer.model").write_bytes(b"\0")


@pytest.mark.parametrize("spoil", [broken, sentencepiece])
def test_a_tokenizer_that_cannot_be_read_is_not_needed(folder: Path, spoil: Any, tokens: torch.Tensor) -> None:
    expected = load_model(folder).run(tokens).logits
    spoil(folder)
    with pytest.raises(ModelError, match=r"cannot read the tokenizer.*tokenizer=.*tokenizer=False"):
        load_model(folder)
    words = tokenizer()
    assert load_model(folder, tokenizer=words).tokenizer is words
    assert load_model(folder, tokenizer=False).tokenizer is None
    assert torch.equal(load_model(folder, tokenizer=False).run(tokens).logits, expected)


def test_a_given_tokenizer_is_used_whatever_the_source(tmp_path: Path, folder: Path) -> None:
    words = tokenizer()
    save_model(load_model(folder), tmp_path / "mine")
    broken(tmp_path / "mine")
    file = write_gguf(tmp_path / "tiny.gguf")
    broken(tmp_path)
    for source in (folder, tmp_path / "mine", file, "palindrome"):
        assert load_model(source, tokenizer=words).tokenizer is words
        assert load_model(source, tokenizer=False).tokenizer is None
    with pytest.raises(InputError, match=r"tokenizer: .*'gpt2'"):
        load_model(folder, tokenizer="gpt2")


@pytest.mark.parametrize("kept", ["*", "adapter*"])
def test_an_adapter_is_refused(folder: Path, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "org/base"}')
    (folder / "adapter_model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    for file in set(folder.iterdir()) - set(folder.glob(kept)):
        file.unlink()
    with pytest.raises(ModelError, match=r"adapter_config\.json.*merge"):
        load_model(folder)
    asked: list[str] = []

    def snapshot(allow_patterns: list[str], **_: Any) -> str:
        asked.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ModelError, match=r"adapter_config\.json.*merge"):
        load_model("org/adapter")
    assert "adapter_config.json" in asked


def test_an_adapter_beside_a_gguf_file_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"adapter_config\.json.*merge"):
        load_model(file)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match=r"tiny\.gguf: is an adapter.*merge"):
        load_model(write_gguf(tmp_path / "tiny.gguf", kind="adapter"))


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', '{"weight_map": {"w": 3}}', "[", '{"weight_map": {}}'])
def test_an_index_that_names_no_files(folder: Path, text: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json"):
        load_model(folder)


def test_half_precision_on_disk(folder: Path, tokens: torch.Tensor) -> None:
    file = folder / "model.safetensors"
    stored = {name: t.half() if "norm" in name else t.bfloat16() for name, t in load_file(file).items()}
    save_file(stored, file)
    model = load_model(folder)
    assert model.dtype == torch.float32
    torch.testing.assert_close(model.run(tokens).logits, read_back(folder, tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize("text", ["{", "[]", '{"temperature": "hot", "eos_token_id": 10000000}'])
def test_how_a_model_generates_is_not_read(folder: Path, text: str, tokens: torch.Tensor) -> None:
    expected = load_model(folder).run(tokens).logits
    (folder / "generation_config.json").write_text(text)
    assert torch.equal(load_model(folder).run(tokens).logits, expected)


@pytest.mark.parametrize("source", [None, 3, ["smollm2-135m"], LlamaConfig()])
def test_what_is_no_source(source: Any) -> None:
    with unchecked(), pytest.raises(InputError, match=rf"source: .*got {type(source).__name__}"):
        load_model(source)


@pytest.mark.parametrize("make", [llama, gpt2, neox])
def test_loaded_model(make: Any, tokens: torch.Tensor) -> None:
    hf = random_model(make())
    words = tokenizer()
    model = load_model(hf, dtype=torch.float64, tokenizer=words)
    expected = reference_logits(hf, tokens)
    assert model.tokenizer is words
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.zero_()  # the weights are ours alone
    torch.testing.assert_close(model.run(tokens).logits, expected, atol=1e-9, rtol=0)


def test_loaded_model_that_is_not_supported() -> None:
    bert = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    with pytest.raises(ModelError, match="model_type is 'bert'"):
        load_model(bert)
    with pytest.raises(ModelError, match="a Linear has no HF config"):
        load_model(torch.nn.Linear(2, 2))


def test_gguf(tmp_path: Path, tokens: torch.Tensor) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    model = load_model(file)
    hf = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32).eval()
    torch.testing.assert_close(model.run(tokens).logits, reference_logits(hf, tokens), atol=1e-4, rtol=0)
    assert "quantization_config" in hf.config.to_dict()  # still there, though the weights are plain float32
    torch.testing.assert_close(load_model(hf).run(tokens).logits, model.run(tokens).logits, atol=1e-6, rtol=0)
    assert model.to_str_tokens(" Mary gave milk", bos=True) == ("<s>", " Mary", " gave", " milk")
    assert len(model.config.revision) == 12


def test_gguf_that_would_lose_something(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"llama\.rope\.scaling\.type='linear' is dropped"):
        load_model(write_gguf(tmp_path / "scaled.gguf", rope_scaling=True))
    with pytest.raises(ModelError, match=r"rope_freqs .*is dropped"):
        load_model(write_gguf(tmp_path / "freqs.gguf", extra="rope_freqs.weight"))
    with pytest.raises(ModelError, match="holds 21 tensors, and transformers reads 20"):
        load_model(write_gguf(tmp_path / "extra.gguf", extra="blk.0.ffn_up.bias"))


@pytest.mark.parametrize("kept", [0, 3, 1000, -100])
def test_truncated_gguf(tmp_path: Path, kept: int) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"tiny\.gguf: truncated, altered or not a GGUF file"):
        load_model(file)


@pytest.mark.parametrize("name", ["smollm3", "no/such/folder", "./nowhere", "gone.gguf", "org/gone.gguf"])
def test_unknown_name_lists_what_there_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelError, match=r"not found\..* A model is a name \(smollm2-135m, palindrome\), a folder.*hub id"
    ):
        load_model(name)


def test_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="a kind that is not read"):
        load_model(tmp_path / "model.onnx")


def test_hub(folder: Path, tokens: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def snapshot(**where: Any) -> str:
        asked.append(where)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    model = load_model("org/tiny-llama", revision="main")
    assert model.config.name == "org/tiny-llama"
    assert [(where["repo_id"], where["revision"]) for where in asked] == [("org/tiny-llama", "main")]
    assert torch.equal(model.run(tokens).logits, load_model(folder).run(tokens).logits)


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(**where: Any) -> str:
        raise OSError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ModelError, match=r"org/name: no such folder.*\(no network\).*check the name and the network"):
        load_model("org/name")


def test_revision_is_for_the_hub(folder: Path) -> None:
    with pytest.raises(InputError, match="revision='main' is for hub ids"):
        load_model(folder, revision="main")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", "cuda:x"])
def test_device_that_is_not_there(folder: Path, device: str) -> None:
    with pytest.raises(InputError, match=f"device='{device}'"):
        load_model(folder, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_where_there_is_none(folder: Path) -> None:
    with pytest.raises(InputError, match="device='cuda': this machine has no such device"):
        load_model(folder, device="cuda")
    assert load_model(folder).device.type == "cpu"


@pytest.mark.parametrize("dtype", ["int8", torch.int32, "float"])
def test_dtype_that_is_not_supported(folder: Path, dtype: Any) -> None:
    with pytest.raises(InputError, match="is not supported; give one of float64, float32"):
        load_model(folder, dtype=dtype)


def test_says_nothing_and_leaves_settings_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    before = transformers.utils.logging.get_verbosity(), logging.root.level, len(warnings.filters)
    capfd.readouterr()
    load_model(file)
    assert capfd.readouterr() == ("", "")
    assert (transformers.utils.logging.get_verbosity(), logging.root.level, len(warnings.filters)) == before
