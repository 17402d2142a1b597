"""What chance would look like: profiles of attention that knows nothing of the tokens.

`uniform` gives each visible key the same weight. `independent_scores` is the softmax of independent normal scores with
each head's own variance: what a head of this sharpness shows without choosing its keys. Both see what the profile's
layers see (a sliding window included) and are profiles like any other.

What a query gets by chance depends on its position and not on its prompt: of prompts of many lengths it is enough to
know how many have a query at each position.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.counts import N_BINS, PackedCounts
from laminar_tui.profile.formulas import gini_rows
from laminar_tui.profile.parts import PARTS
from laminar_tui.profile.profile import NULL, LayerProfile, Profile
from laminar_tui.profile.statistics import REST_AT_LEAST, STATISTICS, UNDERFLOW, gini_queries

UNIFORM = f"{NULL}uniform attention"
INDEPENDENT = f"{NULL}independent scores of the head's variance"

ENOUGH_QUERIES = 128
"""Of more queries, scores are drawn for so many, evenly spread by position over those of all prompts, or for as many
as give `ENOUGH_WEIGHTS`: shares of weights vary smoothly with the position, and the cost grows with its square."""
MOST_WEIGHTS = 2**24
"""About so many weights of a layer are drawn at most: 128 MB of them, and as much again for each of some steps."""
ENOUGH_WEIGHTS = 2**16
"""How many weights of last queries, and of all, a layer's null is drawn to have: a share of one in a thousand cannot be
read from the thousand weights that one prompt's last query has."""
FEWEST_ENDS = 16
"""Of prompts that differ in length, so many last queries are drawn at least, evenly spread over those of all."""

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Queries:
    """The queries of all prompts by position, [length of the longest prompt] each.

    Attributes:
        n: how many prompts have a query there.
        last: of how many it is the last one.
        share: how much those there count in a mean over prompts of each one's mean over its queries q >= 1; sums to 1.
    """

    n: Integers
    last: Integers
    share: Reals

    @property
    def have_one_length(self) -> bool:
        """Whether all prompts have the same."""
        return bool(self.last[-1] == self.n[0])


def count_queries(profile: Profile) -> Queries:
    """Count the queries of a profile's prompts by position.

    Raises:
        UsageError: if the prompts' lengths differ and are not known.
    """
    lengths = profile.lengths
    if not lengths:
        raise UsageError(
            "chance needs the lengths of the prompts, which are not in this profile",
            "it was made by an older version: capture the corpus again",
        )
    last = np.zeros(max(lengths), np.int64)
    last[np.array(list(lengths)) - 1] = list(lengths.values())
    positions = np.arange(len(last))
    # A prompt whose last query is q has q queries after the first, which count 1 / q each.
    share = np.cumsum((last / np.maximum(positions, 1))[::-1])[::-1] * (positions > 0)
    return Queries(np.cumsum(last[::-1])[::-1], last, share / max(1, last[1:].sum()))


# -- uniform attention ------------------------------------------------------------------------------------------------


def uniform(profile: Profile) -> Profile:
    """Make the profile of uniform attention over the visible keys, of the same layers, heads and prompts; it is exact.

    Raises:
        UsageError: if the prompts' lengths differ and are not known.
    """
    queries = count_queries(profile)
    made: dict[tuple[int, int], LayerProfile] = {}
    layers: list[LayerProfile | None] = []
    for layer in profile.layers:
        if layer is None:
            layers.append(None)
            continue
        sees = layer.n_heads, visible_span(layer, queries.n)
        made[sees] = made.get(sees) or _uniform_layer(*sees, queries, is_one=bool(profile.origin.tokens))
        layers.append(made[sees])
    return _named(profile, layers, UNIFORM)


def _uniform_layer(n_heads: int, span: int, queries: Queries, *, is_one: bool) -> LayerProfile:
    positions = np.arange(len(queries.n))
    seen = np.minimum(positions + 1, span)
    later, sees_first = positions > 0, (positions > 0) & (positions < span)
    hits = {"self": later * 1, "sink": sees_first * 1, "content": later * (seen - 1 - sees_first)}
    by_part = {"origin": ~later * queries.n} | {part: n * queries.n for part, n in hits.items()}
    by_part |= {f"final.{part}": n * queries.last for part, n in hits.items()}
    weight = 1 / seen
    parts = {part: _for_heads(_count(weight[None], by_part[part]), n_heads) for part in PARTS}
    n_rest = seen - (positions < span)  # without key 0
    several, free = (seen > 1) & later, (n_rest > 1) & later
    none, ones, at_least_one = np.zeros(len(seen)), np.ones(len(seen)), np.maximum(n_rest, 1)
    numbers = {
        "entropy": (np.log(seen), several),
        "entropy_share": (ones, several),
        "effective_tokens": (seen, several),
        "participation_ratio": (seen, several),
        "hoyer": (none, several),
        "gini": (none, several),
        "score_variance": (none, several),
        "distance": ((seen - 1) / 2, several),
        "sink_share": (weight * sees_first, later),
        "previous_token": (weight * (span > 1), later),
        "self": (weight, later),
        "off_sequence": (none, later),
        "rest.entropy": (np.log(at_least_one), several),
        "rest.entropy_share": (ones, free),
        "rest.effective_tokens": (n_rest, several),
        "rest.participation_ratio": (n_rest, several),
        "rest.hoyer": (none, free),
        "rest.gini": (none, free),
        "rest.distance": ((n_rest - 1) / 2, several),
        "rest.previous_token": (1 / at_least_one, free),
        "rest.self": (1 / at_least_one, free),
    }
    ends = queries.last * later
    finals = {"entropy": np.log(seen), "effective_tokens": seen, "sink_share": weight * sees_first}
    rows = {name: (values, queries.share * counted) for name, (values, counted) in numbers.items()}
    rows |= {f"final.{name}": (values, ends * several) for name, values in finals.items()}
    statistics = {
        name: np.full(n_heads, values @ counted / counted.sum() if counted.any() else np.nan)
        for name, (values, counted) in rows.items()
        if later.any()
    }
    row = (positions > positions[-1] - span) * weight[-1]
    return LayerProfile(parts, statistics, np.tile(row.astype(np.float32), (n_heads, 1)) if is_one else None)


# -- independent scores -----------------------------------------------------------------------------------------------


def independent_scores(profile: Profile, seed: int = 0) -> Profile:
    """Make the profile of a softmax over independent normal scores with each head's own variance.

    The cost is bounded: `ENOUGH_QUERIES` are drawn for the parts that count every query, or as many as give
    `ENOUGH_WEIGHTS`, and as many last ones as give these, each evenly spread over those of all prompts.

    Args:
        profile: whose heads' variance is known (`head_variance`); a layer where it is not is left out.
        seed: of the scores.

    Returns:
        A profile of the same layers and heads. It counts the weights that were drawn, not as many as the prompts have.

    Raises:
        UsageError: if the prompts' lengths differ and are not known.
    """
    queries = count_queries(profile)
    rng = np.random.default_rng(seed)
    layers: list[LayerProfile | None] = []
    for layer in profile.layers:
        variance = np.full(1, np.nan) if layer is None else head_variance(layer)
        if layer is None or not np.isfinite(variance).all():
            layers.append(None)
            continue
        span = visible_span(layer, queries.n)
        layers.append(_drawn_layer(np.sqrt(variance), span, queries, rng, is_one=bool(profile.origin.tokens)))
    return _named(profile, layers, INDEPENDENT)


COMPUTED_NULLS: dict[str, Callable[[Profile], Profile]] = {
    "uniform attention": uniform,
    "independent scores": independent_scores,
}
"""The nulls that need no model, by their titles."""
MODEL_NULLS = {"random": "random parameters", "shuffled": "shuffled tokens"}
"""Name -> title of those that need one, see `model.nulls`."""


def head_variance(layer: LayerProfile) -> Reals:
    """The variance of a head's scores within a row, [n_heads].

    From the statistic `score_variance`; a profile that was made before there was one has the last query's weights, and
    the variance of their logarithms stands in. NaN where neither is at hand.
    """
    variance = layer.statistics.get("score_variance", np.full(layer.n_heads, np.nan)).copy()
    if layer.final_weights is not None:
        for head in np.flatnonzero(~np.isfinite(variance)):
            seen = layer.final_weights[head][layer.final_weights[head] > 0].astype(np.float64)
            if len(seen) >= 2:
                variance[head] = np.log(np.maximum(seen, UNDERFLOW)).var(ddof=1)
    return variance


def visible_span(layer: LayerProfile, n_queries: Integers) -> int:
    """How many keys a query sees at most: the window whose weights are as many as were counted, or all tokens.

    Args:
        layer: of these prompts.
        n_queries: how many prompts have a query at each position.
    """
    counted = sum(int(layer.pool(part).n) for part in ("origin", "self", "sink", "content"))
    per_head = counted / max(1, layer.n_heads)
    spans = np.arange(1, len(n_queries) + 1)
    # A window of w sees 1, 2, ..., w keys and then w each time.
    totals = np.cumsum(n_queries * spans) + spans * (n_queries.sum() - np.cumsum(n_queries))
    return int(spans[min(int(np.searchsorted(totals, per_head)), len(spans) - 1)])


def sampled_queries(n_queries: Integers, n_heads: int = 1) -> Integers:
    """Choose the queries of a null, ascending: those of all prompts in a row, or some of them, evenly spaced.

    They are `ENOUGH_QUERIES`, or more until they have `ENOUGH_WEIGHTS`, or fewer so that they have not more than
    `MOST_WEIGHTS`; the first and the last one are among them.

    Args:
        n_queries: how many prompts have a query at each position.
        n_heads: of the layer.

    Returns:
        [n] positions; one that several prompts have may be there several times.
    """
    total = int(n_queries.sum())
    per_row = n_heads * _mean_length(n_queries)
    n = min(total, max(ENOUGH_QUERIES, round(ENOUGH_WEIGHTS / per_row)), max(2, int(MOST_WEIGHTS / per_row)))
    return _positions(n_queries, np.linspace(0, total - 1, n))


def sampled_ends(queries: Queries, n_heads: int) -> Integers:
    """Choose the last queries of a null, [n] positions, ascending: in the middles of n equal runs of all of them."""
    last = queries.last * (np.arange(len(queries.last)) > 0)
    total = int(last.sum())
    if not total:
        return np.zeros(0, np.int64)
    per_row = n_heads * _mean_length(last)
    fewest = 1 if queries.have_one_length else min(FEWEST_ENDS, max(2, int(MOST_WEIGHTS / per_row)))
    n = max(fewest, round(ENOUGH_WEIGHTS / per_row))
    return _positions(last, (np.arange(n) + 0.5) / n * total - 0.5)


def sorted_queries(queries: Queries) -> Integers:
    """Choose queries whose rows are sorted, ascending: `gini_queries` of one length, or spread as those of several."""
    wanted = np.zeros(len(queries.last))
    for last in np.flatnonzero(queries.last):
        chosen = list(gini_queries(int(last) + 1))
        wanted[chosen] += queries.last[last] / max(1, len(chosen))
    n = len(gini_queries(len(wanted)))
    ranks = (np.arange(n) + 0.5) / max(1, n) * wanted.sum()
    found: Integers = np.searchsorted(np.cumsum(wanted), ranks).astype(np.int64)
    return found


def _mean_length(n_queries: Integers) -> float:
    """How many keys these queries have before them on average, their own included."""
    return float(n_queries @ np.arange(1.0, len(n_queries) + 1)) / int(n_queries.sum())


def _positions(n_queries: Integers, ranks: Reals) -> Integers:
    """Where the queries of some ranks are, all of them being in the order of their positions."""
    return np.searchsorted(np.cumsum(n_queries), ranks.round(), side="right").astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The weights of drawn queries at one position.

    Attributes:
        position: of the query.
        weights: [n_heads, n_rows, n_seen], on the keys that it sees: the last ones up to its own.
    """

    position: int
    weights: Reals

    def parts(self) -> dict[str, Reals]:
        """The weights of each part, [n_heads, n_weights]."""
        n_seen = self.weights.shape[2]
        first = 1 if self.sees_first else 0
        ends = {"sink": (0, first), "content": (first, n_seen - 1), "self": (n_seen - 1, n_seen)}
        chosen = ends if self.position else {"origin": (0, 1)}
        n_heads = len(self.weights)
        return {part: self.weights[:, :, begin:end].reshape(n_heads, -1) for part, (begin, end) in chosen.items()}

    @property
    def sees_first(self) -> bool:
        return int(self.weights.shape[2]) == self.position + 1

    def numbers(self) -> dict[str, Reals]:
        """The numbers of these queries, [n_heads, n_rows], by the formulas in `profile.statistics`.

        One that is not there no query defines; NaN where the sink leaves too little.
        """
        n_seen = self.weights.shape[2]
        on_first = self.weights[:, :, 0] * self.sees_first
        on_previous = self.weights[:, :, -2] if n_seen > 1 else 0 * on_first
        on_itself = self.weights[:, :, -1]
        numbers = {"sink_share": on_first, "previous_token": on_previous, "self": on_itself}
        numbers["off_sequence"] = 0 * on_first
        if n_seen < 2:
            return numbers
        products = np.log(self.weights, out=np.zeros(self.weights.shape), where=self.weights > 0) * self.weights
        entropy, distance = -products.sum(axis=-1), self.weights @ np.arange(n_seen - 1.0, -1.0, -1.0)
        squares = np.square(self.weights).sum(axis=-1)
        others = slice(1 if self.sees_first else 0, None)
        rest = self.weights[:, :, others].sum(axis=-1)
        rest = np.where(rest > REST_AT_LEAST, rest, np.nan)
        rest_entropy = np.log(rest) - products[:, :, others].sum(axis=-1) / rest
        rest_squares = np.square(self.weights[:, :, others]).sum(axis=-1) / rest**2
        numbers |= {
            "entropy": entropy,
            "entropy_share": entropy / np.log(n_seen),
            "effective_tokens": np.exp(entropy),
            "participation_ratio": 1 / squares,
            "hoyer": _hoyer(squares, n_seen),
            "distance": distance,
            "rest.entropy": rest_entropy,
            "rest.effective_tokens": np.exp(rest_entropy),
            "rest.participation_ratio": 1 / rest_squares,
            "rest.distance": (distance - on_first * self.position) / rest,
        }
        if (n_rest := self.n_rest) < 2:
            return numbers
        return numbers | {
            "rest.entropy_share": rest_entropy / np.log(n_rest),
            "rest.hoyer": _hoyer(rest_squares, n_rest),
            "rest.previous_token": on_previous / rest,
            "rest.self": on_itself / rest,
        }

    def numbers_in_order(self) -> dict[str, Reals]:
        """The numbers that a capture makes of a few whole rows only, likewise."""
        n_rows, n_seen = self.weights.shape[1:]
        if n_seen < 2:
            return {}
        on_first = self.weights[:, :, 0] * self.sees_first
        n_each = np.full((1, n_rows), n_seen), np.full((1, n_rows), self.n_rest)
        ranks = np.arange(n_seen, 0, -1)
        gini, rest_gini, has_rest = gini_rows(np.sort(self.weights, axis=-1), on_first, *n_each, ranks, np)
        rest_gini = np.where(has_rest, rest_gini, np.nan)
        variance = np.log(np.maximum(self.weights, UNDERFLOW)).var(axis=-1, ddof=1)
        numbers = {"gini": gini, "score_variance": variance}
        return numbers | {"rest.gini": rest_gini} if self.n_rest >= 2 else numbers

    @property
    def n_rest(self) -> int:
        """How many keys are seen besides key 0."""
        return int(self.weights.shape[2]) - self.sees_first


def _hoyer(squares: Reals, n: int) -> Reals:
    root = np.sqrt(n)
    return np.asarray((root - 1 / np.sqrt(squares)) / (root - 1))


def _drawn_layer(
    deviation: Reals, span: int, queries: Queries, rng: np.random.Generator, *, is_one: bool
) -> LayerProfile:
    """Draw one layer's null: the sampled queries for the parts that count all of them, last ones for the others."""
    n_heads = len(deviation)
    rows = list(_draw(sampled_queries(queries.n, n_heads), span, deviation, rng))
    ends = list(_draw(sampled_ends(queries, n_heads), span, deviation, rng))
    weights: dict[str, list[Reals]] = {part: [] for part in PARTS}
    for each in rows:
        for part, found in each.parts().items():
            weights[part].append(found)
    for each in ends:
        for part, found in each.parts().items():
            weights[f"final.{part}"].append(found)
    parts = {part: _count(np.concatenate([np.zeros((n_heads, 0)), *found], axis=1)) for part, found in weights.items()}
    statistics = _numbers(rows, ends, queries)
    if not is_one:
        return LayerProfile(parts, statistics)
    last = (ends or rows)[-1].weights[:, 0]
    hidden = len(queries.n) - last.shape[1]
    return LayerProfile(parts, statistics, np.pad(last, ((0, 0), (hidden, 0))).astype(np.float32))


def _draw(positions: Integers, span: int, deviation: Reals, rng: np.random.Generator) -> Iterable[_Rows]:
    """Draw queries' weights, those of one position together; `deviation` is that of a head's scores, [n_heads]."""
    for position, n_rows in zip(*np.unique(positions, return_counts=True), strict=True):
        n_seen = min(int(position) + 1, span)
        scores = rng.standard_normal((len(deviation), int(n_rows), n_seen)) * deviation[:, None, None]
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        yield _Rows(int(position), weights / weights.sum(axis=-1, keepdims=True))


def _numbers(rows: list[_Rows], ends: list[_Rows], queries: Queries) -> dict[str, Reals]:
    """The numbers of a layer's heads, [n_heads] each: those that need a row in order over a few of the rows."""
    later = [each for each in rows if each.position]
    if not later:
        return {}
    positions = [each.position for each in later]
    drawn = np.array([each.weights.shape[1] for each in later])
    shares = np.bincount(_nearest(positions, np.arange(1, len(queries.share))), queries.share[1:], len(later)) / drawn
    few = np.bincount(_nearest(positions, sorted_queries(queries)), minlength=len(later)) / drawn
    found = _mean_numbers([each.numbers() for each in later], shares)
    found |= _mean_numbers([later[at].numbers_in_order() for at in np.flatnonzero(few)], few[few > 0])
    finals = _mean_numbers([each.numbers() for each in ends if each.weights.shape[2] > 1], np.ones(len(ends)))
    found |= {f"final.{name}": finals[name] for name in ("entropy", "effective_tokens", "sink_share") if finals}
    unknown = np.full(len(rows[0].weights), np.nan)
    return {name: found.get(name, unknown) for name in STATISTICS}


def _nearest(drawn: list[int], positions: Integers) -> Integers:
    """Which of the positions that were drawn, ascending, stands for each of some."""
    middles = (np.array(drawn[1:]) + np.array(drawn[:-1])) / 2
    return np.searchsorted(middles, positions).astype(np.int64)


def _mean_numbers(numbers: list[dict[str, Reals]], one_each: Reals) -> dict[str, Reals]:
    """The mean of each number over the queries that define it, [n_heads]; `one_each` is how much a query counts."""
    sums: dict[str, Reals | float] = {}
    counted: dict[str, Reals | float] = {}
    for each, one in zip(numbers, one_each, strict=False):
        for name, values in each.items():
            sums[name] = sums.get(name, 0.0) + one * np.nansum(values, axis=1)
            counted[name] = counted.get(name, 0.0) + one * np.isfinite(values).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return {name: np.asarray(total / counted[name]) for name, total in sums.items()}


# -- both -------------------------------------------------------------------------------------------------------------


def _named(profile: Profile, layers: list[LayerProfile | None], name: str) -> Profile:
    return Profile(replace(profile.origin, recipe=name, checks=(), seconds=0.0), tuple(layers))


def _count(weights: Reals, times: Integers | None = None) -> PackedCounts:
    """Count the weights of each head, [n_heads, n]; each of them so many times, [n], or once."""
    exact = weights.astype(np.float32)
    each = np.ones(exact.shape[1], np.int64) if times is None else times
    bins = exact.astype(np.float16).view(np.uint16) + N_BINS * np.arange(len(exact))[:, None]
    repeated = None if times is None else np.broadcast_to(times, bins.shape).ravel()
    hits = np.bincount(bins.ravel(), weights=repeated, minlength=len(exact) * N_BINS)
    entries = np.flatnonzero(hits)
    return PackedCounts(
        np.searchsorted(entries, N_BINS * np.arange(len(exact) + 1)).astype(np.int64),
        (entries % N_BINS).astype(np.uint16),
        hits[entries].astype(np.uint32 if hits.max(initial=0) < 2**32 else np.uint64),
        (exact == 0) @ each,
        exact.astype(np.float64) @ each,
        np.square(exact, dtype=np.float64) @ each,
    )


def _for_heads(one: PackedCounts, n_heads: int) -> PackedCounts:
    """Give every head the counts of one."""
    starts = len(one.bins) * np.arange(n_heads + 1)
    return PackedCounts(
        starts,
        np.tile(one.bins, n_heads),
        np.tile(one.hits, n_heads),
        np.tile(one.zeros, n_heads),
        np.tile(one.total, n_heads),
        np.tile(one.total_sq, n_heads),
    )
