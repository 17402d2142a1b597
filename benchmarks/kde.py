"""What densities cost and how exact they are: scipy, KDEpy where it is installed, and ours from counts.

python benchmarks/kde.py [--size 2048] [--rounds 3]
"""

import argparse
import importlib.util
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rounds import Budget, Run, interleave, line, machine, markdown, readable, slope
from variants import N_GRID, scipy_curve

from laminar_tui.profile.counts import Counts, PackedCounts, count_weights, stack
from laminar_tui.profile.density import estimate_density
from laminar_tui.profile.parts import PARTS, POPULATIONS
from laminar_tui.profile.profile import LayerProfile, Origin, Profile

Weights = NDArray[np.float32]

N_LAYERS = N_HEADS = 32
SHARPNESS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
"""Standard deviations of the scores of the heads that are made: from near uniform to near one-hot."""

STEP = 1 / (N_GRID - 1)


def pattern(n_tokens: int, sharpness: float, seed: int = 0) -> Weights:
    """A causal softmax of independent normal scores, float32 [n_tokens, n_tokens]; the first key gets a bonus."""
    scores = np.random.default_rng(seed).standard_normal((n_tokens, n_tokens), np.float32) * sharpness
    scores[:, 0] += sharpness * 2
    scores[np.triu_indices(n_tokens, 1)] = -np.inf
    weights: Weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def every_weight(weights: Weights) -> Weights:
    """What a causal pattern holds but for the first query: the population `all`, [T (T + 1) / 2 - 1]."""
    return weights[np.tril_indices(len(weights))][1:]


def cut(weights: Weights) -> dict[str, Weights]:
    """The parts of a causal pattern, by name."""
    own, below = weights.diagonal(), np.tril_indices(len(weights), -1)
    content = weights[below][below[1] > 0]
    final = weights[-1]
    return {
        "origin": own[:1],
        "self": own[1:],
        "sink": weights[1:, 0],
        "content": content,
        "final.self": own[-1:],
        "final.sink": final[:1],
        "final.content": final[1:-1],
    }


def make_profile(n_tokens: int) -> Profile:
    """Counts of 32 x 32 heads of patterns of a length; eight heads are made, and used again and again."""
    made = [cut(pattern(n_tokens, sharpness)) for sharpness in SHARPNESS]
    parts = {}
    for part in PARTS:
        counts = [count_weights(each[part]) for each in made]
        parts[part] = PackedCounts.pack(stack([counts[head % len(counts)] for head in range(N_HEADS)]))
    kinds = ("attention",) * N_LAYERS
    origin = Origin("made", "none", "float32", "cpu", "tap", kinds, ("x",) * n_tokens, tuple(range(n_tokens)))
    return Profile(origin, (LayerProfile(parts, {}),) * N_LAYERS)


# -- one distribution ------------------------------------------------------------------------------------------------


def kdepy_curve(weights: NDArray[Any], bandwidth: float) -> NDArray[np.float64]:
    """KDEpy's FFTKDE on the grid, which it wants a hair wider than the data."""
    from KDEpy import FFTKDE

    grid = np.linspace(-1e-9, 1 + 1e-9, N_GRID)
    return np.asarray(FFTKDE(kernel="gaussian", bw=bandwidth).fit(weights).evaluate(grid))


def has_kdepy() -> bool:
    """Whether KDEpy is installed."""
    return importlib.util.find_spec("KDEpy") is not None


def scott(weights: NDArray[Any]) -> float:
    """The bandwidth that scipy takes."""
    return float(len(weights) ** -0.2 * weights.std(ddof=1, dtype=np.float64))


def one_distribution(n_tokens: int, profile: Profile, budget: Budget) -> str:
    """Time of one head's weights by scipy, KDEpy and ours; and ours for 1,024 heads x 4 populations."""
    weights = every_weight(pattern(n_tokens, 3.0))
    counts = count_weights(weights)
    bandwidth = scott(weights)

    def every_head() -> None:
        for population in POPULATIONS:
            profile.density(population, by="head", estimator="gaussian", n_grid=N_GRID)

    layer = profile.layer(0).head_counts("all")
    scipy, ours, batch = "scipy", "laminar_tui, from counts", "laminar_tui, a layer of 32 heads"
    many = f"laminar_tui, {N_LAYERS * N_HEADS:,} heads × {len(POPULATIONS)} populations"
    table: dict[str, Run] = {
        scipy: lambda: scipy_curve(weights),
        ours: lambda: estimate_density(counts, "gaussian", N_GRID),
        "laminar_tui, counted on the host first": lambda: estimate_density(count_weights(weights), "gaussian", N_GRID),
        batch: lambda: estimate_density(layer, "gaussian", N_GRID),
        many: every_head,
    }
    if has_kdepy():
        table["KDEpy, FFTKDE"] = lambda: kdepy_curve(weights, bandwidth)
    measured = interleave(table, budget)
    share = {batch: N_HEADS, many: N_LAYERS * N_HEADS * len(POPULATIONS)}
    rows = []
    for name in table:
        seconds = measured.median(name)
        each = seconds / share.get(name, 1)
        ratio = measured.ratio(scipy, name) * share.get(name, 1)
        rows.append([name, readable(seconds), readable(each), f"{ratio:,.0f}"])
    text = f"{len(weights):,} weights, {N_GRID} points, the same bandwidth.\n\n"
    text += markdown(["", "seconds", "a distribution", "times faster than scipy"], rows)
    return text + ("" if has_kdepy() else "\n\nKDEpy is not installed.")


# -- errors ----------------------------------------------------------------------------------------------------------


def distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The L1 distance of two curves on the grid."""
    return float(np.abs(a - b)[1:-1].sum() + np.abs(a - b)[[0, -1]].sum() / 2) * STEP


def samples(n_tokens: Sequence[int], n_random: int) -> dict[str, Weights]:
    """Distributions of many sizes and shapes, by what they are."""
    random = np.random.default_rng(1)
    made = {
        f"softmax of scores × {sharpness:g}, T = {length}": every_weight(pattern(length, sharpness, 2))
        for length in n_tokens
        for sharpness in SHARPNESS
    }
    for a, b in ((0.2, 2.0), (0.5, 5.0)):
        made[f"{n_random:,} of Beta({a:g}, {b:g})"] = random.beta(a, b, n_random).astype(np.float32)
    return made


def errors(n_tokens: Sequence[int], n_random: int) -> str:
    """L1 against scipy where its bandwidth is a grid step or more, a row a distribution."""
    rows, narrow = [], 0
    for name, weights in samples(n_tokens, n_random).items():
        bandwidth = scott(weights)
        if bandwidth < STEP:
            narrow += 1
            continue
        reference = scipy_curve(weights)
        ours = estimate_density(count_weights(weights), "gaussian", N_GRID).values
        theirs = f"{distance(kdepy_curve(weights, bandwidth), reference):.1e}" if has_kdepy() else "–"
        row = [name, f"{len(weights):,}", f"{bandwidth / STEP:.1f}", f"{distance(ours, reference):.1e}", theirs]
        rows.append(row)
    text = markdown(["", "weights", "bandwidth, steps", "laminar_tui", "KDEpy"], rows)
    worst = max((float(row[3]) for row in rows), default=math.nan)
    text += f"\n\nLargest L1 error of laminar_tui against scipy: {worst:.1e} (a density has 1 in all)."
    if narrow:
        text += f" {narrow} more distributions are left out: scipy's bandwidth is below a step of the grid."
    return text


def column_mass(profile: Profile) -> str:
    """How far a column's mass is from 1 at most, for every estimator that keeps it."""
    lines = []
    for estimator in ("reflected", "histogram"):
        worst = 0.0
        for population in POPULATIONS:
            for by in ("layer", "head"):
                counts = profile.layer_counts(population) if by == "layer" else profile.layer(0).head_counts(population)
                worst = max(worst, _mass_error(counts, estimator))
        lines.append(f"`{estimator}` {worst:.1e}")
    return "Column mass is 1 within: " + ", ".join(lines) + "."


def _mass_error(counts: Counts, estimator: str) -> float:
    density = estimate_density(counts, estimator, N_GRID)
    widths = np.full(N_GRID, STEP)
    widths[[0, -1]] /= 2
    mass = (density.values * widths).sum(axis=-1)
    return float(np.abs(mass - 1)[counts.n > 0].max())


# -- scipy's cost law ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Law:
    """Seconds of scipy's curve of n weights: a start, and so much a weight; and the exponent that was measured."""

    start: float
    each: float
    exponent: float
    sizes: tuple[int, ...]

    def seconds(self, n: int) -> float:
        """For one curve."""
        return self.start + self.each * n

    def __str__(self) -> str:
        sizes = ", ".join(f"{size:,}" for size in self.sizes)
        return (
            f"scipy's curve of n weights on {N_GRID} points, fitted at n = {sizes}: {readable(self.start)} "
            f"and {readable(self.each)} a weight (n^{self.exponent:.2f})"
        )


def scipy_law(sizes: Sequence[int], budget: Budget) -> Law:
    """Measure scipy at some sizes up to 131,327, and lay a line through them that weighs relative errors."""
    weights = every_weight(pattern(512, 2.0))
    measured = interleave({str(size): _scipy_run(weights[:size]) for size in sizes}, budget)
    seconds = [measured.median(str(size)) for size in sizes]
    # seconds / n = each + start / n: a straight line in 1 / n in which every size counts alike
    shares = [s / n for s, n in zip(seconds, sizes, strict=True)]
    each, start = line([1 / size for size in sizes], shares)
    if start < 0 or each <= 0:
        start, each = 0.0, median(shares)
    return Law(start, each, slope(sizes, seconds), tuple(sizes))


def _scipy_run(weights: Weights) -> Run:
    return lambda: scipy_curve(weights)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="tokens: one head has about half its square in weights")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    budget = Budget(options.rounds, 60)
    print(machine(), end="\n\n", flush=True)
    print("making weights ...", file=sys.stderr, flush=True)
    profile = make_profile(options.size)
    print(one_distribution(options.size, profile, budget), end="\n\n", flush=True)
    print(errors((64, 128, 256), 2_000_000), column_mass(profile), scipy_law((4096, 32768, 131072), budget), sep="\n\n")


if __name__ == "__main__":
    main()
