"""Two halves of some prompts: one to choose on, and one to measure on what was chosen.

The largest of many noisy effects is too large: it was chosen for its noise too. So what is picked by size on the one
half is reported on the other.

Prompts of one cluster stay together. The halves take turns as the Thue-Morse sequence does (0 1 1 0 1 0 0 1 …), so that
prompts that alternate between two kinds, or four, are the same in both.
"""

from __future__ import annotations

from unweave.models.prompts import Prompts

# With fewer clusters than this a half tells nothing from 0: then the same prompts serve both.
FEWEST = 8


def halves(prompts: Prompts) -> tuple[list[int], list[int]]:
    """The prompts to choose on, and those to measure on; all of them twice if there are too few to be halved."""
    each = range(len(prompts)) if prompts.clusters is None else prompts.clusters.tolist()
    order = {cluster: number for number, cluster in enumerate(dict.fromkeys(each))}
    if len(order) < FEWEST:
        return [*range(len(prompts))], [*range(len(prompts))]
    second = [bool(order[cluster].bit_count() % 2) for cluster in each]
    return [row for row, late in enumerate(second) if not late], [row for row, late in enumerate(second) if late]


def halves_attrs(chosen: int, measured: int, same: bool) -> dict[str, str | int]:
    """What a result says of them: on how many prompts something was chosen, and on how many it was measured."""
    text = "the same prompts" if same else "chosen on one half of the prompts, measured on the other"
    return {"chosen_on": chosen, "measured_on": measured, "halves": text}
