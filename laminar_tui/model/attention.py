"""The attention modules of a model: which they are, how often each is entered, and how they attend."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from laminar_tui.errors import ModelError


def uses_interface(module: nn.Module) -> bool:
    """Whether a module calls what is registered with the attention interface."""
    kind: object = type(module)
    return type(module).__module__.partition(".")[0] != "torch" and _class_uses_interface(kind)


@cache
def _class_uses_interface(kind: object) -> bool:
    """Asked of what is compiled: to give the source of one class, Python 3.11 parses the whole file that it is in."""
    methods = (inspect.unwrap(each) for each in vars(kind).values() if callable(each))
    return any("ALL_ATTENTION_FUNCTIONS" in each.__code__.co_names for each in methods if inspect.isfunction(each))


def is_attention(module: nn.Module) -> bool:
    """Whether a module is an attention module: by its class's name, or because it calls the interface."""
    return "Attention" in type(module).__name__ or uses_interface(module)


@contextmanager
def attention_implementation(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let a model attend in another way for a while.

    Raises:
        ModelError: if the model does not let its attention be set.
    """
    before = [(config, config._attn_implementation_internal) for config in _configs(model)]
    try:
        if model.config._attn_implementation != name:
            level = transformers_logging.get_verbosity()
            transformers_logging.set_verbosity_error()  # it warns of sub-configs without a model of their own
            try:
                model.set_attn_implementation(name)
            finally:
                transformers_logging.set_verbosity(level)
        if model.config._attn_implementation != name:
            raise ModelError(
                f"{model.config.model_type} does not let its attention function be exchanged",
                "load it with attn_implementation='eager'",
            )
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation


@contextmanager
def attention_named(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Name an attention in the configs alone, for a family that asks there in each forward and lets nobody set it."""
    before = [(config, config._attn_implementation_internal) for config in _configs(model)]
    try:
        for config, _ in before:
            config._attn_implementation_internal = name
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation


def _configs(model: PreTrainedModel) -> list[Any]:
    """All configs of a model and of the models within, each once."""
    found: dict[int, Any] = {}
    queue = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    while queue:
        config = queue.pop()
        if id(config) not in found:
            found[id(config)] = config
            queue += [sub for name in config.sub_configs if (sub := getattr(config, name, None)) is not None]
    return list(found.values())


class Visits:
    """How often each attention module of a model has been entered: one may be shared by layers, or loop."""

    def __init__(self, model: nn.Module) -> None:
        self._counts: dict[nn.Module, int] = {}
        self._handles = [
            module.register_forward_pre_hook(self._enter) for module in model.modules() if is_attention(module)
        ]

    def of(self, module: nn.Module) -> int:
        """How often a module has been entered."""
        return self._counts.get(module, 0)

    def entered(self) -> list[nn.Module]:
        """The modules that were entered."""
        return list(self._counts)

    def stop(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, _args: Any) -> None:
        self._counts[module] = self.of(module) + 1
