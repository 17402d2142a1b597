"""Two profiles side by side: which column of one belongs to which of the other, and how far apart their weights are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile import compare
from laminar_tui.profile.counts import Counts
from laminar_tui.profile.distance import jensen_shannon, wasserstein
from laminar_tui.profile.profile import Origin, Profile


@dataclass(frozen=True, eq=False)
class Matching:
    """Which columns (layers, or heads of a layer) of A and B stand in one place.

    Attributes:
        a, b: int64 [n_columns], the column of A and of B.
        labels: [n_columns], the numbers of the columns: of both, or of the profile that has more layers.
        is_depth: layers are matched by their depth.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    labels: tuple[str, ...]
    is_depth: bool = False


def match_layers(a: Profile, b: Profile) -> Matching:
    """Put layers of equal number side by side; of equal depth, if one profile has more of them.

    The deeper profile keeps a column for each of its layers; of the other the layer nearest in depth stands there, the
    first layer by the first and the last by the last.
    """
    pairs = compare.match_layers(a.n_layers, b.n_layers)  # [n_columns, 2]
    labels = tuple(map(str, range(len(pairs))))
    return Matching(pairs[:, 0], pairs[:, 1], labels, is_depth=a.n_layers != b.n_layers)


def match_heads(a: Profile, b: Profile, layer_a: int, layer_b: int) -> Matching:
    """Put the heads of two layers side by side.

    Raises:
        UsageError: if the layers have different numbers of heads, or one was not read: heads have no depth to match by.
    """
    n_a, n_b = a.layer(layer_a).n_heads, b.layer(layer_b).n_heads
    if n_a != n_b:
        raise UsageError(
            f"layer {layer_a} of A has {n_a} heads, layer {layer_b} of B has {n_b}",
            "heads can be compared one by one only where there are as many",
        )
    each = np.arange(n_a)
    return Matching(each, each, tuple(map(str, range(n_a))))


@dataclass(frozen=True, eq=False)
class Change:
    """How far A and B are apart in each column.

    Attributes:
        wasserstein: float64 [n_columns], in units of weight.
        jensen_shannon: float64 [n_columns], in bits.
    """

    wasserstein: NDArray[np.float64]
    jensen_shannon: NDArray[np.float64]

    def ranking(self) -> list[int]:
        """The columns by Jensen-Shannon, the largest first; those that cannot be compared are left out."""
        order = np.argsort(-self.jensen_shannon, kind="stable")
        return [int(column) for column in order if np.isfinite(self.jensen_shannon[column])]


def measure_change(a: Counts, b: Counts) -> Change:
    """Measure the distance of each pair, [n_columns]; NaN where a side has no weights."""
    return Change(wasserstein(a, b), jensen_shannon(a, b))


_TELLING = ("model", "revision", "recipe", "dtype", "device")
_SAID = {"": "main", "true": "the model"}
"""No revision is the hub's `main`; the recipe `true` is what the model does."""


def tell_apart(a: Profile, b: Profile) -> tuple[str, str]:
    """Name two profiles by what differs: model, revision, recipe, dtype, device, then the prompt, then the time.

    Returns:
        Text from outside; both the same where nothing differs.
    """
    told: list[tuple[str, str]] = []
    for field in _TELLING:
        pair = (getattr(a.origin, field), getattr(b.origin, field))
        if pair[0] != pair[1]:
            told.append((_said(a.origin, field), _said(b.origin, field)))
    if a.origin.prompts != b.origin.prompts:
        told.append((_prompt_name(a), _prompt_name(b)))
    told = told or [(a.origin.created or "the same", b.origin.created or "the same")]
    return " ".join(pair[0] for pair in told[:3]), " ".join(pair[1] for pair in told[:3])


def _said(origin: Origin, field: str) -> str:
    if field == "recipe" and origin.is_control:
        return f"control: {origin.recipe}"
    value = str(getattr(origin, field))
    return _SAID.get(value, value)


def _prompt_name(profile: Profile) -> str:
    if not profile.origin.tokens:
        return f"{profile.origin.n_prompts:,} prompts, {profile.total_tokens:,} tokens {profile.origin.corpus}".rstrip()
    text = "".join(profile.origin.tokens)
    return f"{profile.n_tokens} tokens “{text[:20].strip()}…”"
