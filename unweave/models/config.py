"""The shape of a transformer, and nothing about how it is stored on disk."""

from dataclasses import dataclass
from typing import Literal, get_args

from unweave.errors import InputError

NormKind = Literal["layer", "rms", "none"]
BlockKind = Literal["serial", "parallel"]
PositionKind = Literal["learned", "rotary", "none"]
Activation = Literal["gelu", "gelu_new", "silu", "relu"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """One transformer, as the forward pass sees it.

    `block="parallel"` means that attention and MLP both read `resid_pre` (each through its own norm) and there is no
    `resid_mid`. `d_mlp=0` means that there are no MLPs. `score_scale` multiplies q·k. `rotary_dim` is the number of
    leading dimensions of a head that are rotated. `d_vocab_out` is `d_vocab`, or the number of a classifier's classes.
    `causal=False` lets every position see all others of its prompt, except keys at `pad_token`.

    Raises:
        InputError: a field that no transformer can have, or two that contradict each other.
    """

    name: str
    family: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    d_vocab_out: int
    n_ctx: int
    norm: NormKind
    norm_eps: float
    block: BlockKind
    positions: PositionKind
    score_scale: float
    activation: Activation
    gated_mlp: bool
    rotary_dim: int = 0
    tied_unembed: bool = False
    causal: bool = True
    pad_token: int | None = None
    # Where the weights came from, as results and reports state it: revision or sha256, and bits a weight.
    source: str = ""
    revision: str = ""
    quantization: str = ""
    # Weight processing applied so far, in order (`fold_norm`, `center_writing`, …).
    processing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in CHOICES:
            check_choice(name, getattr(self, name))
        _check_sizes(self)
        _check_together(self)

    @property
    def heads_per_kv(self) -> int:
        """Query heads that share one key and value head; 1 where keys and values are not grouped."""
        return self.n_heads // self.n_kv_heads

    @property
    def grouped(self) -> bool:
        return self.n_kv_heads != self.n_heads


CHOICES = {"norm": NormKind, "block": BlockKind, "positions": PositionKind, "activation": Activation}
_SIZES = ("n_layers", "n_heads", "n_kv_heads", "d_model", "d_head", "d_vocab", "d_vocab_out", "n_ctx")


def check_choice(name: str, given: object) -> None:
    """Raises InputError where a field has none of the values that it may have."""
    if given not in get_args(CHOICES[name]):
        raise InputError(f"{name}: expected one of {', '.join(get_args(CHOICES[name]))}, got {given!r}")


def _check_sizes(config: Config) -> None:
    for name in _SIZES:
        if getattr(config, name) < 1:
            raise InputError(f"{name}: expected at least 1, got {getattr(config, name)}")
    if config.d_mlp < 0:
        raise InputError(f"d_mlp: expected the MLPs' width, or 0 for none, got {config.d_mlp}")
    if config.norm != "none" and not config.norm_eps >= 0:
        raise InputError(f"norm_eps: expected 0 or more, got {config.norm_eps}")
    if not 0 < abs(config.score_scale) < float("inf"):
        raise InputError(f"score_scale: expected what scores are multiplied by, d_head**-0.5, got {config.score_scale}")


def _check_together(config: Config) -> None:
    """Fields that must fit each other."""
    if config.n_heads % config.n_kv_heads:
        raise InputError(f"n_kv_heads: {config.n_heads} query heads cannot share {config.n_kv_heads} evenly")
    rotated = config.rotary_dim
    if config.positions == "rotary" and (rotated % 2 or not 0 < rotated <= config.d_head):
        raise InputError(f"rotary_dim: expected an even number up to d_head={config.d_head}, got {rotated}")
    if config.positions != "rotary" and rotated:
        raise InputError(f"rotary_dim: {rotated} dimensions to rotate, and positions={config.positions!r}; give 0")
    if config.gated_mlp and config.d_mlp == 0:
        raise InputError("gated_mlp: d_mlp=0 leaves no MLP to gate; give d_mlp, or gated_mlp=False")
    if config.tied_unembed and config.d_vocab_out != config.d_vocab:
        raise InputError(
            f"tied_unembed: {config.d_vocab_out} outputs cannot be read off {config.d_vocab} embeddings; give False"
        )
    if config.pad_token is None:
        return
    if config.causal:
        raise InputError("pad_token: padding stands behind a prompt, where causal attention never looks; give None")
    if not 0 <= config.pad_token < config.d_vocab:
        raise InputError(f"pad_token: expected an entry of the vocabulary, 0 to {config.d_vocab - 1}")
