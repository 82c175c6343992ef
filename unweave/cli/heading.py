"""What is said of a result above its table: what was asked of which model, how, and what the numbers mean."""

from collections.abc import Mapping

import xarray as xr

from unweave.registry import method_of
from unweave.results.labels import number
from unweave.views.knockouts import backup_finding, prediction_table
from unweave.views.scope import scope_of
from unweave.views.sense import meaning, sense_of
from unweave.views.wording import counted


def heading(result: xr.DataArray | xr.Dataset | xr.DataTree, what: str = "") -> list[str]:
    """The lines: model, task and prompts; the scores; the scale; how the method was asked; notes, and findings.

    `what` was done: by default the method's name.
    """
    # A summary of several sites has its attributes in each of them.
    first = result if result.attrs else next(iter(dict(result).values()))
    says = {str(key): _text(value) for key, value in first.attrs.items()}
    if not result.attrs.get("site") and isinstance(result, Mapping):
        says["site"] = ", ".join(map(str, result))
    known = method_of(says)
    prompts = f"{counted(int(says.get('n_prompts', 0)), 'prompt')}, corruption {says.get('corruption', '')}"
    lines = [f"{says.get('model', '')}: {what or says.get('method', '')}, task {says.get('task', '')}, {prompts}"]
    if "clean" in result.coords and "corrupted" in result.coords:
        clean, corrupted = (number(float(result.coords[side].mean())) for side in ("clean", "corrupted"))
        scores = f"{clean} on the clean prompts, {corrupted} on the corrupted ones"
        unit = f" ({says['metric_unit']})" if says.get("metric_unit") else ""
        lines.append(f"mean {says.get('metric', 'metric')}: {scores}{unit}")
    scale = meaning(says)
    lines += ["; ".join(scale)] if scale else []
    lines += [sense_of(first).note()] if sense_of(first).note() else []  # pyright: ignore[reportArgumentType]
    lines += [known.asked(says, tuple(map(str, first.dims)))] if known and known.asked else []
    lines += [scope_of(first)] if scope_of(first) else []  # pyright: ignore[reportArgumentType]
    lines += [says["notes"]] if says.get("notes") else []
    return [*lines, *_backups(result)] if says.get("backups") is not None and "prompt" in result.dims else lines


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _backups(result: xr.DataArray | xr.Dataset | xr.DataTree) -> list[str]:
    """Which heads step in, and whether less is lost than was foreseen."""
    return [backup_finding(result), prediction_table(result).title]  # type: ignore[arg-type]
