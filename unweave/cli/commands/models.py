"""`unweave models`."""

from typing import TYPE_CHECKING

import typer

from unweave.cli import output
from unweave.cli.terminal import stoppable

if TYPE_CHECKING:
    from unweave.models.default import PackagedModel


@stoppable
def run() -> None:
    """The models known by name, and what else can be loaded."""
    from unweave.models.default import KNOWN, home
    from unweave.models.families import FAMILIES
    from unweave.models.shipped import SHIPPED
    from unweave.views.blocks import Table

    rows = [(model.name, model.description, model.licence, _where(model)) for model in KNOWN.values()]
    rows += [(model.name, model.description, model.licence, "comes with unweave") for model in SHIPPED.values()]
    output.print_table(Table(("name", "what it is", "licence", "files"), tuple(rows)))
    typer.echo(f"What is fetched is kept in {home()}; UNWEAVE_HOME names another folder.")
    families = ", ".join(FAMILIES)
    typer.echo(f"Also: a folder in Hugging Face layout, a .gguf file, or a hub id, of the families {families}.")


def _where(model: "PackagedModel") -> str:
    return "here" if model.converted.is_dir() else f"fetched on first use, {model.n_bytes / 1e6:.0f} MB"
