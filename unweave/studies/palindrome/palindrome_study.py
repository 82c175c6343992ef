"""The study of a palindrome classifier: how it compares the two halves of a sequence, and where it fails to.

1. does it do the task: fresh sequences of both classes, and palindromes with more and more wrong values;
2. where is the answer written: what each part contributes for and against a palindrome;
3. where do heads look: QK circuits by token and by position, attention to the mirror image, from END, on examples;
4. what carries a single mismatch: patching by layer and role, heads by output, query, key, value and pattern;
5. which acts through which: composition scores, paths, K- and V-composition by position, attribution through a head;
6. what happens without them: zero, mean and random values for outputs, queries, keys and values; some heads only;
7. is the circuit enough: the smallest set of heads that keeps the accuracy, evaluated;
8. where is it blind: single changes by place, values taken for one another, and sequences made to fool it;
9. controls: patches that cannot matter, and one that must carry everything.
"""

from collections.abc import Callable
from functools import partial

import torch
import xarray as xr

from unweave.circuits.evaluate import EvaluationOptions, evaluate
from unweave.methods.attention import attention
from unweave.methods.blind_spots import blind_spots
from unweave.methods.class_attribution import class_attribution
from unweave.methods.norm_scales import norm_scales
from unweave.methods.patching import patch
from unweave.methods.weights.composition import composition_scores
from unweave.methods.weights.composition_circuits import k_composition, mean_query, v_composition
from unweave.methods.weights.full_circuits import qk_circuit
from unweave.metrics import Accuracy, CrossEntropy, LogitDiff
from unweave.metrics.contrast import Contrast
from unweave.nodes import Head
from unweave.registry import BLIND, CARRIES, ENOUGH, LOOKS, THROUGH, WITHOUT, WRITTEN
from unweave.results.labels import number
from unweave.results.origin import stamped
from unweave.studies.controls import control_facts, controls_step
from unweave.studies.palindrome import ablations, behaviour, choice
from unweave.studies.palindrome import palindrome_findings as findings
from unweave.studies.palindrome import palindrome_pictures as pictures
from unweave.studies.palindrome.confusions import adversarial, confusions
from unweave.studies.palindrome.palindrome_findings import exact, share
from unweave.studies.palindrome.sequences import ABLATED, OUTPUTS, PALINDROME, SWEPT, PalindromeSubject, ask
from unweave.studies.plan import Report, Results, Settings, Step, Study, needed
from unweave.studies.standard_pictures import test_blocks
from unweave.tasks.custom_sequences import sequence
from unweave.views.blocks import Fact, Table
from unweave.views.circuit_drawing import circuit_drawing
from unweave.views.pictures import blocks_of
from unweave.views.wording import counted

STREAM, HEADS = ("resid_pre", "attn_out"), ("z", "q", "k", "v", "pattern")
ROLES = ("mirror", "mismatch", "end")
N_EXAMPLES = 3


def palindrome_study(settings: Settings) -> Study:
    """The study of the classifier that the settings name. Raises InputError or ModelError as `ask` does."""
    subject = ask(settings)
    return Study(
        settings=settings,
        title=f"How the classifier “{subject.model.config.name}” tells palindromes",
        question=subject.task.question,
        steps=palindrome_steps(subject),
        shortfall=findings.shortfall(behaviour.right(subject)),
        answers=2,
        facts=lambda found: [*_headlines(found), *control_facts(found, "the mismatch"), *_answers(found)],
        about=lambda found: _about(subject),
        texts=lambda found: TEXTS,
        table=lambda found: _settings(subject),
        drawing=lambda found: circuit_drawing(found["circuit"]) if "circuit" in found else None,
        device=subject.model.device.type,
    )


def palindrome_steps(subject: PalindromeSubject) -> list[Step]:
    """All of them."""
    layers = range(subject.model.config.n_layers)
    before = [f"resid_pre {layer} @{role}" for layer in layers for role in ("start", "mirror")]
    whole = f"resid_post {layers[-1]} @end"
    return [
        *_behaves(subject),
        *_looks(subject),
        *_carries(subject),
        *_composes(subject),
        *_without(subject),
        *_blind(subject),
        controls_step(subject.pair, lambda: [*before, whole], "the mismatch"),
    ]


def _behaves(subject: PalindromeSubject) -> list[Step]:
    def parts(found: Results, report: Report) -> xr.DataArray:
        return class_attribution(subject.model, subject.task.prompts, OUTPUTS)

    return [
        Step(
            "accuracy",
            "fresh sequences",
            lambda found, report: behaviour.right(subject),
            finding=findings.accuracy_finding,
            blocks=partial(pictures.accuracy_blocks, subject),
        ),
        Step(
            "mismatches",
            "more and more wrong values",
            lambda found, report: behaviour.by_mismatches(subject),
            finding=findings.mismatch_finding,
            blocks=pictures.mismatch_blocks,
        ),
        Step(
            "parts",
            "what each part says",
            parts,
            section=WRITTEN,
            finding=findings.parts_finding,
            blocks=lambda found: blocks_of(found["parts"], title=findings.parts_finding(found)),
        ),
    ]


def _looks(subject: PalindromeSubject) -> list[Step]:
    def circuit(found: Results, report: Report, over: str) -> xr.DataArray:
        """Attention of the first layer's heads as far as tokens only, or positions only, determine it."""
        scale = float(norm_scales(subject.model, subject.few).sel(layer=0).mean())
        heads = [head for head in subject.heads if head[0] == 0]
        tokens = list(range(subject.max_value + 1)) if over == "tokens" else None
        return qk_circuit(subject.model, heads, over, tokens=tokens, norm_scale=scale, softmax=True)

    def examples(found: Results, report: Report) -> xr.DataArray:
        """Attention on palindromes, and on the same sequences with one mismatch."""
        rows = range(N_EXAMPLES)
        sides = [prompts.take(rows).tokens for prompts in (subject.pair.prompts, subject.pair.corrupted)]
        shown, others = (sequence(torch.cat(order), subject.max_value) for order in (sides, sides[::-1]))
        return attention(Contrast(subject.model, shown, others, LogitDiff()), subject.heads)

    return [
        Step("qk-tokens", "QK circuit by token", partial(circuit, over="tokens"), section=LOOKS),
        Step("qk-positions", "QK circuit by position", partial(circuit, over="positions"), section=LOOKS),
        Step(
            "mirror",
            "attention to the mirror image",
            lambda found, report: behaviour.mirror_attention(subject),
            finding=findings.mirror_finding,
            blocks=pictures.mirror_blocks,
        ),
        Step(
            "from-end",
            "attention from END",
            lambda found, report: behaviour.end_attention(subject),
            finding=findings.end_finding,
            blocks=pictures.end_blocks,
        ),
        Step(
            "attention",
            "attention on examples",
            examples,
            blocks=partial(pictures.example_blocks, subject, N_EXAMPLES),
        ),
    ]


def _carries(subject: PalindromeSubject) -> list[Step]:
    def stream(found: Results, report: Report) -> xr.Dataset | xr.DataArray:
        return patch(subject.pair, STREAM, {"layer": None, "role": ROLES}, progress=report)

    def heads(found: Results, report: Report) -> xr.Dataset | xr.DataArray:
        return patch(subject.pair, HEADS[:1] if subject.settings.quick else HEADS, ("layer", "head"), progress=report)

    return [Step("roles", "patching by layer and role", stream), Step("heads", "patching heads", heads)]


def _composes(subject: PalindromeSubject) -> list[Step]:
    def keys(sender: Head, receiver: Head) -> xr.DataArray:
        """What the receiver asks, with its mean query at END, of what the sender moves from each position."""
        return k_composition(subject.model, sender, receiver, query=mean_query(subject.model, subject.few, receiver))

    def values(sender: Head, receiver: Head) -> xr.DataArray:
        """What the receiver says, for a palindrome, of what the sender moves from each position."""
        return v_composition(subject.model, sender, receiver, outputs=OUTPUTS)

    def circuits(found: Results, report: Report, make: Callable[[Head, Head], xr.DataArray]) -> xr.DataArray:
        pairs = choice.pairs_of(found)
        joined = xr.concat([make(*pair) for pair in pairs], "address", combine_attrs="drop_conflicts")
        return stamped(joined.assign_coords(address=list(map(behaviour.pair_name, pairs))))

    def places(name: str, title: str, make: Callable[[Head, Head], xr.DataArray]) -> Step:
        finding, blocks = partial(findings.place_finding, name=name), partial(pictures.place_blocks, name)
        return Step(name, title, partial(circuits, make=make), section=THROUGH, finding=finding, blocks=blocks)

    return [
        Step(
            "composition",
            "composition scores",
            lambda found, report: composition_scores(subject.model, progress=report),
            section=THROUGH,
        ),
        Step(
            "paths",
            "path patching",
            lambda found, report: ablations.paths(subject, choice.deciding(found), report),
            finding=findings.paths_finding,
            blocks=pictures.path_blocks,
        ),
        places("k-circuits", "K-composition", keys),
        places("v-circuits", "V-composition", values),
        Step(
            "through",
            "attribution through a head",
            lambda found, report: behaviour.said_through(subject, choice.pairs_of(found)),
            section=THROUGH,
            finding=findings.through_finding,
            blocks=pictures.through_blocks,
        ),
    ]


def _without(subject: PalindromeSubject) -> list[Step]:
    def evaluated(found: Results, report: Report) -> xr.DataTree:
        effort = EvaluationOptions(controls=2, subsets=5, searches=0) if subject.settings.quick else EvaluationOptions()
        circuit, pair = needed(found, "circuit"), subject.both_classes(LogitDiff(), SWEPT)
        return evaluate(circuit, pair, how="mean", effort=effort, progress=report)

    return [
        Step(
            "ablations",
            "ablations",
            lambda found, report: ablations.ablations(subject, Accuracy(), report),
            finding=findings.ablation_finding,
            blocks=pictures.ablation_blocks,
        ),
        Step(
            "ablations-loss",
            "ablations, loss",
            lambda found, report: ablations.ablations(subject, CrossEntropy(), report),
            long=True,
            finding=findings.loss_finding,
            blocks=pictures.loss_blocks,
        ),
        Step(
            "subsets",
            "some heads only",
            lambda found, report: ablations.subsets(subject, report),
            finding=findings.subset_finding,
            blocks=pictures.subset_blocks,
        ),
        Step(
            "circuit", "the circuit", lambda found, report: choice.circuit_of(subject, found), blocks=lambda found: ()
        ),
        Step("evaluation", "evaluating the circuit", evaluated, section=ENOUGH, blocks=test_blocks),
    ]


def _blind(subject: PalindromeSubject) -> list[Step]:
    def missed(found: Results, report: Report) -> xr.DataArray:
        places, prompts = range(1, 2 * subject.half_length + 1), subject.matched.prompts
        return blind_spots(subject.model, prompts, PALINDROME, subject.others, places, progress=report)

    return [
        Step(
            "blind",
            "single changes",
            missed,
            section=BLIND,
            finding=findings.blind_finding,
            blocks=pictures.blind_blocks,
        ),
        Step(
            "confusions",
            "values taken for one another",
            lambda found, report: confusions(subject, report),
            finding=findings.confusion_finding,
            blocks=pictures.confusion_blocks,
        ),
        Step(
            "adversarial",
            "adversarial sequences",
            lambda found, report: adversarial(subject, found),
            finding=findings.adversarial_finding,
            blocks=partial(pictures.adversarial_blocks, subject),
        ),
    ]


# What the sections say of this study's figures.
TEXTS = {
    WRITTEN: [
        "The logit difference between the classes is a sum of what each part has written at END. Histograms show "
        "it for both classes: class 1 is a palindrome, class 0 is not; above 0 speaks for a palindrome. Parts "
        "that are alike in both classes only shift the answer."
    ],
    LOOKS: [
        "QK circuits are read off the weights: where a head would look if the stream held only tokens, or only "
        "positions. What it does on sequences follows: each value of the second half is left as it is, or "
        "replaced so that its pair differs, and attention is compared."
    ],
    CARRIES: [
        "A palindrome is set against the same sequence with one wrong value in the second half (`mismatch`; "
        "`mirror` is the value that it should equal). One activation at a time is taken from the palindrome into "
        "the sequence that is none: 0 leaves it as it was, 1 makes the model call it a palindrome as surely as "
        "the palindrome itself."
    ],
    THROUGH: [
        "Composition scores compare what a head writes with what a later one reads, against random matrices. Path"
        " patching sends the wrong value's effect from one head to one input of another only. K- and "
        "V-composition say, position by position, what the later head asks of what the earlier one moves, and "
        "what it says of it."
    ],
    WITHOUT: [
        f"Of each head, one part at a time ({', '.join(ablations.PARTS)}) is replaced at all positions: by zero, "
        "by its mean over the sequences at that position, or by standard normal noise. A model that loses 50 "
        "points of accuracy does no better than a coin."
    ],
    ENOUGH: [
        "With few heads every set of them can be tried. F is the mean logit difference of the right class, over "
        "sequences of both classes. Faithful: F with all other heads at their means is near the model's."
    ],
    BLIND: [
        "In each palindrome one value is replaced by another, at every place in turn. A change is missed where "
        "the model still calls the sequence a palindrome. Then every value is tried in place of every other. "
        "Last, sequences are made to fool it: palindromes of the values that are confused most, with as many of "
        "them exchanged at once as pass."
    ],
}


def _headlines(found: Results) -> list[Fact]:
    """How well the task is done, by class; a single wrong value; the circuit; what must be 0."""
    facts = []
    if "accuracy" in found:
        for name, rows in {"right": found["accuracy"], **findings.by_name(found["accuracy"])}.items():
            one = share(rows)
            facts.append(Fact(name, exact(one.value), f"of {one.n}; 95\u00a0% interval {one.interval}", True))
    if "mismatches" in found:
        one = share(1 - found["mismatches"].sel(pairs=1))
        facts.append(
            Fact("single wrong value noticed", exact(one.value), f"palindromes with one; {one.interval}", True)
        )
    if "subsets" in found:
        kept = choice.smallest(found["subsets"])
        note = f"right with {findings.named(choice.members(kept))} only, other heads at their means"
        facts.append(Fact("the circuit's accuracy", exact(float(found["subsets"].sel(kept=kept).mean())), note, True))
    return facts


def _answers(found: Results) -> list[Fact]:
    """What the model does, and what it cannot do, a line each."""
    facts = []
    if "mirror" in found:
        facts.append(Fact("compares", findings.mirror_finding(found)))
    if "from-end" in found and "parts" in found:
        facts.append(Fact("decides", findings.end_finding(found), findings.parts_finding(found)))
    if "paths" in found:
        facts.append(Fact("by way of", findings.paths_finding(found)))
    if "blind" in found:
        facts.append(Fact("misses", findings.blind_finding(found)))
    alike = findings.confusions_in_weights(found)
    if alike is not None:
        said = f"What is missed, pair of values by pair, and what {alike.head}'s QK circuit confuses correlate at"
        facts.append(Fact("in its weights", f"{said} {number(alike.correlation)}"))
    if "adversarial" in found:
        facts.append(Fact("is fooled", findings.adversarial_finding(found)))
    return facts


def _about(subject: PalindromeSubject) -> list[Fact]:
    """Model and sequences."""
    config = subject.model.config
    shape = f"{counted(config.n_layers, 'layer')} of {counted(config.n_heads, 'head')}, d_model {config.d_model}"
    about = ", ".join(filter(None, (shape, subject.settings.dtype, config.source, config.revision)))
    n, changed = len(subject.task.prompts), len(subject.matched.prompts)
    swept = len(subject.pair.prompts)
    values = f"{2 * subject.half_length} values of 0 to {subject.max_value}; seeds {subject.seed}, {subject.seed + 1}"
    return [
        Fact("model", config.name, about),
        Fact("sequences", f"{n} of both classes, {changed} palindromes changed, {swept} swept", values),
    ]


def _settings(subject: PalindromeSubject) -> Table:
    """What the study was run with."""
    settings, config, n = subject.settings, subject.model.config, subject.count(ABLATED)
    rows = {
        "model": config.name,
        "source": config.source,
        "revision": config.revision,
        "shape": f"{config.n_layers} layers, {config.n_heads} heads, d_model {config.d_model}, d_head {config.d_head}, "
        f"d_mlp {config.d_mlp}, {config.d_vocab} tokens, {config.n_ctx} positions",
        "weights": settings.dtype,
        "device": str(subject.model.device),
        "sequences of both classes": f"{len(subject.task.prompts)}, seed {subject.seed}",
        "palindromes": f"{len(subject.matched.prompts)}, seed {subject.seed + 1}",
        "ablated, swept": f"{n} of both classes, {len(subject.pair.prompts)} palindromes",
        "intervals": "95 %: Wilson's for shares, t corrected for skewness for other means; sequences are independent",
    }
    known = tuple((name, value) for name, value in rows.items() if value)
    return Table(("setting", "value"), known, "Settings", align="ll")
