"""One thread's workplace for some heads of a layer: scores become weights tile by tile, are counted and measured.

Two of them do the same: `NativeBench` by the compiled tile of `native`, `TensorBench` by tensor operations where there
is no compiler. Each is made once and serves all layers of a prompt: fresh memory costs a page fault every 4 KB, and a
view of a tensor a microsecond.
"""

import logging
import math
from collections.abc import Iterator
from functools import cache

import torch

from laminar_tui.model import native
from laminar_tui.model.native import Library
from laminar_tui.profile.counts import N_BINS
from laminar_tui.profile.statistics import gini_queries

TILE_WEIGHTS = 2**18
"""Weights of a tile: a megabyte of them, about half the second-level cache of a core."""
TILE_ROWS = 128
"""Query rows of a tile: more of them waste more scores beyond the diagonal, fewer make slower products."""
COUNT_AT = 2**20
"""How many bit patterns (2 MB) `TensorBench` collects before it counts them: each time clears and adds all the bins."""
HIDDEN = -1e30
"""The score of a key that is not seen: its weight is 0, and 0 times it is 0."""
MEASURED = ("first", "itself", "previous", "total", "norm", "mixed_scores", "position", "top_score", "top")
"""What is measured of each row, in the order in which it is kept (and in which tile.c writes it): the weights on key 0,
the query itself and the key before it; sum, root of the sum of squares, sum of weight times score and of weight times
position over the content; the highest score and its weight. Scores are counted from a number of the row's own."""


_log = logging.getLogger(__name__)


def cut_rows(n_heads: int, n_tokens: int) -> Iterator[slice]:
    """Cut the query rows of some heads into tiles."""
    start = 0
    while start < n_tokens:
        n_rows = min(TILE_ROWS, max(8, TILE_WEIGHTS // (n_heads * (start + TILE_ROWS))), n_tokens - start)
        yield slice(start, start + n_rows)
        start += n_rows


class NotFiniteError(Exception):
    """A score or a weight is not a number."""


class Tile:
    """Some query rows of some heads, as views of a bench's buffers.

    Args:
        rows: the queries; no key from `rows.stop` on is seen by any of them.
        n_heads, n_key_heads: the heads, and how many key heads they share.
        scores, weights: float32, flat, at least the tile's size; one buffer where the weights replace the scores.

    Attributes:
        scores, weights: [n_heads, rows, keys].
        scores_by_key, weights_by_key: the same as [n_key_heads, heads x rows, keys]: heads that share a key head are
            rows of one product.
    """

    def __init__(
        self, rows: slice, n_heads: int, n_key_heads: int, scores: torch.Tensor, weights: torch.Tensor
    ) -> None:
        n_rows, end = rows.stop - rows.start, rows.stop
        self.rows = rows
        self.scores, self.weights = (
            each[: n_heads * n_rows * end].view(n_heads, n_rows, end) for each in (scores, weights)
        )
        by_key = n_key_heads, n_heads // n_key_heads * n_rows, end
        self.scores_by_key, self.weights_by_key = self.scores.view(by_key), self.weights.view(by_key)


class Bench:
    """What both benches have.

    Args:
        n_heads, n_key_heads, n_tokens: sizes of the heads that are read together.

    Attributes:
        tiles: to be taken in turn, each through `weigh` and then `measure`.
        measured: float32 [len(MEASURED), n_heads, n_tokens].
        sorted: float32 [n_heads, n, n_tokens], the rows of `gini_queries`; 0 beyond the query.
        received: float64 [n_heads, n_tokens], the content weights that each key got.
        positive: int64 [n_heads], how many content weights are above 0.
        n_counted: how many weights of a head are counted: its content, and others that are 0.
    """

    n_counted: int

    def __init__(self, n_heads: int, n_key_heads: int, n_tokens: int) -> None:
        self.n_heads, self.n_key_heads, self.n_tokens = n_heads, n_key_heads, n_tokens
        queries = gini_queries(n_tokens)
        self.measured = torch.zeros(len(MEASURED), n_heads, n_tokens)
        self.sorted = torch.zeros(n_heads, len(queries), n_tokens)
        self.places = {query: place for place, query in enumerate(queries)}
        self.received = torch.zeros(n_heads, n_tokens, dtype=torch.float64)
        self.positive = torch.zeros(n_heads, dtype=torch.int64)
        self.tiles: list[Tile] = []

    def clear(self) -> None:
        """Begin with a layer's heads."""
        self.received.zero_()
        self.positive.zero_()

    def weigh(self, tile: Tile, seen: torch.Tensor | None) -> None:
        """Turn a tile's scores into weights.

        Args:
            seen: bool [n_tokens, n_tokens], contiguous; None for plain causal.

        Raises:
            NotFiniteError: if a score is no number, where that is noticed here.
        """
        raise NotImplementedError

    def measure(self, tile: Tile) -> None:
        """Count and measure a tile's weights, which may be spent thereby."""

    def count_into(self, hits: torch.Tensor) -> None:
        """Add what was counted of the tiles.

        Args:
            hits: int64 [n_heads, N_BINS], contiguous.

        Raises:
            NotFiniteError: if a weight is no number.
        """
        raise NotImplementedError


class NativeBench(Bench):
    """By the compiled tile.

    Args:
        library: `native.library()`.
    """

    def __init__(self, library: Library, n_heads: int, n_key_heads: int, n_tokens: int) -> None:
        super().__init__(n_heads, n_key_heads, n_tokens)
        self._library = library
        cuts = list(cut_rows(n_heads, n_tokens))
        room = torch.empty(n_heads * max((rows.stop - rows.start) * rows.stop for rows in cuts))
        self.tiles = [Tile(rows, n_heads, n_key_heads, room, room) for rows in cuts]
        self._pairs = torch.zeros(n_heads, 2, N_BINS, dtype=torch.int32)
        self._waits = False
        self._places = torch.full((n_tokens,), -1, dtype=torch.int32)
        self._places[list(self.places)] = torch.arange(len(self.places), dtype=torch.int32)
        self.n_counted = (n_tokens - 1) * (n_tokens - 2) // 2
        buffers = self.measured, self.received, self._pairs, self.positive, self._places, self.sorted
        self._buffers = [each.data_ptr() for each in buffers]

    def clear(self) -> None:
        super().clear()
        if self._waits:  # the heads before were given up half-way
            self._pairs.zero_()

    def weigh(self, tile: Tile, seen: torch.Tensor | None) -> None:
        self._waits = True
        rows = tile.rows
        sizes = self.n_heads, rows.start, rows.stop - rows.start, self.n_tokens
        mask = None if seen is None else seen.data_ptr()
        if self._library.read_tile(tile.weights.data_ptr(), *sizes, mask, *self._buffers, len(self.places)):
            raise NotFiniteError

    def count_into(self, hits: torch.Tensor) -> None:
        self._library.take_hits(hits.data_ptr(), self._pairs.data_ptr(), self.n_heads)
        self._waits = False


class TensorBench(Bench):
    """By tensor operations."""

    def __init__(self, n_heads: int, n_key_heads: int, n_tokens: int) -> None:
        super().__init__(n_heads, n_key_heads, n_tokens)
        cuts = list(cut_rows(n_heads, n_tokens))
        sizes = [(rows.stop - rows.start) * rows.stop for rows in cuts]
        room = torch.empty(2, n_heads * max(sizes))
        self.n_counted = sum(sizes)
        self._positions = torch.arange(n_tokens, dtype=torch.float32)
        self._triangle = torch.full((TILE_ROWS, TILE_ROWS), HIDDEN).triu(1)
        self._patterns = torch.empty(n_heads, min(sum(sizes), max(COUNT_AT // n_heads, *sizes)), dtype=torch.float16)
        self._n_waiting = 0
        self._hits = torch.zeros(n_heads, N_BINS, dtype=torch.int64)
        self.tiles = [Tile(rows, n_heads, n_key_heads, *room) for rows in cuts]
        self._copies = {tile: self._copies_of(tile) for tile in self.tiles}
        self._into = {tile: dict(zip(MEASURED, self.measured[:, :, tile.rows], strict=True)) for tile in self.tiles}

    def _copies_of(self, tile: Tile) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The weights of a tile that are set aside: where to, and where from."""
        start, end = tile.rows.start, tile.rows.stop
        before = tile.weights.diagonal(start - 1, dim1=1, dim2=2)  # of query 0 there is none
        first, itself, previous = self.measured[:3, :, tile.rows]
        whole = [query for query in range(start, end) if query in self.places]
        return [
            (first, tile.weights[:, :, 0]),
            (itself, tile.weights.diagonal(start, dim1=1, dim2=2)),
            (previous[:, max(0, 1 - start) :], before[:, : end - start]),
            *((self.sorted[:, self.places[query], :end], tile.weights[:, query - start]) for query in whole),
        ]

    def weigh(self, tile: Tile, seen: torch.Tensor | None) -> None:
        rows, end = tile.rows, tile.rows.stop
        if seen is None:
            size = end - rows.start
            tile.scores[:, :, rows].add_(self._triangle[:size, :size])
        else:
            tile.scores.masked_fill_(~seen[rows, :end], HIDDEN)
        torch.softmax(tile.scores, dim=2, out=tile.weights)

    def measure(self, tile: Tile) -> None:
        weights, scores, into = tile.weights, tile.scores, self._into[tile]
        torch.amax(scores, dim=2, out=into["top_score"])
        torch.amax(weights, dim=2, out=into["top"])
        copies = self._copies[tile]
        for target, source in copies:
            target.copy_(source)
        for _, spent in copies[:2]:  # on key 0 and on the query itself: no content
            spent.zero_()
        self._collect(weights)
        torch.sum(weights, dim=2, out=into["total"])
        torch.linalg.vector_norm(weights, dim=2, out=into["norm"])
        torch.sum(torch.mul(weights, scores, out=scores), dim=2, out=into["mixed_scores"])
        positions = self._positions[: tile.rows.stop]
        into["position"].copy_(torch.mv(weights.view(-1, len(positions)), positions).view(weights.shape[:2]))
        self.received[:, : tile.rows.stop].add_(weights.sum(dim=1))
        # A row holds less than 2^24 keys, so a float32 counts them exactly.
        self.positive += torch.sum(torch.sign(weights, out=scores), dim=2).sum(dim=1).long()

    def _collect(self, weights: torch.Tensor) -> None:
        """Put the weights' bit patterns with those that wait to be counted."""
        size = weights[0].numel()
        if self._n_waiting + size > self._patterns.shape[1]:
            self._count(self._hits)
        self._patterns[:, self._n_waiting : self._n_waiting + size].view(weights.shape).copy_(weights)
        self._n_waiting += size

    def _count(self, hits: torch.Tensor) -> None:
        if not math.isfinite(float(self.measured.sum())):  # not a number has a bit pattern of its own
            raise NotFiniteError
        for head, patterns in enumerate(self._patterns[:, : self._n_waiting].view(torch.int16)):
            hits[head].add_(torch.bincount(patterns, minlength=N_BINS))
        self._n_waiting = 0

    def clear(self) -> None:
        super().clear()
        self._hits.zero_()
        self._n_waiting = 0

    def count_into(self, hits: torch.Tensor) -> None:
        self._count(self._hits)
        hits += self._hits


@cache
def checked_library() -> Library | None:
    """Give the compiled tile if it is there and was seen, once in each process, to do what the tensor operations do."""
    library = native.library()
    if library is not None and not _is_equal(library):
        _log.warning("the compiled tile is not used: it does not give what the tensor operations give")
        return None
    return library


def _is_equal(library: Library) -> bool:
    n_heads, n_tokens = 4, 300  # several tiles; rows of every length that vectors are cut from
    sizes = n_heads, 2, n_tokens
    scores = torch.randn(n_heads, n_tokens, n_tokens, generator=torch.Generator().manual_seed(0)) * 4
    window = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril().triu(-40)
    for seen in (None, window):
        found = []
        for bench in (NativeBench(library, *sizes), TensorBench(*sizes)):
            weights = torch.zeros_like(scores)
            hits = torch.zeros(n_heads, N_BINS, dtype=torch.int64)
            for tile in bench.tiles:
                tile.scores.copy_(scores[:, tile.rows, : tile.rows.stop])
                bench.weigh(tile, seen)
                weights[:, tile.rows, : tile.rows.stop] = tile.weights
                bench.measure(tile)
            bench.count_into(hits)
            sums = bench.measured[MEASURED.index("total")], bench.received.float(), bench.sorted
            # One rounding may move a weight to the next bin; it moves one in the sums from above by 1.
            found.append((weights, *sums, hits[:, 1:].flip(1).cumsum(1) / 1e6, bench.positive / 1e6))
        if not all(torch.allclose(a, b, rtol=1e-5, atol=2e-6) for a, b in zip(*found, strict=True)):
            return False
    return True
