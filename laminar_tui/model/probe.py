"""What is found out about a model on a few tokens, before its weights are read and believed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from laminar_tui.model.attention import attention_implementation
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
    few = (list(input_ids) * PROBE_TOKENS)[:PROBE_TOKENS]
    ids = torch.tensor([few], device=input_device(model))
    check_prompt(model, ids)
    probe(model, find_mechanism(model), ids)


@dataclass(frozen=True)
class Probe:
    """What was found out about a model on a few tokens: the check of its output, and whether the fast path is equal."""

    check: Check | None
    is_fast: bool


_probes: WeakKeyDictionary[PreTrainedModel, tuple[torch.dtype, torch.device, Probe]] = WeakKeyDictionary()


def probe(model: PreTrainedModel, mechanism: Mechanism, ids: torch.Tensor) -> Probe:
    """Find it out once for each model, dtype and device: it depends on the code that runs, not on the prompt.

    A shorter prompt than `PROBE_TOKENS` shows too little (one token always attends to itself alone) to be remembered,
    or to trust the fast path for.
    """
    if mechanism is HOOKS:
        return Probe(None, False)
    known = _probes.get(model)
    device = ids.device
    if known is None or known[:2] != (model.dtype, device):
        few = ids[:, :PROBE_TOKENS]
        is_fast, is_enough = False, few.shape[1] == PROBE_TOKENS
        if is_enough:
            with evaluating(model):
                is_fast = is_fast_path_equal(model, lambda: forward(model, few, None))
        known = (model.dtype, device, Probe(_check_outputs(model, few), is_fast))
        if is_enough:
            _probes[model] = known
    return known[2]


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
    found = "not changed at all" if moved == 0 else f"changed by {part(moved)}" if isfinite(moved) else "not a number"
    return Check("the model's output is what it is without the reading", moved <= allowed, found)
