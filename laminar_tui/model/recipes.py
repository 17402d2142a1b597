"""Other ways to make weights from a model's numbers, kept as controls: shown beside the truth, never instead of it.

`literal` is a recipe that is right for GPT-2: the fused query-key-value output of GPT-NeoX cut into thirds, no
rotary embedding, 1/sqrt(d), a triangle, softmax. GPT-NeoX lays the output out head by head, so the thirds pair no
head's own query with its own key. `content` cuts it in the right places and leaves the rotary embedding out: what the
tokens' content alone would attend to.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from laminar_tui.errors import MemoryNeededError, UsageError
from laminar_tui.model.eager import Chunk
from laminar_tui.model.tap import Receiver, Restarts, tapped

FUSED = "query_key_value"


@dataclass(frozen=True)
class Recipe:
    """A way to weights from a fused query-key-value output.

    Attributes:
        name: as on the command line.
        title: as on the screen.
        weigh: (fused output [batch, n_tokens, 3 D], n_heads, which queries) -> scores [batch, n_heads, rows, key] of
            these queries before the mask.
        families: the model types it is defined for.
    """

    name: str
    title: str
    weigh: Callable[[torch.Tensor, int, slice], torch.Tensor]
    families: tuple[str, ...] = ("gpt_neox",)

    def fits(self, model: PreTrainedModel) -> bool:
        """Whether it is defined for a model."""
        return str(model.config.model_type) in self.families


def _scores(query: torch.Tensor, key: torch.Tensor, rows: slice) -> torch.Tensor:
    scores: torch.Tensor = query[:, :, rows] @ key.transpose(-1, -2)
    return scores.div_(math.sqrt(query.shape[-1]))


def _heads(fused: torch.Tensor, n_heads: int) -> torch.Tensor:
    """[batch, n_tokens, n_heads * d] -> [batch, n_heads, n_tokens, d]."""
    return fused.reshape(*fused.shape[:2], n_heads, -1).transpose(1, 2)


def literal(fused: torch.Tensor, n_heads: int, rows: slice = slice(None)) -> torch.Tensor:
    """Cut into thirds, then into heads: right for GPT-2's layout, wrong for GPT-NeoX's."""
    query, key, _ = (_heads(third, n_heads) for third in fused.chunk(3, dim=-1))
    return _scores(query, key, rows)


def content(fused: torch.Tensor, n_heads: int, rows: slice = slice(None)) -> torch.Tensor:
    """Cut into heads, then into query, key and value, as the model does; no rotary embedding."""
    query, key, _ = _heads(fused, n_heads).chunk(3, dim=-1)
    return _scores(query, key, rows)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("literal", "literal recipe: not the model's weights", literal),
        Recipe("content", "content alone, no rotary: not the model's weights", content),
    )
}


def find_recipe(name: str, model: PreTrainedModel) -> Recipe:
    """Look a recipe up.

    Raises:
        UsageError: if there is none of that name, or it is not defined for the model.
    """
    if name not in RECIPES:
        raise UsageError(f"there is no recipe '{name}'", f"choose one of: true, {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if not recipe.fits(model):
        raise UsageError(
            f"the recipe '{name}' is not defined for {model.config.model_type}",
            f"it is for {', '.join(recipe.families)} models",
        )
    return recipe


@contextmanager
def recipe_tapped(
    model: PreTrainedModel, receiver: Receiver, recipe: Recipe, chunk_weights: int | None = None
) -> Iterator[None]:
    """Send a recipe's weights to a receiver in the place of the model's; the model itself runs as always."""
    fused: dict[nn.Module, torch.Tensor] = {}
    parents = {module: child for module in model.modules() for name, child in module.named_children() if name == FUSED}

    def keep(parent: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: torch.Tensor) -> None:
            fused[parent] = output

        return hook

    handles = [child.register_forward_hook(keep(parent)) for parent, child in parents.items()]
    try:
        with tapped(model, _Exchange(receiver, recipe, fused), chunk_weights):
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Exchange:
    """Takes the true weights' chunks and hands on the recipe's, for the same rows and the same mask."""

    def __init__(self, receiver: Receiver, recipe: Recipe, fused: dict[nn.Module, torch.Tensor]) -> None:
        self._receiver = receiver
        self._recipe = recipe
        self._fused = fused
        self._module: nn.Module | None = None

    def begin_layer(self, module: nn.Module) -> None:
        """Remember whose output to take."""
        self._module = module
        self._receiver.begin_layer(module)

    def restart_layer(self) -> None:
        """Begin the layer anew, if the receiver can."""
        if not isinstance(self._receiver, Restarts):
            raise MemoryNeededError("out of memory while a control was read", "take fewer tokens (--max-tokens)")
        self._receiver.restart_layer()

    def let_go(self) -> bool:
        """Nothing is kept of a control."""
        return False

    def stop_if_cancelled(self) -> None:
        """Stop where the receiver stops."""
        self._receiver.stop_if_cancelled()

    def tally_for_tiles(self, n_heads: int) -> None:
        """The rows are to be made by the recipe."""

    def receive(self, chunk: Chunk) -> None:
        """Make the same rows by the recipe."""
        assert self._module is not None
        n_heads, n_rows = chunk.weights.shape[1], chunk.weights.shape[2]
        rows = slice(chunk.first_query, chunk.first_query + n_rows)
        scores = self._recipe.weigh(self._fused[self._module].float(), n_heads, rows)
        weights = scores.masked_fill(~chunk.allowed, torch.finfo(torch.float32).min).softmax(dim=-1)
        self._receiver.receive(Chunk(weights, chunk.allowed, chunk.first_query, chunk.n_queries))

    def end_layer(self) -> None:
        """Let go of the output."""
        if self._module is not None:
            self._fused.pop(self._module, None)
        self._receiver.end_layer()
