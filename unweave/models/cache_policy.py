"""What the run of a contrast's prompts keeps without being asked, so that no sweep over them has to run them again."""

import psutil
import torch

from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.run import Key, keys_to_keep
from unweave.models.sites import SITES, width

# What sweeps start from. Patterns, scores and hidden layers are larger, and seldom asked for.
_CACHED = ("resid_pre", "q", "k", "v", "z", "attn_out", "resid_mid", "mlp_out", "resid_post")
# The largest part of the free memory that one run takes without being asked.
_SHARE = 1 / 32


def cached_sites(config: Config, prompts: Prompts, itemsize: int) -> list[Key]:
    """The (site, layer) pairs to keep of a run of these prompts; none where they would take much of the free memory."""
    keys = [key for key in keys_to_keep(config, "all") if key[0] in _CACHED]
    # what a block leaves is what the next one reads: the same tensor
    each = sum(width(config, SITES[site], 0) for site, _ in keys if site != "resid_post") * itemsize
    return keys if prompts.tokens.numel() * each <= _SHARE * free_bytes(prompts.tokens.device) else []


def free_bytes(device: torch.device) -> int:
    """The memory that is free where a device's tensors lie."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
