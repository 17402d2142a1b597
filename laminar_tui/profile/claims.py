"""The numbers behind the claims: how many weights are small or large, on which tokens, and in a null.

The claims themselves, those of the common reading of such pictures, are in `report.py`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laminar_tui.profile.bootstrap import share_interval
from laminar_tui.profile.counts import HIGH, LOW
from laminar_tui.profile.parts import POPULATIONS, SinkChoice
from laminar_tui.profile.profile import LayerProfile, Profile

SATELLITE = 0.6
"""From here on a weight is called a satellite."""
SINKS: tuple[SinkChoice, ...] = ("with", "without")
THIRDS = ("first", "middle", "last")


Interval = tuple[float, float]


@dataclass(frozen=True)
class Shares:
    """How many weights of some layers are small and large.

    Attributes:
        population, sink: which weights.
        first_layer, last_layer: of which layers, both included.
        n: how many weights; `below` of them are below 0.01 and `above` above 0.5.
        interval_below, interval_above: where the shares would lie with other prompts (95 %, bootstrap over the prompts
            or groups of them); None for too few prompts.
    """

    population: str
    sink: SinkChoice
    first_layer: int
    last_layer: int
    n: int
    below: int
    above: int
    interval_below: Interval | None = None
    interval_above: Interval | None = None

    @property
    def share_below(self) -> float:
        """`below` of `n`; NaN for none."""
        return self.below / self.n if self.n else math.nan

    @property
    def share_above(self) -> float:
        """`above` of `n`; NaN for none."""
        return self.above / self.n if self.n else math.nan


@dataclass(frozen=True)
class Satellites:
    """What the final token's large weights on earlier tokens fall on.

    Attributes:
        first_layer, last_layer: of which layers, both included.
        threshold: what a weight has to exceed.
        n: of how many weights.
        keys: key position -> how many of them, the most frequent first.
    """

    first_layer: int
    last_layer: int
    threshold: float
    n: int
    keys: dict[int, int]

    @property
    def n_found(self) -> int:
        """How many weights exceed the threshold."""
        return sum(self.keys.values())

    @property
    def n_first(self) -> int:
        """How many of them are on key 0."""
        return self.keys.get(0, 0)


@dataclass(frozen=True)
class Chance:
    """The same shares, of a null.

    Attributes:
        null: its name.
        shares: of the null.
        lift_below, lift_above: the profile's share divided by the null's; NaN where the null's is zero.
        interval_below, interval_above: where the lifts would lie with other prompts, the null being as it is (95 %,
            bootstrap over the prompts or groups of them); None for too few prompts, and where there is no lift.
    """

    null: str
    shares: Shares
    lift_below: float
    lift_above: float
    interval_below: Interval | None = None
    interval_above: Interval | None = None


def depth_thirds(profile: Profile) -> dict[str, tuple[int, int]]:
    """Cut the layers that were read into three runs as equal as can be: name -> first and last layer."""
    read = [index for index, layer in enumerate(profile.layers) if layer is not None]
    pieces = [piece for piece in np.array_split(np.array(read, dtype=np.int64), min(3, len(read))) if len(piece)]
    names = THIRDS if len(pieces) == 3 else THIRDS[:1] + THIRDS[2:]
    return {name: (int(piece[0]), int(piece[-1])) for name, piece in zip(names, pieces, strict=False)}


def population_pairs() -> list[tuple[str, SinkChoice]]:
    """Name every population with and without the sink; the weights of tokens on themselves have none."""
    return [(name, sink) for name in POPULATIONS for sink in SINKS if name != "self" or sink == "with"]


def count_shares(profile: Profile, population: str, sink: SinkChoice, first: int, last: int) -> Shares:
    """Count the small and the large weights of a population in the layers `first` to `last`, both included."""
    n = below = above = 0
    for layer in _read_between(profile, first, last):
        counts = layer.layer_counts(population, sink)
        here = int(counts.n)
        if not here:
            continue
        n += here
        above += round(float(counts.share_high) * here)
        below += here - round(float(counts.share_above(LOW)) * here)  # 0.01 lies between two bins
    intervals = _intervals(profile, population, sink, first, last)
    return Shares(population, sink, first, last, n, below, above, *intervals)


def _intervals(
    profile: Profile, population: str, sink: SinkChoice, first: int, last: int
) -> tuple[Interval | None, Interval | None]:
    """Give the bootstrap intervals of the shares below `LOW` and above `HIGH`."""
    groups = [layer.groups for layer in profile.layers[first : last + 1] if layer is not None]
    known = [each.of(population, sink) for each in groups if each is not None]
    if not known or len(known) < len(groups):
        return None, None
    counts = np.sum(known, axis=0)
    return share_interval(counts, 0.0, LOW), share_interval(counts, HIGH, 1.0)


def find_satellites(profile: Profile, spans: Sequence[tuple[int, int]]) -> tuple[Satellites, ...]:
    """Find the final token's large weights, above each threshold in each span (first and last layer, both included).

    Returns:
        those above 0.6 before those above 0.5; none for several prompts, whose single weights are not kept.
    """
    found = [_find_satellites(profile, *span, threshold) for threshold in (SATELLITE, HIGH) for span in spans]
    return tuple(each for each in found if each is not None)


def _find_satellites(profile: Profile, first: int, last: int, threshold: float) -> Satellites | None:
    layers = _read_between(profile, first, last)
    if not layers or any(layer.final_weights is None for layer in layers):
        return None
    keys: Counter[int] = Counter()
    for layer in layers:
        assert layer.final_weights is not None
        keys.update(int(key) for key in np.nonzero(layer.final_weights[:, :-1] > threshold)[1])
    n = sum(int(layer.layer_counts("final").n) for layer in layers)
    return Satellites(first, last, threshold, n, dict(sorted(keys.items(), key=lambda pair: (-pair[1], pair[0]))))


def compare_with_null(shares: Shares, title: str, null: Profile) -> Chance:
    """Count the same shares in a null."""
    there = count_shares(null, shares.population, shares.sink, shares.first_layer, shares.last_layer)
    return Chance(
        title,
        there,
        _lift(shares.share_below, there.share_below),
        _lift(shares.share_above, there.share_above),
        _lift_interval(shares.interval_below, there.share_below),
        _lift_interval(shares.interval_above, there.share_above),
    )


def _lift(share: float, chance: float) -> float:
    return share / chance if chance > 0 else math.nan


def _lift_interval(interval: Interval | None, chance: float) -> Interval | None:
    return (interval[0] / chance, interval[1] / chance) if interval is not None and chance > 0 else None


def _read_between(profile: Profile, first: int, last: int) -> list[LayerProfile]:
    return [layer for layer in profile.layers[first : last + 1] if layer is not None]
