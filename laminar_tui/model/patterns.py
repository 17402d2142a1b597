"""Exact weights of any head of a finished run, made again from what the attention functions were handed.

A query and a key take `n_tokens * d` numbers where a pattern takes `n_tokens * n_tokens`: they are kept during a
capture, up to a bound, and the family's own function makes the weights of a layer from them, piece by piece, when
someone asks. For a layer that is not kept the forward is run once more and stopped there.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from laminar_tui.errors import CancelledError, UntrustedWeightsError, UsageError
from laminar_tui.model.eager import Call, Chunk, attend_plainly, weigh
from laminar_tui.model.tally import LayerTally
from laminar_tui.model.tap import Receiver
from laminar_tui.profile.parts import SinkChoice
from laminar_tui.profile.patterns import (
    DEFAULT_LIMIT,
    Entries,
    IsCancelled,
    check_pattern_size,
    check_rows,
    merge_entries,
    population_queries,
    select_entries,
)
from laminar_tui.profile.profile import Profile

KEEP_BYTES = 512 * 2**20
"""What is kept at most: SmolLM2-135M at 2,048 tokens takes 189 MB; of Pythia-2.8B, 42 MB a layer, 12 layers fit."""


@dataclass(frozen=True, eq=False)
class Again:
    """How a finished run is read once more.

    Attributes:
        profile: what the run gave, with the tokens of the first prompt.
        n_prompts: how many prompts it was; the first one is looked at.
        calls: which layer each attention of the forward was, in their order; None for one that repeats another.
        read: runs the forward on the first prompt and sends its weights to a receiver.
        evaluating: leaves dropout and gradients out.
    """

    profile: Profile
    n_prompts: int
    calls: Sequence[int | None]
    read: Callable[[Receiver], None]
    evaluating: Callable[[], AbstractContextManager[None]]


class KeptPatterns:
    """A `PatternSource` over one run: empty until it is given to `capture(..., keep=...)`.

    Of a batch or a padded prompt nothing is kept: its first prompt is run again, alone. The same goes for a control,
    and for a model that is read by hooks. Questions are asked from one thread at a time, and not while the model runs.

    Args:
        keep_bytes: how much of queries, keys and masks is kept, on the device where they are.
    """

    has_all_queries = True

    def __init__(self, keep_bytes: int = KEEP_BYTES) -> None:
        self.keep_bytes = keep_bytes
        self._calls: dict[int, Call] = {}  # layer -> call, the one that was used last at the end
        self._again: Again | None = None
        self._is_cancelled: IsCancelled = lambda: False

    # -- filled by a capture -----------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget everything."""
        self._calls.clear()
        self._again = None

    def let_go(self) -> bool:
        """Give up what is kept, and keep nothing more: memory has run out, perhaps in keeping. Whether that is new."""
        was_keeping = self.keep_bytes > 0
        self._calls.clear()
        self.keep_bytes = 0
        return was_keeping

    def keep(self, layer: int, call: Call) -> None:
        """Keep what a layer's attention function was handed, and let go of earlier layers that do not fit beside it.

        The later a layer is, the longer it takes to run the model again up to it.
        """
        if _own_bytes(call) > self.keep_bytes:
            return
        self._calls.pop(layer, None)
        self._calls[layer] = _own_call(call)
        while self.n_bytes > self.keep_bytes:
            del self._calls[next(iter(self._calls))]

    def finish(self, again: Again) -> None:
        """Take in how the run is read once more: from here on questions are answered."""
        self._again = again

    # -- what is at hand ---------------------------------------------------------------------------------------------

    @property
    def n_bytes(self) -> int:
        """How much memory is kept."""
        return _count_bytes(self._calls.values())

    @property
    def kept_layers(self) -> tuple[int, ...]:
        """The layers whose queries and keys are in memory."""
        return tuple(sorted(self._calls))

    def reads_again(self, layer: int) -> bool:
        """Whether the model is run again for a question about a layer: its queries and keys are not kept."""
        return layer not in self._calls

    @property
    def scope(self) -> str:
        """Say which weights are at hand, and which layers are run again for a question."""
        if self._again is None:
            return "nothing: no run has ended"
        of_prompt = "" if self._again.n_prompts == 1 else f" of the first of {self._again.n_prompts} prompts"
        recipe = self._again.profile.origin.recipe
        by_recipe = "" if recipe == "true" else f" by the recipe '{recipe}'"
        again = sorted({layer for layer in self._again.calls if layer is not None} - set(self.kept_layers))
        words = f"every query{of_prompt}{by_recipe}"
        if not again:
            return f"{words}, from queries and keys in memory"
        which = f"layers {_runs(again)} are" if self.kept_layers else "the model is"
        return f"{words}; {which} run again when asked for"

    # -- questions ---------------------------------------------------------------------------------------------------

    def until(self, is_cancelled: IsCancelled) -> "KeptPatterns":
        """Give the same source, but with questions that raise a CancelledError once `is_cancelled` says so."""
        same = copy.copy(self)
        same._is_cancelled = is_cancelled
        return same

    def pattern(self, layer: int, head: int) -> NDArray[np.float32]:
        """Give a head's weights, [n_tokens, n_tokens]; NaN where the mask hides.

        Raises:
            UsageError: for a layer or head that does not exist, or too many tokens for one piece.
            CancelledError: if the question was cancelled.
        """
        n_tokens = self._finished().profile.n_tokens
        check_pattern_size(n_tokens)
        return self.rows(layer, head, 0, n_tokens)

    def rows(self, layer: int, head: int, first: int, last: int) -> NDArray[np.float32]:
        """Give the weights of the queries first <= q < last, [last - first, n_tokens]; NaN where the mask hides.

        Raises:
            UsageError: for a layer, head or query that does not exist.
            CancelledError: if the question was cancelled.
        """
        profile = self._finished().profile
        profile.check_head(layer, head)
        check_rows(first, last, profile.n_tokens)
        rows = np.full((last - first, profile.n_tokens), np.nan, np.float32)

        def take(chunk: Chunk) -> None:
            start, weights = _between(chunk, first, last, head)
            rows[start - first : start - first + weights.shape[1]] = weights[0]

        self._read(layer, head, first, last, take)
        return rows

    def entries(
        self,
        layer: int,
        low: float,
        high: float,
        *,
        population: str,
        sink: SinkChoice,
        head: int | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Entries:
        """Give the population's entries with low <= weight < high, heaviest first, as `PatternSource` says.

        Raises:
            UsageError: for a layer, head, population or sink choice that does not exist.
            CancelledError: if the question was cancelled.
        """
        profile = self._finished().profile
        profile.layer(layer)
        if head is not None:
            profile.check_head(layer, head)
        queries = population_queries(population, sink, profile.n_tokens)
        found = merge_entries([])

        def take(chunk: Chunk) -> None:
            nonlocal found
            start, weights = _between(chunk, queries.start, queries.stop, head)
            more = select_entries(
                weights, start, low, high, population=population, sink=sink, limit=limit, first_head=head or 0
            )
            found = merge_entries([found, more], limit)

        if len(queries):
            self._read(layer, head, queries.start, queries.stop, take)
        return found

    def _finished(self) -> Again:
        if self._again is None:
            raise UsageError("no run has ended whose weights could be looked at", "give this to a capture first")
        return self._again

    def _stop_if_cancelled(self) -> None:
        if self._is_cancelled():
            raise CancelledError("the question was cancelled")

    def _read(self, layer: int, head: int | None, first: int, last: int, take: Callable[[Chunk], None]) -> None:
        """Give a layer's pieces that hold queries first <= q < last, of one head alone where that can be."""
        again = self._finished()
        call = self._calls.get(layer)
        if call is None:
            asked = _Asked(again, layer, first, last, take, self._stop_if_cancelled)
            asked.run()
            call = asked.call
        if call is not None:
            self.keep(layer, call)
            function = None
            if head is not None and call.is_plain:
                call, function = _one_head(call, head), attend_plainly
            with again.evaluating():
                for chunk, _ in weigh(call, first, last, function=function):
                    self._stop_if_cancelled()
                    take(chunk)


class _EnoughError(Exception):
    """Stops a forward that has given what was asked for."""


class _Asked:
    """Reads one layer in a forward of its own: its call where there is one, else its weights as they come."""

    def __init__(
        self,
        again: Again,
        layer: int,
        first: int,
        last: int,
        take: Callable[[Chunk], None],
        stop_if_cancelled: Callable[[], None],
    ) -> None:
        self.call: Call | None = None
        self._again = again
        self._wanted = again.calls.index(layer)
        self._first, self._last = first, last
        self._take = take
        self._stop_if_cancelled = stop_if_cancelled
        self._n_begun = 0

    @property
    def _is_wanted(self) -> bool:
        return self._n_begun - 1 == self._wanted

    def run(self) -> None:
        """Run the model up to the layer.

        Raises:
            UntrustedWeightsError: if the layer does not come again.
        """
        try:
            with self._again.evaluating():
                self._again.read(self)
        except _EnoughError:
            return
        raise UntrustedWeightsError("the model attended in another order when it was run again", "report this as a bug")

    def begin_layer(self, module: nn.Module) -> None:
        """Count the attentions of the forward."""
        del module
        self._stop_if_cancelled()
        self._n_begun += 1

    def take_call(self, call: Call) -> None:
        """The wanted layer's call is all that is needed."""
        if self._is_wanted:
            self.call = call
            raise _EnoughError

    def stop_if_cancelled(self) -> None:
        """Raise if the question was cancelled."""
        self._stop_if_cancelled()

    def tally_for_tiles(self, n_heads: int) -> LayerTally:
        """Something for the fast path to count into, on its way to the wanted layer."""
        return LayerTally(n_heads, self._again.profile.n_tokens, torch.device("cpu"))

    def receive(self, chunk: Chunk) -> None:
        """Hand the wanted layer's weights on."""
        self._stop_if_cancelled()
        end = chunk.first_query + chunk.weights.shape[2]
        if self._is_wanted and end > self._first and chunk.first_query < self._last:
            self._take(chunk)

    def end_layer(self) -> None:
        """Stop after the wanted layer."""
        if self._is_wanted:
            raise _EnoughError


def _one_head(call: Call, head: int) -> Call:
    """Leave out what a plain call has of the other heads."""
    shared = head // (call.query.shape[1] // call.key.shape[1])  # neighbouring heads share a key
    own, keys = slice(head, head + 1), slice(shared, shared + 1)
    return replace(call, query=call.query[:, own], key=call.key[:, keys], value=call.value[:, keys])


def _between(chunk: Chunk, first: int, last: int, head: int | None) -> tuple[int, NDArray[np.float32]]:
    """Cut the queries first <= q < last and one head, or all, out of a piece of the first prompt.

    Returns:
        The first query's position, and [n_heads, rows, n_tokens] with NaN where the mask hides.
    """
    start = max(first, chunk.first_query)
    rows = slice(start - chunk.first_query, last - chunk.first_query)
    heads = slice(None) if head is None or chunk.weights.shape[1] == 1 else slice(head, head + 1)
    allowed = chunk.allowed[0, heads if chunk.allowed.shape[1] > 1 else slice(None), rows]
    weights = torch.where(allowed, chunk.weights[0, heads, rows].float(), torch.nan)
    return start, weights.cpu().numpy()


def _own_call(call: Call) -> Call:
    """Hold what a call's weights are made of, and nothing that is larger: the values count only by their shape."""
    value = torch.zeros((), dtype=call.value.dtype, device=call.value.device).expand(*call.value.shape[:-1], 1)
    kwargs = {name: _own(each) for name, each in call.kwargs.items()}
    return replace(call, query=_own(call.query), key=_own(call.key), value=value, mask=_own(call.mask), kwargs=kwargs)


def _own(value: Any) -> Any:
    """Let go of the graph behind a tensor, and of a larger one that it is a view of; a parameter stays what it is."""
    if isinstance(value, tuple | list):
        return type(value)(_own(each) for each in value)
    if not isinstance(value, torch.Tensor) or isinstance(value, nn.Parameter):
        return value
    is_whole = value.untyped_storage().nbytes() <= value.numel() * value.element_size()
    return value.detach() if is_whole else value.detach().clone()


def _own_bytes(call: Call) -> int:
    """How much memory a call will hold once it is kept, counted before anything is copied."""
    tensors = _tensors((call.query, call.key, call.mask, *call.kwargs.values()))
    return sum(min(each.untyped_storage().nbytes(), each.numel() * each.element_size()) for each in tensors)


def _count_bytes(calls: Iterable[Call]) -> int:
    """Count the memory that some calls hold; what they share, like one mask, is counted once."""
    storages: dict[tuple[torch.device, int], int] = {}
    for call in tuple(calls):
        for tensor in _tensors((call.query, call.key, call.value, call.mask, *call.kwargs.values())):
            storage = tensor.untyped_storage()
            storages[tensor.device, storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
        yield value


def _runs(numbers: Sequence[int]) -> str:
    """Write ascending numbers with their runs drawn together: `0-3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
