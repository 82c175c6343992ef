"""Which nodes a model has: checks of sites, layers, heads, neurons and positions."""

from collections.abc import Sequence
from dataclasses import replace

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.forward import halves
from unweave.nodes import SITES as SITES
from unweave.nodes import Node, Site, read_node, whole

PATCHABLE = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern", "mlp_post")


def node_of(
    config: Config, given: object, argument: str = "node", site: str = "z", among: Sequence[str] | None = None
) -> Node:
    """A node that this model has, its layer counted from the front.

    Args:
        config: of the model.
        given: the node as a user wrote it (see `unweave.nodes`).
        argument: its name in messages.
        site: of a head whose site is not written.
        among: the sites that are allowed.

    Raises:
        InputError: what is no node, a site that is not allowed, a layer, head or neuron that the model lacks.
    """
    node = read_node(given, argument, site)
    if among is not None and node.site not in among:
        raise InputError(f"{argument}: {str(node)!r} cannot be taken; choose among {' '.join(among)}")
    if not node.kind.in_layers:
        return node
    check_site(config, node.kind)
    layer, part = check_layer(config, node.layer), node.part
    if part is not None:
        part = check_neuron(config, part) if node.kind.rows == "neuron" else check_head(config, node.kind, part)
    return replace(node, layer=layer, part=part, kv=config.grouped and node.kind.rows == "kv_head")


def parts_of(config: Config, node: Node) -> tuple[Node, ...]:
    """The activations of a run that a node stands for: a layer's attention and MLP; a head's `z` for its result."""
    if node.site == "result":
        return (replace(node, site="z"),)
    if node.site != "layer":
        return (node,)
    return tuple(replace(node, site=site) for site in ("attn_out", "mlp_out") if site == "attn_out" or config.d_mlp)


def check_site(config: Config, site: Site) -> None:
    """Raises InputError where this model has no such site."""
    if site.name == "resid_mid" and not halves(config)[1]:
        raise InputError(
            f"site: {config.name} has no resid_mid, because its attention and MLP read the same resid_pre; "
            "use resid_pre, attn_out or mlp_out"
        )
    if site.name.startswith("mlp") and config.d_mlp == 0:
        raise InputError(f"site: {config.name} has no MLPs, so it has no {site.name}")
    if site.name == "pos_embed" and config.positions != "learned":
        raise InputError(f"site: {config.name} has no learned position embeddings, so it has no pos_embed")


def check_layer(config: Config, layer: object) -> int:
    """`layer`, counted from the end where negative. Raises InputError where there is none."""
    layer = whole("layer", layer)
    if not -config.n_layers <= layer < config.n_layers:
        raise InputError(f"layer: {config.name} has layers 0 to {config.n_layers - 1}, got {layer}")
    return layer % config.n_layers


def n_heads_at(config: Config, site: Site) -> int | None:
    """Heads of a site: key and value heads for `k` and `v`, and None where it has no heads."""
    if site.rows in ("head", "attention"):
        return config.n_heads
    return config.n_kv_heads if site.rows == "kv_head" else None


def width(config: Config, site: Site, n_pos: int) -> int:
    """Numbers of a site at one position of one prompt; of an attention pattern its rows over `n_pos` keys."""
    heads = n_heads_at(config, site)
    if site.rows == "attention":
        return config.n_heads * n_pos
    if heads is not None:
        return heads * config.d_head
    return config.d_mlp if site.rows == "neuron" else config.d_model


def check_pos(n_pos: int, pos: object, argument: str = "pos") -> int:
    """`pos`, if a prompt of `n_pos` tokens has it. Raises InputError otherwise: also for one counted from the end."""
    pos = whole(argument, pos)
    if pos < 0:
        raise InputError(
            f"{argument}: positions count from 0, got {pos}; for each prompt's last token write the role 'end', or "
            "prompts.role('end') where a tensor of positions is taken"
        )
    if pos >= n_pos:
        raise InputError(f"{argument}: the prompts have positions 0 to {n_pos - 1}, got {pos}")
    return pos


def check_neuron(config: Config, neuron: object) -> int:
    """`neuron`, if the MLPs have it. Raises InputError otherwise."""
    neuron = whole("neuron", neuron)
    if not 0 <= neuron < config.d_mlp:
        raise InputError(f"neuron: {config.name} has neurons 0 to {config.d_mlp - 1} in a layer, got {neuron}")
    return neuron


def check_head(config: Config, site: Site, head: object) -> int:
    """`head`, if the site has it. Raises InputError otherwise."""
    head = whole("head", head)
    n_heads = n_heads_at(config, site)
    if n_heads is None:
        raise InputError(f"head: {site.name} has no heads")
    if not 0 <= head < n_heads:
        kind = "key and value heads" if site.rows == "kv_head" and config.grouped else "heads"
        raise InputError(f"head: {config.name} has {kind} 0 to {n_heads - 1} at {site.name}, got {head}")
    return head
