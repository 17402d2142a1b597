"""The numbers of a head: their names, what they mean, and each one's formula on a dense pattern.

`profile.formulas` makes them of many rows at once; the formulas here are the definition and the independent check.
Each is a mean over the queries that see at least two keys, over all from the second on where its description says
`q >= 1`, or of the last query alone (`final.`). The `rest.` numbers leave the sink (key 0) out and divide what remains
by its sum; those that compare the keys with one another are over the queries that see two others at least.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

GINI_QUERIES = 16
"""The Gini coefficient needs a sort of each row, so it is the mean over at most this many evenly spaced queries."""

UNDERFLOW = float(np.finfo(np.float32).tiny)
"""The smallest normal float32. A weight below it is zero on some devices and a denormal number on others; the variance
of the scores takes it for this much, and is then a lower bound."""

REST_AT_LEAST = 1e-6
"""A query with less than this outside of the sink has no rest to speak of; it is left out of the `rest.` numbers."""


@dataclass(frozen=True)
class Statistic:
    """A number of a head.

    Attributes:
        name: as in `Profile.statistics` and `stat.NAME` of an export.
        title: as on the screen.
        unit: may be empty.
        description: one sentence with the formula.
        is_share: a share of a query's attention, from 0 to 1, to be written in percent.
    """

    name: str
    title: str
    unit: str
    description: str
    is_share: bool = False


def entropy(p: NDArray[np.float64]) -> float:
    """H = -sum p ln p, in nats."""
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())


def normalised_entropy(p: NDArray[np.float64]) -> float:
    """H / ln n: 0 for all on one key, 1 for uniform attention."""
    return entropy(p) / float(np.log(len(p)))


def effective_tokens(p: NDArray[np.float64]) -> float:
    """N1 = exp(H)."""
    return float(np.exp(entropy(p)))


def participation_ratio(p: NDArray[np.float64]) -> float:
    """N2 = 1 / sum p^2."""
    return float(1 / (p**2).sum())


def hoyer(p: NDArray[np.float64]) -> float:
    """(sqrt n - 1 / sqrt(sum p^2)) / (sqrt n - 1), for p that sum to 1."""
    root = float(np.sqrt(len(p)))
    return (root - float(p.sum() / np.sqrt((p**2).sum()))) / (root - 1)


def gini(p: NDArray[np.float64]) -> float:
    """1 - 2 sum_k p_(k) (n - k + 1/2) / n over ascending p (Hurley & Rickard, arXiv 0811.4706)."""
    n = len(p)
    ascending = np.sort(p) / p.sum()
    return float(1 - 2 * (ascending * (n - np.arange(1, n + 1) + 0.5)).sum() / n)


def score_variance(p: NDArray[np.float64]) -> float:
    """The sample variance (n - 1) of the scores that a softmax made p of: that of ln p, since ln p = s - lse."""
    return float(np.log(np.maximum(p, UNDERFLOW)).var(ddof=1))


def _share(name: str, title: str, description: str) -> Statistic:
    return Statistic(name, title, "", description, is_share=True)


STATISTICS: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        Statistic("entropy", "entropy", "nats", "H = -sum p ln p, mean over the queries"),
        _share("entropy_share", "entropy / ln n", "H / ln n: 0 for all on one key, 1 for uniform"),
        Statistic("effective_tokens", "effective tokens", "tokens", "exp(H), mean over the queries"),
        Statistic("participation_ratio", "participation", "tokens", "1 / sum p^2, mean over the queries"),
        Statistic("hoyer", "Hoyer sparsity", "", "(sqrt n - 1/sqrt(sum p^2)) / (sqrt n - 1)"),
        Statistic("gini", "Gini", "", f"Gini coefficient, mean over at most {GINI_QUERIES} evenly spaced queries"),
        Statistic(
            "score_variance",
            "score variance",
            "",
            f"variance of ln p over the visible keys, which is that of the scores; the queries are those of the Gini, "
            f"and what is below {UNDERFLOW:.1e} counts as that much",
        ),
        Statistic("distance", "mean distance", "tokens", "sum p (q - k): how far back a query looks"),
        _share("sink_share", "sink share", "mean weight on the first token, over the queries q >= 1"),
        _share("previous_token", "previous token", "mean A[q, q-1], q >= 1"),
        _share("self", "self", "mean A[q, q], q >= 1"),
        _share("off_sequence", "off-sequence", "mean mass on no key at all (sink logits), q >= 1"),
        Statistic("rest.entropy", "entropy, no sink", "nats", "entropy of the weights on keys k >= 1"),
        _share("rest.entropy_share", "entropy / ln n, no sink", "H / ln n of the weights on keys k >= 1"),
        Statistic("rest.effective_tokens", "eff. tokens, no sink", "tokens", "exp of the entropy, keys k >= 1"),
        Statistic("rest.participation_ratio", "participation, no sink", "tokens", "1 / sum p^2, keys k >= 1"),
        Statistic("rest.hoyer", "Hoyer, no sink", "", "Hoyer sparsity of the weights on keys k >= 1"),
        Statistic("rest.gini", "Gini, no sink", "", "Gini coefficient of the weights on keys k >= 1, same queries"),
        Statistic("rest.distance", "distance, no sink", "tokens", "sum p (q - k), keys k >= 1"),
        _share("rest.previous_token", "previous, no sink", "A[q, q-1] / sum of the weights on keys k >= 1, q >= 2"),
        _share("rest.self", "self, no sink", "A[q, q] / sum of the weights on keys k >= 1, q >= 2"),
        Statistic("final.entropy", "entropy, final query", "nats", "entropy of the last query's weights"),
        Statistic("final.effective_tokens", "eff. tokens, final", "tokens", "exp of the last query's entropy"),
        _share("final.sink_share", "sink share, final", "the last query's weight on the first token"),
    )
}


def finite_mean(values: NDArray[np.float64]) -> float:
    """The mean of those that are defined; NaN where none is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def pattern_statistics(
    pattern: NDArray[np.floating[Any]], allowed: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Compute every statistic of one head from its dense pattern, row by row, by the formulas above.

    Args:
        pattern: [query, key], weights; what the mask hides is ignored.
        allowed: bool [query, key], what each query sees; the causal triangle when left out.

    Returns:
        NAME -> value; NaN where no query defines it.
    """
    dense = np.asarray(pattern, np.float64)
    n_queries = len(dense)
    sees = np.tril(np.ones(dense.shape, bool)) if allowed is None else allowed
    rows = [q for q in range(1, n_queries) if sees[q].sum() >= 2]
    keys = np.arange(dense.shape[1])

    def mean(number: Callable[[int], float], queries: list[int]) -> float:
        values = [number(q) for q in queries]
        return float(np.mean(values)) if values else float("nan")

    def row(q: int) -> NDArray[np.float64]:
        return np.asarray(dense[q, sees[q]])

    def on_others(q: int) -> float:
        return float(dense[q, sees[q] & (keys > 0)].sum())

    def rest(q: int) -> NDArray[np.float64]:
        return np.asarray(dense[q, sees[q] & (keys > 0)] / on_others(q))

    later = list(range(1, n_queries))
    rest_rows = [q for q in rows if on_others(q) > REST_AT_LEAST]
    free_rows = [q for q in rest_rows if (sees[q] & (keys > 0)).sum() >= 2]
    last = [n_queries - 1] if n_queries - 1 in rows else []
    return {
        "entropy": mean(lambda q: entropy(row(q)), rows),
        "entropy_share": mean(lambda q: normalised_entropy(row(q)), rows),
        "effective_tokens": mean(lambda q: effective_tokens(row(q)), rows),
        "participation_ratio": mean(lambda q: participation_ratio(row(q)), rows),
        "hoyer": mean(lambda q: hoyer(row(q)), rows),
        "gini": mean(lambda q: gini(row(q)), [q for q in gini_queries(n_queries) if q in rows]),
        "score_variance": mean(lambda q: score_variance(row(q)), [q for q in gini_queries(n_queries) if q in rows]),
        "distance": mean(lambda q: float((row(q) * (q - keys[sees[q]])).sum()), rows),
        "sink_share": mean(lambda q: float(dense[q, 0] * sees[q, 0]), later),
        "previous_token": mean(lambda q: float(dense[q, q - 1] * sees[q, q - 1]), later),
        "self": mean(lambda q: float(dense[q, q]), later),
        "off_sequence": mean(lambda q: 1 - float(row(q).sum()), later),
        "rest.entropy": mean(lambda q: entropy(rest(q)), rest_rows),
        "rest.entropy_share": mean(lambda q: normalised_entropy(rest(q)), free_rows),
        "rest.effective_tokens": mean(lambda q: effective_tokens(rest(q)), rest_rows),
        "rest.participation_ratio": mean(lambda q: participation_ratio(rest(q)), rest_rows),
        "rest.hoyer": mean(lambda q: hoyer(rest(q)), free_rows),
        "rest.gini": mean(lambda q: gini(rest(q)), [q for q in gini_queries(n_queries) if q in free_rows]),
        "rest.distance": mean(lambda q: float((rest(q) * (q - keys[sees[q] & (keys > 0)])).sum()), rest_rows),
        "rest.previous_token": mean(lambda q: float(dense[q, q - 1] * sees[q, q - 1] / on_others(q)), free_rows),
        "rest.self": mean(lambda q: float(dense[q, q] / on_others(q)), free_rows),
        "final.entropy": mean(lambda q: entropy(row(q)), last),
        "final.effective_tokens": mean(lambda q: effective_tokens(row(q)), last),
        "final.sink_share": mean(lambda q: float(dense[q, 0] * sees[q, 0]), last),
    }


@cache
def gini_queries(n_queries: int) -> tuple[int, ...]:
    """Choose the queries whose rows are sorted: evenly spaced, the last one among them."""
    wanted = np.linspace(1, n_queries - 1, min(GINI_QUERIES, n_queries - 1)) if n_queries > 1 else np.array([])
    return tuple(sorted({int(q) for q in np.round(wanted)}))
