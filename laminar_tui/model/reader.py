"""Takes in what is read from a model, call by call, and puts each layer where it belongs."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from laminar_tui.errors import CancelledError, LaminarError, ModelError, PromptError, UntrustedWeightsError
from laminar_tui.model.attention import Visits, uses_interface
from laminar_tui.model.copies import Copy
from laminar_tui.model.eager import Call, Chunk
from laminar_tui.model.memory import Holes
from laminar_tui.model.tally import LayerTally
from laminar_tui.profile.merge import merge_layers
from laminar_tui.profile.profile import Check, LayerProfile
from laminar_tui.profile.wording import part

OnLayer = Callable[[int, LayerProfile], None]
IsCancelled = Callable[[], bool]
OnCall = Callable[[int, Call], None]
OnShort = Callable[[], bool]


HELD_AT_MOST = 2**30
"""How many bytes of a device's memory may wait there with layers that are on their way to the host."""


@dataclass(frozen=True, eq=False)
class _Read:
    """A layer that was read, and may still be on its way to the host."""

    index: int
    tallies: list[LayerTally]
    value_norms: "ValueNorms | None"

    @property
    def is_ready(self) -> bool:
        return all(tally.arriving is None or tally.arriving.is_ready() for tally in self.tallies)

    @property
    def n_held(self) -> int:
        return sum(tally.arriving.n_held for tally in self.tallies if tally.arriving is not None)


class Reader:
    """Takes in what is read: one tally per layer and sequence, in the order of the model's calls.

    Attributes:
        layers: what was read of each layer.
        by_kernel: the layers that a GPU's kernel read.
        calls: which layer each attention of the forward was, in their order; None for one that repeats another.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        mask: torch.Tensor,
        on_layer: OnLayer | None,
        is_cancelled: IsCancelled | None,
        on_call: OnCall | None = None,
        on_short: OnShort | None = None,
    ) -> None:
        self.layers: list[LayerProfile | None] = [None] * len(kinds)
        self.calls: list[int | None] = []
        self.by_kernel: set[int] = set()
        self._kinds = list(kinds)
        self._spans = [span_of(row) for row in mask]
        self._n_tokens = mask.shape[1]
        self._on_layer = on_layer
        self._on_call = on_call
        self._on_short = on_short or (lambda: False)
        self._is_cancelled = is_cancelled or (lambda: False)
        self._visits: Visits | None = None
        self._seen: dict[nn.Module, int] = {}
        self._tallies: list[LayerTally] = []
        self._final_row = torch.zeros(0)
        self._value_norms: ValueNorms | None = None
        self._begun: set[int] = set()
        self._read: deque[_Read] = deque()
        self._holes = Holes()
        self._index = 0
        self._is_repeat = False
        self._row_sum_error = 0.0
        self._off_sequence = False

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Count the visits to the model's attention modules."""
        self._visits = Visits(model)
        try:
            yield
        except LaminarError:
            self._hand_on_all()
            raise
        else:
            self._hand_on_all()
        finally:
            self._visits.stop()

    @property
    def n_records(self) -> int:
        """How many layers were read."""
        return sum(layer is not None for layer in self.layers)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What stands in each layer; one that was to attend and was not seen to is named so."""
        pairs = zip(self._kinds, self.layers, strict=True)
        return tuple("no attention" if layer is None and _attends(kind) else kind for kind, layer in pairs)

    def begin_layer(self, module: nn.Module) -> None:
        """Find a layer's place; a second call in one visit of its module is the same attention on other values."""
        self.stop_if_cancelled()
        visit = self._visits.of(module) if self._visits else 0
        self._is_repeat = self._seen.get(module) == visit
        if self._is_repeat:
            self.calls.append(None)
            self._forget_values()
            return
        self._seen[module] = visit
        self._index = self._place(getattr(module, "layer_idx", None))
        self._begun.add(self._index)
        self.calls.append(self._index)
        self._tallies = []
        self._value_norms = None

    def take_call(self, call: Call) -> None:
        """Measure the value vectors, and hand on what the layer's attention function was handed."""
        if self._is_repeat:
            return
        if len(self._spans) == 1:
            self._value_norms = ValueNorms.of(call, self._spans[0])
        if self._on_call is not None:
            self._on_call(self._index, call)

    def receive(self, chunk: Chunk) -> None:
        """Count some query rows."""
        self.stop_if_cancelled()
        _, n_heads, _, n_keys = chunk.weights.shape
        if (chunk.n_queries, n_keys) != (self._n_tokens, self._n_tokens):
            raise ModelError(
                f"a layer has {n_keys} keys and {chunk.n_queries} queries for {self._n_tokens} tokens",
                "attention to anything but the prompt's own tokens is not supported",
            )
        if self._is_repeat:
            self._compare(chunk)
            return
        if not self._tallies:
            self._tallies = [self._make_tally(n_heads, span, chunk) for span in self._spans]
        self._off_sequence |= chunk.off_sequence
        self._final_row = chunk.weights[:, :, -1].clone()  # a view would keep the piece
        for sequence, (tally, span) in enumerate(zip(self._tallies, self._spans, strict=True)):
            first, last = _overlap(span, chunk)
            if first >= last:
                continue
            rows = slice(first - chunk.first_query, last - chunk.first_query)
            allowed = chunk.allowed[min(sequence, len(chunk.allowed) - 1)]
            tally.add(chunk.weights[sequence, :, rows, span], allowed[:, rows, span], first - span.start)
        self._holes.give_back()

    def restart_layer(self) -> None:
        """Forget the layer's rows: they come again. What a repeated call brings is only compared."""
        if not self._is_repeat:
            self._tallies = []

    def let_go(self) -> bool:
        """Memory has run out: wait for what is on its way, and give up what is only kept for later."""
        n_held = sum(layer.n_held for layer in self._read)
        self._hand_on_all()
        return self._on_short() or n_held > 0

    def tally_for_tiles(self, n_heads: int) -> LayerTally | None:
        """Let the fast path count a layer, unless it repeats another or there is padding."""
        whole = [slice(0, self._n_tokens)]
        if self._is_repeat or self._spans != whole:
            return None
        self._tallies = [LayerTally(n_heads, self._n_tokens, torch.device("cpu"))]
        return self._tallies[0]

    def end_layer(self) -> None:
        """Hand the layer on, or the ones before it that have come from the device by now."""
        if self._is_repeat:
            return
        self._read.append(_Read(self._index, self._tallies, self._value_norms))
        while self._read and (self._read[0].is_ready or sum(layer.n_held for layer in self._read) > HELD_AT_MOST):
            self._hand_on()

    def _hand_on_all(self) -> None:
        """Hand on every layer that was read; waits for the device."""
        while self._read:
            self._hand_on()

    def _hand_on(self) -> None:
        read = self._read.popleft()
        layer = merge_layers([tally.finish() for tally in read.tallies])
        norms = None if read.value_norms is None else read.value_norms.finish()
        layer = replace(layer, value_norms=norms)
        self._row_sum_error = max(self._row_sum_error, *(tally.row_sum_error for tally in read.tallies))
        self.layers[read.index] = layer
        if all(tally.by_kernel for tally in read.tallies):
            self.by_kernel.add(read.index)
        self._holes.give_back()
        if self._on_layer is not None:
            self._on_layer(read.index, layer)

    def verify(self) -> tuple[Check, ...]:
        """Say what was checked, after the forward.

        Raises:
            ModelError: if no attention was seen at all.
            UntrustedWeightsError: if a layer's attention was not.
        """
        if self.n_records == 0:
            raise ModelError("no softmax attention was seen in this model", "there are no attention weights to look at")
        entered = self._visits.entered() if self._visits else []
        missed = [module for module in entered if uses_interface(module) and module not in self._seen]
        if missed:
            raise UntrustedWeightsError(
                f"{len(missed)} attention modules ran unseen, a {type(missed[0]).__name__} among them",
                "what they attend to cannot be shown",
            )
        kernel = f"{len(self.by_kernel)} of {self.n_records} layers; it was seen to find what tiles find"
        sums = "at most 1 (sink logits)" if self._off_sequence else "1"
        return (
            Check("every attention layer was seen", True, f"{self.n_records} layers"),
            Check("weights are finite and not negative", True, "all"),
            Check("nothing on keys that the mask hides", True, "0"),
            Check("no token attends to a later one", True, "none"),
            Check(f"each query's weights sum to {sums}", True, self._sum_words()),
            *([Check("the kernel's rows sum to 1 as those of tiles do", True, kernel)] if self.by_kernel else []),
        )

    def _sum_words(self) -> str:
        return f"within {part(self._row_sum_error)}" if self._row_sum_error else "exactly"

    def _place(self, layer_idx: int | None) -> int:
        """The layer that attends now: what the model calls it, if that is free; else the next one that is to attend.

        A model that loops over its layers gets new ones at the end.
        """
        if isinstance(layer_idx, int) and 0 <= layer_idx < len(self.layers) and layer_idx not in self._begun:
            return layer_idx
        last = max(self._begun, default=-1)
        for index in range(last + 1, len(self.layers)):
            if _attends(self._kinds[index]):
                return index
        self.layers.append(None)
        self._kinds.append("attention")
        return len(self.layers) - 1

    def _forget_values(self) -> None:
        """A head's value vector is in several pieces, one a call: the norm of the first one is not its norm."""
        self._hand_on_all()
        layer = self.layers[self._index]
        if layer is not None:
            self.layers[self._index] = replace(layer, value_norms=None)

    def _make_tally(self, n_heads: int, span: slice, chunk: Chunk) -> LayerTally:
        return LayerTally(
            n_heads,
            span.stop - span.start,
            chunk.weights.device,
            off_sequence=chunk.off_sequence,
            tolerance=chunk.tolerance,
        )

    def _compare(self, chunk: Chunk) -> None:
        """A repeated call must bring the weights of the first one."""
        if chunk.first_query + chunk.weights.shape[2] != chunk.n_queries:
            return
        if not torch.equal(chunk.weights[:, :, -1], self._final_row):
            raise ModelError(
                "a layer attends twice with different weights", "which of them to show is not decided for such a model"
            )

    def stop_if_cancelled(self) -> None:
        """Raise if the user said so."""
        if self._is_cancelled():
            raise CancelledError("the capture was cancelled")


@dataclass(frozen=True, eq=False)
class ValueNorms:
    """The norms of the value vectors of a prompt's tokens, on their way to the host.

    Attributes:
        arriving: float32 [n_kv_heads, n_tokens].
        group: how many neighbouring query heads share a key head, as in the family's own attention.
    """

    arriving: Copy
    group: int

    @classmethod
    def of(cls, call: Call, span: slice) -> "ValueNorms | None":
        """Measure them; None if a head has none of its own.

        Args:
            call: of one sequence.
            span: where its tokens are.
        """
        n_heads, value = call.query.shape[1], call.value
        if value.ndim != 4 or value.shape[2] != call.query.shape[2] or n_heads % value.shape[1]:
            return None
        norms = torch.linalg.vector_norm(value[0, :, span], dim=-1, dtype=torch.float32)
        return cls(Copy({"norms": norms}), n_heads // value.shape[1])

    def finish(self) -> NDArray[np.float32] | None:
        """Give them, [n_heads, n_tokens]; None if one is no number."""
        norms = self.arriving.wait()["norms"]
        if not np.isfinite(norms).all():
            return None
        found: NDArray[np.float32] = np.repeat(norms, self.group, axis=0)
        return found


def _attends(kind: str) -> bool:
    """Whether a layer of this kind has softmax attention, as far as its name tells."""
    return kind in ("attention", "sliding", "chunked", "hybrid") or ("attention" in kind and "linear" not in kind)


def span_of(mask: torch.Tensor) -> slice:
    """Where the tokens of a padded sequence are.

    Raises:
        PromptError: if there are none, or padding stands between them.
    """
    positions = torch.nonzero(mask).flatten()
    if len(positions) == 0:
        raise PromptError("a prompt of the batch has no tokens", "leave it out")
    first, last = int(positions[0]), int(positions[-1])
    if last - first + 1 != len(positions):
        raise PromptError("the attention mask hides tokens within a prompt", "only padding at its ends is supported")
    return slice(first, last + 1)


def _overlap(span: slice, chunk: Chunk) -> tuple[int, int]:
    end = chunk.first_query + chunk.weights.shape[2]
    return max(span.start, chunk.first_query), min(span.stop, end)
