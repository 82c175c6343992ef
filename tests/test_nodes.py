"""One vocabulary of places: every accepted notation, what is printed is read again, and clear errors."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

import unweave as uw
from tests.readers import unchecked
from tests.tiny import Kind, tiny_model, tiny_pair
from unweave.models.sites import check_site, n_heads_at, node_of, parts_of
from unweave.nodes import NODE_SITES, SITES, Edge, Node, is_node, joint_name, listed, read_node, read_nodes

HEAD = Node("z", 9, 6)
WRITTEN = {
    HEAD: [
        (9, 6),
        [9, 6],
        "9.6",
        " 9.6 ",
        "L9H6",
        "z 9.6",
        "9.6 z",
        ("z", 9, 6),
        (np.int64(9), np.int32(6)),
        np.array([9, 6]),
        torch.tensor([9, 6]),
        (torch.tensor(9), 6),
        HEAD,
    ],
    Node("q", 9, 6): ["q 9.6", "9.6 q", (9, 6, "q"), "L9H6 q", [np.int64(9), 6, "q"]],
    Node("v", 20, 1): ["v 20.1", "v 20.kv1", "20.kv1 v", (20, 1, "v")],
    Node("k", 20, 1): ["20.kv1", "k 20.kv1"],
    Node("pattern", 9, 6, 12): ["pattern 9.6 @12", "pattern 9.6 @ 12", "9.6 pattern @12"],
    Node("z", 9): [("z", 9), "z 9", "blocks.9.attn.hook_z", ("blocks.9.attn.hook_z", 9)],
    Node("z", -1, 1): ["-1.1", (-1, 1)],
    Node("mlp_out", 3): ["mlp 3", "mlp_out 3", "3_mlp", ("mlp", 3), "blocks.3.hook_mlp_out"],
    Node("mlp_post", 5, 17): ["mlp_post 5.n17", "mlp_post 5.17", "5.n17"],
    Node("resid_pre", 5, at="S2"): ["resid_pre 5 @S2", "resid_pre layer 5 @ S2", "blocks.5.hook_resid_pre @S2"],
    Node("resid_pre", 5, at="S1+1"): ["resid_pre 5 @S1+1"],
    Node("layer", 3): ["layer 3", ("layer", 3)],
    Node("result", 9, 6): ["result 9.6"],
    Node("embed"): ["embed", "hook_embed"],
    Node("logits"): ["logits"],
}


@pytest.mark.parametrize(
    ("node", "given"), [(node, given) for node, all_ in WRITTEN.items() for given in all_], ids=str
)
def test_every_way_to_write_a_node(node: Node, given: object) -> None:
    with unchecked():
        assert is_node(given)
        found = read_node(given)
        assert found == node
        assert listed(given) == [given] or isinstance(given, np.ndarray | torch.Tensor)
        assert type(found.layer) is int


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_what_is_printed_is_read_again(kind: Kind) -> None:
    config = tiny_model(kind).config
    for site, at in product(NODE_SITES.values(), (None, 3, "S2", "S1+1")):
        if site.name in SITES:
            try:
                check_site(config, site)
            except uw.InputError:
                continue
        heads = config.n_heads if site.name == "result" else n_heads_at(config, site)
        parts = [None] if site.rows == "resid" else [None, *range(heads or config.d_mlp)]
        for layer, part in product(range(config.n_layers) if site.in_layers else [-1], parts):
            node = node_of(config, Node(site.name, layer, part, at))
            again = read_node(str(node))
            assert again == node
            assert str(node_of(config, again)) == str(node)
            if part is not None and site.name in ("z", "mlp_post"):
                assert read_node(node.short) == node


def test_how_nodes_are_printed() -> None:
    names = {
        "z 9.6 @S2": "9.6 @S2",
        "mlp 3": "mlp 3",
        "v 20.kv1": "20.kv1",
        "mlp_post 5.n17": "5.n17",
        "embed": "embed",
    }
    for name, short in names.items():
        assert (str(read_node(name)), read_node(name).short) == (name, short)
    assert joint_name(read_nodes("9.6 + 3_mlp")) == "z 9.6 + mlp 3"
    assert str(Edge("8.6", "9.9", "q", -0.1, role="end")) == "8.6 -> 9.9 q @end"
    assert Edge("3_mlp", "9.9 v") == Edge("mlp 3", (9, 9), "v")


def test_several_together() -> None:
    assert read_nodes("9.6 + mlp 3") == read_nodes([(9, 6), "mlp 3"]) == (HEAD, Node("mlp", 3))
    assert [read_node(row) for row in np.array([[9, 6], [2, 1]])] == [HEAD, Node("z", 2, 1)]
    assert not is_node([(9, 6), (2, 1)])
    assert not is_node(["9.6", "mlp 3"])
    config = tiny_model("gpt2").config
    assert parts_of(config, Node("layer", 1)) == (Node("attn_out", 1), Node("mlp_out", 1))
    assert parts_of(config, Node("result", 1, 2)) == (Node("z", 1, 2),)
    assert parts_of(replace(config, d_mlp=0), Node("layer", 1)) == (Node("attn_out", 1),)


@pytest.mark.parametrize(
    "given",
    [(2, 1, 0), (2,), (2.0, 1), "2", "2.1.1", "H1L2", "z 1 2", "q z 1.1", "z 1.1 @", "z 1.1 @a b", "", "all", "mlp"],
    ids=str,
)
def test_what_is_no_node_says_what_to_write(given: object) -> None:
    with unchecked(), pytest.raises(uw.InputError, match=r"^heads: .*(write \(9, 6\)|cannot be read)"):
        read_node(given, "heads")


def test_errors_name_what_was_given_and_the_nearest_site() -> None:
    with pytest.raises(uw.InputError, match=r"senders: .*1\.2. is not a place .* Did you mean .pattern.\?"):
        read_node("patern 1.2", "senders")
    with pytest.raises(uw.InputError, match=r"'q 9\.kv1' names a key/value head, which k and v have"):
        read_node("q 9.kv1")
    with pytest.raises(uw.InputError, match="resid_pre has no heads"):
        read_node("resid_pre 5.1")
    with pytest.raises(uw.InputError, match="the site names layer 9, and layer=3 was given"):
        Node("blocks.9.attn.hook_z", 3)
    with pytest.raises(uw.InputError, match="logits belongs to no layer"):
        Node("logits", 3)
    config = tiny_model("llama").config
    for given, message in {
        "3.0": "layers 0 to 2",
        "0.4": "heads 0 to 3",
        "v 0.2": "key and value heads 0 to 1",
    }.items():
        with pytest.raises(uw.InputError, match=message):
            node_of(config, given)
    with pytest.raises(uw.InputError, match=r"site: 'q 0\.1' cannot be taken; choose among z mlp_out"):
        node_of(config, "q 0.1", "site", among=("z", "mlp_out"))


def test_an_edit_takes_and_prints_a_node() -> None:
    pair = tiny_pair(tiny_model("gpt2"))
    end = pair.prompts.role("end")
    ways = [
        uw.Edit("z", 1, 0.0, head=2, pos=end),
        uw.Edit("z 1.2 @end", value=0.0),
        uw.Edit(uw.Node("z", 1, 2, "end"), value=0.0),
        uw.Edit("blocks.1.attn.hook_z", 1, 0.0, 2, "end"),
    ]
    logits = [pair.model.run(pair.prompts, edits=edit).logits for edit in ways]
    for other in logits[1:]:
        assert torch.equal(other, logits[0])
    assert repr(ways[1]) == "Edit('z 1.2 @end', value 0.0)"
    assert ways[1].node == uw.Node("z", 1, 2, "end")
    for wrong in (
        lambda: uw.Edit("z 1.2"),
        lambda: uw.Edit("mlp_post", 1, 0.0, head=2),
        lambda: uw.Edit("z", value=0.0),
    ):
        with pytest.raises(uw.InputError):
            wrong()


def test_every_method_takes_a_node() -> None:
    pair = tiny_pair(tiny_model("llama"))
    head, value = uw.Node("z", 1, 2), uw.Node("v", 1, 1)
    assert uw.patch_at(pair, head).identical(uw.patch_at(pair, "1.2"))
    assert uw.patch_at(pair, head)["address"].values.tolist() == ["z 1.2"]
    assert uw.knockout(pair, [head, value]).identical(uw.knockout(pair, ["L1H2", "1.kv1 v"]))
    assert uw.path_patch(pair, [value], [uw.Node("z", 0, 3)]).identical(uw.path_patch(pair, "1.1 v", "0.3"))
    assert uw.attention(pair, head).identical(uw.attention(pair, (1, 2)))
    with unchecked():
        assert uw.Group("a", [head]).heads == ((1, 2),)  # type: ignore[arg-type]
