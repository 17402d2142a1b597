"""The fast path on an accelerator: one pass over plain attention, all heads at once, in tiles of query rows.

The same as `fast` does on a CPU, in torch operations that every device has: what a layer's weights come to stays on the
device until the layer is done, and goes to the host at once. Where `kernel` can do it and was seen to find the same,
that is used instead and no weight is ever written to memory.

Run on CPUs only so far; on CUDA and MPS it has not been run.
"""

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import torch

from laminar_tui.errors import MemoryNeededError
from laminar_tui.model.copies import arrives_later
from laminar_tui.model.found import MEASURED, Found, Handover, reduce_found
from laminar_tui.model.masks import Mask, Masks
from laminar_tui.model.memory import NEED_LESS, is_out_of_memory, release_unused
from laminar_tui.model.tally import LayerTally, bit_patterns, has_float64
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

PROBES = ((300, 77, False), (304, 80, True))
"""Tokens, window, and whether query, key and value are views of one projection, of the layers that the kernel is seen
on: it is compiled anew for sizes that 16 divides.
"""

_log = logging.getLogger(__name__)


class NoRoomForTilesError(MemoryNeededError):
    """A device has no room for the smallest tiles; the tap may do with less."""


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
    masks: Masks | None = None,
    most_weights: int = TILE_WEIGHTS,
) -> torch.Tensor:
    """Attend, and count every weight on the way: what `fast.attend` does, with the same arguments but for these.

    Nothing in here waits for a CUDA device, but for the first look at a mask and at a kind of layer.

    Args:
        query, key, value: of any floating dtype.
        tally: what the layer is sent to; its own counts stay empty.
        stop: called before each tile, or once where the kernel reads.
        keep: filled from tiles, never by the kernel.
        masks: those of the forward, so that each is looked at once.
        most_weights: of a tile.

    Returns:
        [n_tokens, n_heads, d], float32 from tiles, the query's dtype from the kernel.

    Raises:
        UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
    """
    stop()
    looked_at = (masks or Masks()).look_at(mask)
    found = None if keep is not None else _find_by_kernel(query, key, value, scaling, looked_at)
    if found is None:
        found = find_in_tiles(query, key, value, scaling, mask, stop=stop, keep=keep, most_weights=most_weights)
        hand_over(found, looked_at, tally)
    else:
        again = partial(reduce_in_smaller_tiles, query, key, value, scaling, looked_at, most_weights)
        hand_over(found, looked_at, tally, again=again, n_held=_bytes_held(query, key, value))
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
    most_weights: int = TILE_WEIGHTS,
) -> Found:
    """Read a layer tile by tile; nothing in here waits for the device. Arguments as for `attend`."""
    n_heads, n_tokens, _ = query.shape
    home = query.device
    scaled = query.float() * scaling
    keys, values = key.float().transpose(1, 2), value.float()
    cuts = list(_cut_rows(n_heads, n_tokens, min(most_weights, tile_weights(home))))
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


def _bytes_held(*tensors: torch.Tensor) -> int:
    """The memory that tensors keep: a view of fused projections keeps all of them, and several views keep it once."""
    storages = [each.untyped_storage() for each in tensors]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


def reduce_in_smaller_tiles(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, mask: Mask | None, most_weights: int
) -> dict[str, torch.Tensor]:
    """Read a layer in tiles that are halved until there is room for them, and reduce what was found.

    Raises:
        NoRoomForTilesError: if there is none for the smallest.
    """
    seen = None if mask is None else mask.seen
    while True:
        try:
            return reduce_found(find_in_tiles(query, key, value, scaling, seen, most_weights=most_weights), mask)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if most_weights <= FEW_WEIGHTS:
                raise NoRoomForTilesError(*say_no_room("after a layer was read by the kernel", query)) from error
        # Out of the `except`: the error's frames held the tensors.
        release_unused(query.device)
        most_weights = halve_tiles(most_weights, query.device)


def halve_tiles(most_weights: int, device: torch.device) -> int:
    """How many weights a tile may have after it had room for fewer than these."""
    return max(FEW_WEIGHTS, min(most_weights, tile_weights(device)) // 2)


def say_no_room(place: str, query: torch.Tensor) -> tuple[str, str]:
    """Message and hint where there is no room for the tiles of a layer, of which this is the query [.., T, d]."""
    n_heads, n_tokens, _ = query.shape[-3:]
    return f"out of memory {place}: no room to read {n_heads} heads on {n_tokens:,} tokens in tiles", NEED_LESS


def _multiply(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply [n_heads, rows, n] by [n_kv_heads, n, m]: heads that share a key head are rows of one product."""
    n_heads, n_rows, _ = left.shape
    return torch.bmm(left.reshape(len(right), -1, left.shape[2]), right).view(n_heads, n_rows, -1)


def tile_weights(device: torch.device) -> int:
    """How many weights a tile may have, from the memory that is free now."""
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
        wide = torch.float64 if has_float64(device) else torch.float32
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


def hand_over(
    found: Found,
    mask: Mask | None,
    tally: LayerTally,
    *,
    again: Callable[[], dict[str, torch.Tensor]] | None = None,
    n_held: int = 0,
) -> None:
    """Send a tally what was found. From CUDA it arrives later: `tally.finish` waits for it, and raises then.

    Args:
        again: reads the layer in tiles, for what the kernel found, and reduces it; it holds `n_held` bytes.

    Raises:
        UntrustedWeightsError: if a row's weights are not finite or do not sum to 1.
    """
    tally.arriving = Handover(found, mask, sums_within=KERNEL_SUMS_WITHIN, again=again, n_held=n_held)
    if not arrives_later(found.rows.device):
        tally.finish()


# -- the kernel, where it can be used --------------------------------------------------------------------------------


def _find_by_kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, mask: Mask | None
) -> Found | None:
    """Read a layer by the kernel; None where there is none, it does not fit, or it finds something else than tiles."""
    if not is_kernel_at_hand(query.device):
        return None
    from laminar_tui.model import kernel

    if not kernel.fits(query, key, value):
        return None
    if mask is not None and mask.window is None:
        return None
    kind = query.device, query.dtype, query.shape[2], len(query) // len(key), mask is not None
    if kind in _given_up or not is_kernel_equal(*kind):
        return None
    seen, window = (None, None) if mask is None else (mask.seen, mask.window)
    try:
        return kernel.find(query, key, value, scaling, seen, window)
    except Exception as error:  # a compiler and a driver have more errors than can be named; the tiles do it, too
        if is_out_of_memory(error):
            raise
        _given_up.add(kind)
        _log.warning("the kernel is given up for %s, %d dimensions a head: %r", query.dtype, query.shape[2], error)
        return None


_given_up: set[tuple[torch.device, torch.dtype, int, int, bool]] = set()
"""The kinds of layers on which the kernel failed at some length, though not when it was compared."""


def is_kernel_at_hand(device: torch.device) -> bool:
    """Whether there is a Triton for the device; LAMINAR_NO_TRITON=1 says no."""
    off = os.environ.get("LAMINAR_NO_TRITON") == "1"
    return device.type == "cuda" and not off and importlib.util.find_spec("triton") is not None


@cache
def is_kernel_equal(device: torch.device, dtype: torch.dtype, d_head: int, group: int, has_window: bool) -> bool:
    """Say whether the kernel finds in random queries and keys what the tiles find; done once for a kind of layer."""
    difference = ""
    for n_tokens, width, is_fused in PROBES:
        layer = _draw_layer(n_tokens, d_head, group, is_fused=is_fused, device=device, dtype=dtype)
        difference = difference or _compare_kernel(layer, width if has_window else None)
    if difference:
        _log.warning("the kernel is not used for %s, %d dimensions a head: %s", dtype, d_head, difference)
    return not difference


def _compare_kernel(layer: Sequence[torch.Tensor], window: int | None) -> str:
    """Say in what the kernel differs from the tiles on a query, key and value; "" if in nothing."""
    from laminar_tui.model import kernel

    query, key, value = layer
    _, n_tokens, d_head = query.shape
    ones = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=query.device)
    mask = None if window is None else ones.tril().triu(1 - window)
    scaling = 2 * d_head**-0.5
    expected = find_in_tiles(query, key, value, scaling, mask)
    try:
        return tell_difference(kernel.find(query, key, value, scaling, mask, window), expected)
    except Exception as error:  # see `_find_by_kernel`
        if is_out_of_memory(error):
            raise
        return f"{type(error).__name__}: {error}"


def _draw_layer(
    n_tokens: int, d_head: int, group: int, *, is_fused: bool, device: torch.device, dtype: torch.dtype
) -> Sequence[torch.Tensor]:
    """Draw query, key and value of two key heads, [n_heads, n_tokens, d_head]; of a fused projection they are views."""
    sizes = [2 * group, 2, 2]
    generator = torch.Generator().manual_seed(n_tokens)
    if is_fused:
        fused = torch.randn(n_tokens, sum(sizes), d_head, generator=generator, device="cpu").to(device, dtype)
        return torch.split(fused.transpose(0, 1), sizes)
    drawn = (torch.randn(n, n_tokens, d_head, generator=generator, device="cpu") for n in sizes)
    return [each.to(device, dtype) for each in drawn]


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
