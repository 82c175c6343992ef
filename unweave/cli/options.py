"""Options that several commands share, and how their texts are read: sizes, lists of places, files.

What a model has to know is checked later.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unweave.errors import InputError
from unweave.nodes import check_once, read_nodes

# The heading of these options in the help.
ASKED = "Model, task and prompts"
DEFAULT_MODEL = "smollm2-135m"
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def names(text: str, option: str) -> tuple[str, ...]:
    """Names between commas, with one space inside them. Raises InputError for none, and for one that stands twice."""
    found = tuple(" ".join(part.split()) for part in text.split(","))
    if not all(found):
        raise InputError(f"{option}: expected names between commas, got {text!r}")
    check_once(found, option)
    return found


def places(text: str, option: str, words: Sequence[str], sites: Sequence[str]) -> str | list[str]:
    """One of the words, or nodes of these sites between commas, several together with a plus.

    Raises InputError for what is none of them, and for one that is named twice.
    """
    if text.strip() in words:
        return text.strip()
    found = names(text, option)
    joints = [read_nodes(name, option) for name in found]
    for joint in joints:
        wrong = next((node for node in joint if node.site not in sites), None)
        if wrong:
            raise InputError(
                f"{option}: {str(wrong)!r} cannot be taken; write {', '.join(words)}, or {' '.join(sites)}"
            )
        check_once(joint, option)
    check_once(joints, option)
    return list(found)


def _names(param: typer.CallbackParam, text: str | None) -> tuple[str, ...] | None:
    return None if text is None else names(text, param.opts[0])


def _memory(text: str | None) -> int | float | None:
    """`2GB` and `500000000` as bytes, `0.3` as a share. Raises InputError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]b)?", text.strip().lower())
    if not found:
        raise InputError(f"--memory: expected bytes, a size such as 2GB, or a share such as 0.3, got {text!r}")
    number, unit = found[1], found[2] or ""
    return float(number) if "." in number and not unit else int(float(number) * _UNITS[unit])


def listed(help: str) -> Any:
    """An option that takes names between commas."""
    return typer.Option(help=help, callback=_names)


def asked(*flags: str, **more: Any) -> Any:
    """An option of the model, the task or the prompts."""
    return typer.Option(*flags, rich_help_panel=ASKED, **more)


ModelName = Annotated[str, asked(help="A name (see `unweave models`), a folder, a .gguf file or a hub id.")]
Device = Annotated[str | None, asked(help="cpu, cuda, cuda:1, …; the best there is, if left out.")]
Dtype = Annotated[str, asked(help="float32, float64, bfloat16 or float16.")]
Bos = Annotated[
    bool | None,
    asked("--bos/--no-bos", help="A beginning-of-sequence token in front; as the tokenizer does it, if neither."),
]
TaskName = Annotated[str, asked(help="A name (see `unweave tasks`), or your file of pairs: .jsonl, .csv, .json.")]
Corruption = Annotated[str | None, asked(help="How prompts are corrupted; the task's usual way, if left out.")]
Memory = Annotated[
    Any,  # a text that becomes a number
    typer.Option(
        help="What is held at once: 2GB, or a share of what is free, 0.3; half of that, if left out.",
        parser=str,
        metavar="<size>",
        callback=_memory,
    ),
]
Out = Annotated[Path | None, typer.Option(help="Keep the result: .nc to go on with, .html to look at.")]
Rows = Annotated[int, typer.Option("--top", min=1, help="How many rows to print.")]
Lone = Annotated[
    Literal["refuse", "keep"],
    typer.Option(help="A template of one prompt, whose mean is that prompt: refuse it, or keep it as it is."),
]


def check_folder(path: Path) -> None:
    """Makes the folder of `--out`. Raises InputError where it cannot be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        why = f"cannot write to the folder {path} ({error.strerror})"
        raise InputError(f"--out: {why}; name one that you may write to") from error


def check_file(path: Path | None, suffixes: tuple[str, ...] = (".nc", ".html")) -> None:
    """Raises InputError where `--out` has another suffix or cannot be written."""
    if path is None:
        return
    if path.suffix not in suffixes:
        raise InputError(f"--out: expected a file that ends in {' or '.join(suffixes)}, got {path}")
    if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"--out: {path} is a folder, or may not be written; name another file")
    check_folder(path.parent)
