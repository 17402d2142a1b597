"""Every number that a head has, under one roof: the statistics of a capture, the roles where they were measured.

A measure is what a matrix of heads is coloured by and a table of heads is sorted by.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from laminar_tui.profile.distance import jensen_shannon
from laminar_tui.profile.parts import SinkChoice
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.roles import ROLES
from laminar_tui.profile.sinks import MIN_QUERIES, THRESHOLD, strongest_shares
from laminar_tui.profile.statistics import STATISTICS
from laminar_tui.profile.values import measure_shifts


@dataclass(frozen=True, eq=False)
class Measure:
    """A number of each head.

    Attributes:
        name: like a statistic's, `role.NAME` for a score.
        title, unit, description: as of a `Statistic`.
        values: float64 [n_layers, n_heads]; NaN where there is none.
        is_share: from 0 to 1, to be written in percent.
        threshold: what a score has to exceed by the rule for it; None for no rule.
    """

    name: str
    title: str
    unit: str
    description: str
    values: NDArray[np.float64]
    is_share: bool = False
    threshold: float | None = None


_measures_of_profiles: WeakKeyDictionary[Profile, list[Measure]] = WeakKeyDictionary()


def list_measures(profile: Profile) -> list[Measure]:
    """Give every measure that has a value anywhere: the sink first, then the scores of roles, then the rest.

    They are made once for a profile.
    """
    if profile not in _measures_of_profiles:
        _measures_of_profiles[profile] = _make_measures(profile)
    return list(_measures_of_profiles[profile])


def _make_measures(profile: Profile) -> list[Measure]:
    table = profile.statistics
    found = [
        Measure(name, each.title, each.unit, each.description, table[name], each.is_share)
        for name, each in STATISTICS.items()
    ]
    found.insert(0, _strongest_key(profile))
    found.sort(key=lambda measure: measure.name != "sink_share")
    found[1:1] = _scores(profile)
    found.append(_value_shift(profile))
    return [measure for measure in found if np.isfinite(measure.values).any()]


def _scores(profile: Profile) -> list[Measure]:
    roles = profile.roles
    if roles is None:
        return []
    return [
        Measure(
            f"role.{name}",
            f"{role.title} score",
            "",
            (role.description[:1].lower() + role.description[1:]).removesuffix("."),  # as those beside it
            scores,
            threshold=roles.thresholds.get(name),
        )
        for name, role in ROLES.items()
        if (scores := roles.scores.get(name)) is not None
    ]


def _strongest_key(profile: Profile) -> Measure:
    return Measure(
        "strongest_key",
        "strongest key",
        "",
        f"largest mean weight of a key over the queries that may see it; of key 0 and the keys that {MIN_QUERIES} see",
        strongest_shares(profile),
        is_share=True,
        threshold=THRESHOLD,
    )


def _value_shift(profile: Profile) -> Measure:
    """How much of the final token's attention lies elsewhere once weights are multiplied by their value norms."""
    values = np.full((profile.n_layers, profile.n_heads), np.nan)
    for index, layer in enumerate(profile.layers):
        if layer is not None:
            values[index, : layer.n_heads] = measure_shifts(layer)
    return Measure(
        "final.value_shift",
        "value shift",
        "",
        "how much of the final token's attention lies elsewhere once each weight is multiplied by its value norm",
        values,
        is_share=True,
    )


def nearest_heads(profile: Profile, layer: int, head: int, population: str, sink: SinkChoice) -> Measure:
    """Measure how far the weights of every head are distributed from those of one head.

    Returns:
        The Jensen-Shannon divergence in bits; 0 for the head itself, NaN where a head holds no such weights.
    """
    anchor = profile.layer(layer).head_counts(population, sink)[head]
    values = np.full((profile.n_layers, profile.n_heads), np.nan)
    for index, each in enumerate(profile.layers):
        if each is not None:  # layer by layer: dense counts of a whole model take some 100 MB
            values[index, : each.n_heads] = jensen_shannon(each.head_counts(population, sink), anchor)
    return Measure(
        "nearest",
        f"JS from L{layer}H{head}",
        "bits",
        f"Jensen-Shannon divergence from layer {layer}, head {head}: 0 is the same distribution, 1 no weight in common",
        values,
    )
