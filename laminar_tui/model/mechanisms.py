"""The ways in which weights get out of a forward pass, and which of them a model takes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from laminar_tui.errors import ModelError
from laminar_tui.model.attention import attention_implementation, is_attention, uses_interface
from laminar_tui.model.forward import forward
from laminar_tui.model.hooks import hooked
from laminar_tui.model.recipes import Recipe, recipe_tapped
from laminar_tui.model.tap import Receiver, tapped, tapped_fast

Watch = Callable[[PreTrainedModel, Receiver, int | None], AbstractContextManager[None]]
"""Sends the weights of every forward within it to a receiver, so many weights at a time where it can choose."""


@dataclass(frozen=True)
class Mechanism:
    """A way to read a model.

    Attributes:
        name: what a profile calls it.
        watch: what is put around a forward pass.
        asks_for_attentions: whether the model is asked to give its weights back.
    """

    name: str
    watch: Watch
    asks_for_attentions: bool = False

    def read(
        self,
        model: PreTrainedModel,
        receiver: Receiver,
        ids: torch.Tensor,
        mask: torch.Tensor | None = None,
        chunk_weights: int | None = None,
    ) -> None:
        """Run one forward pass and send its weights to a receiver.

        Args:
            ids, mask: [batch, n_tokens]; no mask where nothing is padding.
            chunk_weights: how many weights at a time, for the tap alone.
        """
        options = {"output_attentions": True} if self.asks_for_attentions else {}
        with self.watch(model, receiver, chunk_weights):
            forward(model, ids, mask, **options)


def _watch_fast(model: PreTrainedModel, receiver: Receiver, _chunk_weights: int | None) -> AbstractContextManager[None]:
    return tapped_fast(model, receiver)  # it finds the size of its tiles by itself


@contextmanager
def _watch_by_hooks(model: PreTrainedModel, receiver: Receiver, _chunk_weights: int | None) -> Iterator[None]:
    # Eager attention makes the weights of a layer in one piece.
    with attention_implementation(model, "eager"), hooked(model, receiver):
        yield


FAST = Mechanism("fast", _watch_fast)
"""In tiles, on a model on which that gives what the tap gives."""
KERNEL = "kernel"
"""What a profile calls the fast path on the layers that a GPU's kernel read."""
TAP = Mechanism("tap", tapped)
"""By the family's own attention function."""
HOOKS = Mechanism("hooks", _watch_by_hooks, asks_for_attentions=True)
"""From what eager attention modules give back, where a model does not go through the attention interface."""


def find_mechanism(model: PreTrainedModel) -> Mechanism:
    """Say how a model's weights can be read: by the tap, or by hooks.

    Raises:
        ModelError: if it has no attention modules.
    """
    if any(uses_interface(module) for module in model.modules()):
        return TAP
    if any(is_attention(module) for module in model.modules()):
        return HOOKS
    raise ModelError(f"{model.config.model_type} has no softmax attention", "there are no attention weights to look at")


def by_recipe(mechanism: Mechanism, recipe: Recipe) -> Mechanism:
    """Read a control's weights in place of the model's, on a model that is read by a mechanism."""

    def watch(model: PreTrainedModel, receiver: Receiver, chunk_weights: int | None) -> AbstractContextManager[None]:
        return recipe_tapped(model, receiver, recipe, chunk_weights)

    return replace(mechanism, watch=watch, asks_for_attentions=False)
