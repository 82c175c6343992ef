"""The steps of the study, in order.

1. does it do the task: fresh sequences of both classes, and palindromes with more and more wrong values;
2. where is the answer written: what each part says for and against a palindrome;
3. where do heads look: QK circuits by token and by position, attention to the mirror image, from END, on examples;
4. what carries a single mismatch: patching by layer and role, heads by output, query, key, value and pattern;
5. which acts through which: composition scores, paths, K- and V-composition by position, attribution through a head;
6. what happens without them: zero, mean and random values for outputs, queries, keys and values; some heads alone;
7. is the circuit enough: the smallest set of heads that keeps the accuracy, evaluated;
8. where is it blind: single changes by place, values taken for one another, and sequences made to fool it;
9. controls: patches that cannot matter, and one that must carry everything.
"""

import torch
import xarray as xr

from unweave.circuits.evaluate import EvaluationOptions, evaluate
from unweave.methods.attention import attention
from unweave.methods.blind_spots import blind_spots
from unweave.methods.class_attribution import class_attribution
from unweave.methods.patching import patch, patch_at
from unweave.methods.weights.composition import composition_scores
from unweave.methods.weights.head_matrices import chosen_heads
from unweave.metrics import Accuracy, CrossEntropy, LogitDiff
from unweave.metrics.contrast import Contrast
from unweave.progress import Progress
from unweave.studies.palindrome import ablations, behaviour, cases, choice, weights
from unweave.studies.palindrome.confusions import adversarial, confusions
from unweave.studies.palindrome.subject import PALINDROME, SWEPT, PalindromeSubject
from unweave.studies.plan import Results, Step
from unweave.tasks.custom_sequences import sequence

STREAM, HEADS = ("resid_pre", "attn_out"), ("z", "q", "k", "v", "pattern")
ROLES = ("mirror", "mismatch", "end")
N_EXAMPLES = 3
Report = Progress | bool


def palindrome_steps(subject: PalindromeSubject) -> list[Step]:
    """All of them."""
    return [
        *_behaves(subject),
        *_looks(subject),
        *_carries(subject),
        *_composes(subject),
        *_without(subject),
        *_blind(subject),
        Step("controls", "controls", lambda found, report: patch_at(subject.pair, _controls(subject), progress=report)),
    ]


def _behaves(subject: PalindromeSubject) -> list[Step]:
    def parts(found: Results, report: Report) -> xr.DataArray:
        return class_attribution(subject.model, subject.task.prompts, weights.OUTPUTS)

    return [
        Step("accuracy", "fresh sequences", lambda found, report: behaviour.right(subject)),
        Step("mismatches", "more and more wrong values", lambda found, report: behaviour.by_mismatches(subject)),
        Step("parts", "what each part says", parts),
    ]


def _looks(subject: PalindromeSubject) -> list[Step]:
    return [
        Step("qk-tokens", "QK circuit by token", lambda found, report: weights.qk(subject, "tokens")),
        Step("qk-positions", "QK circuit by position", lambda found, report: weights.qk(subject, "positions")),
        Step("mirror", "attention to the mirror image", lambda found, report: cases.mirror_attention(subject)),
        Step("from-end", "attention from END", lambda found, report: cases.end_attention(subject)),
        Step("attention", "attention on examples", lambda found, report: _examples(subject)),
    ]


def _carries(subject: PalindromeSubject) -> list[Step]:
    def stream(found: Results, report: Report) -> xr.Dataset:
        return patch(subject.pair, STREAM, {"layer": None, "role": ROLES}, progress=report)

    def heads(found: Results, report: Report) -> xr.Dataset:
        return patch(subject.pair, HEADS[:1] if subject.settings.quick else HEADS, ("layer", "head"), progress=report)

    return [Step("roles", "patching by layer and role", stream), Step("heads", "patching heads", heads)]


def _composes(subject: PalindromeSubject) -> list[Step]:
    def scores(found: Results, report: Report) -> xr.DataArray:
        return composition_scores(subject.model, progress=report)

    def paths(found: Results, report: Report) -> xr.DataArray:
        return ablations.paths(subject, choice.deciding(found), report)

    return [
        Step("composition", "composition scores", scores),
        Step("paths", "path patching", paths),
        Step("k-circuits", "K-composition", lambda found, report: weights.k_circuits(subject, choice.pairs_of(found))),
        Step("v-circuits", "V-composition", lambda found, report: weights.v_circuits(subject, choice.pairs_of(found))),
        Step(
            "through",
            "attribution through a head",
            lambda found, report: cases.said_through(subject, choice.pairs_of(found)),
        ),
    ]


def _without(subject: PalindromeSubject) -> list[Step]:
    def evaluated(found: Results, report: Report) -> xr.DataTree:
        effort = EvaluationOptions(controls=2, subsets=5, searches=0) if subject.settings.quick else EvaluationOptions()
        return evaluate(
            choice.needed(found, "circuit"),
            subject.both_classes(LogitDiff(), SWEPT),
            how="mean",
            effort=effort,
            progress=report,
        )

    return [
        Step("ablations", "ablations", lambda found, report: ablations.ablations(subject, Accuracy(), report)),
        Step(
            "ablations-loss",
            "ablations, loss",
            lambda found, report: ablations.ablations(subject, CrossEntropy(), report),
            long=True,
        ),
        Step("subsets", "some heads alone", lambda found, report: ablations.subsets(subject, report)),
        Step("circuit", "the circuit", lambda found, report: choice.circuit_of(subject, found)),
        Step("evaluation", "evaluating the circuit", evaluated),
    ]


def _blind(subject: PalindromeSubject) -> list[Step]:
    def missed(found: Results, report: Report) -> xr.DataArray:
        places = range(1, 2 * subject.half_length + 1)
        prompts = subject.matched.prompts
        return blind_spots(subject.model, prompts, PALINDROME, subject.others, places, progress=report)

    return [
        Step("blind", "single changes", missed),
        Step("confusions", "values taken for one another", lambda found, report: confusions(subject, report)),
        Step("adversarial", "adversarial sequences", lambda found, report: adversarial(subject, found)),
    ]


def _examples(subject: PalindromeSubject) -> xr.DataArray:
    """Attention on palindromes, and on the same sequences with one mismatch."""
    rows = range(N_EXAMPLES)
    sides = [prompts.take(rows).tokens for prompts in (subject.pair.prompts, subject.pair.corrupted)]
    shown, others = (sequence(torch.cat(order), subject.max_value) for order in (sides, sides[::-1]))
    return attention(Contrast(subject.model, shown, others, LogitDiff()), chosen_heads(subject.model, None))


def _controls(subject: PalindromeSubject) -> list[str]:
    """Patches before the mismatch, which must have effect 0, and of all that is read, which must have 1."""
    layers = range(subject.model.config.n_layers)
    return [
        *(f"resid_pre {layer} @{role}" for layer in layers for role in ("start", "mirror")),
        f"resid_post {layers[-1]} @end",
    ]
