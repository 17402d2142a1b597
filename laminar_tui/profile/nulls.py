"""What chance would look like: profiles of attention that knows nothing of the tokens.

`uniform` gives each visible key the same weight. `independent_scores` is the softmax of independent normal scores with
each head's own variance: what a head of this sharpness shows without choosing its keys. Both see what the profile's
layers see (a sliding window included) and are profiles like any other.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.counts import N_BINS, PackedCounts
from laminar_tui.profile.parts import PARTS
from laminar_tui.profile.profile import LayerProfile, Profile
from laminar_tui.profile.statistics import UNDERFLOW

UNIFORM = "null: uniform attention"
INDEPENDENT = "null: independent scores of the head's variance"

MAX_QUERIES = 128
"""A longer prompt is sampled at so many evenly spaced queries, the last one among them: shares of weights vary smoothly
with the position, and the cost grows with its square."""
MOST_WEIGHTS = 2**24
"""Weights of a layer that are drawn at once: 128 MB of them, and about as much again for each of some steps."""
FINAL_WEIGHTS = 2**16
"""How many weights of last queries a layer's null is drawn to have: a share of one in a thousand cannot be read from
the thousand weights that one prompt's last query has."""

Draw = Callable[[tuple[int, ...]], NDArray[np.float64]]
"""Makes scores [n_heads, rows, n_tokens]."""


def uniform(profile: Profile) -> Profile:
    """Make the profile of uniform attention over the visible keys, of the same layers, heads and tokens.

    Raises:
        UsageError: if the profile's prompts have no one length.
    """
    _require_one_length(profile)
    made: dict[tuple[int, int], LayerProfile] = {}
    layers: list[LayerProfile | None] = []
    for layer in profile.layers:
        if layer is None:
            layers.append(None)
            continue
        sees = layer.n_heads, visible_span(layer, profile.n_tokens)
        made[sees] = made.get(sees) or _null_layer(layer, profile.n_tokens, np.zeros, 1)
        layers.append(made[sees])
    return _named(profile, layers, UNIFORM)


def independent_scores(profile: Profile, seed: int = 0) -> Profile:
    """Make the profile of a softmax over independent normal scores with each head's own variance.

    Args:
        profile: whose heads' variance is known (`head_variance`); a layer where it is not is left out.
        seed: of the scores.

    Returns:
        A profile of the same layers, heads and tokens. The last query is drawn many times, so the population `final`
        counts more weights than a prompt has.

    Raises:
        UsageError: if the profile's prompts have no one length.
    """
    _require_one_length(profile)
    rng = np.random.default_rng(seed)
    layers: list[LayerProfile | None] = []
    for layer in profile.layers:
        variance = np.full(1, np.nan) if layer is None else head_variance(layer)
        if layer is None or not np.isfinite(variance).all():
            layers.append(None)
            continue
        spread = np.sqrt(variance)[:, None, None]

        def draw(shape: tuple[int, ...], spread: NDArray[np.float64] = spread) -> NDArray[np.float64]:
            return rng.standard_normal(shape) * spread

        draws = max(1, round(FINAL_WEIGHTS / (layer.n_heads * profile.n_tokens)))
        layers.append(_null_layer(layer, profile.n_tokens, draw, draws))
    return _named(profile, layers, INDEPENDENT)


COMPUTED_NULLS: dict[str, Callable[[Profile], Profile]] = {
    "uniform attention": uniform,
    "independent scores": independent_scores,
}
"""The nulls that need no model, by their titles."""
MODEL_NULLS = {"random": "random parameters", "shuffled": "shuffled tokens"}
"""Name -> title of those that need one, see `model.nulls`."""


def _require_one_length(profile: Profile) -> None:
    if not profile.n_tokens:
        raise UsageError(
            "chance is drawn for prompts of one length, and these differ",
            "look at one of them by itself",
        )


def head_variance(layer: LayerProfile) -> NDArray[np.float64]:
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


def visible_span(layer: LayerProfile, n_tokens: int) -> int:
    """How many keys a query sees at most: the window whose weights are as many as were counted, or all tokens.

    Several prompts are added up in the counts; what is visible is then all that came before.
    """
    counted = sum(int(layer.pool(part).n) for part in ("origin", "self", "sink", "content"))
    per_head = counted / max(1, layer.n_heads)
    spans = np.arange(1, n_tokens + 1)
    # A window of w sees 1, 2, ..., w keys and then w each time.
    totals = spans * (spans + 1) // 2 + spans * (n_tokens - spans)
    return int(spans[min(int(np.searchsorted(totals, per_head)), n_tokens - 1)]) if n_tokens else 0


def sampled_queries(n_tokens: int, n_heads: int = 1) -> NDArray[np.int64]:
    """Choose the queries of a null: all, or some of them, evenly spaced from the first to the last.

    They are `MAX_QUERIES` at most, and fewer where a layer's weights would be more than `MOST_WEIGHTS`.
    """
    n = min(n_tokens, MAX_QUERIES, max(2, MOST_WEIGHTS // max(1, n_heads * n_tokens)))
    return np.unique(np.linspace(0, n_tokens - 1, n).round().astype(np.int64))


def _named(profile: Profile, layers: list[LayerProfile | None], name: str) -> Profile:
    return Profile(replace(profile.origin, recipe=name, checks=(), seconds=0.0), tuple(layers))


def _null_layer(layer: LayerProfile, n_tokens: int, draw: Draw, n_final: int) -> LayerProfile:
    """Make one layer's null: the sampled queries once, and the last one `n_final` times for the `final` parts."""
    keys, queries = np.arange(n_tokens), sampled_queries(n_tokens, layer.n_heads)
    sees = (keys <= queries[:, None]) & (keys > queries[:, None] - visible_span(layer, n_tokens))  # [rows, n_tokens]
    weights = _softmax(draw((layer.n_heads, len(queries), n_tokens)), sees)
    final = _softmax(draw((layer.n_heads, n_final, n_tokens)), sees[-1:])
    entries = _part_entries(queries, sees)
    parts = {
        part: _count(final[:, :, entries[part]] if part.startswith("final.") else weights[:, entries[part]])
        for part in PARTS
    }
    return LayerProfile(parts, _numbers(weights, queries, sees), weights[:, -1].astype(np.float32))


def _softmax(scores: NDArray[np.float64], sees: NDArray[np.bool_]) -> NDArray[np.float64]:
    scores = np.where(sees, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _part_entries(queries: NDArray[np.int64], sees: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """The entries of each part: [rows, n_tokens], and [n_tokens] for the parts of the last query."""
    q, k = queries[:, None], np.arange(sees.shape[1])
    entries = {
        "origin": sees & (q == 0),
        "self": sees & (k == q) & (q > 0),
        "sink": sees & (k == 0) & (q > 0),
        "content": sees & (k > 0) & (k < q),
    }
    several = len(k) > 1
    return entries | {f"final.{part}": entries[part][-1] & several for part in ("self", "sink", "content")}


def _count(weights: NDArray[np.float64]) -> PackedCounts:
    """Count the weights of each head, [n_heads, ...]."""
    exact = weights.reshape(len(weights), -1).astype(np.float32)
    bins = exact.astype(np.float16).view(np.uint16).astype(np.int64)
    entries, hits = np.unique(bins + N_BINS * np.arange(len(bins))[:, None], return_counts=True)
    return PackedCounts(
        np.searchsorted(entries, N_BINS * np.arange(len(bins) + 1)).astype(np.int64),
        (entries % N_BINS).astype(np.uint16),
        hits.astype(np.uint32),
        (exact == 0).sum(axis=1),
        exact.sum(axis=1, dtype=np.float64),
        np.square(exact, dtype=np.float64).sum(axis=1),
    )


def _numbers(
    weights: NDArray[np.float64], queries: NDArray[np.int64], sees: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """The numbers of the null's heads, by the formulas in `profile.statistics`: those that a few sums give."""
    n_seen = sees.sum(axis=1)
    several, later = n_seen >= 2, queries > 0
    if not later.any():
        return {}
    logs = np.log(weights, out=np.zeros(weights.shape), where=weights > 0)
    entropy, squares = -(weights * logs).sum(axis=-1), np.square(weights).sum(axis=-1)
    root = np.sqrt(np.maximum(n_seen, 2))
    rows, keys = np.flatnonzero(later), np.arange(sees.shape[1])
    means = {
        "entropy": entropy[:, several],
        "entropy_share": entropy[:, several] / np.log(n_seen[several]),
        "effective_tokens": np.exp(entropy[:, several]),
        "participation_ratio": 1 / squares[:, several],
        "hoyer": ((root - 1 / np.sqrt(squares)) / (root - 1))[:, several],
        "distance": (queries - weights @ keys)[:, several],
        "sink_share": weights[:, later, 0],
        "previous_token": weights[:, rows, queries[later] - 1],
        "self": weights[:, rows, queries[later]],
        "off_sequence": np.zeros((len(weights), 1)),
        "final.entropy": entropy[:, -1:],
        "final.effective_tokens": np.exp(entropy[:, -1:]),
        "final.sink_share": weights[:, -1:, 0],
    }
    return {name: values.mean(axis=1) for name, values in means.items() if values.shape[1]}
