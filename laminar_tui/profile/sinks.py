"""Which positions are sinks, by the published rule, head by head.

alpha_k is the mean weight that key k gets from the queries that may see it (i >= k); a head has a sink at k if alpha_k
> 0.3 (Gu et al., arXiv 2410.10781, who look at T = 64 tokens). A profile holds alpha as `key_shares`.
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


def sink_keys(layer: LayerProfile, threshold: float = THRESHOLD) -> list[Sink]:
    """Name the sinks of a layer's heads.

    Args:
        layer: read from one prompt; one added up from several has no shares by key.
        threshold: what alpha_k has to exceed.

    Returns:
        (head, key, share), by head and key; only keys that at least `MIN_QUERIES` queries may see.
    """
    if layer.key_shares is None:
        return []
    judged = layer.key_shares[:, : n_judged_keys(layer.key_shares.shape[1])]
    heads, keys = np.nonzero(judged > threshold)
    return [(int(head), int(key), float(judged[head, key])) for head, key in zip(heads, keys, strict=True)]


def n_judged_keys(n_tokens: int) -> int:
    """How many keys, from the first on, enough queries see."""
    return 0 if n_tokens < SHORTEST_PROMPT else max(1, n_tokens - MIN_QUERIES + 1)


def sink_heads(profile: Profile, threshold: float = THRESHOLD, key: int | None = None) -> NDArray[np.bool_]:
    """Say which heads have a sink.

    Args:
        profile: of any number of prompts; where several were added up, only key 0 can be judged, by its mean share.
        threshold: what alpha_k has to exceed.
        key: a sink at this key; at any key where None.

    Returns:
        bool [n_layers, n_heads].
    """
    found = np.zeros((profile.n_layers, profile.n_heads), bool)
    for index, layer in enumerate(profile.layers):
        if layer is None:
            continue
        if layer.key_shares is None:
            share = layer.statistics.get("sink_share", np.full(layer.n_heads, np.nan))
            found[index, : layer.n_heads] = (share > threshold) & (key in (None, 0))
        for head, position, _share in sink_keys(layer, threshold):
            found[index, head] |= key in (None, position)
    return found
