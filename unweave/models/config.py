"""The shape of a decoder-only transformer, and nothing about how it is stored on disk."""

from dataclasses import dataclass
from typing import Literal

NormKind = Literal["layer", "rms", "none"]
BlockKind = Literal["serial", "parallel"]
PositionKind = Literal["learned", "rotary", "none"]
Activation = Literal["gelu", "gelu_new", "silu", "relu"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """One transformer, as the forward pass sees it.

    `block="parallel"` means that attention and MLP both read `resid_pre` (each through its own norm) and there is no
    `resid_mid`. `d_mlp=0` means that there are no MLPs. `score_scale` multiplies q·k. `rotary_dim` is the number of
    leading dimensions of a head that are rotated.
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
    # Where the weights came from, as results and reports state it: revision or sha256, and bits a weight.
    source: str = ""
    revision: str = ""
    quantization: str = ""
    # Weight processing applied so far, in order (`fold_norm`, `center_writing`, …).
    processing: tuple[str, ...] = ()

    @property
    def heads_per_kv(self) -> int:
        """Query heads that share one key and value head; 1 where keys and values are not grouped."""
        return self.n_heads // self.n_kv_heads

    @property
    def grouped(self) -> bool:
        return self.n_kv_heads != self.n_heads
