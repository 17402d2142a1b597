"""Models whose attention does not go through the interface: hooks take each layer's eager weights, and drop them.

Eager attention gives its weights back when it is asked to. A hook on each attention module takes them in and hands the
model an output without them, so that no more than one layer's weights are ever in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from laminar_tui.model.attention import is_attention
from laminar_tui.model.eager import Chunk
from laminar_tui.model.tap import Receiver

HALF_TOLERANCE = 3e-2
"""How far rows of weights in float16 or bfloat16 may sum from 1: a bfloat16 is off by 2^-9 of its value at most."""


@contextmanager
def hooked(model: PreTrainedModel, receiver: Receiver) -> Iterator[None]:
    """Send what a model's attention modules give back to a receiver; the forward must ask for attentions."""

    def take(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        place = _weights_place(output)
        if place is None:
            return None
        weights = output[place]
        receiver.begin_layer(module)
        allowed = _allowed(module, args, kwargs, weights)
        tolerance = Chunk.tolerance if weights.dtype == torch.float32 else HALF_TOLERANCE
        receiver.receive(Chunk(weights.float(), allowed, 0, weights.shape[2], tolerance=tolerance))
        receiver.end_layer()
        kept = [None if index == place else each for index, each in enumerate(output)]
        return type(output)(*kept) if hasattr(output, "_fields") else type(output)(kept)

    handles = [
        module.register_forward_hook(take, with_kwargs=True) for module in model.modules() if is_attention(module)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _weights_place(output: Any) -> int | None:
    """Where in a module's output the weights [batch, n_heads, query, key] are."""
    if not isinstance(output, tuple | list):
        return None
    for index, each in enumerate(output):
        if index and isinstance(each, torch.Tensor) and each.ndim == 4 and each.shape[2] == each.shape[3]:
            return index
    return None


def _allowed(module: nn.Module, args: Any, kwargs: dict[str, Any], weights: torch.Tensor) -> torch.Tensor:
    """What a module lets through: the causal triangle, its mask, and a local window that it keeps in a buffer.

    Returns:
        bool [1 or batch, 1, query, key].
    """
    n = weights.shape[-1]
    allowed = torch.ones(1, 1, n, n, dtype=torch.bool, device=weights.device).tril()
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor) and value.ndim in (3, 4) and value.shape[-2:] == (n, n):
            mask = value if value.ndim == 4 else value[:, None]
            allowed = allowed & _mask_allows(mask)
    for name, buffer in module.named_buffers(recurse=False):
        if (
            buffer.dtype == torch.bool
            and buffer.ndim == 4
            and buffer.shape[-1] >= n
            and name in ("bias", "causal_mask")
        ):
            allowed = allowed & buffer[:, :, :n, :n]
    return allowed[:, :1]


def _mask_allows(mask: torch.Tensor) -> torch.Tensor:
    """Read a mask: large negative numbers hide; a boolean one hides where it is what it is in the future."""
    if mask.dtype != torch.bool:
        return mask > torch.finfo(mask.dtype).min / 2 if mask.is_floating_point() else mask != 0
    hides = mask[..., :1, -1:] if mask.shape[-1] > 1 else torch.zeros_like(mask)
    return mask != hides
