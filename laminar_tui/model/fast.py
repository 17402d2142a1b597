"""The fast path: plain softmax attention on a CPU, in tiles that stay in the cache, counted while they are there.

One pass does what attention has to do anyway (scores, softmax, weighted values) and counts each tile before it is
overwritten, so no pattern is ever in memory. Heads are shared out to threads. It is used only on a model on which
`tap.finds_fast_path_equal` has seen it give what the family's own function gives.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.model.tally import LayerTally, Rows, bit_patterns
from laminar_tui.profile.counts import N_BINS

AT_LEAST_TOKENS = 192
"""Below it, all heads at once through the family's own function take less time than a tile a head."""
TILE_WEIGHTS = 2**17
"""Weights of a tile: half a megabyte of scores and as much of weights, within the second-level cache of a core."""
MAX_ROWS = 256
HIDDEN = -1e30
"""The score of a key that is not seen: its weight is 0, and 0 times it is 0."""

_WITHOUT_EFFECT = {"position_ids", "cache_position"}

_pool: ThreadPoolExecutor | None = None


def fits(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, kwargs: dict[str, Any]) -> bool:
    """Whether a call of an attention function is plain enough: nothing but scaling, and a causal or a boolean mask."""
    plain_mask = mask is None or (mask.dtype == torch.bool and mask.shape[:2] == (1, 1))
    special = [
        name for name, given in kwargs.items() if name not in _PLAIN and given is not None and given is not False
    ]
    return (
        query.device.type == "cpu"
        and query.shape[0] == 1
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
        stop: called before each head; raises to stop.
        keep: float32 [n_heads, n_tokens, n_tokens], filled with the weights if given; for checks.

    Returns:
        float32 [n_tokens, n_heads, d].
    """
    n_heads, n_tokens, _ = query.shape
    group = n_heads // key.shape[0]
    work = _Work(n_heads, n_tokens, value.shape[-1], tally)
    places = torch.arange(n_tokens, dtype=torch.float32)
    # Two more columns beside the values: with them the product that makes the output also sums p and p k (k >= 1).
    extra = torch.stack([(places > 0).float(), places], dim=1)

    def read(head: int) -> None:
        stop()
        with torch.no_grad():
            values = torch.cat([value[head // group], extra], dim=1)
            work.read_head(head, query[head] * scaling, key[head // group].t().contiguous(), values, mask, keep)

    with _one_thread_each() as pool:
        for done in [pool.submit(read, head) for head in range(n_heads)]:
            done.result()
    work.hand_over(mask)
    return work.output


@contextmanager
def _one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """A pool of threads, each of which computes alone and takes denormal numbers for zero.

    A weight below 1.2e-38 is 0 here; one product of denormal numbers takes as long as fifty others.
    """
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count() or 1, "tiles", torch.set_flush_denormal, (True,))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield _pool
    finally:
        torch.set_num_threads(before)


class _Work:
    """The results of one layer under way; each head writes to its own places."""

    def __init__(self, n_heads: int, n_tokens: int, d_value: int, tally: LayerTally) -> None:
        self.output = torch.empty(n_tokens, n_heads, d_value)
        self._tally = tally
        self._first, self._itself, self._previous = (torch.zeros(n_heads, n_tokens) for _ in range(3))
        sums = (torch.zeros(n_heads, n_tokens, dtype=torch.float64) for _ in range(4))
        self._total, self._squares, self._entropy, self._position = sums
        self._final = torch.zeros(n_heads, n_tokens)
        self._wanted: list[int] = tally.sorted_queries.tolist()
        self._sorted = torch.zeros(n_heads, len(tally.sorted_queries), n_tokens)

    def read_head(
        self,
        head: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        keep: torch.Tensor | None,
    ) -> None:
        """Read one head tile by tile: query [n_tokens, d] scaled, key [d, n_tokens], value [n_tokens, d + 2]."""
        n_tokens = query.shape[0]
        room = torch.empty(2, TILE_WEIGHTS + MAX_ROWS * MAX_ROWS)
        triangle = torch.ones(MAX_ROWS, MAX_ROWS, dtype=torch.bool).triu(1)
        start = 0
        while start < n_tokens:
            n_rows = max(8, min(MAX_ROWS, TILE_WEIGHTS // (start + MAX_ROWS), n_tokens - start))
            n_rows = min(n_rows, n_tokens - start)
            end = start + n_rows  # no query of the tile sees a key from here on
            scores, weights = (part[: n_rows * end].view(n_rows, end) for part in _rooms(room, n_rows * end))
            torch.mm(query[start:end], key[:, :end], out=scores)
            if mask is None:
                scores[:, start:].masked_fill_(triangle[:n_rows, :n_rows], HIDDEN)
                n_hidden = n_rows * (n_rows - 1) // 2
            else:
                hidden = ~mask[start:end, :end]
                scores.masked_fill_(hidden, HIDDEN)
                n_hidden = int(hidden.sum())
            torch.softmax(scores, dim=1, out=weights)
            mixed = weights @ value[:end]
            self.output[start:end, head] = mixed[:, :-2]
            self._total[head, start:end], self._position[head, start:end] = mixed[:, -2], mixed[:, -1]
            if not torch.isfinite(mixed[:, -2]).all():
                raise _not_finite()
            self._count(head, weights, n_hidden)
            self._measure(head, weights, scores, start)
            if keep is not None:
                keep[head, start:end, :end] = weights
            start = end

    def _count(self, head: int, weights: torch.Tensor, n_hidden: int) -> None:
        tally = self._tally
        hits = torch.bincount(bit_patterns(weights).flatten(), minlength=N_BINS)
        hits[0] -= n_hidden
        if hits[0] > 0:
            tally.zeros[head] += int((weights == 0).sum()) - n_hidden
        tally.hits[head] += hits
        tally.received[head, : weights.shape[1]] += torch.mv(weights.t(), torch.ones(weights.shape[0]))

    def _measure(self, head: int, weights: torch.Tensor, scores: torch.Tensor, start: int) -> None:
        n_rows, end = weights.shape
        here = slice(start, end)
        self._first[head, here] = weights[:, 0]
        self._itself[head, here] = weights.diagonal(start)
        if start:
            self._previous[head, here] = weights.diagonal(start - 1)[:n_rows]
        else:
            self._previous[head, 1:end] = weights.diagonal(-1)  # query 0 has none
        others = weights[:, 1:]
        # -ln p = z - s with z the row's log-sum-exp, which the heaviest key tells: no logarithm of every weight. Two
        # numbers near 20 are subtracted, so an entropy is right to about 1e-5 nats.
        log_sum = scores.amax(dim=1).double() - weights.amax(dim=1).double().log()
        mixed_scores = torch.linalg.vecdot(others, scores[:, 1:]).double()
        self._entropy[head, here] = log_sum * self._total[head, here] - mixed_scores
        self._sum_without_the_diagonal(head, weights, start)
        for place, query in enumerate(self._wanted):
            if start <= query < end:
                self._sorted[head, place, :end] = weights[query - start]
        if end == self._final.shape[1]:
            self._final[head] = weights[-1]

    def _sum_without_the_diagonal(self, head: int, weights: torch.Tensor, start: int) -> None:
        """Sum p and p^2 over 1 <= k < q and add the query's own weight after: it is taken away again in float64, and
        what is left of a head that looks at itself or at the sink is small."""
        here = slice(start, start + len(weights))
        own = self._itself[head, here]
        diagonal, others = weights.diagonal(start), weights[:, 1:]
        diagonal.zero_()
        sees_itself = torch.where(torch.arange(start, here.stop) > 0, own, 0.0)
        self._total[head, here] = others.sum(dim=1).double() + sees_itself.double()
        self._squares[head, here] = torch.linalg.vecdot(others, others).double() + sees_itself.square().double()
        diagonal.copy_(own)

    def hand_over(self, mask: torch.Tensor | None) -> None:
        """Give the tally what was measured.

        Raises:
            UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
        """
        n_tokens = self._final.shape[1]
        queries = torch.arange(n_tokens)
        sums = self._total + self._first
        error = float((sums - 1).abs().max())
        if error > 1e-4:
            raise UntrustedWeightsError(f"a query's weights sum to 1 within {error:.1g} only", "report this as a bug")
        allowed = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril() if mask is None else mask
        seen = queries + 1 if mask is None else mask.sum(dim=1)
        tally = self._tally
        tally.row_sum_error = max(tally.row_sum_error, error)
        tally.take_sorted(self._sorted.sort(dim=-1).values, allowed[None, tally.sorted_queries], tally.sorted_queries)
        tally.take_final(self._final, allowed[None, -1])
        tally.take(
            Rows(
                queries,
                seen[None],
                allowed[None, :, 0],
                allowed.diagonal()[None],
                self._first,
                self._itself,
                self._previous,
                self._total,
                self._squares,
                self._entropy,
                self._position,
            )
        )


def _not_finite() -> UntrustedWeightsError:
    return UntrustedWeightsError(
        "the model gave attention weights that are not finite",
        "its parameters may be damaged, or overflow in this dtype: try --dtype float32",
    )


def _rooms(room: torch.Tensor, size: int) -> torch.Tensor:
    """The two buffers of a head, each large enough for a tile."""
    return room if room.shape[1] >= size else torch.empty(2, size)
