"""One forward pass of a loaded model, read through the tap, as a profile."""

import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from laminar_tui.errors import CancelledError, ModelError, PromptError, UntrustedWeightsError
from laminar_tui.model.tally import ROW_SUM_TOLERANCE, LayerTally
from laminar_tui.model.tap import Chunk, tapped
from laminar_tui.profile.profile import Check, LayerProfile, Origin, Profile, merge_layers

OnLayer = Callable[[int, LayerProfile], None]
IsCancelled = Callable[[], bool]


def capture(
    model: PreTrainedModel,
    input_ids: torch.Tensor | Sequence[int],
    attention_mask: torch.Tensor | None = None,
    *,
    tokens: Sequence[str] | None = None,
    on_layer: OnLayer | None = None,
    is_cancelled: IsCancelled | None = None,
) -> Profile:
    """Run a causal language model once and count every attention weight that it uses.

    Args:
        model: a transformers causal LM in memory, on any device; it is left as it was found.
        input_ids: token ids, [n_tokens] or [batch, n_tokens].
        attention_mask: 1 for tokens, 0 for padding, the shape of `input_ids`; padding is neither key nor query.
        tokens: each token's text, for the screen; the ids when left out.
        on_layer: called after each layer with its index and its profile, in the calling thread.
        is_cancelled: asked before each layer and each chunk of query rows; True stops the forward.

    Returns:
        The profile; several prompts are added up.

    Raises:
        PromptError: for a prompt this model cannot take.
        ModelError: for a model whose attention cannot be read.
        UntrustedWeightsError: if what was read fails a check.
        CancelledError: if `is_cancelled` said so.
    """
    ids = torch.as_tensor(input_ids)
    ids = (ids[None] if ids.ndim == 1 else ids).to(model.device)
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.reshape(ids.shape).to(model.device)
    check_prompt(model, ids)
    profile = empty_profile(model, ids, tokens)
    reader = _Reader(profile.n_layers, mask, on_layer, is_cancelled)
    was_training = model.training
    started = time.perf_counter()
    try:
        model.eval()
        with torch.no_grad(), tapped(model, reader):
            _forward(model, ids, mask if attention_mask is not None else None)
    finally:
        model.train(was_training)
    seconds = time.perf_counter() - started
    checks = reader.verify(_attention_layers(model))
    kinds = tuple(
        kind if reader.layers[index] is not None or kind != "attention" else "no attention"
        for index, kind in enumerate(profile.origin.layer_kinds)
    )
    origin = replace(profile.origin, seconds=seconds, checks=checks, layer_kinds=kinds)
    return Profile(origin, tuple(reader.layers))


def check_prompt(model: PreTrainedModel, ids: torch.Tensor) -> None:
    """Refuse, before the forward, what a model answers with a device assert or with nonsense.

    Raises:
        PromptError: for no tokens, more than the model has positions for, or ids beyond its vocabulary.
    """
    config = model.config.get_text_config()
    n_tokens = ids.shape[1]
    if n_tokens == 0:
        raise PromptError("the prompt has no tokens", "give some text with --prompt")
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if limit and n_tokens > limit:
        raise PromptError(
            f"the prompt has {n_tokens:,} tokens, the model takes {limit:,}", f"cut it with --max-tokens {limit}"
        )
    n_known = model.get_input_embeddings().weight.shape[0]
    if int(ids.max()) >= n_known or int(ids.min()) < 0:
        raise PromptError(
            f"the prompt holds token id {int(ids.max())}, the model knows {n_known:,}",
            "the tokenizer does not belong to this model",
        )


def empty_profile(model: PreTrainedModel, ids: torch.Tensor, tokens: Sequence[str] | None = None) -> Profile:
    """Make the profile of a capture that has not read a layer yet."""
    config = model.config.get_text_config()
    n_layers = int(config.num_hidden_layers)
    first = [int(each) for each in ids[0]]
    origin = Origin(
        model=str(model.config.name_or_path or model.config.model_type),
        architecture=str(model.config.model_type),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        mechanism="tap",
        layer_kinds=_layer_kinds(config, n_layers),
        tokens=tuple(tokens) if tokens is not None else tuple(str(each) for each in first),
        token_ids=tuple(first),
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        versions={name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Profile(origin, (None,) * n_layers)


def _layer_kinds(config: Any, n_layers: int) -> tuple[str, ...]:
    """One word per layer, from the config where it says so."""
    words = {"full_attention": "attention", "sliding_attention": "sliding", "chunked_attention": "chunked"}
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
    if len(kinds) != n_layers:
        return ("attention",) * n_layers
    return tuple(words.get(str(kind), str(kind)) for kind in kinds)


def _forward(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None) -> None:
    """Run everything up to the LM head, whose logits nobody needs here."""
    model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)


def _attention_layers(model: nn.Module) -> int:
    """How many attention modules of the decoder the tap should have seen."""
    return sum(
        "Attention" in type(module).__name__ and getattr(module, "layer_idx", None) is not None
        for module in model.modules()
    )


class _Reader:
    """Takes in what the tap sees: one tally per layer and sequence."""

    def __init__(
        self, n_layers: int, mask: torch.Tensor, on_layer: OnLayer | None, is_cancelled: IsCancelled | None
    ) -> None:
        self.layers: list[LayerProfile | None] = [None] * n_layers
        self.n_records = 0
        self._spans = [_span(row) for row in mask]
        self._on_layer = on_layer
        self._is_cancelled = is_cancelled or (lambda: False)
        self._tallies: list[LayerTally] = []
        self._index = 0
        self._row_sum_error = 0.0
        self._off_sequence = False

    def begin_layer(self, layer_idx: int | None) -> None:
        self._stop_if_cancelled()
        free = layer_idx is not None and 0 <= layer_idx < len(self.layers) and self.layers[layer_idx] is None
        self._index = int(layer_idx) if free and layer_idx is not None else self.n_records
        if self._index >= len(self.layers):
            raise ModelError(
                f"the model attends {self.n_records + 1} times in {len(self.layers)} layers",
                "layers that attend more than once are not supported yet",
            )
        self._tallies = []

    def receive(self, chunk: Chunk) -> None:
        self._stop_if_cancelled()
        _, n_heads, _, n_keys = chunk.weights.shape
        if n_keys != chunk.n_queries:
            raise ModelError(
                f"a layer has {n_keys} keys for {chunk.n_queries} queries", "such attention is not supported yet"
            )
        if not self._tallies:
            self._tallies = [
                LayerTally(
                    n_heads,
                    span.stop - span.start,
                    chunk.weights.device,
                    off_sequence=chunk.off_sequence,
                    tolerance=ROW_SUM_TOLERANCE,
                )
                for span in self._spans
            ]
        self._off_sequence |= chunk.off_sequence
        for sequence, (tally, span) in enumerate(zip(self._tallies, self._spans, strict=True)):
            first, last = _overlap(span, chunk)
            if first >= last:
                continue
            rows = slice(first - chunk.first_query, last - chunk.first_query)
            allowed = chunk.allowed[min(sequence, len(chunk.allowed) - 1)]
            tally.add(chunk.weights[sequence, :, rows, span], allowed[:, rows, span], first - span.start)

    def end_layer(self) -> None:
        layer = merge_layers([tally.finish() for tally in self._tallies])
        self._row_sum_error = max(self._row_sum_error, *(tally.row_sum_error for tally in self._tallies))
        self.layers[self._index] = layer
        self.n_records += 1
        if self._on_layer is not None:
            self._on_layer(self._index, layer)

    def verify(self, n_expected: int) -> tuple[Check, ...]:
        """Say what was checked, after the forward.

        Raises:
            ModelError: if no attention was seen at all.
            UntrustedWeightsError: if a layer's attention was not.
        """
        if self.n_records == 0:
            raise ModelError(
                "no softmax attention was seen in this model",
                "it has none, or it does not go through transformers' attention interface",
            )
        if self.n_records < n_expected:
            raise UntrustedWeightsError(
                f"{self.n_records} of {n_expected} attention layers were seen", "the others do not go through the tap"
            )
        sums = "at most 1 (sink logits)" if self._off_sequence else "1"
        return (
            Check("every attention layer was seen", True, f"{self.n_records} layers"),
            Check("weights are finite and not negative", True, "all"),
            Check("nothing on keys that the mask hides", True, "0"),
            Check("no token attends to a later one", True, "none"),
            Check(f"each query's weights sum to {sums}", True, f"within {self._row_sum_error:.1e}"),
        )

    def _stop_if_cancelled(self) -> None:
        if self._is_cancelled():
            raise CancelledError("the capture was cancelled")


def _span(mask: torch.Tensor) -> slice:
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
