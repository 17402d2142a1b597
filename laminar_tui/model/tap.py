"""The tap: an attention function of our own that sees every layer's query, key, value and mask.

It is registered under a name of its own for one forward pass, with the attention interface and with the mask interface
(without the second, most families hand over no mask). The weights come from the model family's *own* eager attention
function, run in float32 on chunks of query rows: what it returns is what the model goes on with.
"""

import inspect
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask, sdpa_mask
from transformers.utils import logging as transformers_logging

from laminar_tui.errors import MemoryNeededError, ModelError, UntrustedWeightsError
from laminar_tui.model import device, fast
from laminar_tui.model.memory import is_out_of_memory, release_unused
from laminar_tui.model.tally import LayerTally

CHUNK_WEIGHTS = 2**22
"""How many weights are looked at in one piece (16 MiB in float32); at least one query row of all heads."""

AttentionFunction = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]

_names = (f"laminar{number}" for number in itertools.count())


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
        """Comes after `begin_layer` and before the layer's rows; raising stops the forward."""


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
        chunk_weights: how many weights to look at in one piece, `CHUNK_WEIGHTS` when left out. Where memory runs out
            the piece is halved and the layer read again, if the receiver can begin it anew.

    Raises:
        ModelError: if the model's attention does not go through the attention interface.
        MemoryNeededError: if there is no memory even for one query row at a time.
    """
    return _registered(model, _attend_with(receiver, chunk_weights or CHUNK_WEIGHTS), eager_mask)


def tapped_fast(model: PreTrainedModel, receiver: Receiver) -> AbstractContextManager[None]:
    """The same by the fast path, for a model on which it `is_fast_path_equal`.

    Raises:
        NotPlainError: if the model calls attention in a way that the fast path does not do.
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


@contextmanager
def attention_implementation(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let a model attend in another way for a while.

    Raises:
        ModelError: if the model does not let its attention be set.
    """
    before = [(config, config._attn_implementation_internal) for config in _configs(model)]
    try:
        if model.config._attn_implementation != name:
            level = transformers_logging.get_verbosity()
            transformers_logging.set_verbosity_error()  # it warns of sub-configs without a model of their own
            try:
                model.set_attn_implementation(name)
            finally:
                transformers_logging.set_verbosity(level)
        if model.config._attn_implementation != name:
            raise ModelError(
                f"{model.config.model_type} does not let its attention function be exchanged",
                "load it with attn_implementation='eager'",
            )
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation


def _configs(model: PreTrainedModel) -> list[Any]:
    """All configs of a model and of the models within, each once."""
    found: dict[int, Any] = {}
    queue = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    while queue:
        config = queue.pop()
        if id(config) not in found:
            found[id(config)] = config
            queue += [sub for name in config.sub_configs if (sub := getattr(config, name, None)) is not None]
    return list(found.values())


@cache
def _class_uses_interface(kind: object) -> bool:
    try:
        return "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(kind)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return False


def uses_interface(module: nn.Module) -> bool:
    """Whether a module calls what is registered with the attention interface."""
    kind: object = type(module)
    return type(module).__module__.partition(".")[0] != "torch" and _class_uses_interface(kind)


def is_attention(module: nn.Module) -> bool:
    """Whether a module is an attention module: by its class's name, or because it calls the interface."""
    return "Attention" in type(module).__name__ or uses_interface(module)


class Visits:
    """How often each attention module of a model has been entered: one may be shared by layers, or loop."""

    def __init__(self, model: nn.Module) -> None:
        self._counts: dict[nn.Module, int] = {}
        self._handles = [
            module.register_forward_pre_hook(self._enter) for module in model.modules() if is_attention(module)
        ]

    def of(self, module: nn.Module) -> int:
        """How often a module has been entered."""
        return self._counts.get(module, 0)

    def entered(self) -> list[nn.Module]:
        """The modules that were entered."""
        return list(self._counts)

    def stop(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, _args: Any) -> None:
        self._counts[module] = self.of(module) + 1


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
        ModelError: if the family has no eager attention function, or it gives no weights.
    """
    module, query, key, kwargs = call.module, call.query, call.key, call.kwargs
    function = function or own_attention_function(module)
    n_queries, n_keys = query.shape[2], key.shape[2]
    # Scores of bfloat16 models are a comb of 2,575 values, and those of float16 ones overflow: float32 throughout.
    query32, key32, value32 = query.float(), key.float(), call.value.float()
    seen_mask = _sparse(call.mask, kwargs.get("indices"), query, n_keys)
    for rows in _row_chunks(n_queries, n_rows or _rows_in(CHUNK_WEIGHTS, call)):
        if rows.stop <= first or (last is not None and rows.start >= last):
            continue
        if call.is_plain and call.mask is None:
            allowed, mask = _float32_mask(_triangle(rows, n_keys, query.device), slice(None), query, n_keys)
        else:
            allowed, mask = _float32_mask(seen_mask, rows, query, n_keys)
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
        if isinstance(receiver, TakesCalls):
            receiver.take_call(call)
        tried: list[int] = []
        while True:
            n_rows = _rows_in(chunk, call)
            tried.append(n_rows)
            try:
                output = _hand_on(receiver, call, n_rows)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if not isinstance(receiver, Restarts):
                    raise _too_much(call, tried) from error
                has_room = receiver.let_go()
                if not has_room and (n_rows == 1 or _uncut(kwargs)):
                    raise _too_much(call, tried) from error
            # Out of the `except`: the error's frames held the tensors.
            receiver.restart_layer()
            release_unused(query.device)
            if not has_room:
                chunk = n_rows // 2 * _weights_in_row(call)
        receiver.end_layer()
        return output, None

    return attend


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
        _LESS,
    )


_LESS = "cut the prompt with --max-tokens, or take --dtype bfloat16, another --device or --device-map auto"


def _place_of(module: nn.Module) -> str:
    layer = getattr(module, "layer_idx", None)
    return f"in layer {layer}" if isinstance(layer, int) else f"in a {type(module).__name__}"


def _attend_fast_with(receiver: Receiver) -> AttentionFunction:
    def attend(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        if not _fits(module, query, key, attention_mask, kwargs):
            raise NotPlainError
        receiver.begin_layer(module)
        if isinstance(receiver, TakesCalls):
            receiver.take_call(Call(module, query, key, value, attention_mask, kwargs, is_plain=True))
        while True:
            tally = receiver.tally_for_tiles(query.shape[1])
            if tally is None:
                raise NotPlainError
            seen = None if attention_mask is None else attention_mask[0, 0]
            attend_in_tiles = _attend_in_tiles(query)
            q, k, v = query[0], key[0], value[0]
            try:
                output = attend_in_tiles(q, k, v, kwargs["scaling"], seen, tally, stop=receiver.stop_if_cancelled)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                # Its tiles are as large as the cache: there is nothing to halve, only what is kept to give up.
                if not (isinstance(receiver, Restarts) and receiver.let_go()):
                    raise _too_much_in_tiles(module, query) from error
            release_unused(query.device)
        receiver.end_layer()
        return output[None].to(query.dtype), None

    return attend


def _too_much_in_tiles(module: nn.Module, query: torch.Tensor) -> MemoryNeededError:
    _, n_heads, n_tokens, _ = query.shape
    return MemoryNeededError(
        f"out of memory {_place_of(module)}: no room to read {n_heads} heads on {n_tokens:,} tokens in tiles",
        _LESS,
    )


def _fits(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    kwargs: dict[str, Any],
) -> bool:
    """Whether a layer's call is what the fast path does, and on a device where it does it."""
    is_near = query.device.type in ("cpu", *device.DEVICES)
    return is_near and fast.fits(query, key, mask, kwargs) and _is_causal(module, mask)


def _attend_in_tiles(query: torch.Tensor) -> Callable[..., torch.Tensor]:
    """The fast path of the query's device."""
    if query.device.type != "cpu":
        return device.attend

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        return fast.attend(q.float(), k.float(), v.float(), *rest, **more)

    return attend


def _is_causal(module: nn.Module, mask: torch.Tensor | None) -> bool:
    """Whether no query sees a later key; without a mask it is for the module to say, as under SDPA."""
    if mask is None:
        return bool(getattr(module, "is_causal", True))
    return not bool(mask.triu(1).any())


def _attend_both_ways(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if not _fits(module, query, key, attention_mask, kwargs):
        raise NotPlainError
    n_heads, n_tokens = query.shape[1:3]
    q, k, v = query.float(), key.float(), value.float()
    seen = torch.ones(1, 1, n_tokens, n_tokens, dtype=torch.bool).tril() if attention_mask is None else attention_mask
    _, mask = _float32_mask(seen, slice(0, n_tokens), query, n_tokens)
    output, weights = own_attention_function(module)(module, q, k, v, mask, **kwargs)
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


FAST_TOLERANCE = 1e-5
"""How far weights, and outputs relative to the largest, may be apart: tiles are multiplied in another order."""


def _rows_in(chunk_weights: int, call: Call) -> int:
    """How many query rows make about `chunk_weights` weights: at least one, and all where they cannot be cut."""
    n_queries = call.query.shape[2]
    return n_queries if _uncut(call.kwargs) else min(n_queries, max(1, chunk_weights // _weights_in_row(call)))


def _row_chunks(n_queries: int, n_rows: int) -> list[slice]:
    return [slice(start, min(start + n_rows, n_queries)) for start in range(0, n_queries, n_rows)]


def _weights_in_row(call: Call) -> int:
    return call.query.shape[0] * call.query.shape[1] * call.key.shape[2]


def _uncut(kwargs: dict[str, Any]) -> list[str]:
    """The tensor keywords that cannot be cut along with the query rows."""
    return [
        name
        for name, value in kwargs.items()
        if isinstance(value, torch.Tensor) and value.ndim > 1 and name not in _CUT_WITH_ROWS | _WITHOUT_EFFECT
    ]


_CUT_WITH_ROWS = {"position_bias"}
"""Tensor keywords with one row a query, on the axis before the last."""
_WITHOUT_EFFECT = {"position_ids", "cache_position", "indices"}
"""Tensor keywords that no family's eager attention function reads."""


def _triangle(rows: slice, n_keys: int, device: torch.device) -> torch.Tensor:
    """Rows of the causal mask, bool [1, 1, rows, n_keys]."""
    queries, keys = torch.arange(rows.start, rows.stop, device=device), torch.arange(n_keys, device=device)
    return (keys[None, :] <= queries[:, None])[None, None]


def _rows_of(name: str, value: Any, rows: slice) -> Any:
    return value[..., rows, :] if name in _CUT_WITH_ROWS and isinstance(value, torch.Tensor) else value


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


def _float32_mask(
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
