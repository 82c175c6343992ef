import numpy as np
import pytest

from tests.views import made
from unweave.results import summary
from unweave.views.baselines import Baseline
from unweave.views.titles import (
    attention_finding,
    attribution_finding,
    leaders,
    lens_finding,
    patch_finding,
    task_finding,
    told_from_zero,
)
from unweave.views.wording import SPACE


def said(text: str) -> str:
    return text.replace(SPACE, " ")


def labels(rows) -> list[str]:
    return [row.label for row in rows]


def test_heads_that_carry_are_named_with_their_sizes():
    title = said(patch_finding(summary(made.heads()), "z"))
    assert (
        title
        == "5.1 and 3.0 carry the answer: patching their output restores 50 % and 40 %; 4.2 works against it (−20 %)"
    )


def test_one_head_is_spoken_of_in_the_singular():
    title = said(patch_finding(summary(made.heads({(2, 1): 0.31})), "v"))
    assert title == "2.1 carries the answer: patching its value restores 31 %"


def test_noise_direction_costs():
    cells = {(5, 1): -0.6, (4, 2): 0.2}
    title = said(patch_finding(summary(made.heads(cells, direction="noise")), "z", "noise"))
    assert title == "5.1 carries the answer: spoiling its output costs 60 %; 4.2 works against it (20 %)"


def test_nothing_found_says_so_with_the_largest():
    title = said(patch_finding(summary(made.heads({})), "z"))
    assert title.startswith("No single output carries the answer: the largest of 18 means is ")
    assert " to " in title


def test_a_sure_but_tiny_effect_carries_nothing():
    table = summary(made.heads({(2, 1): 0.03}))
    assert told_from_zero(table)[2, 1]
    assert patch_finding(table, "z").startswith("No single output carries the answer")


def test_a_large_but_unsure_effect_carries_nothing():
    result = made.heads({})
    values = result.values.copy()
    values[:, 2, 1] = np.where(np.arange(made.N_PROMPTS) < 10, 2.0, -1.9)
    assert patch_finding(summary(result.copy(data=values)), "z").startswith("No single output carries")


def test_all_effects_exactly_zero():
    zeros = made.heads().copy(data=np.zeros((made.N_PROMPTS, 6, 3)))
    assert patch_finding(summary(zeros), "z") == "No single output carries the answer: every effect is 0"


def test_only_a_head_against():
    title = said(patch_finding(summary(made.heads({(4, 2): -0.2})), "z"))
    assert title == "4.2 works against the answer (−20 %)"


def test_few_prompts_are_judged_by_intervals():
    few = summary(made.heads(n_prompts=5))
    assert float(few.attrs["p_holm_smallest"]) > 0.05
    assert labels(leaders(few).helping) == ["5.1", "3.0"]
    assert not told_from_zero(summary(made.heads({}, n_prompts=5)))[0, 0]


def test_one_prompt_has_no_leaders():
    assert leaders(summary(made.heads(n_prompts=1))).helping == ()


def test_smaller_heads_are_not_named():
    cells = {(5, 1): 0.5, (3, 0): 0.2, (2, 2): 0.45, (1, 1): 0.4, (0, 0): 0.35}
    assert labels(leaders(summary(made.heads(cells))).helping) == ["5.1", "2.2", "1.1"]


def test_a_shared_place_is_said_once():
    axes = {"layer": range(4), "head": range(2), "role": list(made.ROLES)}
    table = summary(made.result(axes, {(3, 1, "end"): 0.5, (2, 0, "end"): 0.4}))
    assert said(patch_finding(table, "z")) == (
        "3.1 and 2.0 carry the answer at end: patching their output there restores 50 % and 40 %"
    )


def test_different_places_are_said_each():
    axes = {"layer": range(4), "role": list(made.ROLES)}
    table = summary(made.result(axes, {(3, "end"): 0.5, (1, "S2"): 0.4}))
    assert said(patch_finding(table, "attn_out")) == (
        "Layer 3 at end and layer 1 at S2 carry the answer: patching their attention output restores 50 % and 40 %"
    )


def test_the_stream_by_role_and_by_token():
    assert said(patch_finding(summary(made.stream("role")), "resid_pre")) == (
        "The answer is carried at S2 in layers 0 to 2 and at end from layer 4 on: "
        "there one position restores 50 % or more"
    )
    assert "at token 7 ·John in layers 0 to 2" in patch_finding(summary(made.stream()), "resid_pre")


def test_a_stream_that_nowhere_holds_half():
    table = summary(made.result({"layer": range(4), "role": list(made.ROLES)}, {(1, "S2"): 0.3}))
    assert patch_finding(table, "resid_pre").startswith("No one position holds half of the answer: the largest")


def test_lens_that_rises_late():
    title = lens_finding(summary(made.lens([0, 0.1, 0.2, 0.3, 0.4, 3.9, 4.0])))
    assert title == (
        "Half of the final logit difference of 4.00 is there within layer 2; "
        "the largest step is layer 2's attention (+3.50)"
    )


def test_lens_that_falls_again():
    title = lens_finding(summary(made.lens([0, 0, 0, 6, 5.8, 5.6, 4])))
    assert title.endswith("it peaks at 6.00 within layer 1, and falls")
    assert "layer 1's attention (+6.00)" in title


def test_lens_of_a_model_that_prefers_the_wrong_answer():
    title = lens_finding(summary(made.lens([0, 0, 0, 0, -4, -4, -4])))
    assert title.startswith("Half of the final logit difference of −4.00 is there before layer 2")
    assert "layer 1's MLP" in title


def test_lens_that_ends_nowhere():
    assert lens_finding(summary(made.lens([0, 0, 1, 1, 0, 0, 0]))).startswith("No layer writes the answer")


def test_attribution_by_part_and_by_component():
    parts = made.result({"layer": range(3), "part": ["attn", "mlp"]}, {(2, "attn"): 3.0}, **made.ATTRIBUTION)
    assert attribution_finding(summary(parts), 4.0) == "Layer 2's attention writes towards the answer (3.00)"
    named = made.result({"component": ["embed", "0_attn", "0_mlp"]}, {("embed",): 1.0}, **made.ATTRIBUTION)
    assert attribution_finding(summary(named), 4.0) == "The embed writes towards the answer (1.00)"


def test_attribution_is_judged_on_the_scale_of_the_whole():
    small = made.heads({(2, 1): 0.1}, **made.ATTRIBUTION)
    assert attribution_finding(summary(small), 1.0).startswith("2.1 writes")
    assert attribution_finding(summary(small), 40.0).startswith("No part stands out")


@pytest.mark.parametrize(
    ("low", "high", "mean", "start"),
    [
        (3.0, 5.0, 4.0, "The model does the task: "),
        (-1.0, 2.0, 0.5, "The model does not do the task: "),
        (-3.0, -1.0, -2.0, "The model prefers the wrong answer: "),
    ],
)
def test_whether_the_task_is_done(low: float, high: float, mean: float, start: str):
    title = said(task_finding(Baseline(mean, low, high, n=8, above_zero=0.75)))
    assert title.startswith(start)
    assert "75 % of 8 prompts" in title


def test_another_metric_makes_no_claim_about_the_task():
    assert task_finding(Baseline(0.3, 0.1, 0.5, 8, 1.0), "KL") == "On 8 prompts the mean KL 0.30 (0.10 to 0.50)"


def test_where_heads_look_by_role_and_without():
    roles = {name: [place] * 3 for name, place in made.ROLES.items()}
    title = attention_finding(made.patterns(), roles)
    assert title == "From the last token, 5.1 looks most at IO (0.82); 3.0 looks most at the first token <bos> (0.60)"
    assert "token 4 ·<script>alert(1)</script>" in attention_finding(made.patterns())


def test_a_head_that_looks_at_its_own_token():
    patterns = made.patterns()
    values = patterns.values.copy()
    values[:, 0, -1] = np.eye(9)[8]
    title = attention_finding(patterns.copy(data=values), {"end": [8, 8, 8], "S1": [2, 2, 2]})
    assert title.startswith("From the last token, 5.1 looks most at that token itself (1.00)")


def test_heads_that_look_alike_are_said_together():
    title = attention_finding(made.patterns(names=("5.1", "3.0", "2.2")))
    assert "3.0 and 2.2 look most at the first token <bos> (0.60 and 0.60)" in title
