"""The numbers of a layer's heads, from what was measured of its rows: the same formulas in numpy and in torch.

On the host small arrays are faster in numpy; an accelerator's stay where they are in torch. Only functions that both
have under one name are used, and none that would ask an accelerator for a value. `profile.statistics` says what each
number is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from laminar_tui.profile.statistics import REST_AT_LEAST, STATISTICS, UNDERFLOW

Array = Any
"""Of the library that is handed on as `xp`: numpy or torch."""
OF_SORTED = ("gini", "rest.gini", "score_variance")
"""The numbers that are made of few whole rows."""
OF_ROWS = tuple(name for name in STATISTICS if name not in OF_SORTED)
"""Those that are made of what was measured of every row."""


@dataclass(frozen=True, eq=False)
class WholeRows:
    """All rows of a layer, [n_heads, n_tokens] each unless it is said otherwise.

    Attributes:
        queries: int64 [n_tokens], their positions.
        n_seen: int64 [1 or n_heads, n_tokens], how many keys each sees.
        sees_first, sees_itself: bool [1 or n_heads, n_tokens].
        first, itself, previous: float32, the weights on key 0, on key q and on key q - 1.
        total, squares, entropy: float64, the sums of p, p^2 and -p ln p over the content, 0 < k < q.
        position: float64, the sum of p k over all keys.
    """

    queries: Array
    n_seen: Array
    sees_first: Array
    sees_itself: Array
    first: Array
    itself: Array
    previous: Array
    total: Array
    squares: Array
    entropy: Array
    position: Array


def average_rows(rows: WholeRows, xp: Any) -> Array:
    """Every number of `OF_ROWS`, float64 [len(OF_ROWS), n_heads]; NaN where no row defines it."""
    query, itself = rows.queries, _cast(rows.itself, xp.float64)
    sink = _cast(xp.where(query > 0, rows.first, 0.0), xp.float64)
    previous = _cast(rows.previous, xp.float64)
    later = xp.broadcast_to(query > 0, sink.shape)
    n_seen = xp.broadcast_to(rows.n_seen, sink.shape)
    several = (n_seen >= 2) & later
    # Without the sink; then with it.
    rest, rest_squares = rows.total + itself, rows.squares + itself**2
    rest_entropy = rows.entropy + _entr(itself, xp)
    rest_distance = query * rest - rows.position
    total, squares, entropy = rest + sink, rest_squares + sink**2, rest_entropy + _entr(sink, xp)
    effective = xp.exp(entropy)
    n_safe = _cast(xp.clip(n_seen, 2, None), xp.float64)
    roots = xp.sqrt(n_safe)
    has_rest = several & (rest > REST_AT_LEAST)
    n_rest = xp.broadcast_to(rows.n_seen - _cast(rows.sees_first, xp.int64), sink.shape)
    is_free = has_rest & (n_rest >= 2)
    n_free = _cast(xp.clip(n_rest, 2, None), xp.float64)
    rest_roots = xp.sqrt(n_free)
    rest = xp.clip(rest, REST_AT_LEAST, None)
    rest_entropy = rest_entropy / rest + xp.log(rest)
    last = several & (query == len(query) - 1)
    table: dict[str, tuple[Array, Array]] = {
        "entropy": (entropy, several),
        "entropy_share": (entropy / xp.log(n_safe), several),
        "effective_tokens": (effective, several),
        "participation_ratio": (_divide(1.0, squares, xp), several),
        "hoyer": ((roots - _divide(total, xp.sqrt(squares), xp)) / (roots - 1), several),
        "distance": (rest_distance + sink * query, several),
        "sink_share": (sink, later),
        "previous_token": (previous, later),
        "self": (itself, later),
        "off_sequence": (1 - total, later),
        "rest.entropy": (rest_entropy, has_rest),
        "rest.entropy_share": (rest_entropy / xp.log(n_free), is_free),
        "rest.effective_tokens": (xp.exp(rest_entropy), has_rest),
        "rest.participation_ratio": (_divide(rest**2, rest_squares, xp), has_rest),
        "rest.hoyer": ((rest_roots - _divide(rest, xp.sqrt(rest_squares), xp)) / (rest_roots - 1), is_free),
        "rest.distance": (rest_distance / rest, has_rest),
        "rest.previous_token": (previous / rest, is_free),
        "rest.self": (itself / rest, is_free),
        "final.entropy": (entropy, last),
        "final.effective_tokens": (effective, last),
        "final.sink_share": (sink, last),
    }
    # All in one go: on a short prompt, starting an operation takes longer than doing it.
    values, defined = (xp.stack(each) for each in zip(*(table[name] for name in OF_ROWS), strict=True))
    return mean_where(values, defined, xp)


def measure_sorted(
    ascending: Array, first: Array, n_seen: Array, n_rest: Array, ranks: Array, xp: Any
) -> tuple[Array, Array]:
    """The numbers of `OF_SORTED` for some sorted rows.

    Hidden keys are zeros at the front of the ascending order, so with n the number of visible keys the rank counted
    from the end is the same with and without them.

    Args:
        ascending: float32 [n_heads, n, n_tokens].
        first: float32 [n_heads, n], the weight on key 0 among them; 0 where it is hidden.
        n_seen, n_rest: int64 [n_heads, n], how many keys a query sees, and how many without key 0.
        ranks: int64 [n_tokens], n_tokens to 1.

    Returns:
        float64 [len(OF_SORTED), n_heads, n], and bool of the same shape: where it is defined.
    """
    visible = ranks <= n_seen[..., None]
    # Of float32 numpy takes logarithms many times faster than of float64; they are right to 1e-7 of a score.
    scores = xp.log(xp.clip(ascending, UNDERFLOW, None)) * visible
    mean = _cast(scores.sum(axis=-1, dtype=xp.float64) / xp.clip(n_seen, 1, None), xp.float32)
    spread = (scores - mean[..., None]) * visible
    variance = (spread**2).sum(axis=-1, dtype=xp.float64) / xp.clip(n_seen - 1, 1, None)
    gini, rest_gini, has_rest = gini_rows(ascending, first, n_seen, n_rest, ranks, xp)
    several = n_seen >= 2
    return xp.stack([gini, rest_gini, variance]), xp.stack([several, has_rest, several])


def gini_rows(
    ascending: Array, first: Array, n_seen: Array, n_rest: Array, ranks: Array, xp: Any
) -> tuple[Array, Array, Array]:
    """The Gini coefficients of sorted rows, and those of the same rows without key 0, with no sort of their own.

    The coefficient is the sum of |p_i - p_j| over all pairs divided by 2 n sum p, and a weight that is taken out takes
    its own differences with it.

    Args:
        ascending, first, n_seen, n_rest, ranks: as of `measure_sorted`.

    Returns:
        With key 0 and without, [n_heads, n] each, and where the latter is defined; the former is from two keys on.
    """
    n_tokens = ascending.shape[-1]
    taken, exact = _cast(first, xp.float64), _cast(ascending, xp.float64)
    total = exact.sum(axis=-1)
    pairs = n_seen * total - 2 * (exact @ (_cast(ranks, xp.float64) - 0.5))
    # |p - s| = 2 max(p, s) - p - s, and of a hidden key it is s; in float32 a maximum is exact, and fast.
    larger = xp.maximum(ascending, first[..., None]).sum(axis=-1, dtype=xp.float64)
    own = 2 * larger - total - taken * (2 * n_tokens - n_seen)
    rest = total - taken
    rest_pairs = pairs - own * (n_seen - n_rest)
    gini = pairs / xp.clip(n_seen * total, UNDERFLOW, None)
    rest_gini = rest_pairs / xp.clip(n_rest * rest, UNDERFLOW, None)
    return gini, rest_gini, (n_rest >= 2) & (rest > REST_AT_LEAST)


def mean_where(values: Array, defined: Array, xp: Any) -> Array:
    """The mean along the last axis where defined; NaN where that is nowhere."""
    n = defined.sum(axis=-1)
    total = xp.where(defined, values, 0.0).sum(axis=-1)
    return xp.where(n > 0, total / xp.clip(n, 1, None), xp.nan)


def _cast(array: Array, dtype: Any) -> Array:
    return array.astype(dtype) if isinstance(array, np.ndarray) else array.to(dtype)


def _entr(weights: Array, xp: Any) -> Array:
    """-w ln w, 0 at 0."""
    return -weights * xp.log(xp.where(weights > 0, weights, 1.0))


def _divide(a: Array | float, b: Array, xp: Any) -> Array:
    """Divide; 0 where b is 0."""
    return xp.where(b > 0, a / xp.where(b > 0, b, 1.0), 0.0)
