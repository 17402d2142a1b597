"""What an accelerator does, done on a CPU: one pass of tiles that equals the fast path, the tap and the formula."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from families import build_family
from fast_and_slow import PLAIN, assert_same, ids, slowly

import laminar_tui
import laminar_tui.model
from laminar_tui.errors import CancelledError, UntrustedWeightsError
from laminar_tui.model import device, fast, found, hooks, masks, tap
from laminar_tui.model.eager import AttentionFunction
from laminar_tui.model.masks import Masks, look_at
from laminar_tui.model.reader import Reader
from laminar_tui.model.tally import LayerTally
from laminar_tui.profile.profile import LayerProfile, Profile

CPU = torch.device("cpu")
N_TOKENS = 70
N_PROBES = len(device.PROBES)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles, the last of them not full: 6 rows of 4 heads and 70 tokens."""
    monkeypatch.setattr(device, "tile_weights", lambda _device: 1700)


def draw(*n_heads: int, d_head: int = 16, n_tokens: int = N_TOKENS, seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, n_tokens, d_head, generator=generator) for n in n_heads]


def band(width: int, n_tokens: int = N_TOKENS) -> torch.Tensor:
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril().triu(1 - width)


def spotted() -> torch.Tensor:
    """A causal mask that is no window: a third of the keys hidden, the first one and every query itself seen or not."""
    mask = torch.rand(N_TOKENS, N_TOKENS, generator=torch.Generator().manual_seed(3)) < 0.67
    mask[:, 0] &= torch.arange(N_TOKENS) % 3 != 1
    return mask.tril() | torch.eye(N_TOKENS, dtype=torch.bool)


MASKS: dict[str, torch.Tensor | None] = {"causal": None, "window": band(9), "narrow": band(1), "spotted": spotted()}


def dense(query: torch.Tensor, key: torch.Tensor, scaling: float, mask: torch.Tensor | None) -> torch.Tensor:
    """The weights by the formula, float32 [n_heads, n_tokens, n_tokens]."""
    scores = query.float() @ key.float().repeat_interleave(len(query) // len(key), dim=0).transpose(1, 2) * scaling
    n_tokens = query.shape[1]
    seen = band(n_tokens, n_tokens) if mask is None else mask
    return scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_tiles_attend_as_the_formula_does(name: str, dtype: torch.dtype) -> None:
    query, key, value = (each.to(dtype) for each in draw(4, 2, 2))
    weights = dense(query, key, 0.3, MASKS[name])
    kept = torch.zeros_like(weights)
    output = device.attend(query, key, value, 0.3, MASKS[name], LayerTally(4, N_TOKENS, CPU), keep=kept)
    torch.testing.assert_close(kept, weights, atol=1e-6, rtol=0)
    expected = (weights @ value.float().repeat_interleave(2, dim=0)).transpose(0, 1)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("n_heads", [(4, 2, 2), (3, 3, 3), (4, 1, 1)], ids=str)
def test_the_tally_gets_what_the_fast_path_gives_it(name: str, n_heads: tuple[int, int, int]) -> None:
    query, key, value = draw(*n_heads)
    tallies = [LayerTally(n_heads[0], N_TOKENS, CPU) for _ in range(2)]
    for attend, tally in zip((device.attend, fast.attend), tallies, strict=True):
        attend(query, key, value, 0.7, MASKS[name], tally)
    one, other = (tally.finish() for tally in tallies)
    assert_same(one, other)
    assert (one.parts["content"].zeros == other.parts["content"].zeros).all()


def test_the_tally_gets_what_dense_weights_give(make_profile: Callable[..., Profile]) -> None:
    query, key, value = draw(4, 2, 2)
    tally = LayerTally(4, N_TOKENS, CPU)
    device.attend(query, key, value, 0.7, None, tally)
    expected: LayerProfile | None = make_profile([dense(query, key, 0.7, None).numpy()]).layers[0]
    assert_same(tally.finish(), expected)


@pytest.mark.parametrize("n_tokens", [2, 3, 17])
def test_short_prompts(n_tokens: int, make_profile: Callable[..., Profile]) -> None:
    query, key, value = draw(2, 2, 2, n_tokens=n_tokens)
    tally = LayerTally(2, n_tokens, CPU)
    device.attend(query, key, value, 1.0, None, tally)
    assert_same(tally.finish(), make_profile([dense(query, key, 1.0, None).numpy()]).layers[0])


@pytest.mark.parametrize("family", PLAIN)
def test_a_model_is_read_as_by_the_tap(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way of another device, on this one: the comparison on few tokens, then every layer in tiles."""
    asked: list[torch.dtype] = []

    def attend(query: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        asked.append(query.dtype)
        return device.attend(query, *rest, **more)

    monkeypatch.setattr(tap, "_attend_in_tiles", lambda _query: attend)
    model = build_family(family)
    read, own = laminar_tui.capture(model, ids()), slowly(model, monkeypatch)
    assert (read.origin.mechanism, own.origin.mechanism) == ("fast", "tap")
    assert len(asked) == 2 * read.n_layers
    for one, other in zip(read.layers, own.layers, strict=True):
        assert_same(one, other)


def test_a_model_on_which_it_is_not_equal_is_read_by_the_tap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tap,
        "_attend_in_tiles",
        lambda _query: lambda q, k, v, *rest, **more: device.attend(q, k.flip(0), v, *rest, **more),
    )
    assert laminar_tui.capture(build_family("llama"), ids()).origin.mechanism == "tap"


@contextmanager
def elsewhere_by_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let what the attention functions make without naming a device land on another one than the query's."""
    attended: list[str] = []

    def elsewhere(attend: AttentionFunction, name: str) -> AttentionFunction:
        def inner(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
            attended.append(name)
            with torch.device("meta"):
                return attend(*args, **kwargs)

        return inner

    def wrap(make: Callable[..., AttentionFunction], name: str) -> Callable[..., AttentionFunction]:
        return lambda *args: elsewhere(make(*args), name)

    with monkeypatch.context() as patch:
        patch.setattr(tap, "_attend_in_tiles", lambda _query: device.attend)
        patch.setattr(tap, "_attend_both_ways", elsewhere(tap._attend_both_ways, "both"))
        patch.setattr(tap, "_attend_fast_with", wrap(tap._attend_fast_with, "fast"))
        patch.setattr(tap, "_attend_with", wrap(tap._attend_with, "tap"))
        yield attended


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "deepseek_v32"])
def test_nothing_is_made_on_another_device_than_the_querys(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a mask that was made on the CPU let the comparison fail, and no layer was ever read in tiles."""
    expected = laminar_tui.capture(build_family(family), ids())
    with elsewhere_by_default(monkeypatch) as attended:
        profile = laminar_tui.capture(build_family(family), ids())
    assert profile.origin.mechanism == expected.origin.mechanism
    assert {"both", profile.origin.mechanism} <= set(attended)
    for one, other in zip(profile.layers, expected.layers, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("family", ["bloom", "gpt_neo"])
def test_hooks_make_nothing_on_another_device_than_the_weights(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = laminar_tui.capture(build_family(family), ids())
    receive, allowed = Reader.receive, hooks._allowed

    def elsewhere(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any) -> Any:
            with torch.device("meta"):
                return function(*args)

        return inner

    monkeypatch.setattr(Reader, "receive", elsewhere(receive))
    monkeypatch.setattr(hooks, "_allowed", elsewhere(allowed))
    profile = laminar_tui.capture(build_family(family), ids())
    for one, other in zip(profile.layers, expected.layers, strict=True):
        assert_same(one, other)


def test_the_devices_way_is_chosen_by_the_device_of_the_query() -> None:
    far = torch.empty(1, 2, 3, 4, device="meta")
    assert tap._attend_in_tiles(far) is device.attend
    assert tap._attend_in_tiles(torch.empty(1, 2, 3, 4)) is not device.attend
    call = {"scaling": 1.0}
    assert tap._fits(torch.nn.Identity(), torch.empty(1, 2, 3, 4), torch.empty(1, 2, 3, 4), None, call, Masks())
    assert not tap._fits(torch.nn.Identity(), far, far, None, call, Masks()), (
        "an unknown kind of device is left to the tap"
    )


@pytest.mark.parametrize("name", ["causal", "window"])
def test_nothing_waits_for_the_device_within_a_layer(name: str) -> None:
    """Tensors of the device `meta` have no values, so that whoever asks for one raises."""
    query, key, value = (each.to("meta") for each in draw(4, 2, 2))
    mask = MASKS[name]
    found = device.find_in_tiles(query, key, value, 0.3, None if mask is None else mask.to("meta"))
    with pytest.raises((NotImplementedError, RuntimeError)):
        float(found.received.sum())


@pytest.mark.parametrize("nan", [float("nan"), -float("nan"), float("inf")])
@pytest.mark.parametrize("head", [0, 1])
def test_weights_that_are_not_finite_are_not_believed(nan: float, head: int) -> None:
    """Nor are they counted: their patterns would be places outside of the bins, which end a process on a GPU."""
    query, key, value = draw(2, 2, 2)
    query[head] = nan
    with pytest.raises(UntrustedWeightsError, match="not finite"):
        device.attend(query, key, value, 1.0, None, LayerTally(2, N_TOKENS, CPU))


def test_weights_that_do_not_sum_to_one_are_not_believed() -> None:
    query, key, value = draw(2, 2, 2)
    found = device.find_in_tiles(query, key, value, 1.0, None)
    found.rows[device.MEASURED.index("total"), 1, 40] += 1e-3
    with pytest.raises(UntrustedWeightsError, match="sum to 1"):
        device.hand_over(found, None, LayerTally(2, N_TOKENS, CPU))


def test_weights_that_underflow_are_counted_apart() -> None:
    """Scores 200 apart: exp(-200) is no float32. They are weights of zero, not hidden keys."""
    query, key, value = draw(2, 2, 2, d_head=8)
    query *= 40
    tally = LayerTally(2, N_TOKENS, CPU)
    device.attend(query, key, value, 1.0, None, tally)
    content = np.tril(np.ones((N_TOKENS, N_TOKENS), bool), -1) & (np.arange(N_TOKENS) > 0)
    weights = dense(query, key, 1.0, None).numpy()
    expected = (np.where(content, weights, 1.0) < 1.2e-38).sum(axis=(1, 2))
    assert expected.min() > 100
    counts = tally.finish().parts["content"].unpack()
    assert counts.zeros == pytest.approx(expected, abs=2)  # a weight at float32's smallest
    assert (counts.n == content.sum()).all()
    assert (counts.hits[:, 0] >= counts.zeros).all()


def test_it_stops_between_tiles() -> None:
    asked = iter(range(100))

    def stop() -> None:
        if next(asked) == 3:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        device.attend(*draw(4, 2, 2), 1.0, None, LayerTally(4, N_TOKENS, CPU), stop=stop)


def test_a_tile_is_a_share_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name, n_bytes in {"memory_reserved": 2**30, "memory_allocated": 2**29}.items():
        monkeypatch.setattr(torch.cuda, name, lambda _device, n_bytes=n_bytes: n_bytes)
    sizes = {}
    for free in (0, 2**29, 2**40):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device, free=free: (free, 2**40))
        sizes[free] = device.tile_weights(torch.device("cuda"))
    # What torch holds and does not use is free, too: half a GiB, a quarter of which is 4 M weights of 32 bytes.
    assert sizes == {0: 2**22, 2**29: 2**23, 2**40: device.TILE_WEIGHTS}
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 2**29)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (0, 2**40))
    assert device.tile_weights(torch.device("cuda")) == device.FEW_WEIGHTS


def test_a_window_is_seen_in_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "BLOCK", 100 * 1100)
    assert [look_at(band(width, 1100)).window for width in (1, 7, 1099)] == [1, 7, 1099]
    assert look_at(band(1100, 1100)).window == 1100
    for row, column in ((1090, 1085), (1090, 3), (5, 6), (1099, 1099)):  # beyond the first block of rows, too
        mask = band(7, 1100)
        mask[row, column] = ~mask[row, column]
        assert look_at(mask).window is None
    assert look_at(torch.zeros(9, 9, dtype=torch.bool)).window is None
    assert look_at(spotted()).window is None


# -- which of the two ways is taken, with a kernel that is none -------------------------------------------------------


class Kernel(SimpleNamespace):
    """Finds what the tiles find, or what is made of it, and counts how often it was asked."""

    def __init__(self, spoil: Callable[[device.Found], device.Found] = lambda found: found) -> None:
        super().__init__(calls=0, spoil=spoil)

    def fits(self, query: torch.Tensor, _key: torch.Tensor, _value: torch.Tensor) -> bool:
        return query.dtype == torch.bfloat16

    def find(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        mask: torch.Tensor | None,
        window: int | None,
    ) -> device.Found:
        self.calls += 1
        assert (mask is None) == (window is None)
        return self.spoil(device.find_in_tiles(query, key, value, scaling, mask))


@pytest.fixture
def with_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Kernel], Kernel]]:
    """Puts a kernel in place of the real one, whatever the device."""

    def put(kernel: Kernel) -> Kernel:
        monkeypatch.setattr(device, "is_kernel_at_hand", lambda _device: True)
        monkeypatch.setitem(sys.modules, "laminar_tui.model.kernel", kernel)
        monkeypatch.setattr(laminar_tui.model, "kernel", kernel, raising=False)
        device.is_kernel_equal.cache_clear()
        device._given_up.clear()
        return kernel

    monkeypatch.setattr(device, "tile_weights", lambda _device: 2**18)
    yield put
    device.is_kernel_equal.cache_clear()
    device._given_up.clear()


def read_half(mask: torch.Tensor | None = None, dtype: torch.dtype = torch.bfloat16, **more: Any) -> LayerProfile:
    query, key, value = (each.to(dtype) for each in draw(4, 2, 2))
    tally = LayerTally(4, N_TOKENS, CPU)
    device.attend(query, key, value, 0.5, mask, tally, **more)
    return tally.finish()


def test_a_kernel_that_finds_the_same_is_used_and_looked_at_once(with_kernel: Callable[[Kernel], Kernel]) -> None:
    kernel = with_kernel(Kernel())
    for _ in range(3):
        read_half()
    assert kernel.calls == N_PROBES + 3
    read_half(band(9))
    assert kernel.calls == 2 * N_PROBES + 4, "a window is another kind of layer, and looked at by itself"


def test_a_profile_says_which_way_its_layers_were_read(
    with_kernel: Callable[[Kernel], Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer whose rows the kernel does not sum to 1 was read in tiles."""
    spoil, spoilt = nudge_row("total", 5e-5), [0]

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        return device.attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), *rest, **more)

    def count(found: device.Found) -> device.Found:
        if found.rows.shape[2] != len(ids()):
            return found
        spoilt[0] -= 1
        return spoil(found) if spoilt[0] >= 0 else found

    model = build_family("llama")
    monkeypatch.setattr(tap, "_attend_in_tiles", lambda _query: device.attend)
    laminar_tui.capture(model, ids())
    monkeypatch.setattr(tap, "_attend_in_tiles", lambda _query: attend)
    with_kernel(Kernel(count))
    for spoilt[0], mechanism, n in ((0, "kernel", "2 of 2"), (1, "fast + kernel", "1 of 2"), (2, "fast", "")):
        origin = laminar_tui.capture(model, ids()).origin
        assert origin.mechanism == mechanism
        assert [each.found.split(" layers")[0] for each in origin.checks if "kernel" in each.name] == [n] * bool(n)


def test_what_the_kernel_cannot_do_is_done_in_tiles(with_kernel: Callable[[Kernel], Kernel]) -> None:
    kernel = with_kernel(Kernel())
    read_half(spotted())
    read_half(dtype=torch.float32)
    read_half(keep=torch.zeros(4, N_TOKENS, N_TOKENS))
    assert kernel.calls == 0


def nudge(name: str, by: float) -> Callable[[device.Found], device.Found]:
    def spoil(found: device.Found) -> device.Found:
        return replace(found, **{name: getattr(found, name) + by})

    return spoil


def lose_counts(found: device.Found) -> device.Found:
    hits = found.hits.clone()
    hits[1, torch.arange(hits.shape[1]) % 2 == 1] = 0
    return replace(found, hits=hits)


def nudge_row(name: str, by: float) -> Callable[[device.Found], device.Found]:
    def spoil(found: device.Found) -> device.Found:
        rows = found.rows.clone()
        rows[device.MEASURED.index(name), 0, 30] += by
        return replace(found, rows=rows)

    return spoil


def test_rows_that_the_kernel_does_not_sum_to_one_are_read_again_in_tiles(
    with_kernel: Callable[[Kernel], Kernel],
) -> None:
    """As happens where scores are so large that float32 rounds their log-sum-exp, which random ones are not."""
    expected = read_half()
    spoil = nudge_row("total", 5e-5)
    kernel = with_kernel(Kernel(lambda found: spoil(found) if found.rows.shape[2] == N_TOKENS else found))
    tally = LayerTally(4, N_TOKENS, CPU)
    query, key, value = (each.bfloat16() for each in draw(4, 2, 2))
    device.attend(query, key, value, 0.5, None, tally)
    assert kernel.calls == N_PROBES + 1
    assert tally.row_sum_error < 1e-5
    assert_same(tally.finish(), expected)


def not_compiled(_found: device.Found) -> device.Found:
    raise RuntimeError("no such instruction")


SPOILT: dict[str, Callable[[device.Found], device.Found]] = {
    "counts": lose_counts,
    "zeros": nudge("n_positive", 5),
    "received": nudge("received", 1e-3),
    "whole rows": nudge("whole", float("nan")),
    "output": nudge("output", 0.1),
    "no such instruction": not_compiled,
    **{name: nudge_row(name, 1e-2) for name in device.MEASURED},
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_kernel_that_finds_something_else_is_not_used(
    what: str, with_kernel: Callable[[Kernel], Kernel], caplog: pytest.LogCaptureFixture
) -> None:
    expected = read_half()
    kernel = with_kernel(Kernel(SPOILT[what]))
    with caplog.at_level(logging.WARNING):
        assert_same(read_half(), expected)
        assert_same(read_half(), expected)
    assert kernel.calls == 1
    assert what in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("out of resource: shared memory"), ValueError("no such stride")])
def test_a_kernel_that_fails_at_some_length_is_given_up_for_that_kind_of_layer(
    error: Exception, with_kernel: Callable[[Kernel], Kernel], caplog: pytest.LogCaptureFixture
) -> None:
    expected = read_half()

    def fail(found: device.Found) -> device.Found:
        if found.rows.shape[2] == N_TOKENS:
            raise error
        return found

    kernel = with_kernel(Kernel(fail))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert_same(read_half(), expected)
    assert kernel.calls == N_PROBES + 1
    assert len(caplog.records) == 1
    assert str(error) in caplog.text


@pytest.mark.parametrize("n_tokens", [N_TOKENS, 300])
def test_a_kernel_without_memory_is_not_given_up(n_tokens: int, with_kernel: Callable[[Kernel], Kernel]) -> None:
    """Neither on a layer, which is read again when there is room, nor where it is compared."""
    is_full = True

    def fail(found: device.Found) -> device.Found:
        if is_full and found.rows.shape[2] == n_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    kernel = with_kernel(Kernel(fail))
    with pytest.raises(torch.OutOfMemoryError):
        read_half()
    is_full = False
    before = kernel.calls
    read_half()
    assert kernel.calls > before


def test_the_kernel_is_compared_on_the_sizes_and_layouts_that_it_is_compiled_for() -> None:
    """Triton compiles anew for sizes that 16 divides; models give views of one projection as well as whole tensors."""
    assert {n_tokens % 16 == 0 for n_tokens, _, _ in device.PROBES} == {True, False}
    layers = [
        device._draw_layer(n_tokens, 64, 2, is_fused=is_fused, device=CPU, dtype=torch.bfloat16)
        for n_tokens, _, is_fused in device.PROBES
    ]
    assert [[each.shape[0] for each in layer] for layer in layers] == [[4, 2, 2]] * len(layers)
    assert {layer[0].is_contiguous() for layer in layers} == {True, False}
    assert all(len({each.stride() for each in layer}) == 1 for layer in layers if not layer[0].is_contiguous())


@pytest.mark.parametrize("attend", ["tap", "tiles"])
def test_what_needs_float64_is_done_on_the_host_for_a_device_without(
    attend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPS has none: a tally there could not even begin."""
    query, key, value = draw(2, 2, 2)
    weights = dense(query, key, 0.7, None)
    allowed = band(N_TOKENS)[None]
    tally, expected = LayerTally(2, N_TOKENS, torch.device("mps")), LayerTally(2, N_TOKENS, CPU)
    expected.add(weights, allowed, 0)
    if attend == "tap":
        tally.add(weights, allowed, 0)
    else:
        for module in (found, device):
            monkeypatch.setattr(module, "has_float64", lambda _device: False)
        one = device.find_in_tiles(query, key, value, 0.7, None)
        assert one.received.dtype == torch.float32
        device.hand_over(one, None, tally)
    assert tally.received.device == tally.zeros.device == CPU
    assert_same(tally.finish(), expected.finish())


def test_there_is_no_kernel_for_a_cpu_nor_against_the_users_will(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda _name: object())
    assert device.is_kernel_at_hand(torch.device("cuda"))
    assert not device.is_kernel_at_hand(CPU)
    assert not device.is_kernel_at_hand(torch.device("mps"))
    monkeypatch.setenv("LAMINAR_NO_TRITON", "1")
    assert not device.is_kernel_at_hand(torch.device("cuda"))
    monkeypatch.delenv("LAMINAR_NO_TRITON")
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda _name: None)
    assert not device.is_kernel_at_hand(torch.device("cuda"))
