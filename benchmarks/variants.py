"""The ways to run a prompt that are compared, by name: what each runs, and how much memory it holds."""

import importlib.util
import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from geometry import Geometry, shared_copy
from rounds import Run

import laminar_tui
from laminar_tui.model.attention import attention_implementation
from laminar_tui.model.forward import evaluating, forward
from laminar_tui.profile.parts import POPULATIONS
from laminar_tui.profile.profile import Profile

BASE = "SDPA"
WITH_HEAD = "SDPA + LM head"
OURS = "laminar_tui, every weight"
EAGER = "eager"
PATTERNS = "eager + output_attentions"
EXERCISE = "eager + scipy (the exercise)"
OUR_CURVES = "laminar_tui + the same curves"
OUR_HEADS = "laminar_tui + every head's curves"
LENS = "TransformerLens, patterns"
LENS_ALL = "TransformerLens, full cache"

ALWAYS = (BASE, WITH_HEAD, OURS, EAGER, PATTERNS, LENS, LENS_ALL)
"""The variants of every row; the others are for the exercise."""

N_GRID = 300


@dataclass(frozen=True)
class Variant:
    """What to run, and a lower bound of the bytes that it holds at once."""

    run: Run
    held_bytes: int


def variants(geometry: Geometry, n_tokens: int, names: Sequence[str]) -> dict[str, Variant]:
    """Some of the ways to run a prompt of a length; those of TransformerLens only where it is installed."""
    model, ids = geometry.model, geometry.prompt(n_tokens)
    pattern = 4 * geometry.n_heads * n_tokens**2
    logits = 4 * n_tokens * int(model.config.vocab_size)
    held = pattern * geometry.n_layers

    def eager() -> None:
        with evaluating(model), attention_implementation(model, "eager"):
            forward(model, ids, None)

    table = {
        BASE: Variant(lambda: plain(model, ids), 0),
        WITH_HEAD: Variant(lambda: with_head(model, ids), logits),
        OURS: Variant(lambda: laminar_tui.capture(model, ids), 0),
        EAGER: Variant(eager, 3 * pattern),
        PATTERNS: Variant(lambda: patterns(model, ids), held + 2 * pattern),
        EXERCISE: Variant(lambda: exercise(model, ids), held + 2 * pattern),
        OUR_CURVES: Variant(lambda: our_curves(model, ids), 0),
        OUR_HEADS: Variant(lambda: our_heads(model, ids), 0),
    }
    if has_lens() and geometry.tokenizer is not None and {LENS, LENS_ALL} & set(names):
        lens = _lens(geometry)
        table[LENS] = Variant(lambda: lens.run(ids, patterns_only=True), held + 2 * pattern + logits)
        table[LENS_ALL] = Variant(lambda: lens.run(ids, patterns_only=False), 2 * held + 2 * pattern + logits)
    return {name: variant for name, variant in table.items() if name in names}


def plain(model: Any, ids: torch.Tensor) -> None:
    """The forward pass up to the LM head, under transformers' default attention."""
    with evaluating(model), attention_implementation(model, "sdpa"):
        forward(model, ids, None)


def with_head(model: Any, ids: torch.Tensor) -> None:
    """The forward pass with all logits, as it is usually called."""
    with evaluating(model), attention_implementation(model, "sdpa"):
        model(input_ids=ids, use_cache=False)


def patterns(model: Any, ids: torch.Tensor) -> Any:
    """All patterns of all layers, held at once."""
    with evaluating(model), attention_implementation(model, "eager"):
        return forward(model, ids, None, output_attentions=True).attentions


def exercise(model: Any, ids: torch.Tensor) -> list[np.ndarray[Any, Any]]:
    """The exercise: patterns, then scipy's KDE of each layer's self and final weights, all heads together.

    Returns:
        Two curves a layer, [N_GRID] each: token to itself, final token to all previous ones.
    """
    curves = []
    for pattern in patterns(model, ids):
        own = pattern[0].diagonal(dim1=-2, dim2=-1)[:, 1:]
        final = pattern[0, :, -1, :-1]
        curves += [scipy_curve(weights.numpy().ravel()) for weights in (own, final)]
    return curves


def scipy_curve(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`scipy.stats.gaussian_kde` on the grid; zeros for what it cannot do (all weights equal)."""
    from scipy.stats import gaussian_kde

    grid = np.linspace(0, 1, N_GRID)
    try:
        return np.asarray(gaussian_kde(weights)(grid))
    except np.linalg.LinAlgError:
        return np.zeros(N_GRID)


def our_curves(model: Any, ids: torch.Tensor) -> Profile:
    """A capture of every weight, then the exercise's curves by the same estimator."""
    profile = laminar_tui.capture(model, ids)
    for population in ("self", "final"):
        profile.density(population, estimator="gaussian", n_grid=N_GRID)
    return profile


def our_heads(model: Any, ids: torch.Tensor) -> Profile:
    """A capture, then the curve of every head and population."""
    profile = laminar_tui.capture(model, ids)
    for population in POPULATIONS:
        profile.density(population, by="head", estimator="gaussian", n_grid=N_GRID)
    return profile


def has_lens() -> bool:
    """Whether TransformerLens is installed."""
    return importlib.util.find_spec("transformer_lens") is not None


@cache
def _lens(geometry: Geometry) -> "_Lens":
    return _Lens(geometry)


class _Lens:
    """TransformerLens around a copy of the model: it exchanges the model's modules."""

    def __init__(self, geometry: Geometry) -> None:
        self._bridge: Any = _boot(geometry)

    def run(self, ids: torch.Tensor, *, patterns_only: bool) -> Any:
        """`run_with_cache`, of the patterns or of everything."""
        names = (lambda name: name.endswith("hook_pattern")) if patterns_only else None
        with torch.no_grad():
            return self._bridge.run_with_cache(ids, names_filter=names)


def _boot(geometry: Geometry) -> Any:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        from transformer_lens.model_bridge import TransformerBridge

        return TransformerBridge.boot_transformers(
            "EleutherAI/pythia-70m",  # a label: the model is given, and nothing is fetched
            hf_model=shared_copy(geometry.model),
            tokenizer=geometry.tokenizer,
            device="cpu",
        )
