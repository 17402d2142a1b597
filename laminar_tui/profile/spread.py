"""How far prompts differ: of each number of a head, how many prompts define it, their mean and standard deviation.

What a profile of many prompts keeps of each one has to be bounded, so it is sums over the prompts: of the numbers of
`statistics`, and of three numbers of every population, each with the sink, without it and alone. Every prompt counts
once, whatever its length; in the counts every weight does.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.counts import BIN_VALUES, HIGH, LOW, PackedCounts
from laminar_tui.profile.parts import PARTS, POPULATIONS, SINK_CHOICES, SinkChoice, population_parts
from laminar_tui.profile.statistics import finite_mean

SHARES = {
    "mean": "the mean weight",
    "below": f"the share of the weights below {LOW}",
    "above": f"the share of the weights above {HIGH}",
}


@dataclass(frozen=True, eq=False)
class Spread:
    """The numbers of a layer's heads over several prompts.

    The last row of each array is the layer: its heads pooled for the shares, the mean over them for the statistics.

    Attributes:
        names: those of `STATISTICS`, and of each `share_name`.
        n: int64 [n_names, n_heads + 1], how many prompts define a number.
        mean: float64 [n_names, n_heads + 1], over these prompts; NaN for none.
        std: float64 [n_names, n_heads + 1], with n - 1; NaN below two prompts.
    """

    names: tuple[str, ...]
    n: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def of(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Give n, mean and standard deviation of a number, [n_heads + 1] each.

        Raises:
            UsageError: if it was not kept.
        """
        if name not in self.names:
            raise UsageError(f"there is no spread of '{name}'", f"choose one of: {', '.join(self.names)}")
        index = self.names.index(name)
        return self.n[index], self.mean[index], self.std[index]

    def interval(self, name: str, level: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the confidence interval of a number's mean over prompts: mean -+ t std / sqrt n.

        It takes the prompts for independent draws and their mean for normal: windows of one text are not quite the one,
        and a share near 0 or 1 of a few prompts is not quite the other.

        Returns:
            Low and high, [n_heads + 1] each; NaN below two prompts.

        Raises:
            UsageError: if the number was not kept.
        """
        n, mean, std = self.of(name)
        half = student_quantile(0.5 + level / 2, n - 1) * std / np.sqrt(np.maximum(n, 1))
        return mean - half, mean + half


def student_quantile(p: float, freedom: NDArray[np.int64]) -> NDArray[np.float64]:
    """The quantile of Student's t, within 1 % from three degrees of freedom on (exact for one and two); NaN below one.

    Abramowitz & Stegun, 26.7.5: an expansion about the normal quantile in 1 / freedom.
    """
    z = NormalDist().inv_cdf(p)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    nu = np.maximum(freedom, 1).astype(np.float64)
    expanded = sum(term / nu**power for power, term in enumerate(terms))
    two = (2 * p - 1) * np.sqrt(2 / (4 * p * (1 - p)))
    return np.select(
        [freedom < 1, freedom == 1, freedom == 2],
        [np.nan, np.tan(np.pi * (p - 0.5)), two],
        expanded,
    )


def share_name(share: str, population: str, sink: SinkChoice = "with") -> str:
    """The name in a spread of one of `SHARES` of a population, like `above.final.without`."""
    return f"{share}.{population}.{sink}"


def prompt_numbers(
    parts: dict[str, PackedCounts], statistics: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Make the numbers that one prompt adds to a spread.

    Returns:
        NAME -> [n_heads + 1], the layer last; NaN where a number is not defined.
    """
    numbers = {name: np.append(values, finite_mean(values)) for name, values in statistics.items()}
    tallies = {part: _tally(parts[part]) for part in PARTS}
    for population in POPULATIONS:
        has_sink = any(part.endswith("sink") for part in POPULATIONS[population].parts)
        for sink in SINK_CHOICES if has_sink else SINK_CHOICES[:1]:
            chosen = [tallies[part] for part in population_parts(population, sink)]
            n, *sums = np.sum(chosen, axis=0)
            for share, total in zip(SHARES, sums, strict=True):
                ratio = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
                numbers[share_name(share, population, sink)] = ratio
    return numbers


_FIRST_NOT_LOW = int(np.searchsorted(BIN_VALUES, LOW, side="left"))
_FIRST_HIGH = int(np.searchsorted(BIN_VALUES, HIGH, side="right"))


def _tally(packed: PackedCounts) -> NDArray[np.float64]:
    """[4, n_heads + 1]: how many weights, their sum, how many are low and how many are high; the layer last."""
    n_heads = packed.n_heads
    heads = np.repeat(np.arange(n_heads), np.diff(packed.starts))
    hits = packed.hits.astype(np.float64)

    def count(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(heads[chosen], weights=hits[chosen], minlength=n_heads).astype(np.float64)

    rows = np.stack(
        [
            count(np.ones(len(hits), bool)),
            packed.total,
            count(packed.bins < _FIRST_NOT_LOW),
            count(packed.bins >= _FIRST_HIGH),
        ]
    )
    return np.concatenate([rows, rows.sum(axis=1, keepdims=True)], axis=1)
