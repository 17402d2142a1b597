"""A model at several revisions, one after another: what training does to a layer's, a head's or all layers' weights.

Of each profile only what a sweep shows is kept, so that a hundred checkpoints need not be in memory together.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.counts import HIGH, LOW, Counts
from laminar_tui.profile.distance import jensen_shannon, wasserstein
from laminar_tui.profile.measures import Measure
from laminar_tui.profile.parts import SinkChoice, population_parts
from laminar_tui.profile.plain import plain
from laminar_tui.profile.profile import LayerProfile, Origin, Profile
from laminar_tui.profile.statistics import STATISTICS, finite_mean

Float64 = NDArray[np.float64]

_STEP = re.compile(r"step[-_]?(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
MOST_DIGITS = 15
"""A longer number is no training step."""


@dataclass(frozen=True)
class Place:
    """What of a model a sweep looks at: a head, a layer with its heads pooled, or all layers pooled.

    Attributes:
        layer, head: numbers; a head needs a layer.
        population, sink: names in `POPULATIONS`, `SINK_CHOICES`.
    """

    layer: int | None = None
    head: int | None = None
    population: str = "final"
    sink: SinkChoice = "with"

    def title(self) -> str:
        """Say it in words: `all layers`, `layer 3`, `layer 3, head 1`."""
        if self.layer is None:
            return "all layers"
        return f"layer {self.layer}" + ("" if self.head is None else f", head {self.head}")


@dataclass(frozen=True, eq=False)
class SweepStep:
    """What is kept of one profile.

    Attributes:
        name: the revision, or what else tells the profiles apart; text from outside.
        origin: where the profile comes from.
        n_heads: of each layer; 0 without attention.
        counts: [], of the chosen place.
        sink_share, entropy: means over the heads of the place, each over all queries; NaN where there are none.
        statistics: NAME -> the same of every number in `STATISTICS`.
    """

    name: str
    origin: Origin
    n_heads: tuple[int, ...]
    counts: Counts
    sink_share: float
    entropy: float
    statistics: dict[str, float] = field(default_factory=dict)

    @property
    def step(self) -> int | None:
        """The training step; None where the name holds none."""
        return step_of(self.name)

    @property
    def below(self) -> float:
        """The share of the weights below 0.01."""
        return float(self.counts.share_low)

    @property
    def above(self) -> float:
        """The share of the weights above 0.5."""
        return float(self.counts.share_high)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Several revisions in the order of their training.

    Attributes:
        place: what is looked at.
        steps: one a profile.
        jensen_shannon, wasserstein: float64 [n_steps], to the step before, in bits and in units of weight; NaN for the
            first, and where one of the two holds no weights.
    """

    place: Place
    steps: tuple[SweepStep, ...]
    jensen_shannon: Float64
    wasserstein: Float64

    @property
    def labels(self) -> tuple[str, ...]:
        """What each column is called: its step, else its name; the names where two steps are the same."""
        names = tuple(step.name for step in self.steps)
        steps = tuple(step.name if step.step is None else str(step.step) for step in self.steps)
        return steps if len(set(steps)) == len(steps) else names

    def notes(self) -> list[str]:
        """Say what the profiles differ in, apart from their revision: then not all that is seen is training."""
        facts: dict[str, set[Any]] = {
            "models": {step.origin.model for step in self.steps},
            "prompts": {(step.origin.token_ids, step.origin.corpus, step.origin.n_tokens) for step in self.steps},
            "dtypes": {step.origin.dtype for step in self.steps},
            "recipes": {step.origin.recipe for step in self.steps},
        }
        return [f"not all of one kind: {len(found)} {what}" for what, found in facts.items() if len(found) > 1]


def step_of(revision: str) -> int | None:
    """Find the training step in the name of a revision: what follows `step`, else its first number.

    `step1000` and `stage1-step1000-tokens5B` are 1000, `checkpoint-500` is 500; `main` and a commit have none.
    """
    if _COMMIT.fullmatch(revision):
        return None
    found = _STEP.search(revision) or _NUMBER.search(revision)
    digits = found.group(found.re.groups) if found else ""
    return int(digits) if digits.isascii() and 0 < len(digits) <= MOST_DIGITS else None


def name_profiles(origins: Sequence[Origin], file_names: Sequence[str]) -> list[str]:
    """Choose what tells profiles apart: their revisions, else the models' names, else the files' names."""
    if any(origin.revision for origin in origins):
        return [origin.revision or "main" for origin in origins]
    models = [origin.model for origin in origins]
    return models if len(set(models)) == len(models) > 1 else list(file_names)


def read_step(profile: Profile, name: str, place: Place) -> SweepStep:
    """Take out of a profile what a sweep shows.

    Raises:
        UsageError: if it has no such layer or head, or there is no such population or sink choice.
    """
    population_parts(place.population, place.sink)
    layers = [layer for layer in profile.layers if layer is not None]
    heads: int | slice = slice(None)
    if place.layer is not None:
        layers = [profile.layer(place.layer)]
        if place.head is not None:
            profile.check_head(place.layer, place.head)
            heads = place.head
    return SweepStep(
        name,
        profile.origin,
        tuple(0 if layer is None else layer.n_heads for layer in profile.layers),
        _counts(layers, place),
        _mean(layers, "sink_share", heads),
        _mean(layers, "entropy", heads),
        {name: _mean(layers, name, heads) for name in STATISTICS},
    )


def _counts(layers: list[LayerProfile], place: Place) -> Counts:
    if place.head is not None:
        return layers[0].head_counts(place.population, place.sink)[place.head]
    counts = Counts.empty()
    for layer in layers:
        counts = counts + layer.layer_counts(place.population, place.sink)
    return counts


def _mean(layers: list[LayerProfile], name: str, heads: int | slice) -> float:
    values = [np.atleast_1d(layer.statistics[name][heads]) for layer in layers if name in layer.statistics]
    every = np.concatenate(values) if values else np.zeros(0)
    return finite_mean(every)


def make_sweep(steps: Sequence[SweepStep], place: Place) -> Sweep:
    """Put revisions in the order of their training steps, and measure how far each is from the one before.

    Names without a step come last, in the order in which they are given.

    Raises:
        UsageError: if there are none, or they are not of one architecture.
    """
    if not steps:
        raise UsageError("there is nothing to sweep over", "name several profiles, or a model with --revisions")
    ordered = sorted(steps, key=lambda step: (step.step is None, step.step or 0))
    first = ordered[0]
    for step in ordered[1:]:
        if (step.origin.architecture, step.n_heads) != (first.origin.architecture, first.n_heads):
            raise UsageError(
                f"'{step.name}' has other layers or heads than '{first.name}'",
                "a sweep is over revisions of one model; `laminar-tui compare` takes any two",
            )
    pairs = [(before.counts, after.counts) for before, after in pairwise(ordered)]
    return Sweep(
        place,
        tuple(ordered),
        np.array([math.nan, *(float(jensen_shannon(*pair)) for pair in pairs)]),
        np.array([math.nan, *(float(wasserstein(*pair)) for pair in pairs)]),
    )


def sweep_measures(sweep: Sweep) -> list[Measure]:
    """Give every number of a sweep that has a value anywhere, [n_steps]: the heads' statistics first."""
    of_counts = [
        Measure(
            "below", f"below {LOW}", "", f"share of the weights below {LOW}", _row([s.below for s in sweep.steps]), True
        ),
        Measure(
            "above",
            f"above {HIGH}",
            "",
            f"share of the weights above {HIGH}",
            _row([s.above for s in sweep.steps]),
            True,
        ),
        Measure(
            "mean",
            "mean weight",
            "",
            "of the weights of the population",
            _row([float(s.counts.mean) for s in sweep.steps]),
        ),
        Measure("jensen_shannon", "JS to the step before", "bits", "Jensen-Shannon divergence", sweep.jensen_shannon),
        Measure("wasserstein", "W1 to the step before", "", "Wasserstein-1 distance, in weight", sweep.wasserstein),
    ]
    of_heads = [
        Measure(
            name,
            each.title,
            each.unit,
            each.description,
            _row([step.statistics.get(name, math.nan) for step in sweep.steps]),
            each.is_share,
        )
        for name, each in STATISTICS.items()
    ]
    return [measure for measure in [*of_heads, *of_counts] if np.isfinite(measure.values).any()]


def _row(values: Sequence[float]) -> Float64:
    return np.array(values, np.float64)


def sweep_json(sweep: Sweep) -> str:
    """Write a sweep as JSON, the steps in their order; null where a number is not defined."""
    place = sweep.place
    rows = [
        {
            "name": step.name,
            "step": step.step,
            "model": step.origin.model,
            "recipe": step.origin.recipe,
            "n": int(step.counts.n),
            f"below_{LOW}": step.below,
            f"above_{HIGH}": step.above,
            "sink_share": step.sink_share,
            "entropy": step.entropy,
            "jensen_shannon": float(sweep.jensen_shannon[at]),
            "wasserstein": float(sweep.wasserstein[at]),
        }
        for at, step in enumerate(sweep.steps)
    ]
    document = {
        "layer": place.layer,
        "head": place.head,
        "population": place.population,
        "sink": place.sink,
        "notes": sweep.notes(),
        "steps": rows,
    }
    return json.dumps(plain(document), allow_nan=False)
