"""One forward pass of a loaded model, read through the tap, as a profile."""

import importlib.metadata
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from laminar_tui.errors import CancelledError, MemoryNeededError, ModelError, PromptError
from laminar_tui.model import fast
from laminar_tui.model.fallback import hooked
from laminar_tui.model.memory import is_out_of_memory
from laminar_tui.model.patterns import Again, KeptPatterns
from laminar_tui.model.reader import IsCancelled, OnLayer, Reader, span_of
from laminar_tui.model.recipes import Recipe, find_recipe, recipe_tapped
from laminar_tui.model.tap import (
    Ignore,
    NotPlainError,
    Receiver,
    attention_implementation,
    is_attention,
    is_fast_path_equal,
    tapped,
    tapped_fast,
    uses_interface,
)
from laminar_tui.profile.profile import Check, Origin, Profile

TRUE_RECIPE = "true"
PROBE_TOKENS = 16
"""How many tokens the output is compared on: enough for a mistake to show, few enough to cost next to nothing."""


def capture(
    model: PreTrainedModel,
    input_ids: torch.Tensor | Sequence[int],
    attention_mask: torch.Tensor | None = None,
    *,
    tokens: Sequence[str] | None = None,
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
        tokens: each token's text, for the screen; the ids when left out.
        recipe: `true`, or a control in `model.recipes.RECIPES` that makes other weights than the model's.
        on_layer: called after each layer with its index and its profile, in the calling thread.
        is_cancelled: asked before each layer and each chunk of query rows; True stops the forward.
        chunk_weights: how many weights to look at in one piece where the fast path is not taken; halved when memory
            runs out, and the layer is read again.
        keep: answers questions for exact weights afterwards, of the first prompt; it holds on to the model.

    Returns:
        The profile; several prompts are added up.

    Raises:
        PromptError: for a prompt this model cannot take.
        ModelError: for a model whose attention cannot be read.
        UntrustedWeightsError: if what was read fails a check.
        MemoryNeededError: if memory runs out all the same; the layers read before went to `on_layer`.
        CancelledError: if `is_cancelled` said so.
    """
    ids = torch.as_tensor(input_ids)
    ids = (ids[None] if ids.ndim == 1 else ids).to(input_device(model))
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.reshape(ids.shape).to(ids.device)
    check_prompt(model, ids)
    first = span_of(mask[0])
    own_tokens = None if tokens is None else list(tokens)[first]
    profile = empty_profile(model, ids[:, first], own_tokens)
    mechanism = find_mechanism(model)
    read = MECHANISMS[mechanism] if recipe == TRUE_RECIPE else _reading_by(find_recipe(recipe, model))
    given = mask if attention_mask is not None else None
    with _cancellable(model, is_cancelled):
        probe = _probe(model, mechanism, ids[:1, first])
    plain = recipe == TRUE_RECIPE and given is None and len(ids) == 1
    if plain and probe.is_fast and ids.shape[1] >= fast.AT_LEAST_TOKENS:
        mechanism, read = "fast", _read_fast
    own_call = keep.keep if keep is not None and len(ids) == 1 and first == slice(0, ids.shape[1]) else None

    def make_reader() -> Reader:
        if keep is not None:
            keep.clear()
        on_short = keep.let_go if keep is not None else None
        return Reader(profile.origin.layer_kinds, mask, on_layer, is_cancelled, own_call, on_short)

    started = time.perf_counter()
    reader = make_reader()
    try:
        _read_with(read, model, reader, ids, given, chunk_weights)
    except NotPlainError:
        mechanism, read, reader = "tap", _read_by_tap, make_reader()
        _read_with(read, model, reader, ids, given, chunk_weights)
    seconds = time.perf_counter() - started
    checks = reader.verify()
    if probe.check is not None:
        checks += (probe.check,)
    origin = replace(
        profile.origin,
        mechanism=mechanism,
        recipe=recipe,
        seconds=seconds,
        checks=checks,
        layer_kinds=reader.kinds,
        n_prompts=len(ids),
        n_tokens=int(mask.sum()),
    )
    profile = Profile(origin, tuple(reader.layers))
    if keep is not None:
        read_again = partial(_read_again, read, model, ids[:1, first])
        keep.finish(Again(profile, len(ids), tuple(reader.calls), read_again, partial(evaluating, model)))
    return profile


def find_mechanism(model: PreTrainedModel) -> str:
    """Say how a model's weights can be read: a name in `MECHANISMS`.

    Raises:
        ModelError: if it has no attention modules.
    """
    if any(uses_interface(module) for module in model.modules()):
        return "tap"
    if any(is_attention(module) for module in model.modules()):
        return "hooks"
    raise ModelError(f"{model.config.model_type} has no softmax attention", "there are no attention weights to look at")


def _read_with(
    read: Callable[..., None],
    model: PreTrainedModel,
    reader: Reader,
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    chunk_weights: int | None,
) -> None:
    with evaluating(model), reader.watching(model):
        read(model, reader, ids, mask, chunk_weights)


def _read_again(read: Callable[..., None], model: PreTrainedModel, ids: torch.Tensor, receiver: Receiver) -> None:
    read(model, receiver, ids, None)


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


@dataclass(frozen=True)
class _Probe:
    """What was found out about a model on a few tokens: the check of its output, and whether the fast path is equal."""

    check: Check | None
    is_fast: bool


def prepare(model: PreTrainedModel, input_ids: Sequence[int]) -> None:
    """Find out once, on tokens of the caller's choice, what `capture` finds out about a model on its first prompt.

    Then it is the same in every process that reads some of many prompts, and for prompts that are too short for it.

    Args:
        input_ids: [n_tokens], repeated up to `PROBE_TOKENS`.
    """
    few = (list(input_ids) * PROBE_TOKENS)[:PROBE_TOKENS]
    ids = torch.tensor([few], device=input_device(model))
    check_prompt(model, ids)
    _probe(model, find_mechanism(model), ids)


_probes: WeakKeyDictionary[PreTrainedModel, tuple[torch.dtype, torch.device, _Probe]] = WeakKeyDictionary()


def _probe(model: PreTrainedModel, mechanism: str, ids: torch.Tensor) -> _Probe:
    """Find it out once for each model, dtype and device: it depends on the code that runs, not on the prompt.

    A shorter prompt than `PROBE_TOKENS` shows too little (one token always attends to itself alone) to be remembered,
    or to trust the fast path for.
    """
    if mechanism == "hooks":
        return _Probe(None, False)
    known = _probes.get(model)
    device = ids.device
    if known is None or known[:2] != (model.dtype, device):
        few = ids[:, :PROBE_TOKENS]
        is_fast, is_enough = False, few.shape[1] == PROBE_TOKENS
        if is_enough:
            with evaluating(model):
                is_fast = is_fast_path_equal(model, lambda: forward(model, few, None))
        known = (model.dtype, device, _Probe(_check_outputs(model, few), is_fast))
        if is_enough:
            _probes[model] = known
    return known[2]


def _read_fast(
    model: PreTrainedModel,
    reader: Receiver,
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    chunk_weights: int | None = None,
) -> None:
    del chunk_weights  # its tiles are as large as the cache, not as the memory
    with tapped_fast(model, reader):
        forward(model, ids, mask)


def _read_by_tap(
    model: PreTrainedModel,
    reader: Receiver,
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    chunk_weights: int | None = None,
) -> None:
    with tapped(model, reader, chunk_weights):
        forward(model, ids, mask)


def _read_by_hooks(
    model: PreTrainedModel,
    reader: Receiver,
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    chunk_weights: int | None = None,
) -> None:
    del chunk_weights  # eager attention makes the weights of a layer in one piece
    with attention_implementation(model, "eager"), hooked(model, reader):
        forward(model, ids, mask, output_attentions=True)


def _reading_by(recipe: Recipe) -> Callable[..., None]:
    def read(
        model: PreTrainedModel,
        reader: Receiver,
        ids: torch.Tensor,
        mask: torch.Tensor | None,
        chunk_weights: int | None = None,
    ) -> None:
        with recipe_tapped(model, reader, recipe, chunk_weights):
            forward(model, ids, mask)

    return read


def _check_outputs(model: PreTrainedModel, ids: torch.Tensor) -> Check:
    """See on a few tokens that the model puts out under the tap what it puts out under its own eager attention.

    In half precision the two round differently (the tap's softmax is float32), and a mixture of experts may then choose
    another expert: the check is for what is wrong, not for the last digit.
    """
    with evaluating(model):
        with attention_implementation(model, "eager"):
            plain = forward(model, ids, None)[0].float()
        with tapped(model, Ignore()):
            read = forward(model, ids, None)[0].float()
    moved = float((read - plain).square().mean().sqrt() / plain.square().mean().sqrt().clamp(min=1e-12))
    allowed = 1e-3 if model.dtype == torch.float32 else 0.1
    return Check("the model's output is what it is without the reading", moved <= allowed, f"off by {moved:.1e} of it")


MECHANISMS = {"tap": _read_by_tap, "hooks": _read_by_hooks}
"""How weights are read: by the family's own attention function, or from what eager attention modules give back."""


def forward(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None, **options: bool) -> Any:
    """Run everything up to the LM head, whose logits nobody needs here; the first of what it returns is [.., D]."""
    positions = {}
    if mask is not None and "position_ids" in inspect.signature(model.base_model.forward).parameters:
        # Padding on the left must not move the tokens that follow it.
        positions["position_ids"] = (mask.long().cumsum(dim=-1) - 1).clamp(min=0)
    try:
        return model.base_model(input_ids=ids, attention_mask=mask, use_cache=False, **positions, **options)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        NotImplementedError,
        MemoryError,
    ) as error:
        if is_out_of_memory(error):
            raise MemoryNeededError(
                f"out of memory in the forward pass of {ids.shape[-1]:,} tokens",
                "cut the prompt with --max-tokens, or take --dtype bfloat16, another --device or --device-map auto",
            ) from error
        if _is_own(error):
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        kind = model.config.model_type
        raise ModelError(f"{kind} does not run on the prompt: {reason}", "it may need more than text") from error


def _is_own(error: BaseException) -> bool:
    """Whether an error was raised by this package's own code, in which case it is a bug and no model's fault."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and str(Path(__file__).parent.parent) in frame.tb_frame.f_code.co_filename


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Leave dropout and gradients out; the model's own mode comes back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def check_prompt(model: PreTrainedModel, ids: torch.Tensor) -> None:
    """Refuse, before the forward, what a model answers with a device assert or with nonsense.

    Raises:
        PromptError: for no tokens, more than the model has positions for, or ids beyond its vocabulary.
    """
    n_tokens = ids.shape[1]
    if n_tokens == 0:
        raise PromptError("the prompt has no tokens", "give some text with --prompt")
    limit = context_length(model)
    if limit and limit < n_tokens:
        raise PromptError(
            f"the prompt has {n_tokens:,} tokens, the model takes {limit:,}", f"cut it with --max-tokens {limit}"
        )
    n_known = model.get_input_embeddings().weight.shape[0]
    unknown = ids[(ids < 0) | (ids >= n_known)]
    if len(unknown):
        raise PromptError(
            f"the prompt holds token id {int(unknown[0])}, the model knows 0 to {n_known - 1:,}",
            "the tokenizer does not belong to this model",
        )


def context_length(model: PreTrainedModel) -> int | None:
    """How many tokens a model has positions for; None without a limit."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(limit) if limit and limit > 0 else None  # a model without a limit says None, 0 or -1


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model wants its token ids.

    Accelerate spreads a model over devices, and offloads parameters: these are on `meta` until they are used, and a
    hook knows where that is.
    """
    embedding = model.get_input_embeddings()
    device: torch.device = embedding.weight.device
    if device.type == "meta" and (hook := getattr(embedding, "_hf_hook", None)) is not None:
        return torch.device(hook.execution_device)
    return device


def _devices(model: PreTrainedModel) -> str:
    """Where a model's parameters are, each place once: `cpu`, `cuda:0, cuda:1, disk`."""
    places = getattr(model, "hf_device_map", None)
    if not places:
        return str(model.device)
    names = (f"cuda:{place}" if isinstance(place, int) else str(place) for place in places.values())
    return ", ".join(dict.fromkeys(names))


def empty_profile(model: PreTrainedModel, ids: torch.Tensor, tokens: Sequence[str] | None = None) -> Profile:
    """Make the profile of a capture that has not read a layer yet."""
    config = model.config.get_text_config()
    n_layers = int(getattr(config, "num_hidden_layers", None) or 0)  # unknown: layers are added as they come
    first = [int(each) for each in ids[0]]
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
