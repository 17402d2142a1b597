"""Memory that runs out while weights are read: the chunk is halved, the layer read again, the result the same."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from test_fast import assert_same

from laminar_tui.errors import MemoryNeededError
from laminar_tui.model import capture as capturing
from laminar_tui.model import device, eager, fast, nulls, patterns, tap
from laminar_tui.model.capture import capture
from laminar_tui.model.memory import is_out_of_memory
from laminar_tui.model.patterns import KeptPatterns
from laminar_tui.model.roles import measure_roles
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
def by_the_tap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path has no chunks to halve."""
    if "in_tiles" not in request.fixturenames:
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


@pytest.mark.parametrize("error", [GPU, HOST, PYTHON], ids=["gpu", "host", "python"])
def test_roles_are_measured_on_the_rows_of_the_last_try_alone(
    error: BaseException, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out when the first half of a layer's rows was kept."""
    model = tiny_model("llama")
    expected = measure_roles(model, period=8, n_sequences=1)
    true, calls = eager.own_attention_function, []

    def find(module: torch.nn.Module) -> Callable[..., Any]:
        def attend(at: torch.nn.Module, query: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            calls.append(query.shape[2])
            if calls == [8, 8]:
                raise error
            return true(module)(at, query, *args, **kwargs)

        return attend

    monkeypatch.setattr(eager, "own_attention_function", find)
    monkeypatch.setattr(eager, "CHUNK_WEIGHTS", 8 * N_HEADS * 16)
    found = measure_roles(model, period=8, n_sequences=1)
    assert calls == [8, 8, *[4] * 8]
    for name, scores in expected.scores.items():
        np.testing.assert_allclose(found.scores[name], scores, atol=1e-6)


@pytest.mark.parametrize("error", [GPU, HOST, PYTHON], ids=["gpu", "host", "python"])
def test_no_room_for_the_model_a_second_time_is_told(
    error: BaseException, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(*_args: Any, **_kwargs: Any) -> None:
        raise error

    model = tiny_model("llama")
    monkeypatch.setattr(nulls.AutoModelForCausalLM, "from_config", make)
    with pytest.raises(MemoryNeededError, match="no room for llama a second time"):
        nulls.with_random_parameters(model)


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


# -- what is only kept for later gives way first ----------------------------------------------------------------------


def test_what_is_kept_for_questions_goes_before_the_chunk_is_halved(
    tiny_model: TinyModel, same_profile: Callable[[Profile, Profile], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, keep = tiny_model("llama", num_hidden_layers=3), KeptPatterns()
    undisturbed = capture(model, IDS)
    asked: list[int] = []
    true = eager.own_attention_function

    def find(module: torch.nn.Module) -> Callable[..., Any]:
        def attend(at: torch.nn.Module, query: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            asked.append(query.shape[2])
            if at.layer_idx == 1 and keep.n_bytes:
                raise HOST
            return true(module)(at, query, *args, **kwargs)

        return attend

    monkeypatch.setattr(eager, "own_attention_function", find)
    found = capture(model, IDS, keep=keep)
    assert asked == [24, 24, 24, 24], "the second layer twice, in one piece"
    assert_same_layers(found, undisturbed, same_profile)
    assert keep.kept_layers == ()
    assert "run again when asked for" in keep.scope
    np.testing.assert_allclose(np.nansum(keep.rows(2, 1, 5, 6)), 1, atol=1e-6)


@pytest.fixture
def in_tiles(tiny_model: TinyModel) -> Any:
    """A model of four layers that is read by the fast path."""
    model = tiny_model("llama", num_hidden_layers=4)
    assert capture(model, IDS).origin.mechanism == "fast"
    return model


@pytest.mark.parametrize("error", [GPU, HOST, PYTHON], ids=["gpu", "host", "python"])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("mechanism", ["tap", "fast"])
def test_a_copy_for_which_there_is_no_room_is_not_kept_and_the_layer_is_read(
    mechanism: str,
    layer: int,
    error: BaseException,
    tiny_model: TinyModel,
    same_profile: Callable[[Profile, Profile], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast, "AT_LEAST_TOKENS", 16 if mechanism == "fast" else 10**9)
    model, keep = tiny_model("llama", num_hidden_layers=3), KeptPatterns()
    undisturbed = capture(model, IDS)
    own, copied = patterns._own_call, []

    def copy(call: eager.Call) -> eager.Call:
        copied.append(call.module.layer_idx)
        if copied[-1] == layer:
            raise error
        return own(call)

    monkeypatch.setattr(patterns, "_own_call", copy)
    found = capture(model, IDS, keep=keep)
    assert found.origin.mechanism == mechanism
    assert copied == list(range(layer + 1)), "nothing more is kept"
    assert_same_layers(found, undisturbed, same_profile)
    assert keep.kept_layers == ()


def test_what_does_not_fit_is_not_copied_first(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model, everything = tiny_model("llama"), KeptPatterns()
    capture(model, IDS, keep=everything)
    n_bytes = everything.n_bytes // len(everything.kept_layers)
    own, copied = patterns._own_call, []

    def copy(call: eager.Call) -> eager.Call:
        copied.append(call)
        return own(call)

    monkeypatch.setattr(patterns, "_own_call", copy)
    capture(model, IDS, keep=KeptPatterns(n_bytes // 2))
    assert not copied
    capture(model, IDS, keep=KeptPatterns(2 * n_bytes))
    assert copied


class ShortTiles:
    """The fast path on a machine that has no room for some layers, as long as something is kept or for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, is_short: Callable[[int], bool], error: BaseException) -> None:
        self.begun: list[int] = []
        true = fast.attend

        def short(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self.begun.append(len(self.begun))
            if is_short(len(self.begun)):
                true(query, key, value, *args, **kwargs)  # it has counted all of the layer when it fails
                raise error
            return true(query, key, value, *args, **kwargs)

        monkeypatch.setattr(fast, "attend", short)


@pytest.mark.parametrize("error", [GPU, HOST, PYTHON], ids=["gpu", "host", "python"])
def test_on_the_fast_path_too_and_no_row_is_counted_twice(
    error: BaseException,
    in_tiles: Any,
    same_profile: Callable[[Profile, Profile], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed, keep = capture(in_tiles, IDS), KeptPatterns()
    tiles = ShortTiles(monkeypatch, lambda _number: len(keep.kept_layers) == 4, error)
    found = capture(in_tiles, IDS, keep=keep)
    assert len(tiles.begun) == 5, "the fourth layer was read twice"
    assert_same_layers(found, undisturbed, same_profile)
    assert (keep.kept_layers, keep.keep_bytes) == ((), 0)


def test_on_the_fast_path_with_nothing_to_give_up_what_was_read_is_kept_and_the_layer_named(
    in_tiles: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = KeptPatterns()
    tiles = ShortTiles(monkeypatch, lambda number: number > 2, HOST)
    read: dict[int, LayerProfile] = {}
    with pytest.raises(MemoryNeededError) as refused:
        capture(in_tiles, IDS, on_layer=lambda index, layer: read.update({index: layer}), keep=keep)
    assert refused.value.message == "out of memory in layer 2: no room to read 4 heads on 24 tokens in tiles"
    assert "--max-tokens" in refused.value.hint
    assert list(read) == [0, 1], "what was read is kept"
    assert len(tiles.begun) == 4, "once more without what was kept, and no further"
    assert "laminar" not in in_tiles.config._attn_implementation


class ShortDevice:
    """An accelerator, on this machine, with room for tiles of so many weights; what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, error: BaseException) -> None:
        self.asked: list[int] = []
        true = device.find_in_tiles

        def short(*layer: Any, most_weights: int = 0, **options: Any) -> device.Found:
            if options.get("keep") is None:
                self.asked.append(most_weights)
                if most_weights > room:
                    raise error
            return true(*layer, most_weights=most_weights, **options)

        monkeypatch.setattr(tap, "_attend_in_tiles", lambda _query: device.attend)
        monkeypatch.setattr(device, "find_in_tiles", short)
        monkeypatch.setattr(device, "TILE_WEIGHTS", 4096)
        monkeypatch.setattr(device, "FEW_WEIGHTS", 200)
        monkeypatch.setattr(device, "tile_weights", lambda _device: 3000)


@pytest.mark.parametrize("error", [GPU, HOST], ids=["gpu", "host"])
def test_an_accelerators_tiles_are_halved_until_they_fit_and_stay_so(
    error: BaseException, in_tiles: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = capture(in_tiles, IDS)
    short = ShortDevice(monkeypatch, 800, error)
    found = capture(in_tiles, IDS)
    assert found.origin.mechanism == "fast"
    assert short.asked == [4096, 1500, 750, 750, 750, 750], "what was too much for one layer is not tried on the next"
    for one, other in zip(found.layers, undisturbed.layers, strict=True):
        assert_same(one, other)


def test_below_the_smallest_tiles_an_accelerator_reads_by_the_tap(
    in_tiles: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = capture(in_tiles, IDS)
    short = ShortDevice(monkeypatch, 0, GPU)
    found = capture(in_tiles, IDS)
    assert found.origin.mechanism == "tap"
    assert short.asked == [4096, 1500, 750, 375, 200]
    for one, other in zip(found.layers, undisturbed.layers, strict=True):
        assert_same(one, other)


@pytest.fixture
def off_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel whose rows do not sum to 1: the tiles do every layer once more, when it has arrived."""
    true = device.find_in_tiles

    def find(*layer: Any) -> device.Found:
        found = true(*layer[:4], None)
        found.rows[3] += 1e-3
        return found

    monkeypatch.setattr(device, "_find_by_kernel", find)
    monkeypatch.setattr(device, "arrives_later", lambda _device: True)


@pytest.mark.usefixtures("off_kernel")
@pytest.mark.parametrize("error", [GPU, HOST], ids=["gpu", "host"])
def test_a_layer_that_is_done_again_late_is_done_in_smaller_tiles_where_there_is_no_room(
    error: BaseException, in_tiles: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = capture(in_tiles, IDS)
    short = ShortDevice(monkeypatch, 800, error)
    found = capture(in_tiles, IDS)
    assert found.origin.mechanism == "fast"
    assert short.asked == [4096, 1500, 750] * 4
    for one, other in zip(found.layers, undisturbed.layers, strict=True):
        assert_same(one, other)


@pytest.mark.usefixtures("off_kernel")
def test_where_the_smallest_do_not_fit_either_the_tap_reads(in_tiles: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = capture(in_tiles, IDS)
    short = ShortDevice(monkeypatch, 0, GPU)
    found = capture(in_tiles, IDS)
    assert found.origin.mechanism == "tap"
    assert set(short.asked) == {4096, 1500, 750, 375, 200}
    for one, other in zip(found.layers, undisturbed.layers, strict=True):
        assert_same(one, other)


@pytest.mark.usefixtures("off_kernel")
def test_what_is_reduced_late_is_told_as_a_shortage_too(in_tiles: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    capture(in_tiles, IDS)
    ShortDevice(monkeypatch, 10**9, GPU)
    true, n_reduced = device.reduce_found, []

    def reduce(*found: Any) -> dict[str, torch.Tensor]:
        n_reduced.append(found)
        if len(n_reduced) == 1:
            raise GPU
        return true(*found)

    monkeypatch.setattr(device, "reduce_found", reduce)
    assert capture(in_tiles, IDS).origin.mechanism == "fast"
    assert len(n_reduced) == 5


def test_what_the_tiles_held_is_let_go_before_the_tap_reads(in_tiles: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames of the error that ended the one try hold its tensors as long as the error is handled."""
    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def find(query: torch.Tensor, *_layer: Any, **_options: Any) -> device.Found:
        scores = torch.zeros(len(query), 9, 9)
        held.append(weakref.ref(scores))
        raise torch.OutOfMemoryError

    true = capturing._read

    def read(mechanism: Any, *args: Any) -> None:
        if mechanism.name == "tap":
            alive.extend(each() is not None for each in held)
        true(mechanism, *args)

    ShortDevice(monkeypatch, 0, GPU)
    monkeypatch.setattr(device, "find_in_tiles", find)
    monkeypatch.setattr(capturing, "_read", read)
    assert capture(in_tiles, IDS).origin.mechanism == "tap"
    assert alive
    assert not any(alive)


def test_on_the_fast_path_another_error_is_not_taken_for_a_shortage(
    in_tiles: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = ShortTiles(monkeypatch, lambda number: number == 1, RuntimeError("shapes do not fit"))
    with pytest.raises(Exception, match="shapes do not fit"):
        capture(in_tiles, IDS, keep=KeptPatterns())
    assert len(tiles.begun) == 1


def test_a_real_allocation_that_is_too_large_is_recognised() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as torch_error:
        torch.empty(2**55, dtype=torch.uint8)
    assert is_out_of_memory(torch_error.value)
    with pytest.raises(MemoryError) as numpy_error:
        np.empty(2**55, dtype=np.uint8)
    assert is_out_of_memory(numpy_error.value)
    assert not is_out_of_memory(ValueError("out of memory"))
