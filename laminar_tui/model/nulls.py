"""Chance with a model: the same architecture with random parameters, and the same tokens in another order.

Both are captured like any prompt; only what is run differs. What the nulls without a model are, `profile.nulls` says.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from laminar_tui.errors import MemoryNeededError, ModelError, UsageError
from laminar_tui.model.loaded import LoadedModel, TokenizedPrompt
from laminar_tui.model.memory import free_memory, is_out_of_memory
from laminar_tui.profile.nulls import MODEL_NULLS
from laminar_tui.profile.profile import NULL

SEED = 31415
"""Not 0, which a model's own random start may have had."""


@dataclass(frozen=True)
class Null:
    """A way to run a model so that chance shows.

    Attributes:
        name: as on the command line.
        title: as in a report; `Origin.recipe` says `null: TITLE`.
        model: (model, seed) -> the model to run instead; the first one is left as it is.
        order: (number of tokens, seed) -> in which order the prompt's tokens stand, [n_tokens].
    """

    name: str
    title: str
    model: Callable[[PreTrainedModel, int], PreTrainedModel] = lambda model, _seed: model
    order: Callable[[int, int], Sequence[int]] = lambda n_tokens, _seed: range(n_tokens)

    @property
    def recipe(self) -> str:
        """What a profile's origin says."""
        return f"{NULL}{self.title}"


def with_random_parameters(model: PreTrainedModel, seed: int = SEED) -> PreTrainedModel:
    """Make a model of the same config, dtype and device, with parameters as they are before training.

    Takes as much memory again as the model. torch's random state comes back.

    Raises:
        ModelError: if no model can be made of the config, or the model's parameters are not on one device.
        MemoryNeededError: if there is no room for it.
    """
    places = {str(parameter.device) for parameter in model.parameters()}
    if len(places) > 1 or "meta" in places:
        raise ModelError(
            f"{model.config.model_type} is spread over devices, where no model of random parameters can be made",
            "take one device that has room for it twice (--device), or the null `shuffled`",
        )
    needed, free = sum(each.numel() * each.element_size() for each in model.parameters()), free_memory(model.device)
    if free is not None and needed > free:
        raise _no_room(model)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        try:
            fresh = AutoModelForCausalLM.from_config(
                copy.deepcopy(model.config), dtype=model.dtype, attn_implementation="eager", trust_remote_code=False
            )
            made: PreTrainedModel = fresh.to(dtype=model.dtype, device=model.device).eval()
        except (ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise _no_room(model) from error
            raise ModelError(
                f"no model can be made of the config of {model.config.model_type}", " ".join(str(error).split())[:160]
            ) from error
    return made


def _no_room(model: PreTrainedModel) -> MemoryNeededError:
    return MemoryNeededError(
        f"out of memory: no room for {model.config.model_type} a second time, with random parameters",
        "take bfloat16 (--dtype), another device (--device), or the null `shuffled`",
    )


def shuffled(n_tokens: int, seed: int = SEED) -> list[int]:
    """Put tokens in a random order; the first stays, since it is BOS, or the sink, or both."""
    return [*range(min(1, n_tokens)), *(1 + np.random.default_rng(seed).permutation(max(0, n_tokens - 1))).tolist()]


NULLS: dict[str, Null] = {
    null.name: null
    for null in (
        Null("random", MODEL_NULLS["random"], model=with_random_parameters),
        Null("shuffled", MODEL_NULLS["shuffled"], order=shuffled),
    )
}


def find_null(name: str) -> Null:
    """Look a null up.

    Raises:
        UsageError: if there is none of that name.
    """
    if name not in NULLS:
        raise UsageError(f"there is no null '{name}'", f"choose one of: {', '.join(NULLS)}")
    return NULLS[name]


def apply_null(
    null: Null, loaded: LoadedModel, prompt: TokenizedPrompt, seed: int = SEED
) -> tuple[LoadedModel, TokenizedPrompt]:
    """Give the model and the prompt that are to be run for a null."""
    order = null.order(len(prompt.ids), seed)
    moved = TokenizedPrompt(tuple(prompt.ids[at] for at in order), tuple(prompt.tokens[at] for at in order))
    return replace(loaded, model=null.model(loaded.model, seed)), moved
