"""Which positions are sinks, by the published rule, head by head.

alpha_k is the mean weight that key k gets from the queries that may see it (i >= k); a head has a sink at k if alpha_k
> 0.3 (Gu et al., arXiv 2410.10781, who look at T = 64 tokens). A profile holds alpha as `key_shares`; the report, the
matrix of heads and a head's numbers all judge by `judged_shares`.
"""

import numpy as np
from numpy.typing import NDArray

from laminar_tui.profile.profile import LayerProfile, Profile

THRESHOLD = 0.3
MIN_QUERIES = 32
"""A key that fewer queries see is not judged: half of the paper's T. The last token is seen by itself alone, and what
one or two queries do is no habit of a head."""
SHORTEST_PROMPT = 16
"""On a shorter prompt than `MIN_QUERIES` key 0 alone is judged, which all queries see, and on a shorter one than this
none: on fewer than ten tokens even uniform attention gives key 0 more than 0.3, on 16 it gives 0.21."""

Sink = tuple[int, int, float]
"""Head, key and share."""


def judged_shares(layer: LayerProfile) -> NDArray[np.float64]:
    """Give alpha of the keys that are judged, [n_heads, n_judged], from key 0 on.

    Prompts of several lengths have no shares by key: there key 0 alone is judged, if they are long enough on average.
    """
    if layer.key_shares is not None:
        return layer.key_shares[:, : n_judged_keys(layer.key_shares.shape[1])].astype(np.float64)
    n_judged = min(1, n_judged_keys(int(_n_queries(layer).max() / max(1, layer.parts["origin"].n.max()))))
    return first_key_share(layer)[:, None][:, :n_judged]


def first_key_share(layer: LayerProfile) -> NDArray[np.float64]:
    """Give alpha_0 from the counts, [n_heads]: the mean weight on key 0 over all queries of all prompts, i >= 0.

    The statistic `sink_share` leaves query 0 out, which can look nowhere else, and is a little smaller.
    """
    total = layer.parts["origin"].total + layer.parts["sink"].total
    return np.asarray(total / np.maximum(_n_queries(layer), 1))


def _n_queries(layer: LayerProfile) -> NDArray[np.int64]:
    """How many queries were read, [n_heads]: each sees itself, a window or not."""
    return layer.parts["origin"].n + layer.parts["self"].n


def sink_keys(layer: LayerProfile, threshold: float = THRESHOLD) -> list[Sink]:
    """Name the sinks of a layer's heads: (head, key, share), by head and key, with alpha_k above the threshold."""
    judged = judged_shares(layer)
    heads, keys = np.nonzero(judged > threshold)
    return [(int(head), int(key), float(judged[head, key])) for head, key in zip(heads, keys, strict=True)]


def n_judged_keys(n_tokens: int) -> int:
    """How many keys of a prompt, from the first on, enough queries see."""
    return 0 if n_tokens < SHORTEST_PROMPT else max(1, n_tokens - MIN_QUERIES + 1)


def are_judged(profile: Profile) -> bool:
    """Whether the prompt is long enough to tell the sinks of any head."""
    return any(judged_shares(layer).shape[1] for layer in profile.layers if layer is not None)


def strongest_shares(profile: Profile) -> NDArray[np.float64]:
    """Give the largest alpha of each head's judged keys, [n_layers, n_heads]; NaN where none is judged."""
    found = np.full((profile.n_layers, profile.n_heads), np.nan)
    for index, layer in enumerate(profile.layers):
        if layer is not None and (judged := judged_shares(layer)).shape[1]:
            found[index, : layer.n_heads] = judged.max(axis=1)
    return found


def sink_heads(profile: Profile, threshold: float = THRESHOLD, key: int | None = None) -> NDArray[np.bool_]:
    """Say which heads have a sink.

    Args:
        profile: of any number of prompts.
        threshold: what alpha_k has to exceed.
        key: a sink at this key; at any key where None.

    Returns:
        bool [n_layers, n_heads].
    """
    if key is None:
        return strongest_shares(profile) > threshold
    found = np.zeros((profile.n_layers, profile.n_heads), bool)
    for index, layer in enumerate(profile.layers):
        for head, position, _share in sink_keys(layer, threshold) if layer is not None else ():
            found[index, head] |= position == key
    return found
