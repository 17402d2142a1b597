"""Exact weights on demand: which entries of which patterns stand behind a cell of the picture.

A profile holds counts, so the entries themselves are read again from a `PatternSource`: a run in memory
(`model.patterns`), or the last query's weights that a saved profile carries. Weights are looked at some query rows at a
time, so that no more than the entries asked for and one piece of a pattern are in memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.parts import SinkChoice, population_parts
from laminar_tui.profile.profile import LayerProfile, Profile

MAX_PATTERN_BYTES = 2**30
"""The largest pattern that is given in one piece: that of 16,384 tokens."""
DEFAULT_LIMIT = 1000

IsCancelled = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of patterns, heaviest first; equal weights by head, query and key.

    Attributes:
        head, query, key: int64 [n_shown].
        weight: float32 [n_shown].
        n: how many match in all, at least n_shown.
        is_complete: False if only the last query's weights could be looked at.
    """

    head: NDArray[np.int64]
    query: NDArray[np.int64]
    key: NDArray[np.int64]
    weight: NDArray[np.float32]
    n: int
    is_complete: bool = True

    @property
    def n_shown(self) -> int:
        """How many are listed."""
        return len(self.weight)


class PatternSource(Protocol):
    """What can give exact weights of a profile's patterns."""

    @property
    def scope(self) -> str:
        """Say in words for the screen which weights are at hand, and what a question costs."""

    @property
    def has_all_queries(self) -> bool:
        """Whether there is more than the last query."""

    def pattern(self, layer: int, head: int) -> NDArray[np.float32]:
        """Give a head's weights, [n_tokens, n_tokens]; NaN where the mask hides, and in rows that are not at hand.

        Raises:
            UsageError: for a layer or head that does not exist, or too many tokens for one piece.
        """

    def rows(self, layer: int, head: int, first: int, last: int) -> NDArray[np.float32]:
        """Give the weights of the queries first <= q < last, [last - first, n_tokens], as `pattern` does.

        Raises:
            UsageError: for a layer, head or query that does not exist.
        """

    def entries(
        self,
        layer: int,
        low: float,
        high: float,
        *,
        population: str,
        sink: SinkChoice,
        head: int | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Entries:
        """Give the population's entries with low <= weight < high; a band that ends at 1 takes the ones in too.

        Bands that share their edges share no entry. The heaviest `limit` are listed, all are counted.

        Raises:
            UsageError: for a layer, head, population or sink choice that does not exist.
        """


@runtime_checkable
class Interruptible(Protocol):
    """A source whose answers take time, and which can be told to stop."""

    def reads_again(self, layer: int) -> bool:
        """Whether the model is run again for a question about a layer."""

    def until(self, is_cancelled: IsCancelled) -> PatternSource:
        """Give the same source, but with questions that raise a CancelledError once `is_cancelled` says so."""


def population_queries(population: str, sink: SinkChoice, n_tokens: int) -> range:
    """Say which queries a population has entries of: only the last one for `final`, else all but the first."""
    parts = population_parts(population, sink)
    first = n_tokens - 1 if all(part.startswith("final.") for part in parts) else 1
    return range(max(first, 1), n_tokens)


def population_mask(
    population: str, sink: SinkChoice, first_query: int, n_rows: int, n_tokens: int
) -> NDArray[np.bool_]:
    """Mark a population's entries [n_rows, n_tokens] in the rows from `first_query` on, whatever the mask hides."""
    query = np.arange(first_query, first_query + n_rows)[:, None]
    key = np.arange(n_tokens)[None, :]
    places = {"self": key == query, "sink": (key == 0) & (query > 0), "content": (key > 0) & (key < query)}
    chosen = np.zeros((n_rows, n_tokens), dtype=bool)
    for part in population_parts(population, sink):
        final, _, name = part.rpartition(".")
        chosen |= places[name] & (query == n_tokens - 1) if final else places[name]
    return chosen & (query > 0)


def select_entries(
    weights: NDArray[np.float32],
    first_query: int,
    low: float,
    high: float,
    *,
    population: str,
    sink: SinkChoice,
    limit: int = DEFAULT_LIMIT,
    first_head: int = 0,
) -> Entries:
    """Select a band's entries from some query rows.

    Args:
        weights: [n_heads, n_rows, n_tokens], NaN where the mask hides.
        first_query, first_head: the position of the first row and the number of the first head.
        low, high: the band, as in `PatternSource.entries`.
        population, sink: which entries are looked at.
        limit: how many are listed; all are counted.
    """
    _, n_rows, n_tokens = weights.shape
    chosen = weights >= _least_float32(low)
    if high < 1:  # a weight of 1 may be 1 + 1e-7 in float32
        chosen &= weights < _least_float32(high)
    chosen &= population_mask(population, sink, first_query, n_rows, n_tokens)
    places = np.flatnonzero(chosen)  # ascending: by head, query and key
    found = weights.reshape(-1)[places]
    listed = _heaviest(found, limit)
    head, query, key = np.unravel_index(places[listed], weights.shape)
    return Entries(head + first_head, query + first_query, key, found[listed], len(found))


def merge_entries(selections: Sequence[Entries], limit: int = DEFAULT_LIMIT) -> Entries:
    """Put selections from different rows into one."""
    parts = [*selections, _NONE]
    head, query, key, weight = (
        np.concatenate([getattr(each, name) for each in parts]) for name in ("head", "query", "key", "weight")
    )
    order = np.lexsort((key, query, head, -weight))[: max(limit, 0)]
    n, is_complete = sum(each.n for each in parts), all(each.is_complete for each in parts)
    return Entries(head[order], query[order], key[order], weight[order], n, is_complete)


_NO_PLACES = np.zeros(0, np.int64)
_NONE = Entries(_NO_PLACES, _NO_PLACES, _NO_PLACES, np.zeros(0, np.float32), 0)


def _heaviest(weights: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
    """Give the places of the `limit` largest, largest first and equal ones in their order."""
    if limit <= 0:
        return _NO_PLACES
    places = np.arange(len(weights))
    if limit < len(weights):
        least = np.partition(weights, len(weights) - limit)[len(weights) - limit]
        above = np.flatnonzero(weights > least)
        places = np.concatenate([above, np.flatnonzero(weights == least)[: limit - len(above)]])
    return places[np.lexsort((places, -weights[places]))]


def _least_float32(bound: float) -> np.float32:
    """The least float32 that is not below a bound: comparing with it is comparing with the bound itself."""
    nearest = np.float32(bound)
    return np.nextafter(nearest, np.float32(np.inf)) if float(nearest) < bound else nearest


def check_rows(first: int, last: int, n_tokens: int) -> None:
    """Raise a UsageError unless there are queries first <= q < last."""
    if not 0 <= first < last <= n_tokens:
        raise UsageError(f"there are no queries {first} to {last - 1}", f"the prompt has 0 to {n_tokens - 1}")


def check_pattern_size(n_tokens: int) -> None:
    """Raise a UsageError for a pattern that is too large for one piece."""
    n_bytes = 4 * n_tokens**2
    if n_bytes > MAX_PATTERN_BYTES:
        raise UsageError(
            f"a pattern of {n_tokens:,} tokens takes {n_bytes / 2**30:.1f} GiB", "look at some of its queries"
        )


class FinalWeights:
    """The last query's weights that a profile carries, as a `PatternSource`."""

    has_all_queries = False

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    @property
    def scope(self) -> str:
        """Which weights are at hand, in words; of several prompts there is no single one."""
        n_prompts = self._profile.origin.n_prompts
        return f"counts only, of {n_prompts:,} prompts" if n_prompts > 1 else "the last query only (saved profile)"

    def pattern(self, layer: int, head: int) -> NDArray[np.float32]:
        """Give the last row; the others are NaN."""
        self._row(layer, head)
        check_pattern_size(self._profile.n_tokens)
        return self.rows(layer, head, 0, self._profile.n_tokens)

    def rows(self, layer: int, head: int, first: int, last: int) -> NDArray[np.float32]:
        """Give the last row if it is among those asked for; the others are NaN."""
        n_tokens = self._profile.n_tokens
        check_rows(first, last, n_tokens)
        rows = np.full((last - first, n_tokens), np.nan, np.float32)
        row = self._row(layer, head)
        if last == n_tokens:
            rows[-1] = row
        return rows

    def entries(
        self,
        layer: int,
        low: float,
        high: float,
        *,
        population: str,
        sink: SinkChoice,
        head: int | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Entries:
        """Give those entries that are the last query's."""
        queries = population_queries(population, sink, self._profile.n_tokens)
        last = self._profile.n_tokens - 1
        weights = _final_rows(self._profile.layer(layer), layer) if head is None else self._row(layer, head)[None]
        found = select_entries(
            weights[:, None], last, low, high, population=population, sink=sink, limit=limit, first_head=head or 0
        )
        return Entries(found.head, found.query, found.key, found.weight, found.n, len(queries) <= 1)

    def _row(self, layer: int, head: int) -> NDArray[np.float32]:
        self._profile.check_head(layer, head)
        row: NDArray[np.float32] = _final_rows(self._profile.layer(layer), layer)[head]
        return row


def _final_rows(layer: LayerProfile, index: int) -> NDArray[np.float32]:
    """Give the last query's weights [n_heads, n_tokens] with NaN on the keys that the mask hides.

    A profile holds 0 there. How many keys each head sees is known from the counts; where some of the zeros are weights
    that underflowed, the earliest keys are taken for the hidden ones, as those of a window are.

    Raises:
        UsageError: if the profile has no such weights.
    """
    if layer.final_weights is None:
        raise UsageError(
            f"layer {index} holds the counts of several prompts, and no single weights", "capture one prompt"
        )
    rows = layer.final_weights.copy()
    n_tokens = rows.shape[1]
    if n_tokens < 2:
        return rows
    n = {part: layer.parts[f"final.{part}"].n for part in ("self", "sink", "content")}
    for head, row in enumerate(rows):
        n_hidden = n_tokens - int(n["self"][head] + n["sink"][head] + n["content"][head])
        zeros = np.flatnonzero(row == 0)
        if n["sink"][head]:
            zeros = zeros[zeros > 0]
        row[zeros[:n_hidden]] = np.nan
    return rows
