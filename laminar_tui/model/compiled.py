"""The heads of a layer, read by the compiled tiles of `native`: what `tiles` does, in one call for some heads."""

import ctypes
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.model import native, tiles
from laminar_tui.model.native import Attend
from laminar_tui.model.tally import LayerTally
from laminar_tui.model.tiles import Inputs, NotFiniteError, Reading, TensorReading
from laminar_tui.profile.counts import N_BINS, PackedCounts
from laminar_tui.profile.formulas import gini_rows, mean_where
from laminar_tui.profile.profile import LayerProfile
from laminar_tui.profile.statistics import STATISTICS, gini_queries

PARTS = ("content", "origin", "self", "sink", "final.self", "final.sink", "final.content")
"""In the order of tile.c."""
GINI = ("gini", "rest.gini")
MEANS = tuple(name for name in STATISTICS if name not in GINI)
"""In the order of tile.c. A Gini coefficient needs a row in ascending order, and numpy sorts faster."""
ROW_BYTES = 48
"""The size of `struct row`."""
SET = -(-N_BINS // 32) * 32
"""The size of a set of bins there."""

MOST_TOKENS = 92_681
"""More tokens than these have more than 2^32 weights a head, and bins are counted in 32 bits there."""

_log = logging.getLogger(__name__)


class Layer(ctypes.Structure):
    """`struct layer` of tile.c, which says what each is."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "key", "value")),
        *((f"{name}_step", 2 * ctypes.c_int64) for name in ("query", "key", "value")),
        *((name, ctypes.c_int64) for name in ("n_heads", "group", "n_tokens", "size", "value_size")),
        ("scaling", ctypes.c_double),
        ("seen", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("n_kept", ctypes.c_int64),
        ("most_entries", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("output", "kept", "final", "key_shares", "means", "sum_errors")),
        *((name, ctypes.c_void_p) for name in ("bins", "hits", "starts", "zeros", "totals", "patterns")),
    )


class _Room(ctypes.Structure):
    """`struct room` of tile.c: a thread's workplace."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("tile", "pairs", "rows", "received"))

    def __init__(self, n_tokens: int) -> None:
        self.memory = (
            torch.empty(max(tiles.TILE_WEIGHTS, 8 * n_tokens)),
            torch.zeros(2, SET, dtype=torch.int32),
            torch.empty(n_tokens * ROW_BYTES, dtype=torch.uint8),
            torch.empty(n_tokens, dtype=torch.float64),
        )
        super().__init__(*(each.data_ptr() for each in self.memory))


class _Results:
    """Where a layer's results are put; they are taken from here before the thread begins with the next layer."""

    def __init__(self, n_heads: int, n_tokens: int) -> None:
        queries = gini_queries(n_tokens)
        most_entries = N_BINS + 3 * n_tokens + 4
        self.places = np.full(n_tokens, -1, np.int32)
        self.places[list(queries)] = np.arange(len(queries))
        self.kept = np.empty((n_heads, len(queries), n_tokens), np.float32)
        self.means = np.empty((n_heads, len(MEANS)))
        self.sum_errors = np.empty(n_heads)
        self.bins = np.empty((n_heads, most_entries), np.uint16)
        self.hits = np.empty((n_heads, most_entries), np.uint32)
        self.starts = np.empty((n_heads, len(PARTS) + 1), np.int64)
        self.zeros = np.empty((n_heads, len(PARTS)), np.int64)
        self.totals = np.empty((n_heads, len(PARTS), 2))
        self.addresses: dict[str, int] = {name: each.ctypes.data for name, each in vars(self).items()}
        self.addresses |= {"n_kept": len(queries), "most_entries": most_entries}


class CompiledReading(Reading):
    """By the compiled tiles, for two tokens or more. A thread makes and hands over one after another.

    Args:
        attend: `native.attend_function()`.
        inputs: of `MOST_TOKENS` tokens at most.
    """

    def __init__(self, attend: Attend, inputs: Inputs) -> None:
        query, key, value = _side_by_side(inputs.query), _side_by_side(inputs.key), _side_by_side(inputs.value)
        super().__init__(inputs._replace(query=query, key=key, value=value))
        self._attend = attend
        vectors = query, key, value
        n_heads, n_tokens, size = query.shape
        self._results = tiles.own_workplace(_Results, n_heads, n_tokens)
        self._final, self._key_shares = np.empty((2, n_heads, n_tokens), np.float32)
        self._layer = Layer(
            *(each.data_ptr() for each in vectors),
            *(each.stride()[:2] for each in vectors),
            *(n_heads, self.group, n_tokens, size, value.shape[2]),
            self.scaling,
            None if self.mask is None else self.mask.data_ptr(),
            **self._results.addresses,
            output=self.output.data_ptr(),
            final=self._final.ctypes.data,
            key_shares=self._key_shares.ctypes.data,
            patterns=None if self.keep is None else self.keep.data_ptr(),
        )

    def read(self, heads: slice, stop: Callable[[], None]) -> None:
        stop()
        room = tiles.own_workplace(_Room, self.n_tokens)
        sizes = heads.start, heads.stop, tiles.TILE_ROWS, tiles.TILE_WEIGHTS
        if self._attend(ctypes.byref(self._layer), ctypes.byref(room), *sizes):
            raise NotFiniteError

    def hand_over(self, tally: LayerTally) -> None:
        found = self._results
        error = float(found.sum_errors.max())
        tiles.check_sums(error)
        tally.row_sum_error = max(tally.row_sum_error, error)
        tally.layer = LayerProfile(
            parts=self._packed(),
            statistics=self._statistics(),
            final_weights=self._final,
            key_shares=self._key_shares,
        )

    def _packed(self) -> dict[str, PackedCounts]:
        """Put each part's entries of all heads side by side."""
        found = self._results
        spans = found.starts.tolist()
        heads = range(self.n_heads)
        cuts = [(head, slice(*spans[head][at : at + 2])) for at in range(len(PARTS)) for head in heads]
        bins = np.concatenate([found.bins[cut] for cut in cuts])
        hits = np.concatenate([found.hits[cut] for cut in cuts])
        starts = np.zeros((len(PARTS), self.n_heads + 1), np.int64)
        np.cumsum(np.diff(found.starts, axis=1).T, axis=1, out=starts[:, 1:])
        ends = starts[:, -1].cumsum().tolist()
        packed = {}
        for at, (part, end) in enumerate(zip(PARTS, ends, strict=True)):
            own = slice(end - int(starts[at, -1]), end)
            totals = found.totals[:, at].T.copy()
            packed[part] = PackedCounts(starts[at], bins[own], hits[own], found.zeros[:, at].copy(), *totals)
        return packed

    def _statistics(self) -> dict[str, NDArray[np.float64]]:
        found = self._results
        queries = np.array(gini_queries(self.n_tokens))
        n_seen = queries + 1 if self.mask is None else self.mask.numpy()[queries].sum(axis=1)
        n_rest = n_seen - (1 if self.mask is None else self.mask.numpy()[queries, 0])
        first = found.kept[:, :, 0].copy()
        found.kept.sort(axis=-1)
        means = dict(zip(MEANS, found.means.T.copy(), strict=True))
        ranks = np.arange(self.n_tokens, 0, -1)
        gini, rest_gini, has_rest = gini_rows(found.kept, first, n_seen[None], n_rest[None], ranks, np)
        defined = np.stack(np.broadcast_arrays(n_seen >= 2, has_rest))
        means |= zip(GINI, mean_where(np.stack([gini, rest_gini]), defined, np), strict=True)
        return {name: means[name] for name in STATISTICS}


def _side_by_side(vectors: torch.Tensor) -> torch.Tensor:
    """The vectors with each one's numbers side by side, as products of matrices want them."""
    is_plain = vectors.stride(2) == 1 and vectors.stride(1) >= vectors.shape[2]
    return vectors if is_plain else vectors.contiguous()


@cache
def checked_attend() -> Attend | None:
    """Give the compiled tiles if they are there and were seen, once in each process, to do what tensors do."""
    attend = native.attend_function()
    if attend is None:
        return None
    with suppress(NotFiniteError, UntrustedWeightsError), np.errstate(all="ignore"):
        if _is_equal(attend):
            return attend
    _log.warning("the compiled tiles are not used: they do not give what the tensor operations give")
    return None


def _is_equal(attend: Attend) -> bool:
    n_heads, n_tokens, size = 4, 300, 8  # several tiles; rows of every length that vectors are cut from
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(n_tokens, n, size, generator=generator).transpose(0, 1) for n in (n_heads, 2, 2))
    window = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril().triu(-40)
    for seen in (None, window):
        found = []
        for make in (partial(CompiledReading, attend), TensorReading):
            keep = torch.zeros(n_heads, n_tokens, n_tokens)
            tally = LayerTally(n_heads, n_tokens, torch.device("cpu"))
            reading = make(Inputs(query, key, value, 1.4, seen, keep))
            reading.read(slice(0, n_heads), lambda: None)
            reading.hand_over(tally)
            found.append([keep.numpy(), reading.output.numpy(), *_numbers(tally.finish())])
        if not all(np.allclose(a, b, rtol=1e-5, atol=5e-6, equal_nan=True) for a, b in zip(*found, strict=True)):
            return False
    return True


def _numbers(layer: LayerProfile) -> list[NDArray[Any]]:
    """All that is known of a layer, such that nearly equal layers have nearly equal numbers."""
    assert layer.final_weights is not None
    assert layer.key_shares is not None
    numbers: list[NDArray[Any]] = [layer.final_weights, layer.key_shares, *layer.statistics.values()]
    for packed in layer.parts.values():
        counts = packed.unpack()
        # One rounding may move a weight to the next bin; it moves one in the sums from above by 1.
        above = counts.hits[:, :0:-1].cumsum(axis=1) / 1e6
        numbers += [above, counts.n, counts.zeros / 1e6, counts.total, counts.total_sq]
    return numbers
