"""A patch of several places at once: the recipient's run, resumed at the first patched layer with all edits made."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.engine.recording import Recording
from unweave.engine.sheet import Joint, Sheet
from unweave.models.forward import block
from unweave.models.run import Edit, Recorder, where


def resume(joint: Joint, recording: Recording, rows: Sequence[int]) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream of some prompts after the last block, with every member's value taken from the donor."""
    config, at = recording.config, list(rows)
    tap = Recorder(config, (), [_edit(member, recording, at) for member in joint.members])
    start = min(member.layer for member in joint.members)
    x = recording.recipient["resid_pre", start][at]
    inputs = recording.inputs.take(torch.tensor(at))
    for layer in range(start, config.n_layers):
        x = block(config, recording.weights.layers[layer], x, inputs, tap, layer)
    return x


def _edit(sheet: Sheet, recording: Recording, rows: list[int]) -> Edit:
    """The sheet's first variant as an edit: the donor's value at its part and place."""
    value = recording.donor[sheet.site, sheet.layer][rows]
    part = None if sheet.parts is None else sheet.parts[0]
    place = None if sheet.places is None else sheet.places[0, rows].to(value.device)
    head, neuron = (None, part) if sheet.site == "mlp_post" else (part, None)
    whole = Edit(sheet.site, sheet.layer, value, head=head, pos=place, neuron=neuron)
    return replace(whole, value=value[where(whole, len(rows), value.device)])
