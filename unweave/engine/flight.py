"""Tickets flown down the network: as many wavefronts, one after the other, as the room for them asks for.

1. A wavefront goes down the stages and takes tickets in until it is full. What it took is scored when it has landed.
2. The next one starts at the first ticket left.
3. Out of memory, the wavefront is dropped, the room halved, and its tickets are flown again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Int
from torch import Tensor

from unweave.engine.arrivals import Arrival
from unweave.engine.memory import Room, is_out_of_memory
from unweave.engine.reach import Reach
from unweave.engine.wavefront import Wavefront


@dataclass(frozen=True)
class Ticket:
    """Runs of one prompt that join at a stage: all that is to be done for `variants`.

    `arrivals` makes the runs that can matter, the same ones each time; `skip` of them have been dealt with.
    """

    stage: int
    prompt: int
    variants: Int[Tensor, " variant"]
    arrivals: Callable[[], Iterable[Arrival]]
    skip: int = 0


def fly(
    tickets: Sequence[Ticket],
    room: Room,
    reach: Reach,
    start: Callable[[Room], Wavefront],
    land: Callable[[Wavefront, Sequence[Ticket]], None],
    under_way: Callable[[float], None] = lambda runs: None,
) -> None:
    """Flies tickets, sorted by stage, to the end.

    `start` makes an empty wavefront. `land` takes one that has landed, and the tickets that are finished with it.
    `under_way` is told of the runs in flight, each counted by the share of its way that is done.
    """
    longest, left = max(reach.last) + 1, list(tickets)
    while left:
        try:
            wave = start(room)
            rest = _down(wave, left, reach, under_way)
            land(wave, left[: len(left) - len(rest)])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or room.rows <= longest:
                raise
            room = room.halved(longest)
        else:
            left = rest


def _down(wave: Wavefront, tickets: list[Ticket], reach: Reach, under_way: Callable[[float], None]) -> list[Ticket]:
    """Takes tickets in, stage by stage, until the wavefront is full; flies it to the end; returns what is left."""
    end = 2 * wave.config.n_layers
    left = tickets[::-1]
    full = False
    for stage in range(tickets[0].stage, end + 1):
        wave.recording.forget()
        while left and not full and left[-1].stage == stage:
            rest = _take_in(wave, left[-1], reach)
            full = rest is not None
            left[-1:] = [] if rest is None else [rest]
        if stage < end:
            wave.advance(stage)
            under_way(wave.n_runs * (stage + 1) / end)
    return left[::-1]


def _take_in(wave: Wavefront, ticket: Ticket, reach: Reach) -> Ticket | None:
    """Lets a ticket's runs join. Returns what is left of it if the wavefront is full, and None otherwise."""
    seen = 0
    for arrival in ticket.arrivals():
        count = len(arrival.variants)
        done = max(0, min(count, ticket.skip - seen))
        if done < count:
            joined = wave.join(arrival.rest(done), ticket.stage, reach)
            if done + joined < count:
                return replace(ticket, skip=seen + done + joined)
        seen += count
    return None
