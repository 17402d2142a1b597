"""Attention weights times the norms of what they multiply: a weight of 0.8 on an empty value vector moves nothing.

A head puts out the sum of its weights times the keys' value vectors. How long a key's share of it is before the output
projection, |w v| = w |v|, says more than w alone (Kobayashi et al. 2020, arXiv 2004.10102: norm-based analysis); it
still is no importance, since vectors can cancel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laminar_tui.profile.profile import LayerProfile, Profile

LARGE = 0.3
"""A smaller weight is not worth a flag: above this much a key is called a sink (Gu et al., arXiv 2410.10781)."""
KEPT = 0.5
"""A weight is flagged where its share of the w |v| is less than this much of it. Share by weight is the key's |v| by
the mean |v| under the query's weights, so the rule needs no bound on lengths: half of what the weight says is lost."""
HOOKS = "hooks"


@dataclass(frozen=True, eq=False)
class Contributions:
    """What a query of one head takes from each key.

    Attributes:
        weights: float32 [n_tokens], of the query.
        norms: float64 [n_tokens], each key's value norm divided by the mean over all keys of this head.
        shares: float64 [n_tokens], w |v| divided by its sum; NaN where that is 0.
    """

    weights: NDArray[np.float32]
    norms: NDArray[np.float64]
    shares: NDArray[np.float64]

    def is_on_little(self, key: int) -> bool:
        """Whether a large weight lies on so short a value vector that its share is less than half of it."""
        return bool(self.weights[key] >= LARGE and self.shares[key] < KEPT * self.weights[key])


def value_shares(weights: NDArray[np.float32], norms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give each key's share of what a query takes in: w_k |v_k| / sum_j w_j |v_j|.

    Args:
        weights: [n_queries, n_tokens], NaN where the mask hides or nothing is at hand.
        norms: [n_tokens], of one head.

    Returns:
        [n_queries, n_tokens], NaN where the weights are; 0 throughout where a query's value vectors are all zero.
    """
    moved = weights * norms
    total = np.nansum(moved, axis=1, keepdims=True)
    return (moved / np.where(total > 0, total, 1)).astype(np.float32)


def contributions(layer: LayerProfile, head: int, weights: NDArray[np.float32] | None) -> Contributions | None:
    """Multiply a query's weights with the value norms of its head.

    Args:
        layer: with or without value norms.
        head: its number.
        weights: [n_tokens], of any query; None where they are not at hand.

    Returns:
        None without weights or norms, and where all value vectors are zero.
    """
    if layer.value_norms is None or weights is None:
        return None
    norms = layer.value_norms[head].astype(np.float64)
    mean = norms.mean()
    if not mean > 0:
        return None
    moved = np.nan_to_num(weights.astype(np.float64)) * norms
    total = moved.sum()
    shares = moved / total if total > 0 else np.full(len(moved), np.nan)
    return Contributions(weights, norms / mean, shares)


@dataclass(frozen=True)
class SinkValues:
    """How small the value vectors are that the final token's large weights on the first token multiply.

    Attributes:
        threshold: what a weight has to exceed.
        n: how many such weights there are, one a head.
        norm: the median of the first key's value norm, divided by the mean over the keys of its head.
        weight, share: the medians of the weights, and of w |v| divided by its sum over the keys.
        n_on_little: for how many of them the share is less than half of the weight.
    """

    threshold: float
    n: int
    norm: float
    weight: float
    share: float
    n_on_little: int


def measure_sink_values(profile: Profile, threshold: float) -> SinkValues | None:
    """Look at the value vectors behind the sink's satellites; None where there are none, or no value norms."""
    found = np.array(
        [
            (each.norms[0], each.weights[0], each.shares[0], each.is_on_little(0))
            for each in _final_contributions(profile)
            if len(each.weights) > 1 and each.weights[0] > threshold
        ]
    )
    if not len(found):
        return None
    norm, weight, share = (float(each) for each in np.median(found[:, :3], axis=0))
    return SinkValues(threshold, len(found), norm, weight, share, int(found[:, 3].sum()))


def _final_contributions(profile: Profile) -> Iterator[Contributions]:
    for layer in profile.layers:
        if layer is None or layer.final_weights is None:
            continue
        for head in range(layer.n_heads):
            found = contributions(layer, head, layer.final_weights[head])
            if found is not None:
                yield found


def norms_of(layer: LayerProfile, heads: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Give the value norms of some entries' keys, [n], each divided by the mean over all keys of its head.

    None without value norms; NaN where all value vectors of a head are zero.
    """
    if layer.value_norms is None:
        return None
    means = layer.value_norms.mean(axis=1, dtype=np.float64)[heads]
    return np.where(means > 0, layer.value_norms[heads, keys] / np.where(means > 0, means, 1), np.nan)


def measure_shifts(layer: LayerProfile) -> NDArray[np.float64]:
    """Measure how much of the final token's attention lies elsewhere once it is multiplied by the value norms.

    Returns:
        [n_heads], half the sum over the keys of |share - weight|, from 0 to 1; NaN where it is not known.
    """
    if layer.final_weights is None or layer.value_norms is None:
        return np.full(layer.n_heads, np.nan)
    weights = layer.final_weights.astype(np.float64)
    moved = weights * layer.value_norms
    total = moved.sum(axis=1, keepdims=True)
    shares = np.divide(moved, total, out=np.full(moved.shape, np.nan), where=total > 0)
    distance: NDArray[np.float64] = np.abs(shares - weights / weights.sum(axis=1, keepdims=True)).sum(axis=1)
    return distance / 2


def why_none(profile: Profile) -> str:
    """Say why a profile holds no value norms; empty where it does."""
    read = [layer for layer in profile.layers if layer is not None]
    if any(layer.value_norms is not None for layer in read) or profile.origin.n_prompts > 1:
        return ""
    if profile.origin.mechanism == HOOKS:
        return "value vectors are not read: the model is read by hooks, which do not see them"
    if profile.origin.is_control:
        return "value vectors are not read: the weights are a control's, not the model's"
    return "the profile holds no value norms: capture it again for them"
