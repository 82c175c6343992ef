"""What is said of a result above its table: what was asked of which model, how, and what the numbers mean."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray

Says = Mapping[str, str]
Dims = tuple[str, ...]


def heading(result: "xarray.DataArray | xarray.Dataset | xarray.DataTree") -> list[str]:
    """The lines: model, task and prompts; the scores; the scale; how the method was asked; notes, and findings."""
    from unweave.results.labels import number
    from unweave.views.charts.captions import meaning
    from unweave.views.facts import scope_of, sense_of
    from unweave.views.wording import counted

    # A summary of several sites has its attributes in each of them.
    first = result if result.attrs else next(iter(dict(result).values()))
    says = {str(key): _text(value) for key, value in first.attrs.items()}
    if not result.attrs.get("site") and isinstance(result, Mapping):
        says["site"] = ", ".join(map(str, result))
    method = says.get("method", "")
    prompts = f"{counted(int(says.get('n_prompts', 0)), 'prompt')}, corruption {says.get('corruption', '')}"
    lines = [f"{says.get('model', '')}: {method}, task {says.get('task', '')}, {prompts}"]
    if "clean" in result.coords and "corrupted" in result.coords:
        clean, corrupted = (number(float(result.coords[side].mean())) for side in ("clean", "corrupted"))
        scores = f"{clean} on the clean prompts, {corrupted} on the corrupted ones"
        unit = f" ({says['metric_unit']})" if says.get("metric_unit") else ""
        lines.append(f"mean {says.get('metric', 'metric')}: {scores}{unit}")
    scale = meaning(says)
    lines += ["; ".join(scale)] if scale else []
    lines += [sense_of(first).note()] if sense_of(first).note() else []  # pyright: ignore[reportArgumentType]
    lines += [_HOW[method](says, tuple(map(str, first.dims)))] if method in _HOW else []
    lines += [scope_of(first)] if scope_of(first) else []  # pyright: ignore[reportArgumentType]
    lines += [says["notes"]] if says.get("notes") else []
    return [*lines, *_backups(result)] if method == "backup heads" and "prompt" in result.dims else lines


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _patching(says: Says, _: Dims) -> str:
    ways = {"denoise": "clean values in the corrupted run", "noise": "corrupted values in the clean run"}
    what = "" if says["site"] == "addresses" else f"{says['site']}: "
    return f"{what}{ways[says['direction']]}"


def _path(says: Says, dims: Dims) -> str:
    sent = "" if "sender" in dims else "from every head " if "head" in dims else "from every MLP "
    places = f"sent at {says['sender_at']}, received at {says['receiver_at']}"
    return f"{sent}to {says['receivers']}; {places}; MLPs {says['mlps']}, attention {says['attention']}"


def _knockout(says: Says, dims: Dims) -> str:
    kind = {"mlp": "MLP", "layer": "layer"}.get(says["site"], f"head's {says['site']}")
    each = f"every {kind} in turn, " if "layer" in dims else ""
    return each + _replaced(says, dims)


def _replaced(says: Says, _: Dims) -> str:
    of = f" of the {says['source']} prompts" if says["source"] in ("clean", "corrupted") else ""
    whom = says.get("knocked_out", "")
    whom += " together, " if "," in whom else ", " if whom else ""
    return f"{whom}replaced by: {says['how']}{of}, at {says['at']}"


def _backups(result: "xarray.DataArray | xarray.Dataset | xarray.DataTree") -> list[str]:
    """Which heads step in, and whether less is lost than was foreseen."""
    from unweave.views.knockouts import backup_finding, prediction_table

    return [backup_finding(result), prediction_table(result).title]  # type: ignore[arg-type]


# Of a method: how it was asked, in a line.
_HOW: Mapping[str, Callable[[Says, Dims], str]] = {
    "activation patching": _patching,
    "path patching": _path,
    "knockout": _knockout,
    "backup heads": _replaced,
}
