"""What is said of a result above its table: what was asked of which model, how, and what the numbers mean."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray

Says = Mapping[str, str]


def heading(result: "xarray.DataArray | xarray.Dataset | xarray.DataTree") -> list[str]:
    """The lines: model, task and prompts; the scores; the scale; how the method was asked; notes, and findings."""
    from unweave.results.labels import number
    from unweave.views.wording import counted

    # A summary of several sites has its attributes in each of them.
    first = result if result.attrs else next(iter(dict(result).values()))
    says = {str(key): str(value) for key, value in first.attrs.items()}
    method = says.get("method", "")
    prompts = f"{counted(int(says.get('n_prompts', 0)), 'prompt')}, corruption {says.get('corruption', '')}"
    lines = [f"{says.get('model', '')}: {method}, task {says.get('task', '')}, {prompts}"]
    if "clean" in result.coords and "corrupted" in result.coords:
        clean, corrupted = (number(float(result.coords[side].mean())) for side in ("clean", "corrupted"))
        scores = f"{clean} on the clean prompts, {corrupted} on the corrupted ones"
        unit = f" ({says['metric_unit']})" if says.get("metric_unit") else ""
        lines.append(f"mean {says.get('metric', 'metric')}: {scores}{unit}")
    if says.get("zero") and says.get("one"):
        lines.append(f"0: {says['zero']}; 1: {says['one']}")
    lines += [_HOW[method](says)] if method in _HOW else []
    lines += [says["notes"]] if says.get("notes") else []
    return [*lines, *_backups(result)] if method == "backup heads" and "prompt" in result.dims else lines


def _path(says: Says) -> str:
    places = f"sent at {says['sender_at']}, received at {says['receiver_at']}"
    return f"to {says['receivers']}; {places}; MLPs {says['mlps']}, attention {says['attention']}"


def _knockout(says: Says) -> str:
    of = f" of the {says['reference']} prompts" if says["reference"] in ("clean", "corrupted") else ""
    return f"replaced by: {says['how']}{of}, at {says['at']}"


def _backups(result: "xarray.DataArray | xarray.Dataset | xarray.DataTree") -> list[str]:
    """Which heads step in, and whether less is lost than was foreseen."""
    from unweave.views.knockouts import backup_finding, prediction_table

    return [backup_finding(result), prediction_table(result).title]  # type: ignore[arg-type]


# Of a method: how it was asked, in a line.
_HOW: Mapping[str, Callable[[Says], str]] = {"path patching": _path, "knockout": _knockout, "backup heads": _knockout}
