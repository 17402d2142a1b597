"""On a GPU, where there is one: the tiles, the kernel, and the family's own attention give the same numbers."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_fast import assert_same
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel

import laminar_tui
from laminar_tui.model import device, fast, found, masks
from laminar_tui.model.tally import LayerTally
from laminar_tui.profile.profile import LayerProfile

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")

HOST = torch.device("cpu")
HALVES = [torch.float16, torch.bfloat16]
WINDOW = 100


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever the environment says, and whatever failed before."""
    monkeypatch.delenv("LAMINAR_NO_TRITON", raising=False)
    device._given_up.clear()
    yield
    device._given_up.clear()


def draw(n_tokens: int, d_head: int, group: int, dtype: torch.dtype, *, is_fused: bool) -> Any:
    return device._draw_layer(n_tokens, d_head, group, is_fused=is_fused, device=torch.device("cuda"), dtype=dtype)


def window_mask(n_tokens: int) -> torch.Tensor:
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool, device="cuda").tril().triu(1 - WINDOW)


def attend(layer: Any, mask: torch.Tensor | None) -> tuple[LayerProfile, torch.Tensor, bool]:
    query = layer[0]
    tally = LayerTally(len(query), query.shape[1], HOST)
    output = device.attend(*layer, query.shape[2] ** -0.5, mask, tally)
    return tally.finish(), output, tally.by_kernel


@pytest.mark.parametrize("n_tokens", [333, 512])
@pytest.mark.parametrize("has_window", [False, True], ids=["causal", "window"])
@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("d_head", [64, 80, 128])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_the_kernel_finds_what_the_tiles_and_the_host_find(
    dtype: torch.dtype, d_head: int, group: int, has_window: bool, n_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    layer = draw(n_tokens, d_head, group, dtype, is_fused=n_tokens % 16 != 0)
    mask = window_mask(n_tokens) if has_window else None
    by_kernel, fused, is_kernel = attend(layer, mask)
    assert is_kernel, "the kernel is there and is used"
    monkeypatch.setenv("LAMINAR_NO_TRITON", "1")
    by_tiles, output, is_kernel = attend(layer, mask)
    assert not is_kernel
    assert_same(by_kernel, by_tiles)
    torch.testing.assert_close(fused.float(), output, atol=0.02, rtol=0.02)
    on_host = LayerTally(len(layer[0]), n_tokens, HOST)
    expected = fast.attend(
        *(each.float().cpu() for each in layer), d_head**-0.5, None if mask is None else mask.cpu(), on_host
    )
    assert_same(by_tiles, on_host.finish())
    torch.testing.assert_close(output.cpu(), expected, atol=1e-4, rtol=1e-4)


def build(d_head: int, dtype: torch.dtype, window: int | None) -> PreTrainedModel:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=64,
        hidden_size=4 * d_head,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=d_head,
        sliding_window=window,
        initializer_range=0.1,
    )
    return MistralForCausalLM(config).to("cuda", dtype).eval()


@pytest.mark.parametrize("window", [None, 24], ids=["causal", "window"])
@pytest.mark.parametrize("d_head", [64, 80, 128])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_a_model_is_read_as_by_the_tap(
    dtype: torch.dtype, d_head: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first layer, whose input no way of attending has rounded yet."""
    model, ids = build(d_head, dtype, window), torch.randint(0, 64, (77,), generator=torch.Generator().manual_seed(0))
    read = {"first": laminar_tui.capture(model, ids)}
    if dtype != torch.float32 and device.is_kernel_at_hand(model.device):
        assert read["first"].origin.mechanism == "kernel"
    monkeypatch.setenv("LAMINAR_NO_TRITON", "1")
    read["fast"] = laminar_tui.capture(model, ids)
    monkeypatch.setattr(fast, "AT_LEAST_TOKENS", 10**9)
    read["tap"] = laminar_tui.capture(model, ids)
    assert [read[name].origin.mechanism for name in ("fast", "tap")] == ["fast", "tap"]
    for name in ("first", "fast"):
        assert read[name].n_read == 2
        assert_same(read[name].layers[0], read["tap"].layers[0])


@pytest.mark.parametrize("has_window", [False, True], ids=["causal", "window"])
@pytest.mark.parametrize("with_kernel", [False, True], ids=["tiles", "kernel"])
def test_the_host_waits_for_nothing_while_a_layer_is_read(
    with_kernel: bool, has_window: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch raises at whatever would wait, once a mask and a kind of layer were looked at."""
    monkeypatch.setenv("LAMINAR_NO_TRITON", "0" if with_kernel else "1")
    layer = draw(333, 64, 2, torch.bfloat16, is_fused=True)
    mask, known = window_mask(333) if has_window else None, masks.Masks()
    tally = LayerTally(4, 333, HOST)
    for mode in ("default", "error"):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            device.attend(*layer, 0.1, mask, tally, masks=known)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert isinstance(tally.arriving, found.Handover)
    assert tally.finish().parts["content"].n.min() > 0


def test_without_room_for_its_tiles_a_model_is_read_in_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMINAR_NO_TRITON", "1")
    model, ids = build(64, torch.float32, None), torch.arange(60)
    expected, true, asked = laminar_tui.capture(model, ids), device.find_in_tiles, []

    def short(*layer: Any, most_weights: int = 0, **options: Any) -> found.Found:
        asked.append(most_weights)
        if most_weights > device.TILE_WEIGHTS // 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return true(*layer, most_weights=most_weights, **options)

    monkeypatch.setattr(device, "find_in_tiles", short)
    read = laminar_tui.capture(model, ids)
    assert read.origin.mechanism == "fast"
    assert asked[0] == device.TILE_WEIGHTS
    assert asked[-1] <= device.TILE_WEIGHTS // 4
    for one, other in zip(read.layers, expected.layers, strict=True):
        assert_same(one, other)
