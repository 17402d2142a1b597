"""What changed between two profiles: two prompts, models, dtypes, recipes or checkpoints.

Layers are matched by number where both have as many, else by depth. Distances are those of `profile.distance`; shares
are compared with their sign, the second profile minus the first.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laminar_tui.profile.counts import HIGH, LOW, Counts
from laminar_tui.profile.distance import jensen_shannon, wasserstein
from laminar_tui.profile.parts import POPULATIONS, SinkChoice, population_parts
from laminar_tui.profile.plain import plain
from laminar_tui.profile.profile import LayerProfile, Origin, Profile
from laminar_tui.profile.wording import points

MOST_HEADS = 10
"""How many heads the text lists."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two profiles side by side, the layers matched in pairs.

    Attributes:
        one, other: where they come from.
        population, sink: which weights are compared.
        layers: int64 [n_pairs, 2], the layer of each that is compared.
        depth: float64 [n_pairs], 0 for the first layer to 1 for the last, of the deeper profile.
        wasserstein, jensen_shannon: float64 [n_pairs], in units of weight and in bits, heads pooled; NaN where one of
            the two was not read.
        below, above: float64 [n_pairs], the share of the weights below 0.01 and above 0.5, other minus one.
        head_wasserstein, head_jensen_shannon: float64 [n_pairs, n_heads], head by head of the same number; NaN where
            the two layers do not have as many heads.
        is_same_model, is_same_tokens, is_same_dtype, is_same_recipe: whether these are equal.
        are_same_layers: whether layers were matched by number, not by depth.
        are_read: bool [n_pairs], whether both of a pair were read; they may still hold no such weights.
    """

    one: Origin
    other: Origin
    population: str
    sink: SinkChoice
    layers: NDArray[np.int64]
    depth: Float64
    wasserstein: Float64
    jensen_shannon: Float64
    below: Float64
    above: Float64
    head_wasserstein: Float64
    head_jensen_shannon: Float64
    is_same_model: bool
    is_same_tokens: bool
    is_same_dtype: bool
    is_same_recipe: bool
    are_same_layers: bool
    are_read: NDArray[np.bool_]

    @property
    def order(self) -> list[int]:
        """The pairs that can be compared, the largest Jensen-Shannon divergence first."""
        found = self.jensen_shannon
        return [int(at) for at in np.argsort(-found, kind="stable") if np.isfinite(found[at])]

    @property
    def head_order(self) -> list[tuple[int, int]]:
        """Pair and head of the heads that can be compared, the largest Jensen-Shannon divergence first."""
        flat = self.head_jensen_shannon
        order = [at for at in np.argsort(-flat, axis=None, kind="stable") if np.isfinite(flat.flat[at])]
        return [(int(at) // flat.shape[1], int(at) % flat.shape[1]) for at in order]


def match_layers(n_one: int, n_other: int) -> NDArray[np.int64]:
    """Match layers by number where there are as many, else each of the deeper with the one nearest in depth.

    Returns:
        [max(n_one, n_other), 2].
    """
    n = max(n_one, n_other)
    depth = np.arange(n) / max(1, n - 1)
    # Half up, so that both ways round give the same pairs.
    return np.stack([np.floor(depth * (each - 1) + 0.5).astype(np.int64) for each in (n_one, n_other)], axis=1)


def compare(one: Profile, other: Profile, population: str = "final", sink: SinkChoice = "with") -> Comparison:
    """Compare two profiles layer by layer and head by head.

    Raises:
        UsageError: for an unknown population or sink choice.
    """
    population_parts(population, sink)
    pairs = match_layers(one.n_layers, other.n_layers)
    n_heads = max(one.n_heads, other.n_heads)
    pooled = np.full((4, len(pairs)), np.nan)
    heads = np.full((2, len(pairs), n_heads), np.nan)
    are_read = np.zeros(len(pairs), bool)
    for at, (mine, theirs) in enumerate(pairs):
        a, b = one.layers[mine], other.layers[theirs]
        if a is None or b is None:
            continue
        are_read[at] = True
        pooled[:, at] = _layer_distances(a.layer_counts(population, sink), b.layer_counts(population, sink))
        if a.n_heads == b.n_heads:
            heads[:, at, : a.n_heads] = _head_distances(a, b, population, sink)
    return Comparison(
        one.origin,
        other.origin,
        population,
        sink,
        layers=pairs,
        depth=np.arange(len(pairs)) / max(1, len(pairs) - 1),
        wasserstein=pooled[0],
        jensen_shannon=pooled[1],
        below=pooled[2],
        above=pooled[3],
        head_wasserstein=heads[0],
        head_jensen_shannon=heads[1],
        is_same_model=(one.origin.model, one.origin.revision) == (other.origin.model, other.origin.revision),
        is_same_tokens=one.origin.token_ids == other.origin.token_ids and one.origin.prompts == other.origin.prompts,
        is_same_dtype=one.origin.dtype == other.origin.dtype,
        is_same_recipe=one.origin.recipe == other.origin.recipe,
        are_same_layers=one.n_layers == other.n_layers,
        are_read=are_read,
    )


def _layer_distances(a: Counts, b: Counts) -> tuple[Float64, Float64, Float64, Float64]:
    below = a.share_above(LOW) - b.share_above(LOW)  # what is not above is below
    return wasserstein(a, b), jensen_shannon(a, b), below, b.share_high - a.share_high


def _head_distances(a: LayerProfile, b: LayerProfile, population: str, sink: SinkChoice) -> Float64:
    mine, theirs = a.head_counts(population, sink), b.head_counts(population, sink)
    return np.stack([wasserstein(mine, theirs), jensen_shannon(mine, theirs)])


# -- formats ---------------------------------------------------------------------------------------------------------


def comparison_sentences(comparison: Comparison) -> tuple[str, ...]:
    """Say what the two are, what they share, and where they differ most."""
    one, other = comparison.one, comparison.other
    sentences = [f"A: {_name(one)}.", f"B: {_name(other)}.", _say_same(comparison)]
    if not comparison.are_same_layers:
        n_one, n_other = len(one.layer_kinds), len(other.layer_kinds)
        sentences.append(f"A has {n_one} layers and B {n_other}: layers of the nearest depth are compared.")
    order = comparison.order
    if not comparison.are_read.any():
        return (*sentences, "There is no layer that both have read.")
    if not order:
        return (*sentences, "In no layer do both have weights of the chosen kind.")
    if not comparison.wasserstein[order].any():
        return (*sentences, "Every layer has the same distribution in both.")
    at = order[0]
    sentences.append(
        f"The largest change is in {_pair_name(comparison, at)}: the Jensen-Shannon divergence (JS; 0 for equal "
        f"distributions, 1 for ones without a common weight) is {comparison.jensen_shannon[at]:.3g} bits, and the "
        f"weights have to move by {comparison.wasserstein[at]:.3g} on average (Wasserstein-1, W1)."
    )
    up = int((comparison.above > 0).sum())
    down = int((comparison.above < 0).sum())
    sentences.append(
        f"From A to B the share of weights above {HIGH} rises in {up} and falls in {down} of {len(order)} layers."
    )
    return tuple(sentences)


def _name(origin: Origin) -> str:
    revision = f"@{origin.revision}" if origin.revision else ""
    recipe = "" if origin.recipe == "true" else f", {origin.recipe}"
    prompts = f" in {origin.n_prompts:,} prompts" if origin.n_prompts > 1 else ""
    return f"{origin.model}{revision}, {origin.dtype}, {_n_tokens(origin):,} tokens{prompts}{recipe}"


def _n_tokens(origin: Origin) -> int:
    """Of several prompts, whose tokens are not kept, their number is."""
    return origin.n_tokens or len(origin.tokens)


def _say_same(comparison: Comparison) -> str:
    facts = {
        "model": comparison.is_same_model,
        "tokens": comparison.is_same_tokens,
        "dtype": comparison.is_same_dtype,
        "recipe": comparison.is_same_recipe,
    }
    same, differ = ([name for name, is_same in facts.items() if is_same is wanted] for wanted in (True, False))
    parts = [f"{word}: {', '.join(names)}" for word, names in (("the same", same), ("different", differ)) if names]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _pair_name(comparison: Comparison, at: int) -> str:
    mine, theirs = (int(layer) for layer in comparison.layers[at])
    return f"layer {mine}" if comparison.are_same_layers else f"layers {mine} of A and {theirs} of B"


def comparison_text(comparison: Comparison) -> str:
    """Write a comparison as plain text: sentences, a table of layers, and the heads that differ most."""
    title = POPULATIONS[comparison.population].title
    sink = {"with": "", "without": ", without the sink", "only": ", the sink alone"}[comparison.sink]
    lines = [*comparison_sentences(comparison), "", f"{title}{sink}; the largest change by JS first:", ""]
    lines.append(f"{'A':>5} {'B':>5}  {'JS (bits)':>9}  {'W1':>9}  {f'below {LOW}':>11}  {f'above {HIGH}':>10}")
    for at in comparison.order:
        mine, theirs = comparison.layers[at]
        distances = f"{comparison.jensen_shannon[at]:9.4f}  {comparison.wasserstein[at]:9.5f}"
        shares = f"{points(comparison.below[at]):>11}  {points(comparison.above[at]):>10}"
        lines.append(f"{mine:5} {theirs:5}  {distances}  {shares}")
    heads = comparison.head_order[:MOST_HEADS]
    if heads:
        note = "" if comparison.is_same_model else " (of two models: heads of one number need not be the same)"
        lines += [
            "",
            f"Heads that differ most{note}:",
            "",
            f"{'A':>5} {'B':>5}  {'head':>4}  {'JS (bits)':>9}  {'W1':>9}",
        ]
    for at, head in heads:
        mine, theirs = comparison.layers[at]
        w, js = comparison.head_wasserstein[at, head], comparison.head_jensen_shannon[at, head]
        lines.append(f"{mine:5} {theirs:5}  {head:4}  {js:9.4f}  {w:9.5f}")
    return "\n".join(_one_line(line) for line in lines) + "\n"


def _one_line(text: str) -> str:
    """A model's name may hold anything."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def comparison_json(comparison: Comparison) -> str:
    """Write a comparison as JSON, pairs in the order of the layers; null where there is nothing to compare."""
    document: dict[str, Any] = {
        "sentences": comparison_sentences(comparison),
        "population": comparison.population,
        "sink": comparison.sink,
    }
    for name in ("one", "other"):
        origin: Origin = getattr(comparison, name)
        document[name] = {
            field: getattr(origin, field) for field in ("model", "revision", "dtype", "recipe", "architecture")
        } | {"n_tokens": _n_tokens(origin), "n_layers": len(origin.layer_kinds)}
    for name in ("model", "tokens", "dtype", "recipe"):
        document[f"is_same_{name}"] = getattr(comparison, f"is_same_{name}")
    for name in ("layers", "depth", "wasserstein", "jensen_shannon", "below", "above"):
        document[name] = getattr(comparison, name)
    for name in ("head_wasserstein", "head_jensen_shannon"):
        document[name] = getattr(comparison, name)
    return json.dumps(plain(document), allow_nan=False)
