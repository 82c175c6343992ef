import base64
import gzip
import json
import re

import numpy as np
import pytest

import unweave as uw
from tests.views import made
from unweave.views.attention_view import Attention, attention_view


def data(view: Attention) -> dict:
    found = re.search(r'class="data">([^<]+)<', view.html())
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def test_every_value_is_kept_to_three_decimals():
    patterns = made.patterns()
    kept = data(attention_view(patterns))
    assert kept["heads"] == ["5.1", "3.0"]
    for prompt, head, query, key in ((0, 0, 8, 4), (2, 1, 8, 0), (1, 0, 3, 2), (0, 1, 0, 0)):
        shown = kept["values"][prompt][head][query * (query + 1) // 2 + key] / 1000
        assert shown == pytest.approx(float(patterns[prompt, head, query, key]), abs=0.0005)
    assert len(kept["values"][0][0]) == 9 * 10 // 2


def test_tokens_are_shown_with_their_spaces_and_never_as_markup():
    view = attention_view(made.patterns(), title="<i>", caption="<b>")
    assert data(view)["prompts"][0]["tokens"][4] == "·<script>alert(1)</script>"
    assert "<script>alert" not in view.html()
    assert "<i>" not in view.html()
    assert "<b>" not in view.html()


def test_a_prompt_is_chosen_by_its_last_words():
    def told(*tokens: str) -> str:
        n = len(tokens)
        patterns = made.patterns(n_prompts=1).isel(q_pos=[0] * n, k_pos=[0] * n)
        named = patterns.assign_coords(q_token=(("prompt", "q_pos"), np.array([tokens], dtype=object)))
        return data(attention_view(named))["prompts"][0]["text"]

    assert told("<s>", "When", " Mary", " left", "\n", "to") == "<s>When Mary left to"
    assert told("START", "25", "28", "END") == "START 25 28 END"
    # Nothing is cut in the middle of a token.
    assert told("<|start|>", *[" long"] * 17, " to") == "… " + "long " * 17 + "to"


def test_what_is_beyond_a_prompts_end_is_left_out():
    patterns = made.patterns()
    tokens = patterns["q_token"].values.astype(object)
    tokens[1, 6:] = ""
    tokens[1, 3] = ""  # an empty token inside a prompt stays
    kept = data(attention_view(patterns.assign_coords(q_token=(("prompt", "q_pos"), tokens))))
    assert [len(prompt["tokens"]) for prompt in kept["prompts"]] == [9, 6, 9]
    assert len(kept["values"][1][0]) == 6 * 7 // 2


def test_dimensions_in_another_order_give_the_same_view():
    patterns = made.patterns()
    assert data(attention_view(patterns.transpose("k_pos", "address", "q_pos", "prompt"))) == data(
        attention_view(patterns)
    )


def test_what_is_no_attention_is_refused():
    with pytest.raises(
        uw.InputError, match="expected the dimensions prompt, address, q_pos, k_pos, got prompt, layer, head"
    ):
        attention_view(made.heads())
    with pytest.raises(uw.InputError, match="no coordinate q_token"):
        attention_view(made.patterns().drop_vars(["q_token", "k_token"]))


def test_values_that_were_not_reached_are_no_attention():
    patterns = made.patterns()
    missing = patterns.copy(data=np.full(patterns.shape, np.nan))
    assert set(data(attention_view(missing))["values"][0][0]) == {0}
