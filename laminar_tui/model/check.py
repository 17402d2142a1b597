"""Proof, on this model, that what was read is what was used: every weight against an independent eager run.

The oracle is the model's own `output_attentions` under eager attention, which shares nothing with the tap but the
model. It holds every pattern, so it is run on a short prompt only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from transformers import PreTrainedModel

from laminar_tui.errors import ModelError, UntrustedWeightsError
from laminar_tui.model.attention import attention_implementation
from laminar_tui.model.capture import capture
from laminar_tui.model.eager import Chunk
from laminar_tui.model.forward import evaluating, forward, input_device
from laminar_tui.model.mechanisms import find_mechanism
from laminar_tui.model.recipes import RECIPES, Recipe, recipe_tapped
from laminar_tui.profile.profile import Check
from laminar_tui.profile.wording import part

MAX_CHECK_TOKENS = 128

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 2e-1}
"""How far a weight may be from the eager run's, by the model's dtype.

float32 in chunks rounds differently in the last digits. Eager half-precision scores are themselves rounded and the
tap's are not, and what they are made of drifts apart from layer to layer: on SmolLM2-135M (30 layers, 118 tokens) a
weight is off by 0.008 at most in float16 and 0.07 in bfloat16."""
VARIATION = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How large a layer's total variation may be: wrong readings are off by 0.1 to 0.9 of it, rounding by 0.001 to 0.01."""

TOLD_APART = 3.0
"""How many times as far from the truth as the reading a control has to be, to count as rejected."""


@dataclass(frozen=True)
class LayerCheck:
    """One layer's weights against the eager run's.

    Attributes:
        layer: its number among those that attend.
        max_difference: the largest of all weights' differences.
        total_variation: half the sum of a query's differences, the mean over heads and queries: 0 to 1.
        controls: recipe -> total variation against the truth, of readings known to be wrong.
    """

    layer: int
    max_difference: float
    total_variation: float
    controls: dict[str, float]


@dataclass(frozen=True)
class Verdict:
    """What a full check found."""

    checks: tuple[Check, ...]
    layers: tuple[LayerCheck, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)


def check_model(model: PreTrainedModel, input_ids: torch.Tensor | Sequence[int]) -> Verdict:
    """Compare every weight that is read with the model's own eager run, layer by layer.

    Args:
        model: a transformers causal LM in memory; it is left as it was found.
        input_ids: token ids, [n_tokens] or [1, n_tokens]; the first `MAX_CHECK_TOKENS` are used.

    Raises:
        PromptError, ModelError: as `capture` does.
    """
    ids = torch.as_tensor(input_ids)
    ids = (ids[None] if ids.ndim == 1 else ids)[:, :MAX_CHECK_TOKENS].to(input_device(model))
    tolerance = TOLERANCE.get(model.dtype, max(TOLERANCE.values()))
    variation = VARIATION.get(model.dtype, max(VARIATION.values()))
    before = _implementations(model)
    outputs_before = _last_hidden(model, ids)
    structural = _structural(model, ids)
    read = Keeper()
    with evaluating(model):
        find_mechanism(model).read(model, read, ids)
    truth = eager_patterns(model, ids)
    layers = _compare(model, ids, read.patterns, truth)
    worst = max((layer.max_difference for layer in layers), default=float("nan"))
    varied = max((layer.total_variation for layer in layers), default=float("nan"))
    moved = (_last_hidden(model, ids) - outputs_before).abs().max().item()
    checks = [
        *structural,
        Check("as many patterns as the eager run", len(read.patterns) == len(truth), f"{len(read.patterns)}"),
        Check(f"every weight equals the eager run's within {part(tolerance)}", worst <= tolerance, _difference(worst)),
        Check(f"no layer's total variation is above {part(variation)}", varied <= variation, _difference(varied)),
        Check(
            "the model's outputs are unchanged",
            moved == 0,
            "to the last digit" if moved == 0 else f"moved by up to {moved:.2g}",
        ),
        Check("the model's settings are as they were", _implementations(model) == before, "put back"),
    ]
    for name in layers[0].controls if layers else ():
        farthest = max(layer.controls[name] for layer in layers)
        checks.append(
            Check(
                f"the control '{name}' is rejected",
                farthest > TOLD_APART * varied,
                f"total variation up to {farthest:.2f}",
            )
        )
    return Verdict(tuple(checks), layers, tolerance)


def _difference(most: float) -> str:
    """Say how far from the eager run something is that lies between 0 and 1."""
    if most == 0:
        return "the same to the last digit"
    return f"off by {part(most)} at most" if isfinite(most) else "there is nothing to compare"


def eager_patterns(model: PreTrainedModel, ids: torch.Tensor) -> list[torch.Tensor]:
    """Every layer's pattern as the model's own eager attention gives it, float32 [n_heads, query, key] each.

    Raises:
        ModelError: if the model gives none.
    """
    with evaluating(model), attention_implementation(model, "eager"):
        given = model(input_ids=ids, use_cache=False, output_attentions=True).attentions
    patterns = [each[0].float() for each in given or () if each is not None and _is_pattern(each)]
    if not patterns:
        raise ModelError(
            "the model gives no attentions back under eager attention", "there is nothing to check against"
        )
    return patterns


def _is_pattern(weights: torch.Tensor) -> bool:
    """Some families list blocks among their attentions that are no softmax."""
    return weights.ndim == 4 and weights.shape[2] <= weights.shape[3] and bool((weights >= 0).all())


def _structural(model: PreTrainedModel, ids: torch.Tensor) -> tuple[Check, ...]:
    try:
        return capture(model, ids).origin.checks
    except UntrustedWeightsError as error:
        return (Check("what every capture checks", False, error.message),)


def _last_hidden(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    with evaluating(model):
        hidden: torch.Tensor = forward(model, ids, None)[0].float()
    return hidden


def _implementations(model: PreTrainedModel) -> list[str | None]:
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    return [getattr(config, "_attn_implementation", None) for config in configs]


def _compare(
    model: PreTrainedModel, ids: torch.Tensor, read: list[torch.Tensor], truth: list[torch.Tensor]
) -> tuple[LayerCheck, ...]:
    controls = {name: read_recipe(model, ids, recipe) for name, recipe in RECIPES.items() if recipe.fits(model)}
    checks = []
    for layer, (ours, theirs) in enumerate(zip(read, truth, strict=False)):
        if ours.shape != theirs[..., : ours.shape[-1]].shape:
            checks.append(LayerCheck(layer, float("inf"), float("inf"), {}))
            continue
        theirs = theirs[..., : ours.shape[-1]]
        varied = {name: total_variation(patterns[layer], theirs) for name, patterns in controls.items()}
        checks.append(LayerCheck(layer, (ours - theirs).abs().max().item(), total_variation(ours, theirs), varied))
    return tuple(checks)


def read_recipe(model: PreTrainedModel, ids: torch.Tensor, recipe: Recipe) -> list[torch.Tensor]:
    """Read a control's weights: a layer an entry, [n_heads, n_tokens, n_tokens]."""
    keeper = Keeper()
    with evaluating(model), recipe_tapped(model, keeper, recipe):
        forward(model, ids, None)
    return keeper.patterns


def total_variation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Half the sum of a query's differences, the mean over heads and queries q >= 1 (query 0 sees only itself)."""
    if one.shape[1] < 2:
        return 0.0
    return float((one - other).abs().sum(dim=-1)[:, 1:].mean() / 2)


class Keeper:
    """Keeps every layer's pattern; a module's second call in one visit brings the same ones and is left out."""

    def __init__(self) -> None:
        self.patterns: list[torch.Tensor] = []
        self._rows: list[torch.Tensor] = []

    def begin_layer(self, module: torch.nn.Module) -> None:
        """Begin a pattern."""
        del module
        self._rows = []

    def stop_if_cancelled(self) -> None:
        """Nothing stops it."""

    def tally_for_tiles(self, n_heads: int) -> None:
        """It wants the rows."""

    def receive(self, chunk: Chunk) -> None:
        """Keep some rows."""
        self._rows.append(chunk.weights[0])

    def end_layer(self) -> None:
        """Put the rows together."""
        pattern = torch.cat(self._rows, dim=1)
        if not self.patterns or not torch.equal(pattern, self.patterns[-1]):
            self.patterns.append(pattern)
