"""The fast path: plain softmax attention on a CPU, in tiles that stay in the cache, counted while they are there.

One pass does what attention has to do anyway (scores, softmax, weighted values) and counts each tile before it is
overwritten, so no pattern is ever in memory. Heads are shared out to threads. It is used only on a model on which
`tap.is_fast_path_equal` has seen it give what the family's own function gives.
"""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Barrier
from typing import Any

import torch

from laminar_tui.model import compiled, tiles
from laminar_tui.model.compiled import CompiledReading, checked_attend
from laminar_tui.model.tally import LayerTally
from laminar_tui.model.tiles import Inputs, NotFiniteError, Reading, TensorReading

AT_LEAST_TOKENS = 16
"""A shorter prompt does not show whether this path is the model's own, so it is never read by it: a window of a corpus
is read in the same way whatever was read before it."""

UNIT_WEIGHTS = 2**15
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
        stop: called before each tile or head; raises to stop.
        keep: float32 [n_heads, n_tokens, n_tokens], filled with the weights if given; for checks.

    Returns:
        float32 [n_tokens, n_heads, d].

    Raises:
        UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
    """
    reading = _begin(Inputs(query, key, value, scaling, mask, keep))
    units = iter(_share_out(reading.n_heads, reading.group, reading.n_tokens))

    def read() -> None:
        try:
            with torch.no_grad():
                for heads in units:  # whoever is free takes the next ones
                    reading.read(heads, stop)
        finally:
            list(units)  # after an error nobody goes on

    takes_part = isinstance(reading, CompiledReading)  # whose numbers do not depend on how a thread is set up
    try:
        with _one_thread_each() as (pool, n_threads):
            parts = [pool.submit(read) for _ in range(n_threads - takes_part)]
            try:
                if takes_part:  # the others take a while to wake up
                    read()
            finally:
                wait(parts)  # also after an error: they write to the same places
            for part in parts:
                part.result()
    except NotFiniteError:
        raise tiles.not_finite() from None
    reading.hand_over(tally)
    return reading.output.transpose(0, 1)


def _begin(inputs: Inputs) -> Reading:
    compiled_attend = checked_attend()
    if compiled_attend is None or not 2 <= inputs.query.shape[1] <= compiled.MOST_TOKENS:
        return TensorReading(inputs)
    return CompiledReading(compiled_attend, inputs)


@contextmanager
def _one_thread_each() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """A pool of threads, each of which computes alone and takes denormal numbers for zero.

    A weight below 1.2e-38 is 0 here; one product of denormal numbers takes as long as fifty others.
    """
    global _pool
    before = torch.get_num_threads()
    try:
        if _pool is None:
            _pool = _start_workers(os.cpu_count() or 1)
        torch.set_num_threads(1)
        yield _pool, before
    finally:
        torch.set_num_threads(before)


def _start_workers(n_workers: int) -> ThreadPoolExecutor:
    """Start all workers of a pool, which by itself starts one when there is work for it.

    Such a late one would set the number of threads of the process when it has been put back.
    """
    pool = ThreadPoolExecutor(n_workers, "tiles", _work_alone)
    together = Barrier(n_workers)
    try:
        wait([pool.submit(together.wait) for _ in range(n_workers)])
    finally:
        together.abort()  # where one could not be started, the others wait for it
    return pool


def _work_alone() -> None:
    """Let this thread compute alone: its products start no others, whatever the rest of the process does."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def _share_out(n_heads: int, group: int, n_tokens: int) -> list[slice]:
    """Cut the heads into units that are read together: short prompts fill a tile only with several heads.

    A unit lies within the heads that share a key head, or takes all of several such groups. It does not depend on the
    number of threads, so that the same products are made, and the same bits come out, with any number of them.
    """
    size = max(1, UNIT_WEIGHTS // (min(tiles.TILE_ROWS, n_tokens) * n_tokens))
    size = size // group * group if size >= group else math.gcd(size, group)
    return [slice(first, min(first + size, n_heads)) for first in range(0, n_heads, size)]
