"""Eight ways to read the wrong weights that still look plausible: the check must reject each of them.

Each is built into the reading while the model itself is left alone: the family's attention function is called with
something missing or in another place, as a reader would that rebuilds attention instead of asking the model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from families import build_family
from torch import nn

from laminar_tui.model import eager
from laminar_tui.model.capture import capture
from laminar_tui.model.check import Verdict, check_model

Attend = Callable[..., Any]


def without_mask(attend: Attend, module: nn.Module, q: Any, k: Any, v: Any, _mask: Any, **kwargs: Any) -> Any:
    return attend(module, q, k, v, None, **kwargs)


def with_a_triangle(attend: Attend, module: nn.Module, q: Any, k: Any, v: Any, _mask: Any, **kwargs: Any) -> Any:
    lowest = torch.finfo(torch.float32).min
    return attend(module, q, k, v, torch.full((q.shape[2], k.shape[2]), lowest).triu(1), **kwargs)


def with_root_d_scaling(attend: Attend, module: nn.Module, q: Any, k: Any, v: Any, mask: Any, **kwargs: Any) -> Any:
    return attend(module, q, k, v, mask, **{**kwargs, "scaling": q.shape[-1] ** -0.5})


def with_tiled_key_heads(attend: Attend, module: Any, q: Any, k: Any, v: Any, mask: Any, **kwargs: Any) -> Any:
    groups = module.num_key_value_groups
    module.num_key_value_groups = 1
    try:
        return attend(module, q, k.repeat(1, groups, 1, 1), v.repeat(1, groups, 1, 1), mask, **kwargs)
    finally:
        module.num_key_value_groups = groups


def without_softcap(attend: Attend, module: nn.Module, q: Any, k: Any, v: Any, mask: Any, **kwargs: Any) -> Any:
    return attend(module, q, k, v, mask, **{**kwargs, "softcap": None})


def without_sink_logit(attend: Attend, module: Any, q: Any, k: Any, v: Any, mask: Any, **kwargs: Any) -> Any:
    sinks = module.sinks.data.clone()
    module.sinks.data.fill_(-1e9)
    try:
        return attend(module, q, k, v, mask, **kwargs)
    finally:
        module.sinks.data.copy_(sinks)


def without_bias(attend: Attend, module: nn.Module, q: Any, k: Any, v: Any, mask: Any, **kwargs: Any) -> Any:
    lowest = torch.finfo(mask.dtype).min
    return attend(module, q, k, v, torch.where(mask > lowest / 2, 0.0, lowest), **kwargs)


MUTATIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "no mask": ("gpt_neox", without_mask),
    "a triangle instead of the mask": ("mistral", with_a_triangle),
    "1/sqrt(d) instead of the model's scaling": ("gemma2", with_root_d_scaling),
    "key heads tiled instead of interleaved": ("llama", with_tiled_key_heads),
    "no softcap": ("gemma2", without_softcap),
    "no sink logit": ("gpt_oss", without_sink_logit),
    "no position bias": ("doge", without_bias),
}


@contextmanager
def mutated(change: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    own = eager.own_attention_function

    def changed(module: nn.Module) -> Attend:
        function = own(module)
        return lambda *args, **kwargs: change(function, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(eager, "own_attention_function", changed)
        yield


def verdict_of(family: str) -> Verdict:
    return check_model(build_family(family), torch.arange(3, 21))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reading_is_rejected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, change = MUTATIONS[name]
    assert verdict_of(family).passed
    with mutated(change, monkeypatch):
        verdict = verdict_of(family)
    assert not verdict.passed
    assert max(layer.total_variation for layer in verdict.layers) > 0.01


def test_the_literal_recipe_is_rejected_and_content_is_not_the_truth() -> None:
    """Query-key-value cut in thirds, without rotary embedding: the eighth."""
    verdict = verdict_of("gpt_neox")
    assert all(layer.controls["literal"] > 0.3 for layer in verdict.layers)
    assert all(layer.controls["content"] > 0.01 for layer in verdict.layers)
    assert all(layer.max_difference < 1e-6 for layer in verdict.layers)


@pytest.mark.parametrize("name", ["no softcap", "no sink logit", "key heads tiled instead of interleaved"])
def test_the_structural_check_alone_sees_that_the_output_moved(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every capture does, without the eager patterns: the model goes on with what was read."""
    family, change = MUTATIONS[name]
    with mutated(change, monkeypatch):
        profile = capture(build_family(family), torch.arange(3, 21))
    assert [check.name for check in profile.origin.failed_checks] == [
        "the model's output is what it is without the reading"
    ]
