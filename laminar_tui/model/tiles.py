"""The heads of a layer, read tile by tile: scores become weights, are counted, measured, and mixed with the values.

By tensor operations; `compiled` does the same where there is a C compiler, and `fast` shares the heads out to threads.
"""

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import torch

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.model.tally import LayerTally, Rows
from laminar_tui.profile.counts import N_BINS
from laminar_tui.profile.statistics import gini_queries

TILE_WEIGHTS = 2**18
"""Weights of a tile: a megabyte of them, about half the second-level cache of a core."""
TILE_ROWS = 128
"""Query rows of a tile: more of them waste more scores beyond the diagonal, fewer make slower products."""
COUNT_AT = 2**20
"""How many bit patterns (2 MB) a bench collects before it counts them: each time clears and adds all the bins."""
HIDDEN = -1e30
"""The score of a key that is not seen: its weight is 0, and 0 times it is 0."""
MEASURED = ("first", "itself", "previous", "total", "norm", "mixed_scores", "position", "top_score", "top")
"""What is measured of each row, in the order in which it is kept: the weights on key 0,
the query itself and the key before it; sum, root of the sum of squares, sum of weight times score and of weight times
position over the content; the highest score and its weight. Scores are counted from a number of the row's own."""


def cut_rows(n_heads: int, n_tokens: int) -> Iterator[slice]:
    """Cut the query rows of some heads into tiles."""
    start = 0
    while start < n_tokens:
        n_rows = min(TILE_ROWS, max(8, TILE_WEIGHTS // (n_heads * (start + TILE_ROWS))), n_tokens - start)
        yield slice(start, start + n_rows)
        start += n_rows


class NotFiniteError(Exception):
    """A score or a weight is not a number."""


class Inputs(NamedTuple):
    """What a layer's attention is made of.

    Attributes:
        query: float32 [n_heads, n_tokens, size].
        key, value: float32 [n_kv_heads, n_tokens, size or another]; n_heads / n_kv_heads neighbouring heads share one.
        scaling: what the scores are multiplied by.
        mask: bool [n_tokens, n_tokens], True where a query sees a key; None for plain causal.
        keep: float32 [n_heads, n_tokens, n_tokens], contiguous, zeros, filled with the weights if given.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float
    mask: torch.Tensor | None = None
    keep: torch.Tensor | None = None


class Reading(ABC):
    """A layer that is being read; each head writes its results to places of its own.

    Attributes:
        output: float32 [n_heads, n_tokens, value size].
        n_heads, group, n_tokens: sizes; a group is the heads that share a key head.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.query, self.key, self.value, self.scaling, mask, self.keep = inputs
        self.mask = None if mask is None else mask.contiguous()
        self.n_heads, self.n_tokens, _ = self.query.shape
        self.group = self.n_heads // len(self.key)
        self.output = torch.empty(self.n_heads, self.n_tokens, self.value.shape[2])

    @abstractmethod
    def read(self, heads: slice, stop: Callable[[], None]) -> None:
        """Read some heads; threads may read different ones.

        Args:
            heads: some that share a key head, or all of several such groups.
            stop: called now and then; raises to stop.

        Raises:
            NotFiniteError: if a score or a weight is no number.
        """

    @abstractmethod
    def hand_over(self, tally: LayerTally) -> None:
        """Give a tally what was read, once every head is.

        Raises:
            UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
        """


_own = threading.local()
T = TypeVar("T")


def own_workplace(make: Callable[..., T], *sizes: int) -> T:
    """Give this thread's workplace of a kind and size, made once for all layers of a prompt.

    Fresh memory costs a page fault every 4 KB, and a view of a tensor a microsecond. Those of another prompt are thrown
    away.

    Args:
        make: makes one from the sizes.
        sizes: the last is n_tokens.
    """
    known: dict[object, T] = _own.__dict__.setdefault("known", {})
    if _own.__dict__.get("n_tokens") != sizes[-1]:
        known.clear()
        _own.n_tokens = sizes[-1]
    key = make, *sizes, TILE_WEIGHTS, TILE_ROWS
    if key not in known:
        known[key] = make(*sizes)
    return known[key]


def check_sums(error: float) -> None:
    """Look at how far a row's sum is from 1 at most.

    Raises:
        UntrustedWeightsError: if it is too far.
    """
    if not math.isfinite(error):
        raise not_finite()
    if error > 1e-4:
        raise UntrustedWeightsError(f"a query's weights sum to 1 within {error:.1g} only", "report this as a bug")


def not_finite() -> UntrustedWeightsError:
    """The error of a layer whose weights are no numbers."""
    return UntrustedWeightsError(
        "the model gave attention weights that are not finite",
        "its parameters may be damaged, or overflow in this dtype: try float32 (--dtype)",
    )


class Tile:
    """Some query rows of some heads, as views of a bench's buffers.

    Args:
        rows: the queries; no key from `rows.stop` on is seen by any of them.
        n_heads, n_key_heads: the heads, and how many key heads they share.
        scores, weights: float32, flat, at least the tile's size.

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


class TensorReading(Reading):
    """By tensor operations."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        n_heads, n_tokens = self.n_heads, self.n_tokens
        self.measured = torch.empty(len(MEASURED), n_heads, n_tokens)
        self.sorted = torch.empty(n_heads, len(gini_queries(n_tokens)), n_tokens)
        self.hits = torch.zeros(n_heads, N_BINS, dtype=torch.int64)
        self.received = torch.zeros(n_heads, n_tokens, dtype=torch.float64)
        self.positive = torch.zeros(n_heads, dtype=torch.int64)
        self.n_counted = torch.zeros(n_heads, dtype=torch.int64)  # the content, and others that are 0

    def read(self, heads: slice, stop: Callable[[], None]) -> None:
        n_heads = heads.stop - heads.start
        bench = own_workplace(_Bench, n_heads, max(1, n_heads // self.group), self.n_tokens)
        bench.read(self, heads, stop)

    def hand_over(self, tally: LayerTally) -> None:
        found = dict(zip(MEASURED, self.measured, strict=True))
        n_tokens, mask = self.n_tokens, self.mask
        queries = torch.arange(n_tokens)
        itself = torch.where(queries > 0, found["itself"], 0.0)
        error = float((found["total"] + found["first"] + itself - 1).abs().max())
        check_sums(error)
        everything = torch.ones((), dtype=torch.bool).expand(1, n_tokens)
        tally.row_sum_error = max(tally.row_sum_error, error)
        n_content = (n_tokens - 1) * (n_tokens - 2) // 2 if mask is None else int(mask.tril(-1)[:, 1:].sum())
        tally.hits += self.hits
        tally.hits[:, 0] += n_content - self.n_counted
        tally.zeros += n_content - self.positive
        tally.received += self.received
        tally.take_final(self.sorted[:, -1].clone(), everything if mask is None else mask[-1:])
        wanted = torch.tensor(gini_queries(n_tokens), dtype=torch.int64)
        seen = queries <= wanted[:, None] if mask is None else mask[wanted]
        first = self.sorted[:, :, 0].clone()
        ascending = self.sorted.numpy()
        ascending.sort(axis=-1)  # numpy sorts rows faster than torch
        tally.take_sorted(self.sorted, first, seen[None])
        # -ln p = z - s with z the row's log-sum-exp, which the heaviest key tells: no logarithm of every weight. Two
        # numbers near 20 are subtracted, so an entropy is right to about 1e-5 nats.
        log_sum = found["top_score"].double() - found["top"].double().log()
        entropy = log_sum * found["total"].double() - found["mixed_scores"].double()
        tally.take(
            Rows(
                queries,
                (queries + 1 if mask is None else mask.sum(dim=1))[None],
                everything if mask is None else mask[None, :, 0],
                everything if mask is None else mask.diagonal()[None],
                found["first"],
                found["itself"],
                found["previous"],
                found["total"],
                found["norm"].double().square(),
                entropy,
                found["position"].double() + queries * found["itself"].double(),
            )
        )


class _Bench:
    """A thread's workplace for so many heads.

    Args:
        n_heads, n_key_heads, n_tokens: sizes of the heads that are read together, in every layer.
    """

    def __init__(self, n_heads: int, n_key_heads: int, n_tokens: int) -> None:
        self._group = n_heads // n_key_heads
        queries = gini_queries(n_tokens)
        self._places = {query: place for place, query in enumerate(queries)}
        self._measured = torch.zeros(len(MEASURED), n_heads, n_tokens)
        self._sorted = torch.zeros(n_heads, len(queries), n_tokens)
        cuts = list(cut_rows(n_heads, n_tokens))
        sizes = [(rows.stop - rows.start) * rows.stop for rows in cuts]
        room = torch.empty(2, n_heads * max(sizes))
        self._n_counted: int = sum(sizes)
        self._positions = torch.arange(n_tokens, dtype=torch.float32)
        self._triangle = torch.full((TILE_ROWS, TILE_ROWS), HIDDEN).triu(1)
        self._patterns = torch.empty(n_heads, min(sum(sizes), max(COUNT_AT // n_heads, *sizes)), dtype=torch.float16)
        self._n_waiting = 0
        self._tiles = [Tile(rows, n_heads, n_key_heads, *room) for rows in cuts]
        self._copies = {tile: self._copies_of(tile) for tile in self._tiles}
        self._into = {tile: dict(zip(MEASURED, self._measured[:, :, tile.rows], strict=True)) for tile in self._tiles}

    def _copies_of(self, tile: Tile) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The weights of a tile that are set aside: where to, and where from."""
        start, end = tile.rows.start, tile.rows.stop
        before = tile.weights.diagonal(start - 1, dim1=1, dim2=2)  # of query 0 there is none
        first, itself, previous = self._measured[:3, :, tile.rows]
        whole = [query for query in range(start, end) if query in self._places]
        return [
            (first, tile.weights[:, :, 0]),
            (itself, tile.weights.diagonal(start, dim1=1, dim2=2)),
            (previous[:, max(0, 1 - start) :], before[:, : end - start]),
            *((self._sorted[:, self._places[query], :end], tile.weights[:, query - start]) for query in whole),
        ]

    def read(self, reading: TensorReading, heads: slice, stop: Callable[[], None]) -> None:
        """Read some heads of a layer."""
        keys = slice(heads.start // reading.group, (heads.stop - 1) // reading.group + 1)
        query, key, value = reading.query[heads], reading.key[keys].transpose(1, 2), reading.value[keys]
        output, received, positive = (each[heads] for each in (reading.output, reading.received, reading.positive))
        hits = reading.hits[heads]
        self._n_waiting = 0
        for tile in self._tiles:
            stop()
            rows, end = tile.rows, tile.rows.stop
            queries = query[:, rows].reshape(len(value), -1, query.shape[2])
            # Each product by itself: those of a batch wait for one another, also in other threads.
            for at, scores in enumerate(tile.scores_by_key):
                torch.addmm(scores, queries[at], key[at, :, :end], beta=0, alpha=reading.scaling, out=scores)
            self._weigh(tile, reading.mask)
            for at, weights in enumerate(tile.weights_by_key):
                mixed = torch.mm(weights, value[at, :end])
                own = output[at * self._group : (at + 1) * self._group, rows]
                own.copy_(mixed.view(own.shape))
            if reading.keep is not None:
                reading.keep[heads, rows, :end] = tile.weights
            self._measure(tile)
            received[:, :end].add_(tile.weights.sum(dim=1))
            # A row holds less than 2^24 keys, so a float32 counts them exactly.
            positive += torch.sum(torch.sign(tile.weights, out=tile.scores), dim=2).sum(dim=1).long()
            self._collect(tile.weights, hits)
        self._count(hits)
        reading.measured[:, heads] = self._measured
        reading.sorted[heads] = self._sorted
        reading.n_counted[heads] = self._n_counted

    def _weigh(self, tile: Tile, seen: torch.Tensor | None) -> None:
        """Turn a tile's scores into weights."""
        rows, end = tile.rows, tile.rows.stop
        if seen is None:
            size = end - rows.start
            tile.scores[:, :, rows].add_(self._triangle[:size, :size])
        else:
            tile.scores.masked_fill_(~seen[rows, :end], HIDDEN)
        torch.softmax(tile.scores, dim=2, out=tile.weights)

    def _measure(self, tile: Tile) -> None:
        """Measure a tile's rows; what is left of its weights is the content."""
        weights, scores, into = tile.weights, tile.scores, self._into[tile]
        torch.amax(scores, dim=2, out=into["top_score"])
        torch.amax(weights, dim=2, out=into["top"])
        copies = self._copies[tile]
        for target, source in copies:
            target.copy_(source)
        for _, spent in copies[:2]:  # on key 0 and on the query itself: no content
            spent.zero_()
        torch.sum(weights, dim=2, out=into["total"])
        torch.linalg.vector_norm(weights, dim=2, out=into["norm"])
        torch.sum(torch.mul(weights, scores, out=scores), dim=2, out=into["mixed_scores"])
        positions = self._positions[: tile.rows.stop]
        into["position"].copy_(torch.mv(weights.view(-1, len(positions)), positions).view(weights.shape[:2]))

    def _collect(self, weights: torch.Tensor, hits: torch.Tensor) -> None:
        """Put the weights' bit patterns with those that wait to be counted."""
        size = weights[0].numel()
        if self._n_waiting + size > self._patterns.shape[1]:
            self._count(hits)
        self._patterns[:, self._n_waiting : self._n_waiting + size].view(weights.shape).copy_(weights)
        self._n_waiting += size

    def _count(self, hits: torch.Tensor) -> None:
        if not math.isfinite(float(self._measured.sum())):  # not a number has a bit pattern of its own
            raise NotFiniteError
        for head, patterns in enumerate(self._patterns[:, : self._n_waiting].view(torch.int16)):
            hits[head].add_(torch.bincount(patterns, minlength=N_BINS))
        self._n_waiting = 0
