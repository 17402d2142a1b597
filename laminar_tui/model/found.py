"""What an accelerator found in a layer, on its way to the host: as few numbers as a profile keeps, and no waiting.

The sums over rows and keys are made where the rows are. What is left goes to memory that the device writes to by
itself, while the host goes on with the next layer; `Handover.finish` is the one place that waits.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from laminar_tui.model.copies import Copy
from laminar_tui.model.masks import Mask
from laminar_tui.model.tally import bit_patterns, has_float64, pack_runs
from laminar_tui.model.tiles import check_sums, not_finite
from laminar_tui.profile.counts import N_BINS, Counts, PackedCounts
from laminar_tui.profile.formulas import OF_ROWS, OF_SORTED, WholeRows, average_rows, mean_where, measure_sorted
from laminar_tui.profile.profile import LayerProfile
from laminar_tui.profile.statistics import STATISTICS, gini_queries

MEASURED = ("first", "itself", "previous", "total", "squares", "entropy", "position")
"""What is measured of each row, in the order in which it is kept; the last four are sums over the content."""
SINGLE = ("origin", "self", "sink", "final.self", "final.sink", "final.content")
"""The parts that have few weights a head: each is sorted instead of counted."""

_Part = tuple[torch.Tensor, torch.Tensor]
"""Weights [n_heads, n], and which of them are the part's, [1 or n_heads, n]."""


@dataclass(frozen=True, eq=False)
class Found:
    """What one layer's weights come to, on the device where they were made.

    Attributes:
        output: [n_heads, n_tokens, d], the weighted values.
        hits: int [n_heads, N_BINS], of the content; bin 0 holds anything, since it is what remains of a known number.
        n_positive: int [n_heads], how many content weights are at least `device.SMALLEST`.
        received: float [n_heads, n_tokens], the content weights that each key got.
        rows: float32 [len(MEASURED), n_heads, n_tokens].
        whole: float32 [n_heads, n, n_tokens], the rows of `gini_queries`, the last query's at the end.
    """

    output: torch.Tensor
    hits: torch.Tensor
    n_positive: torch.Tensor
    received: torch.Tensor
    rows: torch.Tensor
    whole: torch.Tensor


class Handover:
    """One layer on its way to the host.

    Args:
        found: what was found.
        mask: the layer's; None for plain causal.
        sums_within: how far the rows may sum from 1 for `found` to be taken.
        again: reads what the kernel read in tiles, if they are farther, and reduces it; it holds on to what the layer
            is made of.
        n_held: how many bytes it holds on to.
    """

    def __init__(
        self,
        found: Found,
        mask: Mask | None,
        *,
        sums_within: float = math.inf,
        again: Callable[[], dict[str, torch.Tensor]] | None = None,
        n_held: int = 0,
    ) -> None:
        self.n_held = n_held
        self._again, self._sums_within = again, sums_within
        self._copy = Copy(reduce_found(found, mask))

    def is_ready(self) -> bool:
        """Whether everything has come; asks without waiting."""
        return self._copy.is_ready()

    def finish(self) -> tuple[LayerProfile, float, bool]:
        """Give the layer, how far a row's sum is from 1 at most, and whether it is what the kernel found.

        Raises:
            UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
        """
        numbers = self._copy.wait()
        by_kernel = self._again is not None and bool(numbers["checks"][0] <= self._sums_within)
        if self._again is not None and not by_kernel:
            numbers = Copy(self._again()).wait()
        self._again, self.n_held = None, 0
        error, total = map(float, numbers["checks"])
        if not math.isfinite(total):
            raise not_finite()
        check_sums(error)
        return _make_layer(numbers), error, by_kernel


def row_sum_error(rows: torch.Tensor) -> torch.Tensor:
    """How far a row's weights are from 1 at most, from [len(MEASURED), n_heads, n_tokens]."""
    named = dict(zip(MEASURED, rows, strict=True))
    sums = named["total"] + named["first"]
    sums[:, 1:] += named["itself"][:, 1:]  # query 0's weight on itself is the one on the first key
    error: torch.Tensor = (sums - 1).abs().max()
    return error


def reduce_found(found: Found, mask: Mask | None) -> dict[str, torch.Tensor]:
    """Bring what was found down to what a profile keeps, where it is; nothing in here waits for the device.

    Returns:
        checks: [2], what `row_sum_error` says, and something that is finite if all is.
        statistics: float64 [len(OF_ROWS + OF_SORTED), n_heads].
        final, key_shares: float32 [n_heads, n_tokens].
        hits: [n_heads, N_BINS] of the content, bin 0 as it is.
        runs: int32, of every weight of the `SINGLE` parts its part, head and bin in one number, ascending; at the end
            what is no part's.
        zeros, total, total_sq: [1 + len(SINGLE), n_heads], the content first.
    """
    home = found.rows.device
    if not has_float64(home):
        home = torch.device("cpu")
    whole, hits = found.whole.to(home), found.hits.to(home)
    rows = _whole_rows(found.rows.to(home), mask)
    later = rows.queries > 0
    single = rows.sees_first.long() + rows.sees_itself.long()
    n_content = (rows.n_seen - single)[0, 1:].sum()
    hits[:, 0] = n_content - hits[:, 1:].sum(dim=1)
    received = found.received.to(home, torch.float64) + torch.where(rows.sees_itself & later, rows.itself, 0.0)
    received[:, 0] += torch.where(rows.sees_first, rows.first, 0.0).sum(dim=1)
    parts = _single_parts(rows, whole[:, -1], mask)
    kept = [torch.where(chosen, weights, 0.0).double() for weights, chosen in parts]
    n_zeros = [(chosen & (weights == 0)).sum(dim=1) for weights, chosen in parts]
    return {
        "checks": torch.stack([row_sum_error(found.rows), found.rows.sum()]),
        "statistics": torch.cat([average_rows(rows, torch), _average_few(whole, rows.n_seen[0], rows.sees_first[0])]),
        "final": whole[:, -1],
        "key_shares": (received / _ranks(whole)).float(),
        "hits": hits,
        "runs": _sort_single(parts),
        "zeros": torch.stack([n_content - found.n_positive.to(home), *n_zeros]),
        "total": torch.stack([rows.total.sum(dim=1), *(each.sum(dim=1) for each in kept)]),
        "total_sq": torch.stack([rows.squares.sum(dim=1), *(each.square().sum(dim=1) for each in kept)]),
    }


def _whole_rows(rows: torch.Tensor, mask: Mask | None) -> WholeRows:
    named = dict(zip(MEASURED, rows, strict=True))
    queries = torch.arange(rows.shape[2], device=rows.device)
    if mask is None:
        n_seen = queries + 1
        sees_first = sees_itself = torch.ones_like(queries, dtype=torch.bool)
    else:
        every = mask.n_seen, mask.seen[:, 0], mask.seen.diagonal()
        n_seen, sees_first, sees_itself = (each.to(rows.device) for each in every)
    return WholeRows(
        queries,
        n_seen[None],
        sees_first[None],
        sees_itself[None],
        named["first"],
        named["itself"],
        named["previous"],
        named["total"].double(),
        named["squares"].double(),
        named["entropy"].double(),
        named["position"].double() + queries * named["itself"].double(),
    )


def _single_parts(rows: WholeRows, final: torch.Tensor, mask: Mask | None) -> list[_Part]:
    """The parts in the order of `SINGLE`."""
    seen = torch.ones_like(final[:1], dtype=torch.bool) if mask is None else mask.seen[-1:].to(final.device)
    return [
        (rows.itself[:, :1], rows.sees_itself[:, :1]),
        (rows.itself[:, 1:], rows.sees_itself[:, 1:]),
        (rows.first[:, 1:], rows.sees_first[:, 1:]),
        (final[:, -1:], seen[:, -1:]),
        (final[:, :1], seen[:, :1]),
        (final[:, 1:-1], seen[:, 1:-1]),
    ]


def _sort_single(parts: list[_Part]) -> torch.Tensor:
    n_heads = len(parts[0][0])
    heads = torch.arange(n_heads, device=parts[0][0].device, dtype=torch.int32)[:, None]
    nobody = len(parts) * n_heads * N_BINS
    keys = [
        torch.where(chosen, (place * n_heads + heads) * N_BINS + bit_patterns(weights), nobody).flatten()
        for place, (weights, chosen) in enumerate(parts)
    ]
    return torch.cat(keys).sort().values


def _average_few(whole: torch.Tensor, n_seen: torch.Tensor, sees_first: torch.Tensor) -> torch.Tensor:
    """Every number of `OF_SORTED`, float64 [len(OF_SORTED), n_heads]; of all rows how many keys they see."""
    n_heads, _, n_tokens = whole.shape
    wanted = gini_queries_on(n_tokens, whole.device)
    seen = n_seen.index_select(0, wanted)
    rest = seen - sees_first.index_select(0, wanted).long()
    n_each = seen.expand(n_heads, -1), rest.expand(n_heads, -1)
    measured = measure_sorted(whole.sort(dim=-1).values, whole[:, :, 0], *n_each, _ranks(whole), torch)
    averages: torch.Tensor = mean_where(*measured, torch)
    return averages


def _ranks(rows: torch.Tensor) -> torch.Tensor:
    return torch.arange(rows.shape[-1], 0, -1, device=rows.device)


@lru_cache(maxsize=8)
def gini_queries_on(n_tokens: int, device: torch.device) -> torch.Tensor:
    """The queries whose rows are kept whole, int64 on a device; it is waited for once, not in every layer."""
    return torch.tensor(gini_queries(n_tokens), device=device)


def _make_layer(numbers: dict[str, NDArray[Any]]) -> LayerProfile:
    """Make a profile of what `reduce_found` gave; it holds nothing of the memory that the device writes to."""
    zeros, total, total_sq = (numbers[name].copy() for name in ("zeros", "total", "total_sq"))
    content = Counts(numbers["hits"], zeros[0], total[0], total_sq[0])
    runs = numbers["runs"]
    runs = runs[: np.searchsorted(runs, len(SINGLE) * len(numbers["hits"]) * N_BINS)]
    starts = np.flatnonzero(np.diff(runs, prepend=-1))
    single = pack_runs(SINGLE, runs[starts], np.diff(starts, append=len(runs)), zeros[1:], total[1:], total_sq[1:])
    found = dict(zip(OF_ROWS + OF_SORTED, numbers["statistics"].copy(), strict=True))
    return LayerProfile(
        parts={"content": PackedCounts.pack(content)} | single,
        statistics={name: found[name] for name in STATISTICS},
        final_weights=numbers["final"].copy(),
        key_shares=numbers["key_shares"].copy(),
    )
