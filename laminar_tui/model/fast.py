"""The fast path: plain softmax attention on a CPU, in tiles that stay in the cache, counted while they are there.

One pass does what attention has to do anyway (scores, softmax, weighted values) and counts each tile before it is
overwritten, so no pattern is ever in memory. Heads are shared out to threads. It is used only on a model on which
`tap.is_fast_path_equal` has seen it give what the family's own function gives.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.model import tiles
from laminar_tui.model.tally import LayerTally, Rows
from laminar_tui.model.tiles import MEASURED, Bench, NativeBench, NotFiniteError, TensorBench

AT_LEAST_TOKENS = 16
"""A shorter prompt does not show whether this path is the model's own, so it is never read by it: a window of a corpus
is read in the same way whatever was read before it."""

UNIT_WEIGHTS = 2**16
"""Weights in the widest tile of heads that are read together: fewer leave a thread waiting for the interpreter, more
leave the last thread to work alone."""

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
    units = iter(_share_out(query.shape[0], query.shape[0] // key.shape[0], query.shape[1]))

    def read() -> None:
        try:
            with torch.no_grad():
                for heads in units:  # whoever is free takes the next ones
                    layer.read_heads(heads, stop)
        finally:
            list(units)  # after an error nobody goes on

    with _one_thread_each() as (pool, n_threads):
        parts = [pool.submit(read) for _ in range(n_threads)]
        wait(parts)  # also after an error: the other threads write to the same places
        try:
            for part in parts:
                part.result()
        except NotFiniteError:
            raise _not_finite() from None
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
    size = UNIT_WEIGHTS // (min(tiles.TILE_ROWS, n_tokens) * n_tokens)
    size = max(1, size // group * group if size >= group else math.gcd(size, group))
    return [slice(first, min(first + size, n_heads)) for first in range(0, n_heads, size)]


_benches = threading.local()


def _bench(n_heads: int, n_key_heads: int, n_tokens: int) -> Bench:
    """Give this thread's workplace for so many heads; that of another prompt is thrown away."""
    library = tiles.checked_library()
    key = library is None, n_heads, n_key_heads, n_tokens, tiles.TILE_WEIGHTS, tiles.TILE_ROWS
    known: dict[tuple[int, ...], Bench] = _benches.__dict__.setdefault("known", {})
    if key not in known:
        if known and next(iter(known.values())).n_tokens != n_tokens:
            known.clear()
        sizes = n_heads, n_key_heads, n_tokens
        known[key] = TensorBench(*sizes) if library is None else NativeBench(library, *sizes)
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
        self._mask, self._tally, self._keep = None if mask is None else mask.contiguous(), tally, keep
        self._group = n_heads // len(key)
        self._n_content = int(mask.tril(-1)[:, 1:].sum()) if mask is not None else (n_tokens - 1) * (n_tokens - 2) // 2
        self.output = torch.empty(n_heads, n_tokens, value.shape[2])
        self._measured = torch.empty(len(MEASURED), n_heads, n_tokens)
        self._sorted = torch.empty(n_heads, len(tally.sorted_queries), n_tokens)

    def read_heads(self, heads: slice, stop: Callable[[], None]) -> None:
        """Read some heads tile by tile."""
        keys = slice(heads.start // self._group, (heads.stop - 1) // self._group + 1)
        key, value = self._key[keys].transpose(1, 2), self._value[keys]
        query, output = self._query[heads], self.output[heads]
        bench = _bench(len(query), len(value), query.shape[1])
        bench.clear()
        for tile in bench.tiles:
            stop()
            rows, end = tile.rows, tile.rows.stop
            queries = query[:, rows].reshape(len(value), -1, query.shape[2])
            # Each product by itself: those of a batch wait for one another, also in other threads.
            for at, scores in enumerate(tile.scores_by_key):
                torch.addmm(scores, queries[at], key[at, :, :end], beta=0, alpha=self._scaling, out=scores)
            bench.weigh(tile, self._mask)
            for at, weights in enumerate(tile.weights_by_key):
                mixed = torch.mm(weights, value[at, :end])
                own = output[at * self._group : (at + 1) * self._group, rows]
                own.copy_(mixed.view(own.shape))
            if self._keep is not None:
                self._keep[heads, rows, :end] = tile.weights
            bench.measure(tile)
        self._take(heads, bench)

    def _take(self, heads: slice, bench: Bench) -> None:
        """Take the heads' results from the bench, which the next heads will use."""
        self._measured[:, heads] = bench.measured
        self._sorted[heads] = bench.sorted
        self._tally.received[heads] = bench.received
        bench.count_into(self._tally.hits[heads])
        self._tally.hits[heads, 0] -= bench.n_counted - self._n_content
        self._tally.zeros[heads] = self._n_content - bench.positive

    def hand_over(self) -> None:
        """Give the tally what was measured.

        Raises:
            UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
        """
        found = dict(zip(MEASURED, self._measured, strict=True))
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
