"""End to end: from a prompt to the curves, as the course exercise does it and as laminar_tui does it.

The exercise's curves are two a layer (each token to itself, final token to all previous ones, all heads together), 64
for Pythia-2.8B's 32 layers. Forward, capture and curves all go with the number of layers, so that a few layers have
the ratio of many. "Every head and all weights" is a curve for every head and each of the four populations; scipy's
share of it is not run but extrapolated from its cost law.
"""

from kde import Law
from rounds import Measured, markdown, readable
from variants import EXERCISE, OUR_CURVES, OUR_HEADS, OURS, PATTERNS

FOR_EXERCISE = (EXERCISE, OUR_CURVES, OUR_HEADS)
"""What is run beside the variants of every row."""


def population_sizes(n_tokens: int) -> dict[str, int]:
    """How many weights of one head are in each population of a causal prompt."""
    past = n_tokens * (n_tokens - 1) // 2
    return {"final": n_tokens - 1, "self": n_tokens - 1, "past": past, "all": past + n_tokens - 1}


def end_to_end(title: str, n_layers: int, n_tokens: int, measured: Measured) -> list[str]:
    """A row: seconds of the exercise, of ours, and the ratio."""
    if EXERCISE not in measured.seconds or OUR_CURVES not in measured.seconds:
        return [title, f"{n_tokens:,}", str(2 * n_layers), "–", "–", "–"]
    theirs, ours = measured.median(EXERCISE), measured.median(OUR_CURVES)
    ratio = f"{measured.ratio(EXERCISE, OUR_CURVES):.1f}"
    return [title, f"{n_tokens:,}", str(2 * n_layers), readable(theirs), readable(ours), ratio]


def every_head(
    title: str, n_layers: int, n_heads: int, n_tokens: int, measured: Measured, curves: float, law: Law
) -> list[str]:
    """A row: seconds of eager + scipy for every head and population, extrapolated, ours, and the ratio.

    Args:
        curves: seconds that our curves of every head take; they are made from counts and do not depend on the length.
        law: scipy's.
    """
    scipy = n_layers * n_heads * sum(law.seconds(n) for n in population_sizes(n_tokens).values())
    forward = measured.median(PATTERNS) if PATTERNS in measured.seconds else 0.0
    ours = measured.median(OURS) + curves
    cells = [title, f"{n_tokens:,}", f"{4 * n_layers * n_heads:,}", readable(forward + scipy)]
    return [*cells, readable(ours), f"{(forward + scipy) / ours:,.0f}"]


def seconds_of_curves(measured: Measured) -> float:
    """What our curves of every head and population take beyond the capture."""
    return max(measured.median(OUR_HEADS) - measured.median(OURS), 0.0)


def exercise_table(rows: list[list[str]]) -> str:
    """The first table."""
    return markdown(["", "T", "curves", "eager + output_attentions + scipy", "laminar_tui", "times faster"], rows)


def every_head_table(rows: list[list[str]], law: Law) -> str:
    """The second table, with what it is made of."""
    table = markdown(["", "T", "curves", "eager + scipy, extrapolated", "laminar_tui, measured", "times faster"], rows)
    return f"{table}\n\nExtrapolated, not run: {law}; plus the eager forward where it was measured."
