"""A layer's weights by the model family's own eager attention function, in float32, on chunks of query rows.

This is the truth that everything else is held against: what the function returns is what the model goes on with.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from laminar_tui.errors import ModelError

CHUNK_WEIGHTS = 2**22
"""How many weights are looked at in one piece (16 MiB in float32); at least one query row of all heads."""

_CUT_WITH_ROWS = {"position_bias"}
"""Tensor keywords with one row a query, on the axis before the last."""
_WITHOUT_EFFECT = {"position_ids", "cache_position", "indices", "block_indices"}
"""Tensor keywords that no family's eager attention function reads; what an indexer selects goes into the mask."""

AttentionFunction = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]


@dataclass(frozen=True, eq=False)
class Chunk:
    """The weights of some query rows of one layer, as the model uses them.

    Attributes:
        weights: float32 [batch, n_heads, rows, n_keys].
        allowed: bool [1 or batch, 1 or n_heads, rows, n_keys], what the mask lets through.
        first_query: the position of the first row.
        n_queries: how many rows the layer has in all.
        off_sequence: whether some of a query's mass goes to no key (sink logits).
        tolerance: how far a row may sum from 1: float32 rounding over 32,768 keys stays near 1e-6; rows that were
            computed in half precision are held to their rounding.
    """

    weights: torch.Tensor
    allowed: torch.Tensor
    first_query: int
    n_queries: int
    off_sequence: bool = False
    tolerance: float = 1e-4


@dataclass(frozen=True, eq=False)
class Call:
    """What a layer's attention function was handed: everything that its weights are made of.

    Attributes:
        module: the attention module.
        query: [batch, n_heads, n_queries, d], after rotary embedding.
        key, value: [batch, n_kv_heads, n_keys, d].
        mask: added to the scores, or boolean; None where all keys are seen, or the past ones if `is_plain`.
        kwargs: the keywords, which differ by family.
        is_plain: whether the fast path does it: scaled products and a softmax, each head by itself.
    """

    module: nn.Module
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    kwargs: dict[str, Any]
    is_plain: bool = False


def own_attention_function(module: nn.Module) -> AttentionFunction:
    """Find the eager attention function that belongs to a family's attention class.

    Raises:
        ModelError: if the module that defines the class has none.
    """
    for base in type(module).__mro__:
        function = getattr(sys.modules.get(base.__module__), "eager_attention_forward", None)
        if function is not None:
            return function  # type: ignore[no-any-return]
    raise ModelError(
        f"{type(module).__name__} has no eager attention function of its own",
        "its weights cannot be read as the model computes them",
    )


def weigh(
    call: Call,
    first: int = 0,
    last: int | None = None,
    *,
    function: AttentionFunction | None = None,
    n_rows: int | None = None,
) -> Iterator[tuple[Chunk, torch.Tensor]]:
    """Give a layer's weights in pieces of whole query rows, each with the output that is made of it.

    Args:
        call: what the layer's attention function was handed.
        first, last: only the pieces with a query first <= q < last.
        function: what attends; the family's own eager function if left out.
        n_rows: query rows in a piece; as many as make `CHUNK_WEIGHTS` weights when left out.

    Raises:
        ModelError: if the family has no eager attention function, if it gives no weights, or if the model hands over
            a tensor that it does not read.
    """
    module, query, key, kwargs = call.module, call.query, call.key, call.kwargs
    function = function or own_attention_function(module)
    _refuse_unread(call, function)
    n_queries, n_keys = query.shape[2], key.shape[2]
    # Scores of bfloat16 models are a comb of 2,575 values, and those of float16 ones overflow: float32 throughout.
    query32, key32, value32 = query.float(), key.float(), call.value.float()
    seen_mask = _sparse(call.mask, kwargs.get("indices"), query, n_keys)
    for rows in _row_chunks(n_queries, n_rows or rows_in(CHUNK_WEIGHTS, call)):
        if rows.stop <= first or (last is not None and rows.start >= last):
            continue
        if call.is_plain and call.mask is None:
            allowed, mask = float32_mask(_triangle(rows, n_keys, query.device), slice(None), query, n_keys)
        elif kwargs.get("block_indices") is not None:
            allowed, mask = float32_mask(_in_blocks(call, rows), slice(None), query, n_keys)
        else:
            allowed, mask = float32_mask(seen_mask, rows, query, n_keys)
        extra = {name: _rows_of(name, each, rows) for name, each in kwargs.items()}
        output, weights = function(module, query32[:, :, rows], key32, value32, mask, **extra)
        if weights is None:
            raise ModelError(f"{type(module).__name__} gives no weights back", "its attention is no softmax over keys")
        off_sequence = weights.shape[-1] > n_keys or any(kwargs.get(name) is not None for name in ("s_aux", "sinks"))
        yield Chunk(weights[..., :n_keys], allowed, rows.start, n_queries, off_sequence), output


def attend_plainly(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    **_kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend as the fast path does, in the form of a family's eager function; as many key heads as query heads."""
    del module
    scores = query @ key.transpose(-1, -2) * scaling
    weights = (scores if attention_mask is None else scores + attention_mask).softmax(dim=-1)
    return (weights @ value).transpose(1, 2), weights


def rows_in(chunk_weights: int, call: Call) -> int:
    """How many query rows make about `chunk_weights` weights: at least one, and all where they cannot be cut."""
    n_queries = call.query.shape[2]
    return n_queries if uncut_keywords(call.kwargs) else min(n_queries, max(1, chunk_weights // weights_in_row(call)))


def weights_in_row(call: Call) -> int:
    """How many weights one query row of all heads and prompts holds."""
    return call.query.shape[0] * call.query.shape[1] * call.key.shape[2]


def _row_chunks(n_queries: int, n_rows: int) -> list[slice]:
    return [slice(start, min(start + n_rows, n_queries)) for start in range(0, n_queries, n_rows)]


def uncut_keywords(kwargs: dict[str, Any]) -> list[str]:
    """The tensor keywords that cannot be cut along with the query rows."""
    return [
        name
        for name, value in kwargs.items()
        if isinstance(value, torch.Tensor) and value.ndim > 1 and name not in _CUT_WITH_ROWS | _WITHOUT_EFFECT
    ]


def _refuse_unread(call: Call, function: AttentionFunction) -> None:
    """Refuse a tensor that the eager function does not know: under its own name a family may put it into the mask."""
    named = inspect.signature(function).parameters
    unread = [name for name in uncut_keywords(call.kwargs) if name not in named]
    if unread:
        raise ModelError(
            f"{type(call.module).__name__} hands '{unread[0]}' over, which its eager attention does not read",
            "what it does to the weights cannot be told, so they cannot be shown",
        )


def _rows_of(name: str, value: Any, rows: slice) -> Any:
    return value[..., rows, :] if name in _CUT_WITH_ROWS and isinstance(value, torch.Tensor) else value


def float32_mask(
    mask: torch.Tensor | None, rows: slice, query: torch.Tensor, n_keys: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Say what the mask lets through, and give the mask in float32.

    A float16 mask hides with -65,504, which a float32 score can fall below: what is hidden is hidden with float32's
    lowest number instead. A mask may also carry a bias of its own, which is kept.

    Returns:
        allowed, bool [1 or batch, 1 or n_heads, rows, n_keys], and the mask to add to the scores, or None.
    """
    if mask is None:
        return torch.ones(1, 1, rows.stop - rows.start, n_keys, dtype=torch.bool, device=query.device), None
    part = mask[:, :, rows if mask.shape[2] > 1 else slice(None), :n_keys]
    if part.dtype == torch.bool:
        allowed, bias = part, torch.zeros((), device=part.device)
    else:
        allowed, bias = part > torch.finfo(part.dtype).min / 2, part.float()
    return allowed, torch.where(allowed, bias, torch.finfo(torch.float32).min)


def _triangle(rows: slice, n_keys: int, device: torch.device) -> torch.Tensor:
    """Rows of the causal mask, bool [1, 1, rows, n_keys]."""
    queries, keys = torch.arange(rows.start, rows.stop, device=device), torch.arange(n_keys, device=device)
    return (keys[None, :] <= queries[:, None])[None, None]


def _sparse(
    mask: torch.Tensor | None, indices: torch.Tensor | None, query: torch.Tensor, n_keys: int
) -> torch.Tensor | None:
    """Hide the keys that an indexer did not select for a query (`indices` [batch, query, n_selected]).

    Under the names `eager` and `sdpa` such families put this into the mask themselves.
    """
    if indices is None or mask is None:
        return mask
    unselected = torch.ones(query.shape[0], query.shape[2], n_keys, dtype=torch.bool, device=query.device)
    unselected = unselected.scatter(-1, indices.long(), False)[:, None]
    if mask.dtype == torch.bool:
        return mask & ~unselected
    return mask.masked_fill(unselected, torch.finfo(mask.dtype).min)


def _in_blocks(call: Call, rows: slice) -> torch.Tensor:
    """Hide the blocks of keys that an indexer did not select, for some query rows, as its own method does.

    Returns:
        float32 [batch, n_heads, rows, n_keys], to be added to the scores.

    Raises:
        ModelError: if the module has no such method.
    """
    build = getattr(getattr(call.module, "indexer", None), "build_block_mask", None)
    if build is None:
        raise ModelError(
            f"{type(call.module).__name__} selects blocks of keys, but has no indexer that says which",
            "what its queries see cannot be told, so the weights cannot be shown",
        )
    query, n_keys, positions = call.query, call.key.shape[2], call.kwargs.get("position_ids")
    if positions is None:
        positions = torch.arange(n_keys - query.shape[2], n_keys, device=query.device)
    positions = (positions if positions.ndim > 1 else positions[None])[:, rows].expand(len(query), -1)
    mask = None if call.mask is None else call.mask[:, :, rows, :n_keys]
    blocks = call.kwargs["block_indices"][:, :, rows]
    seen: torch.Tensor = build(blocks, mask, n_keys, torch.float32, query.device, positions)
    return seen
