"""How each reference figure of the palindrome classifier is made through unweave, by its name in the file.

The names are those of `palindrome_reference.json`: `cell36.zero` is the zero-ablation table of the published notebook's
cell 36. Heads are `layer.head`; class 0 is "no palindrome". An entry here is one call, or a few, of what users call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import unweave as uw
from tests.methods import palindromes
from unweave.methods.weights.composition import composition_baseline
from unweave.methods.weights.head_matrices import class_direction
from unweave.metrics.metric import read_logits
from unweave.tasks.palindromes import draw_palindromes, framed

MANY = "ds10000_seed43"
ALL_HEADS = [(0, 0), (0, 1), (1, 0), (1, 1)]


@dataclass(frozen=True)
class Subject:
    """The classifier in one dtype, and the inputs of the figures."""

    folder: Path
    dtype: torch.dtype = torch.float64

    @cached_property
    def model(self) -> uw.Model:
        return palindromes.classifier(self.folder).to(dtype=self.dtype)

    @cached_property
    def file(self) -> dict[str, Any]:
        return palindromes.reference(self.folder)

    @property
    def inputs(self) -> dict[str, Any]:
        return self.file["inputs"]

    def prompts(self, name: str, size: int | None = None) -> uw.Prompts:
        """The first sequences of a data set, the answers their classes."""
        if name == MANY:
            tokens, labels = draw_palindromes(10_000, seed=43)
            return uw.Prompts.from_tokens(tokens, labels, 1 - labels)
        labels = torch.tensor(self.inputs[f"{name}.is_palindrome"])[:size]
        return uw.Prompts.from_tokens(torch.tensor(self.inputs[f"{name}.toks"])[:size], labels, 1 - labels)

    def rows(self, name: str) -> Tensor:
        return torch.tensor(self.inputs[name])

    @cached_property
    def norm_scale(self) -> float:
        """Of the first norm, averaged over five sequences."""
        return float(uw.weights.norm_scales(self.model, self.rows("ds100.toks")[:5]).sel(layer=0).mean())

    def lost(self, size: int, site: str, how: str | uw.Replacement) -> np.ndarray:
        """Mean loss gained by a knockout, `[layer, head]`."""
        pair = contrast(self, "ds500" if size > 100 else "ds100", size)
        source = "clean" if how == "mean" else None
        return uw.knockout(pair, site, how, measure="change", progress=False, source=source).mean("prompt").values

    def qk(self, head: str, over: str, softmax: bool = True):
        return uw.weights.qk_circuit(self.model, [head], over, norm_scale=self.norm_scale, softmax=softmax)[0]

    def parts(self, name: str, final_norm: bool = False):
        """Six parts `[component, prompt]`: embeddings and heads."""
        found = uw.classifier.class_attribution(self.model, self.prompts(name), final_norm=final_norm)
        return found.drop_sel(component="bias").transpose("component", "prompt")

    def by_class(self, label: int) -> np.ndarray:
        parts = self.parts("ds100")
        return parts.isel(prompt=parts.answer.values == label).mean("prompt").values

    def offered(self):
        """What each of the 20 values offers to 1.0 through 0.0, `[prompt, pos]`."""
        tokens = self.rows("ds100.toks")
        found = uw.classifier.attribution_through(self.model, tokens, "0.0", "1.0", looking="self")
        return found.sel(pos=slice(1, 20))

    def patterns(self, tokens: Tensor, head: str) -> Tensor:
        layer, number = map(int, head.split("."))
        return self.model.run(tokens, keep="pattern")["pattern", layer][:, number]

    def loss(self, name: str, size: int | None = None) -> float:
        return float(losses_and_hits(self, name, size)[0].mean())

    @cached_property
    def composition(self):
        return uw.weights.composition_scores(self.model)

    def rebuilt(self, kind: str):
        found = uw.classifier.rebuilt_attention(self.model, self.rows("custom_toks")[None], "0.0")
        return found.sel(prompt=0, address=f"0.0 {kind}")

    def missed_changes(self) -> list[float]:
        """At each position 2,000 palindromes, then a wrong value for each, drawn with a seed of the position's own."""
        shares = []
        for place in range(11, 21):
            draw = torch.Generator().manual_seed(7 + place)
            half = torch.randint(0, 31, (2000, 10), generator=draw)
            tokens = framed(torch.cat([half, half.flip(1)], dim=1), max_value=30)
            other = (tokens + torch.randint(1, 31, (2000, 1), generator=draw)) % 31
            shares.append(
                float(uw.classifier.blind_spots(self.model, tokens, 1, other, [place], progress=False).mean())
            )
        return shares

    def fold_error(self) -> float:
        """How far log-probabilities of the stored and of the processed weights lie apart."""
        tokens = self.rows("ds500.toks")
        stored = palindromes.classifier(self.folder, process=()).to(dtype=self.dtype)
        ours, theirs = (model.run(tokens).logits_at().log_softmax(-1) for model in (self.model, stored))
        return float((ours - theirs).abs().max())

    def decomposition_error(self) -> float:
        """The stream at END, less embeddings, heads and output biases."""
        run = self.model.run(self.rows("ds100.toks"), keep=["embed", "pos_embed", "z", ("resid_post", 1)])
        heads = torch.einsum("lpnhe,lhed->pnd", run["z"], self.model.W_O)
        biases = sum(layer.b_o for layer in self.model.weights.layers if layer.b_o is not None)
        left = run["resid_post", 1] - run["embed"] - run["pos_embed"] - heads - biases
        return float(left[:, -1].abs().max())

    def attribution_error(self) -> float:
        """The parts with the norm's scale, less the logit difference."""
        found = uw.classifier.class_attribution(self.model, self.prompts("ds100"))
        return float(abs(found.sum("component") - found.total).max())

    def random_tables(self) -> np.ndarray:
        """Five random ablations of heads' outputs, `[draw, layer, head]`."""
        return np.stack([self.lost(500, "result", uw.Replacement("gaussian", seed=seed)) for seed in range(5)])


@cache
def contrast(subject: Subject, name: str, size: int) -> uw.Contrast:
    """The first sequences of a data set against the same with their second half reversed."""
    clean = subject.prompts(name, size)
    other = torch.cat([clean.tokens[:, :11], clean.tokens[:, 11:21].flip(1), clean.tokens[:, 21:]], dim=1)
    return uw.Contrast(subject.model, clean, uw.Prompts.from_tokens(other), uw.CrossEntropy())


@cache
def losses_and_hits(subject: Subject, name: str, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy and accuracy of each sequence of a data set, from one run."""
    prompts = subject.prompts(name, size)
    run, metrics = subject.model.run(prompts), (uw.CrossEntropy(), uw.Accuracy())
    loss, hit = (m.score(read_logits(run, m, prompts), prompts).numpy() for m in metrics)
    return loss, hit


FIGURES: dict[str, Callable[[Subject], Any]] = {
    "nonpal_dir": lambda s: class_direction(s.model, (0, 1)),
    "b_U": lambda s: s.model.weights.b_u,
    "ds500.logits_end_first20": lambda s: s.model.run(s.rows("ds500.toks")[:20]).logits_at(),
    "ds500.prob_palindrome_first20": lambda s: uw.classifier.class_probability(s.model, s.rows("ds500.toks")[:20], 1),
    "cell6.prob_palindrome": lambda s: uw.classifier.class_probability(s.model, s.rows("ds100.toks")[:5], 1),
    "cell7.pattern_h00_ex1_2_3": lambda s: s.patterns(s.rows("ds100.toks")[1:4], "0.0"),
    "ln1_scale_mean_first5": lambda s: s.norm_scale,
    "cell9.QK_embed": lambda s: s.qk("0.0", "tokens"),
    "cell9.QK_embed_scores": lambda s: s.qk("0.0", "tokens", softmax=False),
    "cell11.top1": lambda s: uw.weights.top_1_accuracy(s.qk("0.0", "tokens").isel(query=slice(31), key=slice(31))),
    "QK_embed_top1_h0.0_31rows": lambda s: uw.weights.top_1_accuracy(s.qk("0.0", "tokens").isel(query=slice(31))),
    "QK_embed_top1_h0.1_31rows": lambda s: uw.weights.top_1_accuracy(s.qk("0.1", "tokens").isel(query=slice(31))),
    "cell12.QK_pos": lambda s: s.qk("0.0", "positions"),
    "QK_pos_argmax_rows11_20": lambda s: s.qk("0.0", "positions").sel(q_pos=slice(11, 20)).argmax("k_pos"),
    "QK_pos_lambda_fraction_rows11_20": lambda s: uw.weights.top_1_accuracy(
        s.qk("0.0", "positions").sel(q_pos=slice(11, 20)), expected=[21 - row for row in range(11, 21)]
    ),
    "cell13.attn_no_pos": lambda s: s.rebuilt("tokens alone"),
    "cell13.attn_with_pos": lambda s: s.rebuilt("tokens and positions"),
    "custom.true_pattern_h00": lambda s: s.rebuilt("the model"),
    "cell17.dla": lambda s: s.parts("ds100"),
    "dla_mean_nonpal": lambda s: s.by_class(0),
    "dla_mean_pal": lambda s: s.by_class(1),
    "dla_with_final_ln": lambda s: s.parts("ds100", final_norm=True),
    "cell19.Q": lambda s: s.composition.sel(kind="Q"),
    "cell19.K": lambda s: s.composition.sel(kind="K"),
    "cell19.V": lambda s: s.composition.sel(kind="V"),
    "comp_baseline_mean_300_seed0": lambda s: composition_baseline(28, 14).mean,
    "comp_baseline_std_300_seed0": lambda s: composition_baseline(28, 14).std,
    "cell22.h10_last_row": lambda s: s.patterns(torch.tensor(s.file["reference"]["cell22.tokens"]), "1.0")[:, -1],
    "cell24.mean_q_h1.0_ds100": lambda s: s.lost(100, "q", "mean")[1, 0],
    "cell24.zero_q_h1.0_ds100": lambda s: s.lost(100, "q", "zero")[1, 0],
    "cell25.q_mean_direction": lambda s: uw.weights.mean_query(s.model, s.rows("ds100.toks"), "1.0"),
    "cell26.K_comp": lambda s: uw.weights.k_composition(s.model, "0.0", "1.0"),
    "cell32.V_comp": lambda s: uw.weights.v_composition(s.model, "0.0", "1.0"),
    "cell27.h00_through_h10_OV": lambda s: uw.classifier.attribution_through(
        s.model, s.rows("ds100.toks"), "0.0", "1.0"
    ).mean("pos"),
    "cell29.dot_ex2_pos13": lambda s: s.offered().sel(prompt=2, pos=13),
    "cell30.dot_ex2": lambda s: s.offered().sel(prompt=2),
    "cell31.dot_100": lambda s: s.offered(),
    "cell31.std_mean": lambda s: s.offered().std("prompt", ddof=1).mean(),
    "cell28.patterns_ex2": lambda s: torch.cat(
        [s.patterns(s.rows("ds100.toks")[2:3], f"{i}.{j}") for i, j in ALL_HEADS]
    ),
    "cell33.prob_palindrome": lambda s: uw.classifier.class_probability(s.model, s.rows("adversarial_toks"), 1),
    "single_mismatch_missed_fraction_pos11_20": Subject.missed_changes,
    "cell36.zero": lambda s: s.lost(500, "z", "zero"),
    "cell36.mean": lambda s: s.lost(500, "z", "mean"),
    "cell37.base_loss": lambda s: s.loss("ds500", 200),
    "cell37.mean": lambda s: [s.lost(200, site, "mean") for site in "qkv"],
    "cell37.zero": lambda s: [s.lost(200, site, "zero") for site in "qkv"],
}
