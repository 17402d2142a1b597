"""A fused Triton kernel for `device`: weights are made in registers, counted, and never written to memory.

The output and each row's log-sum-exp come from torch's fused attention. A second pass forms every tile of scores again;
a weight is then exp(score - log-sum-exp), independent of all others. Its float16 pattern is added to the histogram with
an atomic in the second-level cache, where each head has several copies of its bins over which the programs are spread.
In int32 the 15,361 bins of a head take 61 KB, which large cards have as shared memory (163 KB on an A100, 227 KB on an
H100), but Triton has no additions to shared memory at computed places. What is hidden and what rounds to zero is not
counted but subtracted.

Imported only where Triton is. Run in Triton's interpreter and compiled for compute capability 8.0 and 9.0 so far, never
run on a GPU: neither is its speed known, nor whether the sizes below are good ones, and the products of bfloat16 and
torch's fused attention for CUDA are used there only. `device.is_kernel_equal` compares it with the tiles before it is
used.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn import functional as F

from laminar_tui.model.device import SMALLEST
from laminar_tui.model.found import MEASURED, Found, gini_queries_on
from laminar_tui.profile.counts import N_BINS

aten = torch.ops.aten
HAS_WINDOWS = "window_size_left" in str(aten._flash_attention_forward.default._schema)
"""Whether torch's fused attention for CUDA takes a sliding window."""
D_HEAD_AT_MOST = 128
BLOCK_ROWS = 64
BLOCK_KEYS = 32
WARPS = 4
STAGES = 2
"""The largest of the sizes that were compiled for compute capability 8.0 and 9.0 that spills no register there (224 to
231 of 255 are used, most of them for the atomics' addresses); 33 to 49 KB of shared memory, which every card has.
"""
COPIES_BYTES = 2**24
"""What the copies of the histograms may take: a good part of the second-level cache of a large card (40 to 50 MB)."""


def fits(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernel can read such a layer: half precision (the fused attention's), heads of 16 to 128, no others.

    Hits are 32-bit numbers, which half the square of 2^16 tokens just fits.
    """
    d_head = query.shape[2]
    return (
        query.dtype in (torch.float16, torch.bfloat16)
        and query.dtype == key.dtype == value.dtype
        and d_head == key.shape[2] == value.shape[2]
        and d_head % 8 == 0
        and 16 <= d_head <= D_HEAD_AT_MOST
        and query.shape[1] <= 2**16
    )


def find(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    mask: torch.Tensor | None,
    window: int | None,
) -> Found:
    """Read a layer; nothing in here waits for the device.

    Args:
        query: [n_heads, n_tokens, d], on a CUDA device (in Triton's interpreter on any).
        key, value: [n_kv_heads, n_tokens, d].
        scaling: what the scores are multiplied by.
        mask: bool [n_tokens, n_tokens], the sliding window as a mask; None for plain causal.
        window: how many keys a query sees at most, itself among them; None for plain causal.
    """
    query, key, value = _as_read(query), _as_read(key), _as_read(value)
    group = len(query) // len(key)
    # Keys and values are T x d: to repeat them for the heads that share one repeats nothing that is T x T.
    keys, values = (each.repeat_interleave(group, dim=0) if group > 1 else each for each in (key, value))
    with torch.cuda.device_of(query):
        if window is None:
            output, log_sum = _attend_fused(query, keys, values, scaling)
        elif query.is_cuda and HAS_WINDOWS:
            output, log_sum = attend_window(query, keys, values, scaling, window)
        else:
            log_sum = sum_rows(query, key, scaling, window)
            # The fused attention that takes a mask gives no log-sum-exp in a form to rely on. Asked to share key heads
            # itself, torch would take the one on CUDA that makes all scores.
            output = F.scaled_dot_product_attention(
                query[None], keys[None], values[None], attn_mask=mask, scale=scaling
            )[0]
        return _count(query, key, output, log_sum, scaling, window)


def _as_read(each: torch.Tensor) -> torch.Tensor:
    """Lay out queries, keys or values as kernels read them: dimensions side by side, a head's rows in 32-bit offsets.

    The rows of a view of fused projections are as far apart as the stream is wide, several times.
    """
    is_near = each.stride(1) * each.shape[1] < 2**31
    return each if each.stride(2) == 1 and is_near else each.contiguous()


def _attend_fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend causally by torch's fused attention: its output [n_heads, n_tokens, d] and log-sum-exp, float32."""
    if query.is_cuda:
        function = aten._scaled_dot_product_flash_attention
    else:  # beside the interpreter; in half precision this one rounds the scores, which a GPU's does not
        function = aten._scaled_dot_product_flash_attention_for_cpu
        query, key, value = query.float(), key.float(), value.float()
    output, log_sum = function(query[None], key[None], value[None], 0.0, True, scale=scaling)[:2]
    return output[0], log_sum[0].float().contiguous()


def attend_window(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same within a sliding window, without a mask; `HAS_WINDOWS` says where torch can."""
    n_tokens = query.shape[1]
    by_token = (each[None].transpose(1, 2) for each in (query, key, value))
    lengths = None, None, n_tokens, n_tokens
    sides = {"window_size_left": window - 1, "window_size_right": 0}
    output, log_sum = aten._flash_attention_forward(*by_token, *lengths, 0.0, True, False, scale=scaling, **sides)[:2]
    return output[0].transpose(0, 1), log_sum[0].float().contiguous()


def sum_rows(query: torch.Tensor, key: torch.Tensor, scaling: float, window: int | None) -> torch.Tensor:
    """Give each row's log-sum-exp, float32 [n_heads, n_tokens]. Arguments as for `find`."""
    n_heads, n_tokens, _ = query.shape
    log_sum = torch.empty(n_heads, n_tokens, device=query.device)
    grid = triton.cdiv(n_tokens, BLOCK_ROWS), n_heads
    _sum_rows[grid](query, key, log_sum, **_shape(query, key, scaling, window))
    return log_sum


def _count(
    query: torch.Tensor,
    key: torch.Tensor,
    output: torch.Tensor,
    log_sum: torch.Tensor,
    scaling: float,
    window: int | None,
) -> Found:
    n_heads, n_tokens, _ = query.shape
    home = query.device
    n_blocks = triton.cdiv(n_tokens, BLOCK_ROWS)
    n_copies = max(1, min(n_blocks, COPIES_BYTES // (4 * n_heads * N_BINS)))
    hits = torch.zeros(n_heads, n_copies, N_BINS, dtype=torch.int32, device=home)
    n_positive = torch.zeros(n_heads, dtype=torch.int32, device=home)
    received = torch.zeros(n_heads, n_tokens, dtype=torch.float64, device=home)
    rows = torch.empty(len(MEASURED), n_heads, n_tokens, device=home)
    _count_rows[n_blocks, n_heads](
        query,
        key,
        log_sum,
        hits,
        n_positive,
        received,
        rows,
        n_copies,
        **_shape(query, key, scaling, window),
        smallest=SMALLEST,
        n_bins=N_BINS,
    )
    whole = _make_rows(query, key, log_sum, scaling, window, gini_queries_on(n_tokens, home))
    return Found(output, hits.sum(dim=1, dtype=torch.int32), n_positive, received, rows, whole)


def _make_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    log_sum: torch.Tensor,
    scaling: float,
    window: int | None,
    chosen: torch.Tensor,
) -> torch.Tensor:
    """Make the whole rows of a few queries, int64 [n]: float32 [n_heads, n, n_tokens]."""
    n_heads, n_tokens, d_head = query.shape
    few = (query[:, chosen].float() * scaling).reshape(len(key), -1, d_head)
    scores = torch.bmm(few, key.float().transpose(1, 2)).view(n_heads, -1, n_tokens)
    distance = chosen[:, None] - torch.arange(n_tokens, device=query.device)
    hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return scores.sub_(log_sum[:, chosen, None]).exp_().masked_fill_(hidden, 0.0)


def _shape(query: torch.Tensor, key: torch.Tensor, scaling: float, window: int | None) -> dict[str, Any]:
    """What both kernels are told about a layer."""
    n_heads, n_tokens, d_head = query.shape
    return {
        "query_head": query.stride(0),
        "query_row": query.stride(1),
        "key_head": key.stride(0),
        "key_row": key.stride(1),
        "n_tokens": n_tokens,
        "scaling": scaling,
        "group": n_heads // len(key),
        "window": window or 0,
        "HAS_WINDOW": window is not None,
        "D_HEAD": d_head,
        "BLOCK_D": triton.next_power_of_2(d_head),
        "BLOCK_ROWS": BLOCK_ROWS,
        "BLOCK_KEYS": BLOCK_KEYS,
        # Triton's interpreter multiplies the bits of bfloat16 as if they were integers.
        "WIDEN": not query.is_cuda,
        "num_warps": WARPS,
        "num_stages": STAGES,
        "enable_fp_fusion": True,  # as Triton has it by default, which from 3.9 on it says
    }


@triton.jit
def _load(pointer, stride, places, n_tokens, D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr):
    """Load the rows at some places of one head, [places, BLOCK_D]; 0 outside of the tokens and the head."""
    dims = tl.arange(0, BLOCK_D)
    inside = (places >= 0)[:, None] & (places < n_tokens)[:, None] & (dims < D_HEAD)[None, :]
    return tl.load(pointer + places[:, None] * stride + dims[None, :], mask=inside, other=0.0)


@triton.jit
def _score(query, key, scaling, WIDEN: tl.constexpr):
    """The scores of some queries and keys, float32; products of half-precision numbers are exact in it."""
    if WIDEN:
        query = query.to(tl.float32)
        key = key.to(tl.float32)
    return tl.dot(query, tl.trans(key), input_precision="ieee") * scaling


@triton.jit
def _weigh(
    query, log_sum, keys_of_head, key_row, places, n_tokens, scaling, D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr
):
    """The weight of each query on one key of its own, float32 [places]."""
    key = _load(keys_of_head, key_row, places, n_tokens, D_HEAD, BLOCK_D).to(tl.float32)
    return tl.exp(tl.sum(query.to(tl.float32) * key, axis=1) * scaling - log_sum)


@triton.jit
def _weigh_single(
    query,
    log_sum,
    keys_of_head,
    key_row,
    queries,
    n_tokens,
    scaling,
    window,
    HAS_WINDOW: tl.constexpr,
    D_HEAD: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Each query's weights on the first key, on its own and on the one before, float32 [queries] each."""
    sink = _weigh(query, log_sum, keys_of_head, key_row, queries * 0, n_tokens, scaling, D_HEAD, BLOCK_D)
    itself = _weigh(query, log_sum, keys_of_head, key_row, queries, n_tokens, scaling, D_HEAD, BLOCK_D)
    previous = _weigh(query, log_sum, keys_of_head, key_row, queries - 1, n_tokens, scaling, D_HEAD, BLOCK_D)
    previous = tl.where(queries > 0, previous, 0.0)
    if HAS_WINDOW:
        previous = tl.where(window > 1, previous, 0.0)
        sink = tl.where(queries < window, sink, 0.0)
    return sink, itself, previous


@triton.jit
def _first_key(start, window, HAS_WINDOW: tl.constexpr, BLOCK_KEYS: tl.constexpr):
    """The start of the first block of keys of which the query `start` or a later one sees any."""
    first = start * 0
    if HAS_WINDOW:
        first = tl.maximum(start - window + 1, 0) // BLOCK_KEYS * BLOCK_KEYS
    return first


@triton.jit
def _sum_rows(
    query_pointer,
    key_pointer,
    log_sum_pointer,
    query_head,
    query_row,
    key_head,
    key_row,
    n_tokens,
    scaling,
    group,
    window,
    HAS_WINDOW: tl.constexpr,
    D_HEAD: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    WIDEN: tl.constexpr,
):
    start = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_ROWS  # the longest rows first
    head = tl.program_id(1).to(tl.int64)
    keys_of_head = key_pointer + head // group * key_head
    queries = start + tl.arange(0, BLOCK_ROWS)
    query = _load(query_pointer + head * query_head, query_row, queries, n_tokens, D_HEAD, BLOCK_D)
    top = tl.full([BLOCK_ROWS], -1e30, tl.float32)
    total = tl.zeros([BLOCK_ROWS], tl.float32)
    end = tl.minimum(start + BLOCK_ROWS, n_tokens)
    for first in range(_first_key(start, window, HAS_WINDOW, BLOCK_KEYS), end, BLOCK_KEYS):
        keys = first + tl.arange(0, BLOCK_KEYS)
        key = _load(keys_of_head, key_row, keys, n_tokens, D_HEAD, BLOCK_D)
        scores = _score(query, key, scaling, WIDEN)
        seen = keys[None, :] <= queries[:, None]
        if HAS_WINDOW:
            seen = seen & (queries[:, None] - keys[None, :] < window)
        scores = tl.where(seen, scores, -1e30)
        higher = tl.maximum(top, tl.max(scores, axis=1))
        # A row that has seen nothing yet sums ones of hidden keys; the first key that is seen multiplies them by 0.
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(scores - higher[:, None]), axis=1)
        top = higher
    tl.store(log_sum_pointer + head * n_tokens + queries, top + tl.log(total), mask=queries < n_tokens)


@triton.jit
def _count_rows(
    query_pointer,
    key_pointer,
    log_sum_pointer,
    hits_pointer,
    n_positive_pointer,
    received_pointer,
    rows_pointer,
    n_copies,
    query_head,
    query_row,
    key_head,
    key_row,
    n_tokens,
    scaling,
    group,
    window,
    HAS_WINDOW: tl.constexpr,
    D_HEAD: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    WIDEN: tl.constexpr,
    smallest: tl.constexpr,
    n_bins: tl.constexpr,
):
    block = tl.num_programs(0) - 1 - tl.program_id(0)  # the longest rows first
    start = block * BLOCK_ROWS
    head = tl.program_id(1).to(tl.int64)
    keys_of_head = key_pointer + head // group * key_head
    queries = start + tl.arange(0, BLOCK_ROWS)
    is_row = queries < n_tokens
    query = _load(query_pointer + head * query_head, query_row, queries, n_tokens, D_HEAD, BLOCK_D)
    log_sum = tl.load(log_sum_pointer + head * n_tokens + queries, mask=is_row, other=0.0)
    hits_of_copy = hits_pointer + (head * n_copies + block % n_copies) * n_bins
    total = tl.zeros([BLOCK_ROWS], tl.float32)
    squares = tl.zeros([BLOCK_ROWS], tl.float32)
    entropy = tl.zeros([BLOCK_ROWS], tl.float32)
    position = tl.zeros([BLOCK_ROWS], tl.float32)
    n_positive = tl.zeros([BLOCK_ROWS], tl.int32)
    end = tl.minimum(start + BLOCK_ROWS, n_tokens)
    for first in range(_first_key(start, window, HAS_WINDOW, BLOCK_KEYS), end, BLOCK_KEYS):
        keys = first + tl.arange(0, BLOCK_KEYS)
        key = _load(keys_of_head, key_row, keys, n_tokens, D_HEAD, BLOCK_D)
        scores = _score(query, key, scaling, WIDEN)
        is_content = is_row[:, None] & (keys[None, :] > 0) & (keys[None, :] < queries[:, None])
        if HAS_WINDOW:
            is_content = is_content & (queries[:, None] - keys[None, :] < window)
        logs = tl.where(is_content, scores - log_sum[:, None], -1e4)
        weights = tl.exp(logs)  # 0 for what is no content
        bins = weights.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32)
        # Bin 0 is what remains; what is not a number has a pattern beyond the bins and is found out by its row's sum.
        tl.atomic_add(hits_of_copy + bins, 1, mask=(bins > 0) & (bins < n_bins), sem="relaxed")
        tl.atomic_add(
            received_pointer + head * n_tokens + keys,
            tl.sum(weights, axis=0).to(tl.float64),
            mask=keys < n_tokens,
            sem="relaxed",
        )
        total += tl.sum(weights, axis=1)
        squares += tl.sum(weights * weights, axis=1)
        entropy -= tl.sum(weights * logs, axis=1)
        position += tl.sum(weights * keys.to(tl.float32)[None, :], axis=1)
        n_positive += tl.sum((weights >= smallest).to(tl.int32), axis=1)
    tl.atomic_add(n_positive_pointer + head, tl.sum(n_positive, axis=0), sem="relaxed")
    place = rows_pointer + head * n_tokens + queries  # in the order of MEASURED
    size = tl.num_programs(1).to(tl.int64) * n_tokens
    tl.store(place + 3 * size, total, mask=is_row)
    tl.store(place + 4 * size, squares, mask=is_row)
    tl.store(place + 5 * size, entropy, mask=is_row)
    tl.store(place + 6 * size, position, mask=is_row)
    sink, itself, previous = _weigh_single(
        query, log_sum, keys_of_head, key_row, queries, n_tokens, scaling, window, HAS_WINDOW, D_HEAD, BLOCK_D
    )
    tl.store(place, sink, mask=is_row)
    tl.store(place + size, itself, mask=is_row)
    tl.store(place + 2 * size, previous, mask=is_row)
