"""Whether a model that was run again is the one that a saved profile was read from, and on the same tokens."""

import numpy as np

from laminar_tui.profile.profile import Profile

ROUNDING = {"float32": 1e-3, "float64": 1e-3}
"""dtype -> how far a weight may be off where another machine adds in another order."""
HALF_ROUNDING = 0.05
"""The same in half precision, which has three digits in each layer."""


def farthest(saved: Profile, again: Profile) -> float:
    """The largest difference between two profiles' final weights, in the layers that both have; 0 where none is.

    The profiles must have the same layers, heads and tokens.
    """
    off = 0.0
    for one, other in zip(saved.layers, again.layers, strict=True):
        if one is not None and other is not None and one.final_weights is not None and other.final_weights is not None:
            off = max(off, float(np.abs(one.final_weights - other.final_weights).max(initial=0.0)))
    return off


def why_another(saved: Profile, again: Profile) -> str:
    """Say in words by what a run is not the one that was saved; empty where it is."""
    named = {
        "architecture": (saved.origin.architecture, again.origin.architecture),
        "parameters": (saved.origin.n_parameters, again.origin.n_parameters),
        "layers": (saved.n_layers, again.n_layers),
        "tokens": (saved.origin.token_ids, again.origin.token_ids),
    }
    for name, (one, other) in named.items():
        if one != other:
            return "other tokens" if name == "tokens" else f"{name}: {other} here, {one} in the profile"
    if failed := again.origin.failed_checks:
        return f"a check failed: {failed[0].name}"
    heads = [
        (one.n_heads, other.n_heads)
        for one, other in zip(saved.layers, again.layers, strict=True)
        if one is not None and other is not None
    ]
    if any(one != other for one, other in heads):
        return "other numbers of heads"
    off = farthest(saved, again)
    allowed = ROUNDING.get(saved.origin.dtype, HALF_ROUNDING)
    return "" if off <= allowed else f"the final token's weights are off by up to {off:.2g}"
