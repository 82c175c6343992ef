"""The arithmetic that a sweep cannot do without, from the reach of its patches.

A patch enters the residual stream of one layer, and reaches the positions from its own (or, if it is at all positions,
from the first token that differs) to the one that the metric reads. What it can still change is:

1. of a head's `q`, `k`, `v` or `pattern`, what that head (or each head of its group) makes of it;
2. of a head, its way in through the output matrix, and the MLP of its layer;
3. attention and MLP of every later layer, at the same positions, with the recipient's keys and values before them;
4. in the last layer, keys and values at these positions, and everything else at the position that is read;
5. the logits that the metric reads.

A path takes the sender's way in, the MLPs up to the receivers and what these read, at all these positions; then the
receiving heads' way in and every later layer, from the first receiver behind the sender on. To the logits it takes the
MLPs alone, at the position that is read.

Counted are the matrix products, two operations for each multiplication and addition. Norms, softmax and activation
functions are not, though every way of doing it pays for them as well. Serial blocks only.
"""

from benchmarks.sweeps import Cell, Input, Paths, Sweep
from unweave.models.config import Config
from unweave.models.prompts import Prompts

LOGITS_READ = 2
# Products of a head with every key that a query reads, to make its output from the patched activation.
REMADE = {"z": 0, "pattern": 1, "v": 1, "q": 2, "k": 2}


def operations(config: Config, sweep: Sweep | Paths, prompts: Prompts, corrupted: Prompts) -> int:
    """Operations that the sweep needs on all prompts."""
    if config.block != "serial":
        raise NotImplementedError("operations are counted for serial blocks only")
    firsts = (prompts.tokens != corrupted.tokens).int().argmax(dim=1).tolist()
    ends = prompts.role("end").tolist()
    cells = sweep.cells(config, prompts.tokens.shape[1])
    spans = list(zip(firsts, ends, strict=True))
    if isinstance(sweep, Paths):
        return 2 * sum(_path(config, sweep.receivers, cell.index[0], *span) for span in spans for cell in cells)
    return 2 * sum(_patch(config, sweep, cell, *span) for span in spans for cell in cells)


def _path(config: Config, receivers: tuple[Input, ...], layer: int, first: int, end: int) -> int:
    """Multiplications of one head of a layer that is sent to the receivers of one prompt."""
    read = [receiver for receiver in receivers if receiver[0] > layer]
    if first > end or (receivers and not read):
        return 0
    rows, last = (end - first + 1, read[-1][0]) if read else (1, config.n_layers)
    written = config.d_head * config.d_model
    carried = rows * (written + (last - layer) * _mlp(config) + len(read) * written)
    if not read:
        return carried + _logits(config)
    start = read[0][0]
    own = end if start == config.n_layers - 1 else first
    heads = sum(_heads(config, kind, own, end) for at, _, kind in read if at == start)
    again = heads + (end - own + 1) * _mlp(config) + _layers(config, start + 1, first, end)
    return carried + again + _logits(config)


def _patch(config: Config, sweep: Sweep, cell: Cell, first: int, end: int) -> int:
    """Multiplications of one patch of one prompt; none where it changes nothing, or nothing that is read."""
    where = dict(zip(sweep.over, cell.index, strict=True))
    start = where.get("pos", first)
    last_output = cell.site != "resid_pre" and where["layer"] == config.n_layers - 1
    if not first <= start <= end or (last_output and where.get("pos", end) != end):
        return 0
    if cell.site == "resid_pre":
        return _layers(config, where["layer"], start, end) + _logits(config)
    own = end if last_output else start
    return _way_in(config, cell.site, own, end) + _layers(config, where["layer"] + 1, start, end) + _logits(config)


def _way_in(config: Config, site: str, start: int, end: int) -> int:
    """From a head's activation to the end of its layer."""
    return _heads(config, site, start, end) + (end - start + 1) * _mlp(config)


def _heads(config: Config, site: str, start: int, end: int) -> int:
    """What the heads that share an activation make of it, and their way to the residual stream."""
    rows = end - start + 1
    heads = config.heads_per_kv if site in ("k", "v") else 1
    return heads * (REMADE[site] * config.d_head * _keys(start, end) + rows * config.d_head * config.d_model)


def _layers(config: Config, layer: int, start: int, end: int) -> int:
    """From `resid_pre` of a layer to the last norm; there is none after the last layer."""
    if layer == config.n_layers:
        return 0
    whole = (config.n_layers - 1 - layer) * _layer(config, start, end, start)
    return whole + _layer(config, start, end, end)


def _layer(config: Config, start: int, end: int, wanted: int) -> int:
    """One layer that is entered from `start` on, and whose output is wanted from `wanted` on."""
    inputs, outputs = end - start + 1, end - wanted + 1
    keys_values = 2 * config.d_model * config.n_kv_heads * config.d_head
    queries_output = 2 * config.d_model * config.n_heads * config.d_head
    attention = 2 * config.n_heads * config.d_head * _keys(wanted, end)
    return inputs * keys_values + outputs * (queries_output + _mlp(config)) + attention


def _keys(start: int, end: int) -> int:
    """Keys that the queries from `start` to `end` read, in all."""
    return sum(range(start + 1, end + 2))


def _mlp(config: Config) -> int:
    return (3 if config.gated_mlp else 2) * config.d_model * config.d_mlp


def _logits(config: Config) -> int:
    return LOGITS_READ * config.d_model
