"""The profile: the counts and numbers of all layers and heads, with how they came about."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.bootstrap import Groups
from laminar_tui.profile.counts import Counts, PackedCounts, stack
from laminar_tui.profile.density import DEFAULT_ESTIMATOR, DEFAULT_GRID, Density, estimate_density
from laminar_tui.profile.parts import SinkChoice, population_parts
from laminar_tui.profile.roles import Roles
from laminar_tui.profile.spread import Spread
from laminar_tui.profile.statistics import STATISTICS, finite_mean

By = Literal["layer", "head"]
NULL = "null: "
"""What the recipe of a null begins with; its title follows."""
MOST_SHOWN = 60
"""Characters of a model's name in a profile's `repr`."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at before the weights were believed.

    Attributes:
        name: what was checked, in a few words.
        passed: whether it holds.
        found: the value that decided it, as text.
    """

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Origin:
    """Where a profile comes from: the model, the prompt and the way the weights were read.

    Attributes:
        model: a hub id, a folder's or a file's name.
        revision: the hub revision that was asked for; empty for the default and for local files.
        architecture: transformers' model type, like `gpt_neox`.
        dtype, device: of the model's parameters during the capture.
        mechanism: how the weights were read: `tap` (the family's own attention function), `fast` (tiles, equal to it
            on this model), `kernel` (the same by one fused kernel on a GPU) or `hooks`; several with ` + ` between.
        recipe: `true`, the name of a control whose weights are not the model's (`model.recipes`), or `null: TITLE`.
        n_parameters: of the model.
        layer_kinds: one word per layer: `attention`, `sliding`, or what stands where attention does not.
        tokens: each token's text; continuation bytes of a split character are empty. None of a corpus.
        token_ids: as the model got them. None of a corpus.
        versions: library -> version.
        created: ISO 8601, UTC.
        seconds: the time of the forward pass with all that was read from it.
        checks: what was looked at before the weights were believed.
        n_prompts: how many prompts were read.
        n_tokens: of all prompts together; 0 stands for the tokens of the one.
        prompt_length: tokens of each of several prompts; 0 where they differ.
        lengths: (tokens, how many prompts have so many), ascending; empty for one prompt, and where it was not kept.
        corpus: the name of the file or folder they come from; empty for prompts that were given.
    """

    model: str
    architecture: str
    dtype: str
    device: str
    mechanism: str
    layer_kinds: tuple[str, ...]
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    revision: str = ""
    recipe: str = "true"
    n_parameters: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    seconds: float = 0.0
    checks: tuple[Check, ...] = ()
    n_prompts: int = 1
    n_tokens: int = 0
    prompt_length: int = 0
    lengths: tuple[tuple[int, int], ...] = ()
    corpus: str = ""

    @property
    def prompts(self) -> tuple[object, ...]:
        """What was read, to be compared: equal for the same prompt, or as far as is known for the same corpus."""
        return self.tokens, self.corpus, self.n_prompts, self.n_tokens

    @property
    def is_null(self) -> bool:
        """Whether the weights are chance's: no model's, or of a model that was made random or read random text."""
        return self.recipe.startswith(NULL)

    @property
    def is_control(self) -> bool:
        """Whether the weights were read in a way that is known to be wrong."""
        return self.recipe != "true" and not self.is_null

    @property
    def null_title(self) -> str:
        """What a null is of, like `uniform attention`; empty where it is none."""
        return self.recipe.removeprefix(NULL) if self.is_null else ""

    @property
    def failed_checks(self) -> tuple[Check, ...]:
        """The checks that do not hold: with any of them, nothing here is to be believed."""
        return tuple(check for check in self.checks if not check.passed)


@dataclass(frozen=True, eq=False)
class LayerProfile:
    """What was read from one layer.

    Attributes:
        parts: part -> counts of [n_heads].
        statistics: NAME -> float64 [n_heads], the names of `STATISTICS`.
        final_weights: float32 [n_heads, n_tokens], the last query's weights; None for several prompts.
        key_shares: float32 [n_heads, n_tokens], the mean weight a key gets from the queries that may see it
            (q >= k; the alpha of Gu et al., arXiv 2410.10781); None for several prompts of different lengths.
        spread: how far several prompts differ; None for one.
        value_norms: float32 [n_heads, n_tokens], the Euclidean norm of each key's value vector, that of the key head
            where several heads share one; None for several prompts, and where the value vectors were not seen.
        groups: coarse counts by groups of prompts; None for one prompt.
    """

    parts: dict[str, PackedCounts]
    statistics: dict[str, NDArray[np.float64]]
    final_weights: NDArray[np.float32] | None = None
    key_shares: NDArray[np.float32] | None = None
    spread: Spread | None = None
    value_norms: NDArray[np.float32] | None = None
    groups: Groups | None = None

    def __repr__(self) -> str:
        n = sum(int(self.parts[part].n.sum()) for part in population_parts("all"))
        return f"LayerProfile({self.n_heads} heads, {n:,} weights)"

    @property
    def n_heads(self) -> int:
        """How many heads the layer has."""
        return self.parts["content"].n_heads

    def pool(self, part: str) -> Counts:
        """Give the counts of a part with all heads together, []; made when they are asked for, once."""
        found = self._pooled.get(part)
        if found is None:
            found = self._pooled[part] = self.parts[part].pool()
        return found

    @cached_property
    def _pooled(self) -> dict[str, Counts]:
        return {}

    def mean_statistic(self, name: str) -> float:
        """The mean of a statistic over the heads that define it; NaN where none does, or it was not read."""
        return finite_mean(self.statistics.get(name, np.zeros(0)))

    def head_counts(self, population: str, sink: SinkChoice = "with") -> Counts:
        """Add the parts of a population, head by head, [n_heads]."""
        counts = Counts.empty((self.n_heads,))
        for part in population_parts(population, sink):
            self.parts[part].add_to(counts)
        return counts

    def layer_counts(self, population: str, sink: SinkChoice = "with") -> Counts:
        """Add the parts of a population over all heads, []."""
        counts = Counts.empty()
        for part in population_parts(population, sink):
            counts = counts + self.pool(part)
        return counts


@dataclass(frozen=True, eq=False)
class Profile:
    """The attention weights of a model on a prompt, as counts, layer by layer and head by head.

    Attributes:
        origin: how it came about.
        layers: one a layer, in the model's order; None for a layer without attention or not read (yet).
        roles: what the heads do on repeated random tokens; None where it was not measured.
    """

    origin: Origin
    layers: tuple[LayerProfile | None, ...]
    roles: Roles | None = None

    def __repr__(self) -> str:
        model = self.origin.model if len(self.origin.model) <= MOST_SHOWN else self.origin.model[: MOST_SHOWN - 1] + "…"
        layers = (
            f"{self.n_layers} layers ({self.n_read} read)" if self.n_read < self.n_layers else f"{self.n_layers} layers"
        )
        tokens = f"{self.total_tokens:,} tokens"
        prompts = f" of {self.origin.n_prompts:,} prompts" if self.origin.n_prompts > 1 else ""
        return f"Profile({model!r}, {layers} x {self.n_heads} heads, {tokens}{prompts})"

    @property
    def n_layers(self) -> int:
        """How many layers the model has, with and without attention."""
        return len(self.layers)

    @property
    def n_heads(self) -> int:
        """The largest number of heads of a layer; 0 while no layer is read."""
        return max((layer.n_heads for layer in self.layers if layer is not None), default=0)

    @property
    def n_tokens(self) -> int:
        """The length of the prompt, or of each of several; 0 where they differ."""
        return len(self.origin.tokens) or self.origin.prompt_length

    @property
    def lengths(self) -> dict[int, int]:
        """How many prompts have how many tokens, ascending; empty where they differ and it was not kept."""
        return dict(self.origin.lengths) or ({self.n_tokens: self.origin.n_prompts} if self.n_tokens else {})

    @property
    def total_tokens(self) -> int:
        """How many tokens were read, all prompts together."""
        return self.origin.n_tokens or len(self.origin.tokens)

    @property
    def n_read(self) -> int:
        """How many layers have been read."""
        return sum(layer is not None for layer in self.layers)

    def with_layer(self, index: int, layer: LayerProfile) -> "Profile":
        """Make the profile that holds one more layer; a model that loops over its layers may have more than it says."""
        new = max(0, index + 1 - self.n_layers)
        layers = [*self.layers, *(None,) * new]
        layers[index] = layer
        kinds = self.origin.layer_kinds + ("attention",) * new
        return Profile(replace(self.origin, layer_kinds=kinds), tuple(layers), self.roles)

    def layer(self, index: int) -> LayerProfile:
        """Give one layer.

        Raises:
            UsageError: if there is no layer of that number, or it has no attention.
        """
        if not 0 <= index < self.n_layers:
            raise UsageError(f"there is no layer {index}", f"{self.origin.model} has layers 0 to {self.n_layers - 1}")
        found = self.layers[index]
        if found is None:
            raise UsageError(f"layer {index} holds no attention weights", f"it is: {self.origin.layer_kinds[index]}")
        return found

    def check_head(self, layer: int, head: int) -> None:
        """Raise a UsageError unless the layer has that head."""
        n_heads = self.layer(layer).n_heads
        if not 0 <= head < n_heads:
            raise UsageError(f"layer {layer} has no head {head}", f"its heads are 0 to {n_heads - 1}")

    def counts(self, population: str, sink: SinkChoice = "with") -> Counts:
        """Give the counts of a population, [n_layers, n_heads]; zero where a layer has no attention or no such head.

        Dense bins: 123 KB a head. For one layer take `layer(i).head_counts(...)`, for how many weights there are
        `n_weights`.
        """
        population_parts(population, sink)
        return stack([self._padded(layer, population, sink) for layer in self.layers])

    def n_weights(self, population: str, sink: SinkChoice = "with") -> NDArray[np.int64]:
        """How many weights of a population were read, [n_layers, n_heads]; 0 where `counts` is zero."""
        parts = population_parts(population, sink)
        table = np.zeros((self.n_layers, self.n_heads), np.int64)
        for row, layer in zip(table, self.layers, strict=True):
            if layer is not None:
                row[: layer.n_heads] += sum(layer.parts[part].n for part in parts)
        return table

    def layer_counts(self, population: str, sink: SinkChoice = "with") -> Counts:
        """Give the counts of a population with the heads of each layer pooled, [n_layers]."""
        population_parts(population, sink)
        return stack(
            [Counts.empty() if layer is None else layer.layer_counts(population, sink) for layer in self.layers]
        )

    def density(
        self,
        population: str,
        sink: SinkChoice = "with",
        by: By = "layer",
        estimator: str = DEFAULT_ESTIMATOR,
        n_grid: int = DEFAULT_GRID,
    ) -> Density:
        """Estimate the density of a population's weights.

        Returns:
            values [n_layers, n_grid], or [n_layers, n_heads, n_grid] by head; NaN where a layer has no attention, or
            no such head.

        Raises:
            UsageError: for an unknown population, sink choice or estimator.
        """
        if by == "layer":
            density = estimate_density(self.layer_counts(population, sink), estimator, n_grid)
            density.values[[layer is None for layer in self.layers]] = np.nan
            return density
        population_parts(population, sink)
        grid = estimate_density(Counts.empty(), estimator, n_grid).grid
        shape = self.n_layers, self.n_heads
        density = Density(grid, np.full((*shape, n_grid), np.nan), np.full(shape, np.nan))

        def fill(values: NDArray[np.float64], bandwidth: NDArray[np.float64], layer: LayerProfile | None) -> None:
            if layer is not None:
                found = estimate_density(layer.head_counts(population, sink), estimator, n_grid)
                values[: layer.n_heads], bandwidth[: layer.n_heads] = found.values, found.bandwidth

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy leaves the interpreter to others
            for _ in pool.map(fill, density.values, density.bandwidth, self.layers):
                pass
        return density

    @property
    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Give every per-head number, NAME -> [n_layers, n_heads]; NaN where it is not defined."""
        table = {name: np.full((self.n_layers, self.n_heads), np.nan) for name in STATISTICS}
        for index, layer in enumerate(self.layers):
            for name, values in layer.statistics.items() if layer else ():
                if name in table:
                    table[name][index, : len(values)] = values
        return table

    def save(self, path: str | Path) -> None:
        """Write a `.laminar` file: beside the target first, then renamed over it."""
        from laminar_tui.profile.file import write_profile

        write_profile(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> "Profile":
        """Read and verify a `.laminar` file.

        Raises:
            ProfileFileError: if it is damaged, of an unknown version, or no profile.
        """
        from laminar_tui.profile.file import read_profile

        return read_profile(Path(path))

    def _padded(self, layer: LayerProfile | None, population: str, sink: SinkChoice) -> Counts:
        if layer is None:
            return Counts.empty((self.n_heads,))
        counts = layer.head_counts(population, sink)
        missing = self.n_heads - layer.n_heads
        if not missing:
            return counts
        return Counts(
            np.pad(counts.hits, ((0, missing), (0, 0))),
            np.pad(counts.zeros, (0, missing)),
            np.pad(counts.total, (0, missing)),
            np.pad(counts.total_sq, (0, missing)),
        )
