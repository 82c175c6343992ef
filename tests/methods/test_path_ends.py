"""What path patching is given: clear errors for what does not exist, its measures, and the conventions it names."""

import numpy as np
import pytest

import unweave as uw
from tests.oracle.both import both
from tests.readers import unchecked
from unweave.methods.path_patching import receivers_of, roles_at, senders_of


@pytest.fixture
def pair():
    return both("llama-grouped", "equal", "swap").contrast


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"receivers": "answer"}, "expected 'logits' or a list"),
        ({"receivers": []}, "none was given"),
        ({"receivers": [(1, 0, "z")]}, "'z 1.0' cannot be taken; choose among q k v mlp_out"),
        ({"receivers": [(9, 0, "v")]}, "layers 0 to"),
        ({"receivers": [(1, 99, "v")]}, "heads 0 to"),
        ({"receivers": ["mlpp 1"]}, "is not a place in a model"),
        ({"receivers": [(0, 0, "v")], "senders": [(1, 1)]}, "every sender writes after it"),
        ({"receivers": [(0, 0, "v")]}, "every sender writes after it"),
        ({"senders": "neurons"}, "expected 'heads', 'mlps'"),
        ({"senders": ["9.9.9"]}, "is not a place in a model"),
        ({"senders": [[]]}, "none was given"),
        ({"at": "IO2"}, "role 'IO2' is not among"),
        ({"at": ("S2", "IO2")}, "role 'IO2' is not among"),
        ({"receivers": [(1, 0, "v"), (-2, 0, "v")]}, "receivers: v 1.kv0 is named twice"),
        ({"receivers": ["mlp 1", (1, 0, "v"), "mlp 1"]}, "receivers: mlp 1 is named twice"),
        ({"senders": ["0.1", (0, 1)]}, "senders: z 0.1 is named twice"),
        ({"senders": [["mlp 0", "0.1", "mlp 0"]]}, "senders: mlp 0 is named twice"),
        ({"attention": "pattern"}, "attention: expected one of z, qkv, got 'pattern'"),
        ({"measure": "loss"}, "measure: expected one of effect, drop, change, got 'loss'"),
        ({"measure": "drop", "direction": "denoise"}, "a drop is of the clean run"),
        ({"mlps": "gone"}, "expected 'live' or 'frozen'"),
        ({"direction": "up"}, "expected 'denoise' or 'noise'"),
    ],
)
def test_what_does_not_exist_is_one_clear_error(pair, given, message):
    with pytest.raises(uw.InputError, match=message):
        uw.path_patch(pair, **given)


def test_what_no_annotation_allows_is_a_clear_error_as_well(pair):
    with pytest.raises(uw.InputError, match=r"at: expected a role, or \(senders' role, receivers' role\), got"):
        roles_at(("S2", "end", "end"))
    with pytest.raises(uw.InputError, match=r"'z 1.0' cannot be taken"):
        uw.path_patch(pair, [(1, 0)])


def test_the_result_names_its_conventions(pair):
    attrs = uw.path_patch(pair, [(1, 0, "v")], at=("S2", "end")).attrs
    assert attrs["attention"] == "frozen by z"
    assert attrs["mlps"] == "live"
    assert attrs["sender_at"] == "S2"
    assert attrs["receiver_at"] == "end"
    assert attrs["receivers"] == ["v 1.kv0"]
    assert attrs["measure"] == "effect"
    assert "shared by 2 query heads" in attrs["notes"]
    other = uw.path_patch(pair, at="S2", attention="qkv", mlps="frozen").attrs
    assert other["attention"] == "frozen by q k v outside the receivers"
    assert other["mlps"] == "frozen"
    assert other["receivers"] == ["logits"]
    assert other["receiver_at"] == "end"  # where the metric reads, whatever the senders' role


def test_a_layer_may_be_counted_from_the_end(pair):
    named, counted = (uw.path_patch(pair, [(layer, 1, "q"), (1, 0, "k")]) for layer in (2, -1))
    assert counted.attrs["receivers"] == ["q 2.1", "k 1.kv0"]
    assert (named == counted).all()


@pytest.mark.parametrize("receivers", ["logits", [(1, 0, "v"), (2, 1, "q")]])
def test_a_drop_is_the_share_of_the_clean_score_that_is_lost(pair, receivers):
    effect, drop, change = (uw.path_patch(pair, receivers, measure=measure) for measure in ("effect", "drop", "change"))
    np.testing.assert_allclose(change, effect * pair.gap, rtol=0, atol=1e-12)
    np.testing.assert_allclose(drop, change / pair.clean_scores.mean().item(), rtol=0, atol=1e-12)
    assert not np.allclose(drop, effect)
    assert ((effect == 0) == (drop == 0)).all()
    assert drop.attrs["quantity"] == "relative change"
    assert drop.attrs["unit"] == "share"
    assert drop.attrs["one"] == "nothing left of the clean score (at -1)"
    assert change.attrs["unit"] == pair.metric.unit


def test_all_that_is_sent_leaves_the_corrupted_score_whatever_the_measure(pair):
    heads = [(layer, head) for layer in range(3) for head in range(4)]
    everything = [["embed", *heads, "mlp 0", "mlp 1", "mlp 2"]]
    drop = uw.path_patch(pair, senders=everything, measure="drop").mean().item()
    assert drop == pytest.approx(-pair.gap / pair.clean_scores.mean().item(), abs=1e-9)
    change = uw.path_patch(pair, senders=everything, measure="change", direction="denoise")
    np.testing.assert_allclose(change[:, 0], (pair.clean_scores - pair.corrupted_scores).numpy(), rtol=0, atol=1e-9)


def test_knockouts_tell_their_measures_by_the_same_words(pair):
    for measure in ("effect", "drop", "change"):
        words = [
            {name: result.attrs[name] for name in ("measure", "quantity", "unit", "zero", "one", "direction")}
            for result in (uw.path_patch(pair, measure=measure), uw.knockout(pair, measure=measure))
        ]
        assert words[0] == words[1]


def test_embeddings_that_stay_where_the_logits_are_read_have_effect_exactly_0(pair: uw.Contrast) -> None:
    rows, end = range(len(pair.prompts)), pair.prompts.role("end")
    stays = (pair.prompts.tokens[rows, end] == pair.corrupted.tokens[rows, end]).numpy()
    effects = uw.path_patch(pair, senders=["embed"]).values[:, 0]
    assert stays.any()
    assert (effects[stays] == 0.0).all()
    assert (effects[~stays] != 0.0).all()


@pytest.mark.parametrize("receiver", [(1, 0, "v"), [1, 0, "v"], (np.int64(1), 0, "v"), "1.0 v", "v 1.kv0", "L1H0 v"])
def test_one_receiver_may_be_written_in_many_ways(pair, receiver):
    with unchecked():
        for given in (receiver, [receiver]):
            assert receivers_of(pair.model.config, given) == (uw.Node("v", 1, 0),)


@pytest.mark.parametrize("sender", [(0, 1), [0, 1], (np.int64(0), 1), "0.1", "L0H1", "mlp 0", "embed"])
def test_one_sender_needs_no_list(pair, sender):
    config, prompts = pair.model.config, pair.prompts
    with unchecked():
        single, listed = (senders_of(config, prompts, given, None) for given in (sender, [sender]))
    assert single.axes == listed.axes
    assert single.axes["sender"] in (["0.1"], [sender])
    assert single.variants == slice(0, 1)
