"""What is found out about a model on a few tokens, before its weights are read and believed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.model.attention import attention_implementation, attention_named, is_attention
from laminar_tui.model.forward import check_prompt, evaluating, forward, input_device
from laminar_tui.model.mechanisms import HOOKS, Mechanism, find_mechanism
from laminar_tui.model.tap import Ignore, is_fast_path_equal, tapped
from laminar_tui.profile.profile import Check
from laminar_tui.profile.wording import part

PROBE_TOKENS = 16
"""How many tokens the output is compared on: enough for a mistake to show, few enough to cost next to nothing."""


def prepare(model: PreTrainedModel, input_ids: Sequence[int]) -> None:
    """Find out once, on tokens of the caller's choice, what `capture` finds out about a model on its first prompt.

    Then it is the same in every process that reads some of many prompts, and for prompts that are too short for it.

    Args:
        input_ids: [n_tokens], repeated up to `PROBE_TOKENS`.
    """
    ids = few_tokens(model, input_ids)
    check_prompt(model, ids)
    probe(model, find_mechanism(model), ids)


def few_tokens(model: PreTrainedModel, input_ids: Sequence[int]) -> torch.Tensor:
    """The first `PROBE_TOKENS` of some tokens, repeated where they are fewer, [1, PROBE_TOKENS], where a model is."""
    return torch.tensor([(list(input_ids) * PROBE_TOKENS)[:PROBE_TOKENS]], device=input_device(model))


@dataclass(frozen=True)
class Probe:
    """What was found out about a model on a few tokens: the checks, and whether the fast path is equal."""

    checks: tuple[Check, ...]
    is_fast: bool


_probes: WeakKeyDictionary[PreTrainedModel, tuple[torch.dtype, torch.device, Probe]] = WeakKeyDictionary()


def probe(model: PreTrainedModel, mechanism: Mechanism, ids: torch.Tensor) -> Probe:
    """Find it out once for each model, dtype and device: it depends on the code that runs, not on the prompt.

    A shorter prompt than `PROBE_TOKENS` shows too little (one token always attends to itself alone) to be remembered,
    or to trust the fast path for.

    Raises:
        UntrustedWeightsError: if a model that is read by hooks, under eager attention, does something else as it is
            usually run.
    """
    known = _probes.get(model)
    device = ids.device
    if known is None or known[:2] != (model.dtype, device):
        few = ids[:, :PROBE_TOKENS]
        is_fast, is_enough = False, few.shape[1] == PROBE_TOKENS
        if is_enough and mechanism is not HOOKS:
            with evaluating(model):
                is_fast = is_fast_path_equal(model, lambda: forward(model, few, None))
        known = (
            model.dtype,
            device,
            Probe((_check_outputs(model, mechanism, few), *_tell_rounding(model, mechanism)), is_fast),
        )
        if is_enough:
            _probes[model] = known
    return known[2]


def _tell_rounding(model: PreTrainedModel, mechanism: Mechanism) -> tuple[Check, ...]:
    """Say that what hooks take was rounded before they took it: only the tap sees weights in float32 at any dtype."""
    if mechanism is not HOOKS or model.dtype == torch.float32:
        return ()
    dtype = str(model.dtype).removeprefix("torch.")
    return (Check(f"weights are counted as the model's own attention rounds them, to {dtype}", True, "all"),)


def _check_outputs(model: PreTrainedModel, mechanism: Mechanism, ids: torch.Tensor) -> Check:
    """See on a few tokens that the model puts out while it is read what it puts out without.

    Under the tap that is the output of its own eager attention. Hooks read eager attention itself, which is not what
    the model does as it is usually run wherever a family's two ways differ: Falcon's eager adds its ALiBi twice.

    In half precision the two round differently (the tap's softmax is float32), and a mixture of experts may then choose
    another expert: the check is for what is wrong, not for the last digit.
    """
    options = {"output_attentions": True} if mechanism.asks_for_attentions else {}
    usual = _usual_implementation(model) if mechanism is HOOKS else "eager"
    usually = attention_named if mechanism is HOOKS else attention_implementation
    reading = attention_implementation(model, "eager") if mechanism is HOOKS else tapped(model, Ignore())
    with evaluating(model):
        with usually(model, usual):
            plain_first, plain = _outputs(model, ids)
        with reading:
            read_first, read = _outputs(model, ids, **options)
    moved = _distance(read, plain)
    is_half = model.dtype != torch.float32
    found = "not changed at all" if moved == 0 else f"changed by {part(moved)}" if isfinite(moved) else "not a number"
    if mechanism is HOOKS and (off := _distance(read_first, plain_first)) > (0.02 if is_half else 1e-3):
        raise UntrustedWeightsError(
            f"{model.config.model_type} computes something else under eager attention than under {usual}: "
            f"the first layer's output is changed by {part(off)}",
            "its weights can be read under eager attention alone, and are not those that it uses by default",
        )
    return Check("the model's output is what it is without the reading", moved <= (0.1 if is_half else 1e-3), found)


def _outputs(model: PreTrainedModel, ids: torch.Tensor, **options: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model: what its first attention module puts out, and what it puts out itself.

    In the first layer half precision has rounded once only; at the end it may hide that a few tokens are attended to
    otherwise.
    """
    found: list[torch.Tensor] = []

    def take(_module: torch.nn.Module, _args: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple | list) else output
        if isinstance(first, torch.Tensor) and not found:
            found.append(first.float())

    handles = [module.register_forward_hook(take) for module in model.modules() if is_attention(module)]
    try:
        last = forward(model, ids, None, **options)[0].float()
    finally:
        for handle in handles:
            handle.remove()
    return (*found, last)[0], last


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """The root mean square of what two outputs differ by, as a part of that of the second."""
    return float((one - other).square().mean().sqrt() / other.square().mean().sqrt().clamp(min=1e-12))


def _usual_implementation(model: PreTrainedModel) -> str:
    """The attention that a model runs by default: as it was found, unless that is the eager one readers ask for."""
    found = str(model.config._attn_implementation)
    return "sdpa" if found == "eager" and model._supports_sdpa else found
