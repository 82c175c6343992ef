import re
from collections.abc import Sequence

import numpy as np
import pytest

from tests.views import made
from tests.views.drawn import said
from unweave.results import summary
from unweave.results.summary import significant
from unweave.views.attention_view import attention_finding
from unweave.views.captions import finding, leaders, lens_finding, receivers_said
from unweave.views.pictures import blocks_of
from unweave.views.result_tables import Baseline, task_finding


def labels(rows) -> list[str]:
    return [row.label for row in rows]


def title(result) -> str:
    return said(finding(summary(result)))


def paths(cells: dict, receivers: Sequence[str] = ("logits",), direction: str = "noise", **attrs):
    return made.heads(cells, direction=direction, method="path patching", receivers=list(receivers), site="", **attrs)


def knocked(cells: dict, how: str = "mean", **attrs):
    return made.heads(cells, direction="noise", method="knockout", how=how, **attrs)


def test_heads_that_carry_are_named_with_their_sizes_and_those_against_after_them():
    helping, against = title(made.heads()).split(";")
    assert helping.startswith("5.1 and 3.0 carry the answer")
    assert "50 % and 40 %" in helping
    assert "4.2" in against
    assert "−20 %" in against


def test_one_head_is_spoken_of_in_the_singular():
    assert title(made.heads({(2, 1): 0.31}, site="v")).startswith("2.1 carries the answer: patching its value ")


@pytest.mark.parametrize("made_of", [made.heads, paths, knocked])
def test_nothing_found_says_so_with_the_largest(made_of):
    found = title(made_of({}))
    assert found.startswith("No ")
    assert "the largest of 18 means is " in found
    assert " to " in found


def test_a_sure_but_tiny_effect_carries_nothing():
    table = summary(made.heads({(2, 1): 0.03}))
    assert significant(table)[2, 1]
    assert finding(table).startswith("No single output carries the answer")


def test_a_large_but_unsure_effect_carries_nothing():
    result = made.heads({})
    values = result.values.copy()
    values[:, 2, 1] = np.where(np.arange(made.N_PROMPTS) < 10, 2.0, -1.9)
    assert title(result.copy(data=values)).startswith("No single output carries")


def test_all_effects_exactly_zero():
    zeros = made.heads().copy(data=np.zeros((made.N_PROMPTS, 6, 3)))
    assert title(zeros).endswith(": every effect is 0")


@pytest.mark.parametrize(("made_of", "size"), [(made.heads, -0.2), (paths, 0.2), (knocked, 0.2)])
def test_only_a_head_against(made_of, size: float):
    found = title(made_of({(4, 2): size}))
    assert "4.2" in found
    assert "20 %" in found
    assert "the answer" in found
    assert not any(word in found for word in ("carries", "missed", "acts", " it "))


def test_few_prompts_are_judged_by_intervals():
    few = summary(made.heads(n_prompts=5))
    assert float(few.attrs["p_holm_smallest"]) > 0.05
    assert labels(leaders(few).helping) == ["5.1", "3.0"]
    assert not significant(summary(made.heads({}, n_prompts=5)))[0, 0]


def test_one_prompt_and_averages_have_no_leaders_and_claim_nothing():
    one = summary(made.heads(n_prompts=1))
    assert leaders(one).helping == ()
    means = made.heads().mean("prompt", keep_attrs=True)
    cluster = made.heads().assign_coords(cluster=("prompt", np.zeros(made.N_PROMPTS, int)))
    cluster[:, 0, 0] = 0.0
    for result in (made.heads(n_prompts=1), made.heads().isel(prompt=3), means, cluster):
        (block, _) = blocks_of(result)
        assert "5.1 (0.5" in block.title  # type: ignore[attr-defined]
        assert not any(word in block.title for word in ("No ", "carr", "against"))  # type: ignore[attr-defined]


def test_smaller_heads_are_not_named():
    cells = {(5, 1): 0.5, (3, 0): 0.2, (2, 2): 0.45, (1, 1): 0.4, (0, 0): 0.35}
    assert labels(leaders(summary(made.heads(cells))).helping) == ["5.1", "2.2", "1.1"]


def test_a_shared_place_is_said_once():
    axes = {"layer": range(4), "head": range(2), "role": list(made.ROLES)}
    found = title(made.result(axes, {(3, 1, "end"): 0.5, (2, 0, "end"): 0.4}))
    assert found.startswith("3.1 and 2.0 carry the answer at end: ")
    assert found.count(" end") == 1


def test_different_places_are_said_each():
    axes = {"layer": range(4), "role": list(made.ROLES)}
    found = title(made.result(axes, {(3, "end"): 0.5, (1, "S2"): 0.4}, site="attn_out"))
    assert found.startswith("Layer 3 at end and layer 1 at S2 carry the answer: patching their attention output ")


def test_the_stream_by_role_and_by_token():
    assert "at S2 in layers 0 to 2 and at end from layer 4 on" in title(made.stream("role"))
    assert "at token 7 ·John in layers 0 to 2" in title(made.stream())


def test_a_stream_that_nowhere_holds_half():
    result = made.result({"layer": range(4), "role": list(made.ROLES)}, {(1, "S2"): 0.3}, site="resid_pre")
    assert title(result).startswith("No one position holds half of the answer: the largest")


def test_what_is_missed_is_named_with_its_cost_and_what_stood_in_its_place():
    missed, without = title(knocked({(5, 1): -0.5, (3, 0): -0.3, (4, 2): 0.2})).split(";")
    assert missed.startswith("5.1 and 3.0 are missed most: the mean in place of their output costs 50 % and 30 %")
    assert without.startswith(" without 4.2 the answer gains 20 %")
    assert "another prompt's" in title(knocked({(5, 1): -0.5}, how="resample"))
    about = {"method": "knockout", "direction": "noise", "site": "mlp", "how": "zero"}
    layers = made.result({"layer": range(6)}, {(2,): -0.4}, **about)  # pyright: ignore[reportArgumentType]
    assert title(layers).startswith("Layer 2 is missed most: zero in place of its MLP ")


def test_one_value_that_is_not_told_from_0_is_not_said_to_be_0():
    one = knocked({(5, 1): -0.3}).isel(prompt=slice(3), layer=[5], head=[1])
    found = title(one - one.mean() + 0.01 * np.array([-3, 1, -1])[:, None, None])
    assert "−1.0 %" in found
    assert "ot significantly different from 0" in found


def test_paths_name_their_receivers_by_their_inputs():
    assert title(paths({(5, 1): -0.5})).startswith("5.1 acts directly on the logits: noising this path costs 50 %")
    assert "brings back 50 %" in title(paths({(5, 1): 0.5}, direction="denoise"))
    assert "through the values of 5.1 and 5.0" in title(paths({(1, 1): -0.3}, ["v 5.1", "v 5.0"]))
    assert "through the query of 5.1" in title(paths({(1, 1): 0.3}, ["q 5.1"]))
    senders = {"method": "path patching", "receivers": ["logits"], "direction": "noise"}
    joint = made.result({"sender": ["9.6", "mlp 3 + embed"]}, {("mlp 3 + embed",): -0.4}, **senders)  # pyright: ignore[reportArgumentType]
    assert title(joint).startswith("mlp 3 + embed acts directly on the logits")


@pytest.mark.parametrize(
    ("receivers", "expected"),
    [
        ("logits", "the logits"),
        ("v 8.6", "the value of 8.6"),
        ("v 8.6, v 8.10, mlp 9", "the values of 8.6 and 8.10 and MLP 9"),
        ("q 8.6, k 8.6", "the query of 8.6 and the key of 8.6"),
        ("q 1.0, q 1.1, q 1.2, q 1.3, q 1.4", "the queries of 5 heads"),
    ],
)
def test_receivers_in_words(receivers: str, expected: str):
    assert receivers_said(receivers.split(", ")) == expected


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ([0, 0.1, 0.2, 0.3, 0.4, 3.9, 4.0], ["of 4.00", "within layer 2", "layer 2's attention (+3.50)"]),
        ([0, 0, 0, 6, 5.8, 5.6, 4], ["layer 1's attention (+6.00)", "peaks at 6.00 within layer 1"]),
        ([0, 0, 0, 0, -4, -4, -4], ["of −4.00", "before layer 2", "layer 1's MLP"]),
        ([0, 0, 1, 1, 0, 0, 0], ["No layer writes the answer"]),
    ],
)
def test_a_lens_says_where_the_answer_is_written(means: list[float], words: list[str]):
    title = lens_finding(summary(made.lens(means)))
    assert all(word in title for word in words)


def test_attribution_by_part_and_by_component():
    parts = made.result({"layer": range(3), "part": ["attn", "mlp"]}, {(2, "attn"): 3.0}, **made.ATTRIBUTION)
    assert re.match(r"Layer 2 attn writes .*\(3.00\)", finding(summary(parts)))
    named = made.result({"component": ["embed", "0_attn", "0_mlp"]}, {("embed",): 1.0}, **made.ATTRIBUTION)
    assert re.match(r"embed writes .*\(1.00\)", finding(summary(named)))


def test_attribution_is_judged_on_the_scale_of_the_whole():
    small = made.heads({(2, 1): 0.1}, **made.ATTRIBUTION)
    assert finding(summary(small).assign_attrs(total=1.0)).startswith("2.1 writes")
    assert finding(summary(small).assign_attrs(total=40.0)).startswith("No part")


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
    assert task_finding(Baseline(0.3, 0.1, 0.5, 8, 1.0), "KL") == "On 8 prompts the mean KL is 0.30 (0.10 to 0.50)"


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
