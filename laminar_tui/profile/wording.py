"""How the report names tokens, layers and shares, and which tokens the weights in a band fall on.

Texts hold tokens as Python writes them (no control or format character); a screen still passes them through
`render.text.visible`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from laminar_tui.profile.profile import LayerProfile, Profile

MOST_NAMED = 4
"""How many tokens a sentence names before it counts the others."""


def statement(profile: Profile, layer: int, low: float, high: float, head: int | None = None) -> str:
    """Say in one sentence which tokens the final token's weights in a band fall on.

    Args:
        profile: of one prompt.
        layer, head: which weights; all heads where `head` is None.
        low, high: the band, low < weight <= high (from 0 on for low = 0, without an end for high = 1); on the weights
            on earlier tokens.

    Raises:
        UsageError: if there is no such layer or head, or it has no attention.
    """
    place = f"layer {layer}" if head is None else f"layer {layer}, head {head}"
    found = profile.layer(layer)
    if head is not None:
        profile.check_head(layer, head)
    if found.final_weights is None:
        return f"{place}: several prompts were added up, so there are no single weights to name"
    weights = found.final_weights[slice(None) if head is None else slice(head, head + 1), :-1]
    # A float32 softmax may give 1 + 1e-7: nothing is above a band that ends at 1.
    chosen = ((weights <= high) | (high >= 1)) & ((weights > low) | (low <= 0))
    keys = Counter(int(key) for key in np.nonzero(chosen)[1])
    return f"{place}: {_say_keys(profile, keys, _band(low, high), found, head)}"


def _band(low: float, high: float) -> str:
    if high >= 1:
        return f"above {low:.3g}" if low > 0 else "of any size"
    return f"between {low:.3g} and {high:.3g}" if low > 0 else f"up to {high:.3g}"


def _say_keys(profile: Profile, keys: Counter[int], band: str, layer: LayerProfile, head: int | None) -> str:
    n, first = sum(keys.values()), keys[0]
    if not n:
        of = int(layer.layer_counts("final").n if head is None else layer.head_counts("final").n[head])
        return f"none of the final token's {of:,} weights on earlier tokens is {band}"
    if n == 1:
        return f"the final token's only weight {band} is on {name_key(profile, next(iter(keys)))}"
    what = f"the {n:,} weights {band}" if first in (0, n) and len(keys) == 1 else f"of the {n:,} weights {band}"
    if len(keys) == 1:
        return f"{what} are all {name_key(profile, next(iter(keys)))}"
    others = Counter({key: hits for key, hits in keys.items() if key})
    if first:
        are = "is" if first == 1 else "are"
        rest = "the other" if n - first == 1 else "the others"
        return f"{what}, {first:,} {are} {name_key(profile, 0)}, {rest} {list_keys(profile, others)}"
    return f"{what}, none is {name_key(profile, 0)}: they are {list_keys(profile, others)}"


def points(difference: float) -> str:
    """Write the difference of two shares in percentage points: `+0.8 pp`, `0 pp` where it is none, `–` for NaN."""
    if not math.isfinite(difference):
        return "–"
    if difference == 0:
        return "0 pp"
    text = f"{100 * difference:+.1f} pp"
    return text if float(text.split()[0]) else "<0.1 pp"


def name_key(profile: Profile, key: int) -> str:
    """Name a key by position and token: `key 0 ('The')`; of several prompts, by its position alone."""
    if not profile.origin.tokens:
        return f"key {key}"
    token = profile.origin.tokens[key]
    return f"key {key} ({token!r})" if token else f"key {key} (a part of a character)"


def list_keys(profile: Profile, keys: Mapping[int, int]) -> str:
    """List keys, the most frequent first: `key 3 (' of') 3 times, key 7 ('.') and 2 more keys`.

    Args:
        keys: key position -> how many weights are on it.
    """
    order = sorted(keys, key=lambda key: (-keys[key], key))
    named = [name_key(profile, key) + (f" {keys[key]} times" if keys[key] > 1 else "") for key in order[:MOST_NAMED]]
    more = len(order) - len(named)
    if more:
        named.append(f"{more} more key{'s' if more > 1 else ''}")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def name_layers(first: int, last: int) -> str:
    """Name a run of layers, both included: `layer 3`, `layers 3 to 7`."""
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def list_layers(layers: Sequence[int]) -> str:
    """List layers, in ascending order, as runs: `layers 1, 3 to 7 and 9`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    text = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"layer {text}" if len(layers) == 1 else f"layers {text}"


def percent(share: float) -> str:
    """Write a share in percent: `81.4 %`, `0.031 %`, `<0.01 %`, `–` where there is none; only 1 is called `100 %`."""
    if not math.isfinite(share):
        return "–"
    value = 100 * share
    if value == 0 or value >= 100:
        return f"{value:.0f} %"
    if value < 0.01:
        return "<0.01 %"
    if value > 99.9:
        return f"{value:.2f} %" if value < 99.99 else ">99.99 %"
    return f"{value:.1f} %" if value >= 1 else f"{value:#.2g} %"


def part(share: float) -> str:
    """Write a small share of the whole so that it can be read aloud: `40.0 %`, `0.31 %`, `1 part in 2.8 million`.

    Raises:
        ValueError: for a share that is 0, negative or not finite; what that means depends on what is measured.
    """
    if not (share > 0 and math.isfinite(share)):
        raise ValueError(f"{share} is no share")
    if share >= 1e-3:
        return percent(share)
    n = float(f"{1 / share:.2g}")
    for word, size in (("billion", 1e9), ("million", 1e6)):
        if n >= size:
            return f"1 part in {n / size:,.{1 if n < 10 * size else 0}f} {word}".replace(".0 ", " ")
    return f"1 part in {n:,.0f}"


def times(lift: float) -> str:
    """Write how many times as often something occurs: `0.075`, `1.6`, `2.0`, `37`, `1,250`."""
    if math.isnan(lift):
        return "–"
    return f"{lift:,.0f}" if lift >= 99.5 else f"{lift:#.2g}".removesuffix(".")


def between(lifts: tuple[float, float]) -> str:
    """Write an interval of how many times as often something occurs: `1.2 to 2.5`, `0 to 0.31`."""
    return " to ".join(times(end) if end else "0" for end in lifts)


def capitalized(text: str) -> str:
    """Begin with a capital and leave the rest, tokens above all, as it is."""
    return text[:1].upper() + text[1:]
