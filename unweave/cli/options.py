"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

# The heading of these options in the help.
ASKED = "Model, task and prompts"

ModelName = Annotated[
    str, typer.Option(help="A name (see `unweave models`), a folder, a .gguf file or a hub id.", rich_help_panel=ASKED)
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, …; the best there is, if left out.", rich_help_panel=ASKED)
]
Dtype = Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.", rich_help_panel=ASKED)]
Bos = Annotated[
    bool | None,
    typer.Option(
        "--bos/--no-bos",
        help="A beginning-of-sequence token in front; as the tokenizer does it, if neither.",
        rich_help_panel=ASKED,
    ),
]
TaskName = Annotated[
    str,
    typer.Option(
        help="A name (see `unweave tasks`), or your file of pairs: .jsonl, .csv, .json.", rich_help_panel=ASKED
    ),
]
Corruption = Annotated[
    str | None,
    typer.Option(help="How prompts are corrupted; the task's usual way, if left out.", rich_help_panel=ASKED),
]
Memory = Annotated[
    str | None,
    typer.Option(help="What is held at once: 2GB, or a share of what is free, 0.3; half of that, if left out."),
]
Out = Annotated[Path | None, typer.Option(help="Keep the result: .nc to go on with, .html to look at.")]
Rows = Annotated[int, typer.Option("--top", min=1, help="How many rows to print.")]

DEFAULT_MODEL = "smollm2-135m"
