"""A patch of several places at once: the recipient's run, resumed at the first patched layer with all edits made."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from unweave.engine.recording import Recording
from unweave.engine.sheet import Joint, Sheet
from unweave.models.forward import block
from unweave.models.run import Edit, Recorder, where


def resume(joint: Joint, recording: Recording) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream after the last block, with every member's value taken from the donor."""
    config = recording.config
    tap = Recorder(config, (), [edit for member in joint.members for edit in _edits(member, recording)])
    start = min(member.layer for member in joint.members)
    x = recording.recipient["resid_pre", start]
    for layer in range(start, config.n_layers):
        x = block(config, recording.weights.layers[layer], x, recording.sight, tap, layer)
    return x


def _edits(sheet: Sheet, recording: Recording) -> list[Edit]:
    """The sheet's first variant as edits: the donor's value at its part and place."""
    value = recording.donor[sheet.site, sheet.layer]
    part = None if sheet.parts is None else sheet.parts[0]
    place = None if sheet.places is None else sheet.places[0].to(value.device)
    head, neuron = (None, part) if sheet.site == "mlp_post" else (part, None)
    whole = Edit(sheet.site, sheet.layer, value, head=head, pos=place, neuron=neuron)
    return [replace(whole, value=value[where(whole, value.shape[0], value.device)])]
