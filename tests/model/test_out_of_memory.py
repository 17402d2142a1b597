"""Memory that runs out while weights are read: the chunk is halved, the layer read again, the result the same."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from laminar_tui.errors import MemoryNeededError
from laminar_tui.model import eager
from laminar_tui.model.capture import capture
from laminar_tui.model.memory import is_out_of_memory
from laminar_tui.profile.profile import LayerProfile, Profile

TinyModel = Callable[..., Any]
N_TOKENS = 24
N_HEADS = 4
IDS = list(range(2, 2 + N_TOKENS))

GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
HOST = RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory")
PYTHON = MemoryError()


class Shortage:
    """The family's own attention function on a machine with room for so many query rows, and what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, room: int, layer: int = 0) -> None:
        self.asked: list[tuple[int, int]] = []  # (layer, rows)
        true = eager.own_attention_function

        def find(module: torch.nn.Module) -> Callable[..., Any]:
            attend = true(module)

            def short(at: torch.nn.Module, query: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
                self.asked.append((int(at.layer_idx), query.shape[2]))  # type: ignore[arg-type]
                if at.layer_idx >= layer and query.shape[2] > room:  # type: ignore[operator]
                    raise error
                return attend(at, query, *args, **kwargs)

            return short

        monkeypatch.setattr(eager, "own_attention_function", find)


@pytest.fixture(autouse=True)
def by_the_tap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path has no chunks to halve."""
    monkeypatch.setattr("laminar_tui.model.fast.AT_LEAST_TOKENS", 10**9)


def assert_same_layers(found: Profile, expected: Profile, same: Callable[[Profile, Profile], None]) -> None:
    same(Profile(expected.origin, found.layers), expected)


@pytest.mark.parametrize("error", [GPU, HOST, PYTHON], ids=["gpu", "host", "python"])
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "mistral", "gpt_oss"])
def test_the_chunk_is_halved_until_it_fits_and_the_profile_is_that_of_such_chunks(
    family: str,
    error: BaseException,
    tiny_model: TinyModel,
    same_profile: Callable[[Profile, Profile], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model(family)
    undisturbed = capture(model, IDS, chunk_weights=6 * N_HEADS * N_TOKENS)
    shortage = Shortage(monkeypatch, error, room=7)
    found = capture(model, IDS)
    assert_same_layers(found, undisturbed, same_profile)
    rows = [rows for layer, rows in shortage.asked if layer == 1]
    assert rows[-4:] == [6, 6, 6, 6], "what was too much for one layer is not tried on the next"


def test_layers_before_the_shortage_are_read_once(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama", num_hidden_layers=4)
    capture(model, IDS)  # what is found out once about a model is not counted
    shortage = Shortage(monkeypatch, HOST, room=12, layer=2)
    read: list[int] = []
    capture(model, IDS, on_layer=lambda index, _layer: read.append(index))
    assert read == [0, 1, 2, 3]
    assert shortage.asked == [(0, 24), (1, 24), (2, 24), (2, 12), (2, 12), (3, 12), (3, 12)]


def test_rows_that_were_counted_before_the_shortage_are_not_counted_twice(
    tiny_model: TinyModel, same_profile: Callable[[Profile, Profile], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out in the middle of a layer, when half of its rows are in the tally."""
    model = tiny_model("llama")
    undisturbed = capture(model, IDS, chunk_weights=6 * N_HEADS * N_TOKENS)
    true, calls = eager.own_attention_function, []

    def find(module: torch.nn.Module) -> Callable[..., Any]:
        def attend(at: torch.nn.Module, query: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            calls.append(query.shape[2])
            if calls == [12, 12]:
                raise HOST
            return true(module)(at, query, *args, **kwargs)

        return attend

    monkeypatch.setattr(eager, "own_attention_function", find)
    found = capture(model, IDS, chunk_weights=12 * N_HEADS * N_TOKENS)
    assert calls == [12, 12, 6, 6, 6, 6, 6, 6, 6, 6]
    assert_same_layers(found, undisturbed, same_profile)


def test_below_one_row_it_gives_up_and_says_what_was_tried(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama", num_hidden_layers=3)
    capture(model, IDS)
    Shortage(monkeypatch, HOST, room=0, layer=2)
    read: dict[int, LayerProfile] = {}
    with pytest.raises(MemoryNeededError) as refused:
        capture(model, IDS, on_layer=lambda index, layer: read.update({index: layer}))
    assert "in layer 2" in refused.value.message
    assert "24, 12, 6, 3, 1 query rows" in refused.value.message
    assert "--max-tokens" in refused.value.hint
    assert list(read) == [0, 1], "what was read is kept"
    assert model.config._attn_implementation == "eager" or "laminar" not in model.config._attn_implementation


def test_memory_that_runs_out_elsewhere_in_the_forward_is_said_as_that(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    capture(model, IDS)

    def full(*_: object) -> None:
        raise GPU

    monkeypatch.setattr(model.model.layers[1].mlp, "forward", full)
    with pytest.raises(MemoryNeededError, match="24 tokens"):
        capture(model, IDS)


def test_another_error_of_the_attention_function_is_not_taken_for_a_shortage(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    capture(model, IDS)
    shortage = Shortage(monkeypatch, RuntimeError("shapes do not fit"), room=0)
    with pytest.raises(Exception, match="shapes do not fit"):
        capture(model, IDS)
    assert shortage.asked == [(0, 24)], "it is not tried again"


def test_a_real_allocation_that_is_too_large_is_recognised() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as torch_error:
        torch.empty(2**55, dtype=torch.uint8)
    assert is_out_of_memory(torch_error.value)
    with pytest.raises(MemoryError) as numpy_error:
        np.empty(2**55, dtype=np.uint8)
    assert is_out_of_memory(numpy_error.value)
    assert not is_out_of_memory(ValueError("out of memory"))
