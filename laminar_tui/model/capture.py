"""One forward pass of a loaded model, read layer by layer, as a profile."""

import importlib.metadata
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import torch
from transformers import PreTrainedModel

from laminar_tui.errors import CancelledError
from laminar_tui.model import fast
from laminar_tui.model.attention import is_attention
from laminar_tui.model.device import NoRoomForTilesError
from laminar_tui.model.forward import check_prompt, evaluating, input_device
from laminar_tui.model.loaded import decode_tokens
from laminar_tui.model.mechanisms import FAST, KERNEL, TAP, Mechanism, by_recipe, find_mechanism
from laminar_tui.model.memory import release_unused
from laminar_tui.model.patterns import Again, KeptPatterns
from laminar_tui.model.probe import probe
from laminar_tui.model.reader import IsCancelled, OnLayer, Reader, span_of
from laminar_tui.model.recipes import find_recipe
from laminar_tui.model.tap import NotPlainError, Receiver
from laminar_tui.profile.merge import MECHANISM_SEPARATOR
from laminar_tui.profile.profile import Check, Origin, Profile

TRUE_RECIPE = "true"


def capture(
    model: PreTrainedModel,
    input_ids: torch.Tensor | Sequence[int],
    attention_mask: torch.Tensor | None = None,
    *,
    tokens: Sequence[str] | None = None,
    tokenizer: Any = None,
    recipe: str = TRUE_RECIPE,
    on_layer: OnLayer | None = None,
    is_cancelled: IsCancelled | None = None,
    chunk_weights: int | None = None,
    keep: KeptPatterns | None = None,
) -> Profile:
    """Run a causal language model once and count every attention weight that it uses.

    Args:
        model: a transformers causal LM in memory, on any device; it is left as it was found.
        input_ids: token ids, [n_tokens] or [batch, n_tokens].
        attention_mask: 1 for tokens, 0 for padding, the shape of `input_ids`; padding is neither key nor query.
        tokens: each token's text, for the screen; left out, as the tokenizer decodes them, or the ids.
        tokenizer: gives the tokens' texts where `tokens` does not.
        recipe: `true`, or a control in `model.recipes.RECIPES` that makes other weights than the model's.
        on_layer: called after each layer with its index and its profile, in the calling thread.
        is_cancelled: asked before each layer and each chunk of query rows; True stops the forward.
        chunk_weights: how many weights to look at in one piece where the fast path is not taken; halved when memory
            runs out, and the layer is read again.
        keep: answers questions for exact weights afterwards, of the first prompt; it holds on to the model.

    Returns:
        The profile; several prompts are added up, and of prompts of different lengths no tokens are named.

    Raises:
        PromptError: for a prompt this model cannot take.
        ModelError: for a model whose attention cannot be read.
        UntrustedWeightsError: if what was read fails a check.
        MemoryNeededError: if memory runs out all the same; the layers read before went to `on_layer`.
        CancelledError: if `is_cancelled` said so.
    """
    ids, mask = _as_batch(model, input_ids, attention_mask)
    check_prompt(model, ids)
    spans = [span_of(row) for row in mask]
    own_tokens = None if tokens is None else list(tokens)[spans[0]]
    if tokens is None and tokenizer is not None:
        own_tokens = decode_tokens(tokenizer, ids[0, spans[0]].tolist())
    ids, mask = (_begin_with_tokens(each, spans) for each in (ids, mask))
    first = span_of(mask[0])
    profile = empty_profile(model, ids[:, first], own_tokens)
    given = mask if attention_mask is not None else None
    is_plain = given is None and len(ids) == 1
    mechanism, checks = choose_mechanism(model, recipe, ids[:1, first], is_cancelled, is_plain=is_plain)
    own_call = keep.keep if keep is not None and len(ids) == 1 and first == slice(0, ids.shape[1]) else None

    def make_reader() -> Reader:
        if keep is not None:
            keep.clear()
        on_short = keep.let_go if keep is not None else None
        return Reader(profile.origin.layer_kinds, mask, on_layer, is_cancelled, own_call, on_short)

    started = time.perf_counter()
    reader = make_reader()
    is_read = False
    with suppress(NotPlainError, NoRoomForTilesError):
        _read(mechanism, model, reader, ids, given, chunk_weights)
        is_read = True
    if not is_read:  # out of the `with`: the error's frames held the tensors
        mechanism, reader = TAP, make_reader()
        release_unused(ids.device)
        _read(mechanism, model, reader, ids, given, chunk_weights)
    seconds = time.perf_counter() - started
    origin = replace(
        profile.origin,
        mechanism=_name_mechanism(mechanism, reader),
        recipe=recipe,
        seconds=seconds,
        checks=(*reader.verify(), *checks),
        layer_kinds=reader.kinds,
        n_prompts=len(ids),
        n_tokens=int(mask.sum()),
    )
    profile = of_first = Profile(origin, tuple(reader.layers))
    if len(set(mask.sum(dim=1).tolist())) > 1:
        profile = replace(profile, origin=replace(origin, tokens=(), token_ids=()))
    if keep is not None:

        def read_again(receiver: Receiver) -> None:
            mechanism.read(model, receiver, ids[:1, first])

        keep.finish(Again(of_first, len(ids), tuple(reader.calls), read_again, partial(evaluating, model)))
    return profile


def _as_batch(
    model: PreTrainedModel, input_ids: torch.Tensor | Sequence[int], attention_mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask on the model's device, [batch, n_tokens] both."""
    ids = torch.as_tensor(input_ids)
    ids = (ids[None] if ids.ndim == 1 else ids).to(input_device(model))
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.reshape(ids.shape).to(ids.device)
    return ids, mask


def _begin_with_tokens(rows: torch.Tensor, spans: Sequence[slice]) -> torch.Tensor:
    """Move the padding behind the tokens, [batch, n_tokens].

    There no causal model sees it, and each token has the position that it has without: not every model can be told.
    """
    if not any(span.start for span in spans):
        return rows
    return torch.stack([row.roll(-span.start) for row, span in zip(rows, spans, strict=True)])


def choose_mechanism(
    model: PreTrainedModel, recipe: str, ids: torch.Tensor, is_cancelled: IsCancelled | None, *, is_plain: bool = True
) -> tuple[Mechanism, tuple[Check, ...]]:
    """How this model is to be read, and what was checked to find out.

    Args:
        ids: of the first prompt without padding, [1, n_tokens].
        is_plain: whether it is the only one, and came without a mask, as the fast path wants it.
    """
    usual = find_mechanism(model)
    mechanism = usual if recipe == TRUE_RECIPE else by_recipe(usual, find_recipe(recipe, model))
    with _cancellable(model, is_cancelled):
        found = probe(model, usual, ids)
    if found.is_fast and recipe == TRUE_RECIPE and is_plain and ids.shape[1] >= fast.AT_LEAST_TOKENS:
        mechanism = FAST
    return mechanism, found.checks


def _name_mechanism(mechanism: Mechanism, reader: Reader) -> str:
    """Say how the layers were read, each way once."""
    by_kernel = len(reader.by_kernel)
    names = [mechanism.name] * (by_kernel < reader.n_records) + [KERNEL] * (by_kernel > 0)
    return MECHANISM_SEPARATOR.join(names)


def _read(
    mechanism: Mechanism,
    model: PreTrainedModel,
    reader: Reader,
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    chunk_weights: int | None,
) -> None:
    with evaluating(model), reader.watching(model):
        mechanism.read(model, reader, ids, mask, chunk_weights)


@contextmanager
def _cancellable(model: PreTrainedModel, is_cancelled: IsCancelled | None) -> Iterator[None]:
    """Stop forwards that no reader watches before their next attention module."""

    def stop(_module: object, _args: object) -> None:
        if is_cancelled is not None and is_cancelled():
            raise CancelledError("the capture was cancelled")

    handles = [module.register_forward_pre_hook(stop) for module in model.modules() if is_attention(module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def empty_profile(model: PreTrainedModel, ids: torch.Tensor, tokens: Sequence[str] | None = None) -> Profile:
    """Make the profile of a capture that has not read a layer yet."""
    config = model.config.get_text_config()
    n_layers = int(getattr(config, "num_hidden_layers", None) or 0)  # unknown: layers are added as they come
    first = ids[0].tolist()  # each number by itself would wait for the device
    origin = Origin(
        model=str(model.config.name_or_path or model.config.model_type),
        architecture=str(model.config.model_type),
        dtype=str(model.dtype).removeprefix("torch."),
        device=_devices(model),
        mechanism="tap",
        layer_kinds=_layer_kinds(config, n_layers),
        tokens=tuple(tokens) if tokens is not None else tuple(str(each) for each in first),
        token_ids=tuple(first),
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        versions={name: _version(name) for name in ("torch", "transformers")},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Profile(origin, (None,) * n_layers)


def _devices(model: PreTrainedModel) -> str:
    """Where a model's parameters are, each place once: `cpu`, `cuda:0, cuda:1, disk`."""
    places = getattr(model, "hf_device_map", None)
    if not places:
        return str(model.device)
    names = (f"cuda:{place}" if isinstance(place, int) else str(place) for place in places.values())
    return ", ".join(dict.fromkeys(names))


@cache
def _version(package: str) -> str:
    return importlib.metadata.version(package)  # reads and parses a file each time


def _layer_kinds(config: Any, n_layers: int) -> tuple[str, ...]:
    """One word per layer, from the config where it says so."""
    words = {"full_attention": "attention", "sliding_attention": "sliding", "chunked_attention": "chunked"}
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
    if len(kinds) != n_layers:
        return ("attention",) * n_layers
    return tuple(words.get(str(kind), str(kind)) for kind in kinds)
