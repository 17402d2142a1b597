"""The tap: an attention function of our own that sees every layer's query, key, value and mask.

It is registered under a name of its own for one forward pass, with the attention interface and with the mask interface
(without the second, most families hand over no mask). The weights come from the model family's own function (`eager`),
or, on a model on which that gives the same, from the fast path (`fast` on a CPU, `device` on a GPU).
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask, sdpa_mask

from laminar_tui.errors import MemoryNeededError, ModelError, UntrustedWeightsError
from laminar_tui.model import device, eager, fast
from laminar_tui.model.attention import attention_implementation, uses_interface
from laminar_tui.model.device import NoRoomForTilesError
from laminar_tui.model.eager import (
    AttentionFunction,
    Call,
    Chunk,
    float32_mask,
    rows_in,
    uncut_keywords,
    weigh,
    weights_in_row,
)
from laminar_tui.model.masks import Masks
from laminar_tui.model.memory import NEED_LESS, is_out_of_memory, release_unused
from laminar_tui.model.tally import LayerTally

FAST_TOLERANCE = 1e-5
"""How far weights, and outputs relative to the largest, may be apart: tiles are multiplied in another order."""

_names = (f"laminar{number}" for number in itertools.count())


class Receiver(Protocol):
    """What takes the weights in, layer by layer, in the order of the model's calls."""

    def begin_layer(self, module: nn.Module) -> None:
        """A module's attention begins."""

    def stop_if_cancelled(self) -> None:
        """Raise if the capture is to stop."""

    def receive(self, chunk: Chunk) -> None:
        """Take some query rows in; all rows of a layer come in order. Raising stops the forward."""

    def tally_for_tiles(self, n_heads: int) -> LayerTally | None:
        """What the fast path is to count the layer into; None if this receiver wants the rows themselves."""

    def end_layer(self) -> None:
        """The layer's last row was received."""


@runtime_checkable
class Restarts(Protocol):
    """A receiver that can begin a layer anew: without it, running out of memory ends the forward."""

    def restart_layer(self) -> None:
        """Forget the rows of the layer that has begun: all of them come again."""

    def let_go(self) -> bool:
        """Give up memory that is only held for later; whether there was any."""


@runtime_checkable
class TakesCalls(Protocol):
    """A receiver that also wants what each attention function was handed."""

    def take_call(self, call: Call) -> None:
        """Comes after `begin_layer` and before the layer's rows, and again when they do; raising stops the forward."""


class Ignore:
    """Takes the weights in and forgets them."""

    def begin_layer(self, module: nn.Module) -> None:
        """Nothing to begin."""

    def stop_if_cancelled(self) -> None:
        """Nothing stops it."""

    def receive(self, chunk: Chunk) -> None:
        """Nothing to take."""

    def tally_for_tiles(self, n_heads: int) -> None:
        """Nothing to count into."""

    def end_layer(self) -> None:
        """Nothing to end."""


class NotPlainError(Exception):
    """A call of an attention function that the fast path does not do, or not equally."""


def tapped(
    model: PreTrainedModel, receiver: Receiver, chunk_weights: int | None = None
) -> AbstractContextManager[None]:
    """Send every attention of a model to a receiver; registry and config are put back, whatever happens.

    Args:
        chunk_weights: how many weights to look at in one piece, `eager.CHUNK_WEIGHTS` when left out. Where memory runs
            out the piece is halved and the layer read again, if the receiver can begin it anew.

    Raises:
        ModelError: if the model's attention does not go through the attention interface.
        MemoryNeededError: if there is no memory even for one query row at a time.
    """
    return _registered(model, _attend_with(receiver, chunk_weights or eager.CHUNK_WEIGHTS), eager_mask)


def tapped_fast(model: PreTrainedModel, receiver: Receiver) -> AbstractContextManager[None]:
    """The same by the fast path, for a model on which it `is_fast_path_equal`.

    Raises:
        NotPlainError: if the model calls attention in a way that the fast path does not do.
        MemoryNeededError: if there is no memory for it; `NoRoomForTilesError` where tiles were made smaller in vain.
    """
    return _registered(model, _attend_fast_with(receiver), sdpa_mask)


def is_fast_path_equal(model: PreTrainedModel, run: Callable[[], object]) -> bool:
    """Run a model on a few tokens, every layer both ways, and say whether the fast path gives the same weights.

    Args:
        model: as for `tapped`.
        run: runs its forward pass on the tokens.
    """
    if not any(uses_interface(module) for module in model.modules()):
        return False
    try:
        with _registered(model, _attend_both_ways, sdpa_mask):
            run()
    except (NotPlainError, ModelError, UntrustedWeightsError):
        return False
    return True


@contextmanager
def _registered(model: PreTrainedModel, attend: AttentionFunction, mask: Callable[..., Any]) -> Iterator[None]:
    name = next(_names)
    AttentionInterface.register(name, attend)
    # `sdpa_mask` gives None for plain causal, so that no T x T mask is made where none is needed.
    AttentionMaskInterface.register(name, mask)
    try:
        with attention_implementation(model, name):
            yield
    finally:
        AttentionInterface._global_mapping.pop(name, None)
        AttentionMaskInterface._global_mapping.pop(name, None)


def _attend_with(receiver: Receiver, chunk_weights: int) -> AttentionFunction:
    chunk = chunk_weights  # what was too much for one layer is too much for the next: it stays halved

    def attend(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        nonlocal chunk
        receiver.begin_layer(module)
        call = Call(module, query, key, value, attention_mask, kwargs)
        tried: list[int] = []
        while True:
            n_rows = rows_in(chunk, call)
            tried.append(n_rows)
            try:
                _hand_call_on(receiver, call)
                output = _hand_on(receiver, call, n_rows)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if not isinstance(receiver, Restarts):
                    raise _too_much(call, tried) from error
                has_room = receiver.let_go()
                if not has_room and (n_rows == 1 or uncut_keywords(kwargs)):
                    raise _too_much(call, tried) from error
            # Out of the `except`: the error's frames held the tensors.
            receiver.restart_layer()
            release_unused(query.device)
            if not has_room:
                chunk = n_rows // 2 * weights_in_row(call)
        receiver.end_layer()
        return output, None

    return attend


def _hand_call_on(receiver: Receiver, call: Call) -> None:
    if isinstance(receiver, TakesCalls):
        receiver.take_call(call)


def _hand_on(receiver: Receiver, call: Call, n_rows: int) -> torch.Tensor:
    """Hand a layer's weights to a receiver, `n_rows` query rows at a time; [batch, n_queries, n_heads, d]."""
    outputs = []
    for chunk, output in weigh(call, n_rows=n_rows):
        receiver.receive(chunk)
        outputs.append(output)
    return torch.cat(outputs, dim=1).to(call.query.dtype)


def _too_much(call: Call, tried: list[int]) -> MemoryNeededError:
    tries = ", ".join(f"{n_rows:,}" for n_rows in dict.fromkeys(tried))
    n_heads, n_keys = call.query.shape[1], call.key.shape[2]
    return MemoryNeededError(
        f"out of memory {_place_of(call.module)}: no room for {n_heads} heads x {n_keys:,} keys "
        f"at {tries} query rows at a time",
        NEED_LESS,
    )


def _place_of(module: nn.Module) -> str:
    layer = getattr(module, "layer_idx", None)
    return f"in layer {layer}" if isinstance(layer, int) else f"in a {type(module).__name__}"


def _attend_fast_with(receiver: Receiver) -> AttentionFunction:
    masks = Masks()
    most_weights = device.TILE_WEIGHTS  # what was too much for one layer is too much for the next: it stays halved

    def attend(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        nonlocal most_weights
        if not _fits(module, query, key, attention_mask, kwargs, masks):
            raise NotPlainError
        receiver.begin_layer(module)
        call = Call(module, query, key, value, attention_mask, kwargs, is_plain=True)
        while True:
            tally = receiver.tally_for_tiles(query.shape[1])
            if tally is None:
                raise NotPlainError
            seen = None if attention_mask is None else attention_mask[0, 0]
            attend_in_tiles = _attend_in_tiles(query)
            layer = query[0], key[0], value[0], kwargs["scaling"], seen, tally
            try:
                _hand_call_on(receiver, call)
                output = attend_in_tiles(
                    *layer, stop=receiver.stop_if_cancelled, masks=masks, most_weights=most_weights
                )
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                has_room = isinstance(receiver, Restarts) and receiver.let_go()
                if not has_room and attend_in_tiles is not device.attend:
                    # Its tiles are as large as the cache: there is nothing to halve, only what is kept to give up.
                    raise MemoryNeededError(*device.say_no_room(_place_of(module), query)) from error
                if not has_room and most_weights <= device.FEW_WEIGHTS:
                    raise NoRoomForTilesError(*device.say_no_room(_place_of(module), query)) from error
            release_unused(query.device)
            if not has_room:
                most_weights = device.halve_tiles(most_weights, query.device)
        receiver.end_layer()
        return output[None].to(query.dtype), None

    return attend


def _fits(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    kwargs: dict[str, Any],
    masks: Masks,
) -> bool:
    """Whether a layer's call is what the fast path does, and on a device where it does it."""
    is_near = query.device.type in ("cpu", *device.DEVICES)
    return is_near and fast.fits(query, key, mask, kwargs) and _is_causal(module, mask, masks)


def _attend_in_tiles(query: torch.Tensor) -> Callable[..., torch.Tensor]:
    """The fast path of the query's device."""
    if query.device.type != "cpu":
        return device.attend

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        for name in ("masks", "most_weights"):  # of an accelerator
            more.pop(name, None)
        return fast.attend(q.float(), k.float(), v.float(), *rest, **more)

    return attend


def _is_causal(module: nn.Module, mask: torch.Tensor | None, masks: Masks) -> bool:
    """Whether no query sees a later key; without a mask it is for the module to say, as under SDPA."""
    looked_at = masks.look_at(None if mask is None else mask[0, 0])
    return bool(getattr(module, "is_causal", True)) if looked_at is None else looked_at.is_causal


def _attend_both_ways(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if not _fits(module, query, key, attention_mask, kwargs, Masks()):
        raise NotPlainError
    n_heads, n_tokens = query.shape[1:3]
    q, k, v = query.float(), key.float(), value.float()
    seen = attention_mask
    if seen is None:
        seen = torch.ones(1, 1, n_tokens, n_tokens, dtype=torch.bool, device=query.device).tril()
    _, mask = float32_mask(seen, slice(0, n_tokens), query, n_tokens)
    output, weights = eager.own_attention_function(module)(module, q, k, v, mask, **kwargs)
    kept = torch.zeros(n_heads, n_tokens, n_tokens, device=query.device)
    tally = LayerTally(n_heads, n_tokens, torch.device("cpu"))
    tiled = _attend_in_tiles(query)(q[0], k[0], v[0], kwargs["scaling"], seen[0, 0], tally, keep=kept)
    if weights is None or weights.shape[1:] != kept.shape:
        raise NotPlainError
    off = max(
        (weights[0] - kept).abs().max().item(), (output[0] - tiled).abs().max().item() / output.abs().max().item()
    )
    if not off <= FAST_TOLERANCE:
        raise NotPlainError
    return output.to(query.dtype), None
