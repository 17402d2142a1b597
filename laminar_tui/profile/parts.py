"""The parts a pattern is cut into, and the populations made of them.

Every weight A[q, k] that the mask allows is in exactly one of the first four parts; the `final.` parts hold the
last query's weights once more. A population is a union of parts, so with the sink, without it and the sink alone
are sums of counts and cost nothing.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from laminar_tui.errors import UsageError

SinkChoice = Literal["with", "without", "only"]
SINK_CHOICES: tuple[SinkChoice, ...] = get_args(SinkChoice)

PARTS: dict[str, str] = {
    "origin": "q = 0: the first token sees only itself, its weight is 1 by construction",
    "self": "q = k, q >= 1: a token's weight on itself",
    "sink": "k = 0, q >= 1: the weights on the first token",
    "content": "0 < k < q: the weights on the tokens between the first one and the query",
    "final.self": "the last query's weight on itself",
    "final.sink": "the last query's weight on the first token",
    "final.content": "the last query's weights on the tokens in between",
}


@dataclass(frozen=True)
class Population:
    """A named union of parts: which weights are looked at."""

    name: str
    title: str
    parts: tuple[str, ...]


POPULATIONS: dict[str, Population] = {
    population.name: population
    for population in (
        Population("final", "final token → previous tokens", ("final.sink", "final.content")),
        Population("self", "each token → itself", ("self",)),
        Population("past", "each token → previous tokens", ("sink", "content")),
        Population("all", "each token → itself and previous tokens", ("self", "sink", "content")),
    )
}


def population_parts(population: str, sink: SinkChoice = "with") -> tuple[str, ...]:
    """Name the parts of a population with the sink kept, left out, or alone.

    Returns:
        Part names; empty for the sink of a population that has none (`self`, `only`).

    Raises:
        UsageError: for a population or a sink choice that does not exist.
    """
    if population not in POPULATIONS:
        raise UsageError(f"there is no population '{population}'", f"choose one of: {', '.join(POPULATIONS)}")
    if sink not in SINK_CHOICES:
        raise UsageError(f"there is no sink choice '{sink}'", f"choose one of: {', '.join(SINK_CHOICES)}")
    parts = POPULATIONS[population].parts
    if sink == "with":
        return parts
    return tuple(part for part in parts if part.endswith("sink") == (sink == "only"))
