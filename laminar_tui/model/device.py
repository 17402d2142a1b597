"""The fast path on an accelerator: one pass over plain attention, all heads at once, in tiles of query rows.

The same as `fast` does on a CPU, in torch operations that every device has: what a layer's weights come to stays on the
device until the layer is done, and goes to the host at once. Where `kernel` can do it and was seen to find the same,
that is used instead and no weight is ever written to memory.

Run on CPUs only so far; on CUDA and MPS it has not been run.
"""

import importlib.util
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.model.tally import LayerTally, Rows, bit_patterns
from laminar_tui.model.tiles import HIDDEN
from laminar_tui.profile.counts import N_BINS
from laminar_tui.profile.statistics import gini_queries

DEVICES = ("cuda", "mps")
"""Kinds of devices that are read this way; another one is left to the tap."""
TILE_WEIGHTS = 2**25
"""Weights of a tile at most: 1 GB at `WEIGHT_BYTES`, and more of them waste more scores beyond the diagonal."""
FEW_WEIGHTS = 2**18
"""Weights of a tile at least (but one row): below it, starting the operations takes longer than doing them."""
WEIGHT_BYTES = 32
"""Memory that one weight of a tile needs while it is looked at: score, weight, float16, int64 index, temporaries."""
SHARE_OF_FREE = 0.25
"""How much of the free memory a tile may take: the model's own activations need room, too."""
SMALLEST = torch.finfo(torch.float32).tiny
"""Below it weights are zeros, as on a CPU: whether denormal numbers are kept depends on the device and its compiler."""
KERNEL_SUMS_WITHIN = 2e-5
"""How far the kernel's rows may sum from 1. It subtracts a log-sum-exp that float32 rounds: where that is some
hundreds, its weights are not right to 2e-5 of themselves, and the tiles, which subtract the largest score, do it again.
"""
MEASURED = ("first", "itself", "previous", "total", "squares", "entropy", "position")
"""What is measured of each row, in the order in which it is kept; the last four are sums over the content."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Found:
    """What one layer's weights come to, on the device where they were made.

    Attributes:
        output: [n_heads, n_tokens, d], the weighted values.
        hits: int [n_heads, N_BINS], of the content; bin 0 holds anything, since it is what remains of a known number.
        n_positive: int [n_heads], how many content weights are at least `SMALLEST`.
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
    """Attend, and count every weight on the way: what `fast.attend` does, with the same arguments but for these.

    Args:
        query, key, value: of any floating dtype.
        tally: on the host, or wherever else float64 exists.
        stop: called before each tile, or once where the kernel reads.
        keep: filled from tiles, never by the kernel.

    Returns:
        [n_tokens, n_heads, d], float32 from tiles, the query's dtype from the kernel.

    Raises:
        UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
    """
    stop()
    found = None if keep is not None else _find_by_kernel(query, key, value, scaling, mask)
    if found is None or not row_sum_error(found.rows) <= KERNEL_SUMS_WITHIN:
        found = find_in_tiles(query, key, value, scaling, mask, stop=stop, keep=keep)
    hand_over(found, mask, tally)
    return found.output.transpose(0, 1)


def find_in_tiles(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    mask: torch.Tensor | None,
    *,
    stop: Callable[[], None] = lambda: None,
    keep: torch.Tensor | None = None,
) -> Found:
    """Read a layer tile by tile; nothing in here waits for the device. Arguments as for `attend`."""
    n_heads, n_tokens, _ = query.shape
    home = query.device
    scaled = query.float() * scaling
    keys, values = key.float().transpose(1, 2), value.float()
    cuts = list(_cut_rows(n_heads, n_tokens, _tile_weights(home)))
    n_rows = cuts[0].stop
    triangle = torch.ones(n_rows, n_rows, dtype=torch.bool, device=home).triu(1)
    chosen = gini_queries(n_tokens)
    found = _Gathering(n_heads, n_tokens, value.shape[2], len(chosen), home)
    for rows in cuts:
        stop()
        scores = _multiply(scaled[:, rows], keys[:, :, : rows.stop])  # [n_heads, rows, keys]
        if mask is None:
            size = rows.stop - rows.start
            scores[:, :, rows].masked_fill_(triangle[:size, :size], HIDDEN)
        else:
            scores.masked_fill_(~mask[rows, : rows.stop], HIDDEN)
        weights = torch.softmax(scores, dim=2)
        del scores
        found.output[:, rows] = _multiply(weights, values[:, : rows.stop])
        if keep is not None:
            keep[:, rows, : rows.stop] = weights
        for place, position in enumerate(chosen):
            if rows.start <= position < rows.stop:
                found.whole[:, place, : rows.stop] = weights[:, position - rows.start]
        found.add(weights, rows)
    return Found(found.output, found.hits, found.n_positive, found.received, found.rows, found.whole)


def _multiply(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply [n_heads, rows, n] by [n_kv_heads, n, m]: heads that share a key head are rows of one product."""
    n_heads, n_rows, _ = left.shape
    return torch.bmm(left.reshape(len(right), -1, left.shape[2]), right).view(n_heads, n_rows, -1)


def _tile_weights(device: torch.device) -> int:
    """How many weights a tile may have."""
    if device.type != "cuda":
        return TILE_WEIGHTS // 8
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(FEW_WEIGHTS, min(TILE_WEIGHTS, int(free * SHARE_OF_FREE) // WEIGHT_BYTES))


def _cut_rows(n_heads: int, n_tokens: int, n_weights: int) -> Iterator[slice]:
    """Cut the query rows into tiles of all heads."""
    size = max(1, n_weights // (n_heads * n_tokens))
    for start in range(0, n_tokens, size):
        yield slice(start, min(start + size, n_tokens))


class _Gathering:
    """A layer's results under way, as in `Found`."""

    def __init__(self, n_heads: int, n_tokens: int, d_head: int, n_chosen: int, device: torch.device) -> None:
        # A float32 sum of some thousand tiles is right to 1e-6; MPS has no float64.
        wide = torch.float32 if device.type == "mps" else torch.float64
        narrow = torch.int32 if n_tokens <= 2**16 else torch.int64  # a head has half the square of weights
        self.output = torch.empty(n_heads, n_tokens, d_head, device=device)
        self.hits = torch.zeros(n_heads, N_BINS, dtype=narrow, device=device)
        self.n_positive = torch.zeros(n_heads, dtype=torch.int64, device=device)
        self.received = torch.zeros(n_heads, n_tokens, dtype=wide, device=device)
        self.rows = torch.zeros(len(MEASURED), n_heads, n_tokens, device=device)
        self.whole = torch.zeros(n_heads, n_chosen, n_tokens, device=device)
        self._places = torch.arange(n_tokens, dtype=torch.float32, device=device)
        self._first_bins = torch.arange(n_heads, device=device)[:, None, None] * N_BINS
        self._one = torch.ones((), dtype=narrow, device=device)

    def add(self, weights: torch.Tensor, rows: slice) -> None:
        """Measure and count some rows of weights [n_heads, rows, keys], of which the content is left."""
        end = rows.stop
        into = {name: each[:, rows] for name, each in zip(MEASURED, self.rows, strict=True)}
        sink, diagonal = weights[:, :, 0], weights.diagonal(rows.start, dim1=1, dim2=2)
        into["first"].copy_(sink)
        into["itself"].copy_(diagonal)
        # Query 0 has no previous key.
        into["previous"][:, max(0, 1 - rows.start) :].copy_(weights.diagonal(rows.start - 1, dim1=1, dim2=2))
        sink.zero_()
        diagonal.zero_()
        self._count(weights)
        into["total"].copy_(weights.sum(dim=2))
        into["squares"].copy_(torch.linalg.vector_norm(weights, dim=2).square_())
        into["position"].copy_(torch.mv(weights.view(-1, end), self._places[:end]).view(into["position"].shape))
        self.received[:, :end] += weights.sum(dim=1)
        self.n_positive += (weights >= SMALLEST).sum(dim=(1, 2))
        into["entropy"].copy_(torch.special.entr(weights).sum(dim=2))

    def _count(self, weights: torch.Tensor) -> None:
        """Count the weights by their float16 patterns.

        `bincount` would ask the host twice, for the smallest and the largest pattern. What is not a number has patterns
        beyond the bins, which no index may be; the layer is refused at its end.
        """
        places = bit_patterns(weights).clamp_(0, N_BINS - 1) + self._first_bins  # int64
        self.hits.view(-1).scatter_add_(0, places.view(-1), self._one.expand(places.numel()))


def hand_over(found: Found, mask: torch.Tensor | None, tally: LayerTally) -> None:
    """Give the tally what was found; here the host waits for the device.

    Raises:
        UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
    """
    on_host = found.rows.cpu()
    rows = dict(zip(MEASURED, on_host, strict=True))
    n_tokens = on_host.shape[2]
    queries = torch.arange(n_tokens, device=on_host.device)
    error = row_sum_error(on_host)
    if not (math.isfinite(error) and bool(torch.isfinite(on_host.sum()))):
        raise UntrustedWeightsError(
            "the model gave attention weights that are not finite",
            "its parameters may be damaged, or overflow in this dtype: try float32 (--dtype)",
        )
    if error > 1e-4:
        raise UntrustedWeightsError(f"a query's weights sum to 1 within {error:.1g} only", "report this as a bug")
    n_seen, sees_first, sees_itself = _see(mask, n_tokens)
    single = sees_first.long() + sees_itself.long()
    n_content = int((n_seen - single)[1:].sum())
    home = tally.hits.device
    hits = found.hits.to(home, torch.int64)
    hits[:, 0] = n_content - hits[:, 1:].sum(dim=1)
    tally.hits += hits
    tally.zeros += n_content - found.n_positive.to(home)
    tally.received += found.received.to(home)
    tally.row_sum_error = max(tally.row_sum_error, error)
    _hand_over_whole(found.whole, mask, tally)
    tally.take(
        Rows(
            queries,
            n_seen[None],
            sees_first[None],
            sees_itself[None],
            rows["first"],
            rows["itself"],
            rows["previous"],
            rows["total"],
            rows["squares"],
            rows["entropy"],
            rows["position"].double() + queries * rows["itself"].double(),
        )
    )


def row_sum_error(rows: torch.Tensor) -> float:
    """How far a row's weights are from 1 at most, from [len(MEASURED), n_heads, n_tokens]; asks the device."""
    named = dict(zip(MEASURED, rows, strict=True))
    sums = named["total"] + named["first"]
    sums[:, 1:] += named["itself"][:, 1:]  # query 0's weight on itself is the one on the first key
    return float((sums - 1).abs().max())


def _hand_over_whole(whole: torch.Tensor, mask: torch.Tensor | None, tally: LayerTally) -> None:
    """Give the tally the rows that are kept whole, sorted, and the last of them as it is."""
    n_tokens = whole.shape[2]
    if whole.device.type == "mps":  # no float64
        whole = whole.cpu()
    wanted = torch.tensor(gini_queries(n_tokens), device=whole.device)
    keys = torch.arange(n_tokens, device=whole.device)
    seen = keys <= wanted[:, None] if mask is None else mask.to(whole.device)[wanted]
    tally.take_final(whole[:, -1], seen[-1:])
    tally.take_sorted(whole.sort(dim=-1).values, whole[:, :, 0], seen[None])


def _see(mask: torch.Tensor | None, n_tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Say of each query how many keys it sees, and whether the first and itself are among them, on the host."""
    if mask is None:
        every = torch.ones(n_tokens, dtype=torch.bool, device="cpu")
        return torch.arange(1, n_tokens + 1, device="cpu"), every, every
    n_seen, first, itself = torch.stack([mask.sum(dim=1), mask[:, 0].long(), mask.diagonal().long()]).cpu()
    return n_seen, first.bool(), itself.bool()


# -- the kernel, where it can be used --------------------------------------------------------------------------------


def _find_by_kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, mask: torch.Tensor | None
) -> Found | None:
    """Read a layer by the kernel; None where there is none, it does not fit, or it finds something else than tiles."""
    if not is_kernel_at_hand(query.device):
        return None
    from laminar_tui.model import kernel

    if not kernel.fits(query, key, value):
        return None
    window = None if mask is None else find_window(mask)
    if mask is not None and window is None:
        return None
    group = len(query) // len(key)
    if not is_kernel_equal(query.device, query.dtype, query.shape[2], group, window is not None):
        return None
    return kernel.find(query, key, value, scaling, mask, window)


def is_kernel_at_hand(device: torch.device) -> bool:
    """Whether there is a Triton for the device; LAMINAR_NO_TRITON=1 says no."""
    off = os.environ.get("LAMINAR_NO_TRITON") == "1"
    return device.type == "cuda" and not off and importlib.util.find_spec("triton") is not None


def find_window(mask: torch.Tensor) -> int | None:
    """Give the width of the sliding window that a causal mask is, or None if it is anything else.

    Args:
        mask: bool [n_tokens, n_tokens].
    """
    n_tokens = len(mask)
    places = torch.arange(n_tokens, device=mask.device)
    width = mask[-1].sum()
    is_band = torch.ones((), dtype=torch.bool, device=mask.device)
    for start in range(0, n_tokens, 1024):
        distance = places[start : start + 1024, None] - places
        is_band &= (mask[start : start + 1024] == ((distance >= 0) & (distance < width))).all()
    found = int(torch.where(is_band, width, 0))
    return found or None


@cache
def is_kernel_equal(device: torch.device, dtype: torch.dtype, d_head: int, group: int, has_window: bool) -> bool:
    """Say whether the kernel finds in random queries and keys what the tiles find; done once for a kind of layer."""
    from laminar_tui.model import kernel

    n_tokens, width = 300, 77
    generator = torch.Generator().manual_seed(0)
    sizes = (2 * group, 2, 2)
    query, key, value = (torch.randn(n, n_tokens, d_head, generator=generator).to(device, dtype) for n in sizes)
    ones = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=device)
    mask = ones.tril().triu(1 - width) if has_window else None
    scaling = 2 * d_head**-0.5
    expected = find_in_tiles(query, key, value, scaling, mask)
    try:
        found = kernel.find(query, key, value, scaling, mask, width if has_window else None)
        difference = tell_difference(found, expected)
    except Exception as error:  # a compiler and a driver have more errors than can be named; the tiles do it, too
        difference = f"{type(error).__name__}: {error}"
    if difference:
        _log.warning("the kernel is not used for %s, %d dimensions a head: %s", dtype, d_head, difference)
    return not difference


def tell_difference(found: Found, expected: Found) -> str:
    """Say in what two readings of the same layer differ by more than rounding; "" if in nothing.

    The exponential and the row's sum are right to about 1e-6, so a weight falls into the bin beside its own (1/2048
    away) once in some hundred. The output is that of the fused attention, in the query's own precision.
    """
    cumulative = [each.hits[:, 1:].flip(1).cumsum(1) for each in (found, expected)]
    moved = (cumulative[0] - cumulative[1]).abs().max()
    scale = expected.output.abs().max()
    half = found.output.dtype != torch.float32
    apart = {
        "counts": (float(moved), 3 + 1e-4 * expected.rows.shape[2] ** 2),
        "zeros": (float((found.n_positive - expected.n_positive).abs().max()), 2),
        "received": (float((found.received - expected.received).abs().max()), 1e-4),
        "whole rows": (float((found.whole - expected.whole).abs().max()), 1e-5),
        "output": (float((found.output - expected.output).abs().max() / scale), 0.02 if half else 1e-5),
    }
    for name, one, other in zip(MEASURED, found.rows, expected.rows, strict=True):
        allowed = 1e-5 * (expected.rows.shape[2] if name == "position" else 10 if name == "entropy" else 1)
        apart[name] = float((one - other).abs().max()), allowed
    return ", ".join(f"{name} by {value:.2g}" for name, (value, allowed) in apart.items() if not value <= allowed)
