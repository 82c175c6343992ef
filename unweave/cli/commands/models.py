"""`unweave models`."""

from typing import TYPE_CHECKING

import typer

from unweave.cli import output

if TYPE_CHECKING:
    from unweave.models.default import KnownModel


def run() -> None:
    """The models known by name, and what else can be loaded."""
    from unweave.models.default import home, known_models
    from unweave.models.families import FAMILIES
    from unweave.views.blocks import Table

    rows = tuple((model.name, model.description, model.licence, _where(model)) for model in known_models())
    output.print_table(Table(("name", "what it is", "licence", "files"), rows))
    typer.echo(f"They are kept in {home()}; UNWEAVE_HOME names another folder.")
    families = ", ".join(FAMILIES)
    typer.echo(f"Also: a folder in Hugging Face layout, a .gguf file, or a hub id, of the families {families}.")


def _where(model: "KnownModel") -> str:
    return "here" if model.cached else f"fetched on first use, {model.n_bytes / 1e6:.0f} MB"
