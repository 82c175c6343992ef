"""What the study of indirect object identification has of its own, after Wang et al. 2022 (arXiv 2211.00593).

Next to the standard steps: prompts by the order of the names, patching by token on the eight fixed prompts, a second
corruption, names for heads by what they do and for the circuit's groups, attention against contribution, and whether
the heads that act through the name movers' queries carry positions or tokens. Paths and the circuit are under ABC, as
in the paper: new names in place of all three, so that nothing is left of the answer.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.errors import InputError
from unweave.methods.head_types import HeadTypes, classify_heads
from unweave.methods.patching import patch
from unweave.methods.position_token import position_token
from unweave.methods.role_attention import attention_contribution
from unweave.metrics.contrast import Contrast
from unweave.models.prompts import Prompts
from unweave.nodes import Head
from unweave.registry import ACT, DOES
from unweave.studies import standard_pictures as pictures
from unweave.studies.plan import Report, Results, Settings, Step, Study, needed
from unweave.studies.standard import HEADS, by_token, circuit_step, sketched, standard_study, stream_of
from unweave.studies.subject import Kind, Subject, first, n_paths, n_prompts, task_of
from unweave.tasks import ioi_fixed
from unweave.views.head_pictures import roles_table

S_INHIBITION = "S-inhibition"
MOST_SENDERS = 4
# Prompts for position and token: each is run in six kinds.
MOST_SIGNALS = 16


def own_steps(subject: Subject, steps: list[Step]) -> list[Step]:
    """The standard steps, some of them replaced, and this study's own after those that they belong to."""
    replaced = {
        "tokens": Step("tokens", "patching by layer and token", lambda found, report: _tokens(subject, report)),
        "circuit": circuit_step(lambda found, report: _circuit(subject, found, report)),
    }
    other = Step(
        "heads-other",
        "the other corruption",
        lambda found, report: _other(subject, report),
        long=True,
        section=ACT,
        blocks=pictures.other_blocks,
    )
    weighed = Step(
        "contributions", "attention against contribution", lambda found, report: attention_contribution(subject.pair)
    )
    names = Step(
        "names",
        "naming heads",
        lambda found, report: classify_heads(subject.paths),
        section=DOES,
        blocks=lambda found: [roles_table(found["names"])],
    )
    signals = Step("signals", "position and token", lambda found, report: _signals(subject, found, report), long=True)
    after = {"heads-role": other, "role-attention": weighed, "head-scores": names, "backups": signals}
    made: list[Step] = []
    for step in steps:
        made += [replaced.get(step.name, step), *([after[step.name]] if step.name in after else [])]
    return made


def by_order(prompts: Prompts) -> Mapping[str, Sequence[int]]:
    """Rows of prompts by the order of their names."""
    is_first = np.asarray((prompts.roles["IO"] < prompts.roles["S1"]).cpu())
    return {
        "ABBA: the indirect object named first": np.flatnonzero(is_first).tolist(),
        "BABA: the subject named first": np.flatnonzero(~is_first).tolist(),
    }


def _tokens(subject: Subject, report: Report) -> xr.DataArray | xr.Dataset:
    """The eight fixed prompts are of equal length, so that positions can be compared and shown with their tokens."""
    task = ioi_fixed(subject.model, bos=subject.pair.prompts.bos)
    pair = Contrast(subject.model, task.prompts, task.corrupt("swap"), subject.pair.metric)
    return by_token(pair, stream_of(subject), report)


def _other(subject: Subject, report: Report) -> xr.DataArray | xr.Dataset:
    """The heads again, under a corruption that changes what the study's own leaves as it is."""
    how = "swap" if subject.pair.corrupted.source.get("corruption") == "ABC" else "ABC"
    pair = first(subject.checked, subject.task.corrupt(how), n_prompts(subject.settings))
    return patch(pair, "z", HEADS, progress=report)


def _circuit(subject: Subject, found: Results, report: Report) -> Circuit:
    """The sketch, its groups named if its heads have names."""
    names: HeadTypes | None = found.get("names")
    circuit = sketched(subject, report)
    return circuit.named(names) if names else circuit


def _signals(subject: Subject, found: Results, report: Report) -> xr.Dataset:
    """S-inhibition heads; without them, the heads that act through queries where the answer is read."""
    heads = s_inhibiting(needed(found, "circuit"), found.get("names"), subject.pair.metric.role)
    task = task_of(subject.model, subject.settings, subject.kind, min(n_paths(subject.settings), MOST_SIGNALS))
    pair = Contrast(subject.model, task.prompts, task.corrupt("swap"), subject.pair.metric)
    return position_token(pair, task, heads, progress=report)


def s_inhibiting(circuit: Circuit, names: HeadTypes | None, end: str) -> Sequence[Head | str]:
    """Heads named S-inhibition, else the senders to queries at `end` that have the largest effects.

    Raises:
        InputError: a circuit without such heads.
    """
    called = names.groups.get(S_INHIBITION, ()) if names else ()
    if called:
        return called
    effects: dict[str, float] = {}
    for edge in circuit.edges:
        if edge.input == "q" and edge.role == end and (edge.effect or 0.0) > 0:
            name = edge.sender.short
            effects[name] = max(effects.get(name, 0.0), edge.effect or 0.0)
    if not effects:
        raise InputError("no head is named S-inhibition, and none acts through the queries of another at the end")
    return sorted(effects, key=lambda name: -effects[name])[:MOST_SENDERS]


IOI = Kind(
    corruption="swap",
    path_corruption="ABC",
    n_checked=100,
    bos=True,
    roles=("IO", "S1", "S1+1", "S2", "end"),
    does={
        "name mover": ("moves the name", "move the name"),
        "subject suppressor": ("writes against the subject", "write against the subject"),
        "negative name mover": ("writes against the name", "write against the name"),
        S_INHIBITION: ("keeps the movers off the subject", "keep the movers off the subject"),
        "duplicate token": ("finds the name that stood before", "find the name that stood before"),
        "induction": ("looks after the first mention", "look after the first mention"),
        "previous token": ("carries a name one token on", "carry a name one token on"),
        "backup name mover": ("steps in for the movers", "step in for the movers"),
    },
    own_steps=own_steps,
    own_groups=by_order,
)


def ioi_study(settings: Settings) -> Study:
    """The study of indirect object identification."""
    return standard_study(settings, IOI)
