"""The fast path: plain softmax attention on a CPU, in tiles that stay in the cache, counted while they are there.

One pass does what attention has to do anyway (scores, softmax, weighted values) and counts each tile before it is
overwritten, so no pattern is ever in memory. Heads are shared out to threads. It is used only on a model on which
`tap.is_fast_path_equal` has seen it give what the family's own function gives.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.model.tally import LayerTally, Rows
from laminar_tui.profile.counts import N_BINS
from laminar_tui.profile.statistics import gini_queries

AT_LEAST_TOKENS = 16
"""A shorter prompt does not show whether this path is the model's own, so it is never read by it: a window of a corpus
is read in the same way whatever was read before it."""
TILE_WEIGHTS = 2**18
"""Weights of a tile: a megabyte of scores and as much of weights, about the second-level cache of a core."""
TILE_ROWS = 128
"""Query rows of a tile: more of them waste more scores beyond the diagonal, fewer make slower products."""
COUNT_AT = 2**20
"""How many bit patterns (2 MB) a thread collects before it counts them: each counting clears and adds all the bins."""
HIDDEN = -1e30
"""The score of a key that is not seen: its weight is 0, and 0 times it is 0."""
UNDERFLOW = 87.0
"""exp(-87) is the smallest float32 that is no denormal number; those are taken for 0."""

_WITHOUT_EFFECT = {"position_ids", "cache_position"}

_pool: ThreadPoolExecutor | None = None


def fits(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, kwargs: dict[str, Any]) -> bool:
    """Whether a call of an attention function is plain enough: nothing but scaling, and a causal or a boolean mask."""
    plain_mask = mask is None or (mask.dtype == torch.bool and mask.shape[:2] == (1, 1))
    special = [
        name for name, given in kwargs.items() if name not in _PLAIN and given is not None and given is not False
    ]
    return (
        query.shape[0] == 1
        and query.shape[2] == key.shape[2]
        and query.shape[1] % key.shape[1] == 0
        and plain_mask
        and isinstance(kwargs.get("scaling"), float)
        and not special
    )


_PLAIN = _WITHOUT_EFFECT | {"scaling", "dropout", "sliding_window", "is_causal", "use_cache", "output_attentions"}
"""Keywords that change nothing here: the window is in the mask, dropout is off."""


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    mask: torch.Tensor | None,
    tally: LayerTally,
    *,
    stop: Callable[[], None] = lambda: None,
    keep: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend, and count every weight on the way.

    Args:
        query: float32 [n_heads, n_tokens, d].
        key, value: float32 [n_kv_heads, n_tokens, d]; n_heads / n_kv_heads neighbouring heads share one.
        scaling: what the scores are multiplied by.
        mask: bool [n_tokens, n_tokens], True where a query sees a key; None for plain causal.
        tally: takes the counts.
        stop: called before each tile; raises to stop.
        keep: float32 [n_heads, n_tokens, n_tokens], filled with the weights if given; for checks.

    Returns:
        float32 [n_tokens, n_heads, d].

    Raises:
        UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
    """
    layer = _Layer(query, key, value, scaling, mask, tally, keep)

    def read(units: list[slice]) -> None:
        with torch.no_grad():
            for heads in units:
                layer.read_heads(heads, stop)

    with _one_thread_each() as (pool, n_threads):
        units = _share_out(query.shape[0], query.shape[0] // key.shape[0], query.shape[1])
        for done in [pool.submit(read, units[first::n_threads]) for first in range(n_threads)]:
            done.result()
    layer.hand_over()
    return layer.output.transpose(0, 1)


@contextmanager
def _one_thread_each() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """A pool of threads, each of which computes alone and takes denormal numbers for zero.

    A weight below 1.2e-38 is 0 here; one product of denormal numbers takes as long as fifty others.
    """
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count() or 1, "tiles", torch.set_flush_denormal, (True,))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield _pool, before
    finally:
        torch.set_num_threads(before)


def _share_out(n_heads: int, group: int, n_tokens: int) -> list[slice]:
    """Cut the heads into units that are read together: short prompts fill a tile only with several heads.

    A unit lies within the heads that share a key head, or takes all of several such groups. It does not depend on the
    number of threads, so that the same products are made, and the same bits come out, with any number of them.
    """
    size = TILE_WEIGHTS // (min(TILE_ROWS, n_tokens) * n_tokens)
    size = max(1, size // group * group if size >= group else math.gcd(size, group))
    return [slice(first, min(first + size, n_heads)) for first in range(0, n_heads, size)]


def _cut_rows(n_heads: int, n_tokens: int) -> Iterator[slice]:
    """Cut the query rows of some heads into tiles."""
    start = 0
    while start < n_tokens:
        n_rows = min(TILE_ROWS, max(8, TILE_WEIGHTS // (n_heads * (start + TILE_ROWS))), n_tokens - start)
        yield slice(start, start + n_rows)
        start += n_rows


_MEASURED = ("first", "itself", "previous", "total", "norm", "mixed_scores", "position", "top_score", "top")
"""What is measured of each row, in the order in which it is kept."""


class _Tile:
    """Some query rows of some heads: every view of the buffers that the work on them needs, made once.

    Args:
        rows: the queries; no key from `rows.stop` on is seen by any of them.
        n_key_heads: how many key heads the heads share.
        room: float32 [2, at least the tile's size], for scores and weights.
        patterns: float16 [n_heads, the tile's size of one head], where the weights wait to be counted.
        measured: float32 [len(_MEASURED), n_heads, n_tokens].
        wanted: query -> where its whole row goes, [n_heads, n_tokens].
    """

    def __init__(
        self,
        rows: slice,
        n_key_heads: int,
        room: torch.Tensor,
        patterns: torch.Tensor,
        measured: torch.Tensor,
        wanted: dict[int, torch.Tensor],
    ) -> None:
        start, end, n_heads = rows.start, rows.stop, len(patterns)
        n_rows = end - start
        self.rows = rows
        self.scores, self.weights = (part[: n_heads * n_rows * end].view(n_heads, n_rows, end) for part in room)
        # Heads that share a key head are rows of one product.
        by_key = n_key_heads, n_heads // n_key_heads * n_rows, end
        self.scores_by_key, self.weights_by_key = self.scores.view(by_key), self.weights.view(by_key)
        self.flat = self.weights.view(-1, end)
        self.corner = self.scores[:, :, rows]
        self.sink, self.diagonal = self.weights[:, :, 0], self.weights.diagonal(start, dim1=1, dim2=2)
        self.patterns = patterns.view(n_heads, n_rows, end)
        self.measured = {name: values[:, rows] for name, values in zip(_MEASURED, measured, strict=True)}
        before = self.weights.diagonal(start - 1, dim1=1, dim2=2)  # of query 0 there is none
        self.copies = [
            (self.measured["first"], self.sink),
            (self.measured["itself"], self.diagonal),
            (self.measured["previous"][:, max(0, 1 - start) :], before[:, :n_rows]),
            *((wanted[q][:, :end], self.weights[:, q - start]) for q in range(start, end) if q in wanted),
        ]


class _Bench:
    """One thread's buffers for some heads, cut into tiles; the same for all layers of a prompt."""

    def __init__(self, n_heads: int, n_key_heads: int, n_tokens: int) -> None:
        cuts = list(_cut_rows(n_heads, n_tokens))
        sizes = [(rows.stop - rows.start) * rows.stop for rows in cuts]
        room = torch.empty(2, n_heads * max(sizes))
        self.patterns = torch.empty(n_heads, min(sum(sizes), max(COUNT_AT // n_heads, *sizes)), dtype=torch.float16)
        self.measured = torch.zeros(len(_MEASURED), n_heads, n_tokens)
        queries = gini_queries(n_tokens)
        self.sorted = torch.zeros(n_heads, len(queries), n_tokens)
        wanted = {query: self.sorted[:, place] for place, query in enumerate(queries)}
        self.tiles: list[tuple[_Tile, int]] = []  # with how many patterns of a head have to be counted before
        waiting = 0
        for rows, size in zip(cuts, sizes, strict=True):
            full = waiting if waiting + size > self.patterns.shape[1] else 0
            waiting -= full
            patterns = self.patterns[:, waiting : waiting + size]
            self.tiles.append((_Tile(rows, n_key_heads, room, patterns, self.measured, wanted), full))
            waiting += size
        self.n_waiting = waiting
        self.n_counted = sum(sizes)


_benches = threading.local()


def _bench(n_heads: int, n_key_heads: int, n_tokens: int) -> _Bench:
    """Give this thread's buffers: fresh memory costs a page fault every 4 KB, and views a microsecond each."""
    key = n_heads, n_key_heads, n_tokens, TILE_WEIGHTS, TILE_ROWS
    known: dict[tuple[int, ...], _Bench] = _benches.__dict__.setdefault("known", {})
    if key not in known:
        if known and next(iter(known))[2] != n_tokens:
            known.clear()  # another prompt
        known[key] = _Bench(n_heads, n_key_heads, n_tokens)
    return known[key]


class _Layer:
    """The results of one layer under way; each unit of heads writes to its own places.

    Args:
        query, key, value, scaling, mask, tally, keep: as for `attend`.
    """

    def __init__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        mask: torch.Tensor | None,
        tally: LayerTally,
        keep: torch.Tensor | None,
    ) -> None:
        n_heads, n_tokens, _ = query.shape
        self._query, self._key, self._value, self._scaling = query, key, value, scaling
        self._mask, self._tally, self._keep = mask, tally, keep
        self._hidden = None if mask is None else ~mask
        self._group = n_heads // len(key)
        self._n_content = int(mask.tril(-1)[:, 1:].sum()) if mask is not None else (n_tokens - 1) * (n_tokens - 2) // 2
        self._places = torch.arange(n_tokens, dtype=torch.float32)
        self._triangle = torch.full((TILE_ROWS, TILE_ROWS), HIDDEN).triu(1)
        self.output = torch.empty(n_heads, n_tokens, value.shape[2])
        self._measured = torch.empty(len(_MEASURED), n_heads, n_tokens)
        self._sorted = torch.empty(n_heads, len(tally.sorted_queries), n_tokens)
        longest = [float(torch.linalg.vector_norm(each, dim=2).max()) for each in (query, key)]
        # No two scores of a row are further apart than this, so no weight is smaller than exp of it over n_tokens.
        self._may_underflow = not 2 * abs(scaling) * longest[0] * longest[1] + math.log(n_tokens) < UNDERFLOW

    def read_heads(self, heads: slice, stop: Callable[[], None]) -> None:
        """Read some heads tile by tile."""
        n_heads, n_tokens = heads.stop - heads.start, self._query.shape[1]
        keys = slice(heads.start // self._group, (heads.stop - 1) // self._group + 1)
        key, value = self._key[keys].transpose(1, 2), self._value[keys]
        query, output = self._query[heads], self.output[heads]
        bench = _bench(n_heads, len(value), n_tokens)
        received = torch.zeros(n_heads, n_tokens, dtype=torch.float64)
        n_positive = torch.zeros(n_heads, dtype=torch.float64)
        for tile, n_waiting in bench.tiles:
            stop()
            if n_waiting:
                self._count(heads, bench, n_waiting)
            rows, end = tile.rows, tile.rows.stop
            queries = query[:, rows].reshape(len(value), -1, query.shape[2])
            out = tile.scores_by_key
            torch.baddbmm(out, queries, key[:, :, :end], beta=0, alpha=self._scaling, out=out)
            if self._hidden is None:
                tile.corner.add_(self._triangle[: rows.stop - rows.start, : rows.stop - rows.start])
            else:
                tile.scores.masked_fill_(self._hidden[rows, :end], HIDDEN)
            torch.softmax(tile.scores, dim=2, out=tile.weights)
            output[:, rows] = torch.bmm(tile.weights_by_key, value[:, :end]).view(n_heads, -1, value.shape[2])
            if self._keep is not None:
                self._keep[heads, rows, :end] = tile.weights
            self._measure(tile)
            received[:, :end].add_(tile.weights.sum(dim=1))
            if self._may_underflow:
                # A row holds less than 2^24 keys, so a float32 counts them exactly.
                n_positive += torch.sum(torch.sign(tile.weights, out=tile.scores), dim=2).sum(dim=1)
        self._count(heads, bench, bench.n_waiting)
        self._take(heads, bench, received, n_positive)

    def _measure(self, tile: _Tile) -> None:
        """Measure a tile's rows, and leave the content in its weights; the scores are used up."""
        weights, scores, into = tile.weights, tile.scores, tile.measured
        torch.amax(scores, dim=2, out=into["top_score"])
        torch.amax(weights, dim=2, out=into["top"])
        for target, source in tile.copies:
            target.copy_(source)
        tile.sink.zero_()
        tile.diagonal.zero_()
        tile.patterns.copy_(weights)
        torch.sum(weights, dim=2, out=into["total"])
        torch.linalg.vector_norm(weights, dim=2, out=into["norm"])
        torch.sum(torch.mul(weights, scores, out=scores), dim=2, out=into["mixed_scores"])
        into["position"].copy_(torch.mv(tile.flat, self._places[: tile.rows.stop]).view(weights.shape[:2]))

    def _count(self, heads: slice, bench: _Bench, n_waiting: int) -> None:
        """Count the float16 weights that wait, by their bit patterns."""
        if not math.isfinite(float(bench.measured.sum())):  # not a number has a bit pattern of its own
            raise _not_finite()
        for head, patterns in enumerate(bench.patterns[:, :n_waiting].view(torch.int16), heads.start):
            self._tally.hits[head].add_(torch.bincount(patterns, minlength=N_BINS))

    def _take(self, heads: slice, bench: _Bench, received: torch.Tensor, n_positive: torch.Tensor) -> None:
        """Take the heads' results from the bench, which the next heads will use."""
        self._measured[:, heads] = bench.measured
        self._sorted[heads] = bench.sorted
        self._tally.received[heads] = received
        self._tally.hits[heads, 0] -= bench.n_counted - self._n_content
        if self._may_underflow:
            self._tally.zeros[heads] = self._n_content - n_positive.long()

    def hand_over(self) -> None:
        """Give the tally what was measured.

        Raises:
            UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
        """
        found = dict(zip(_MEASURED, self._measured, strict=True))
        n_tokens = self._query.shape[1]
        queries = torch.arange(n_tokens)
        itself = torch.where(queries > 0, found["itself"], 0.0)
        error = float((found["total"] + found["first"] + itself - 1).abs().max())
        if not math.isfinite(error):
            raise _not_finite()
        if error > 1e-4:
            raise UntrustedWeightsError(f"a query's weights sum to 1 within {error:.1g} only", "report this as a bug")
        mask, tally = self._mask, self._tally
        everything = torch.ones((), dtype=torch.bool).expand(1, n_tokens)
        tally.row_sum_error = max(tally.row_sum_error, error)
        tally.take_final(self._sorted[:, -1].clone(), everything if mask is None else mask[-1:])
        wanted = torch.tensor(tally.sorted_queries, dtype=torch.int64)
        seen = queries <= wanted[:, None] if mask is None else mask[wanted]
        ascending = self._sorted.numpy()
        ascending.sort(axis=-1)  # numpy sorts rows faster than torch
        tally.take_sorted(self._sorted, seen[None], wanted)
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


def _not_finite() -> UntrustedWeightsError:
    return UntrustedWeightsError(
        "the model gave attention weights that are not finite",
        "its parameters may be damaged, or overflow in this dtype: try --dtype float32",
    )
