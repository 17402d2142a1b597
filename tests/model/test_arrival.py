"""Layers on their way from a device: nothing waits for them while the model runs, and all of them arrive in order."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from families import build_family
from test_device import MASKS, N_TOKENS, draw
from test_fast import assert_same, ids
from torch.utils._python_dispatch import TorchDispatchMode

import laminar_tui
from laminar_tui.errors import CancelledError, UntrustedWeightsError
from laminar_tui.model import capture as capturing
from laminar_tui.model import device, found, masks, reader, tap
from laminar_tui.model.copies import Copy
from laminar_tui.model.found import Handover
from laminar_tui.model.tally import LayerTally

HOST = torch.device("cpu")


class Sent:
    """What would be on its way, without values."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.shapes = {name: tuple(each.shape) for name, each in tensors.items()}


def no_tensor(*_args: Any, **_kwargs: Any) -> torch.Tensor:
    raise AssertionError("numbers of the host go to a device only after it has been waited for")


@pytest.mark.parametrize("name", ["causal", "window", "spotted"])
@pytest.mark.parametrize("n_heads", [(4, 2, 2), (3, 3, 3)], ids=str)
def test_nothing_waits_for_the_device_while_it_attends(
    name: str, n_heads: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors of the device `meta` have no values: `item`, `tolist`, `cpu`, `bool` and `nonzero` of them raise."""
    query, key, value = (each.to("meta") for each in draw(*n_heads))
    seen = MASKS[name]
    known = masks.Masks()
    if seen is not None:
        mask = masks.look_at(seen)
        seen = seen.to("meta")
        there = masks.Mask(seen, mask.is_causal, mask.window, mask.n_seen.to("meta"))
        monkeypatch.setattr(known, "look_at", lambda _seen: there)
    found.gini_queries_on(N_TOKENS, query.device)
    monkeypatch.setattr(torch, "tensor", no_tensor)
    monkeypatch.setattr(found, "Copy", Sent)
    monkeypatch.setattr(device, "arrives_later", lambda _device: True)
    tally = LayerTally(n_heads[0], N_TOKENS, HOST)
    output = device.attend(query, key, value, 0.3, seen, tally, masks=known)
    assert output.shape == (N_TOKENS, n_heads[0], 16)
    assert isinstance(tally.arriving, Handover)
    shapes = tally.arriving._copy.shapes  # type: ignore[attr-defined]
    most = max(np.prod(shape) for each, shape in shapes.items() if each != "hits")
    assert most <= 3 * n_heads[0] * N_TOKENS, "nothing goes to the host that is larger than a few rows of numbers"


class Late(Copy):
    """Has not come until somebody waits for it."""

    all: "list[Late]"

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__(tensors)
        self.is_there = False
        Late.all.append(self)

    def is_ready(self) -> bool:
        return self.is_there

    def wait(self) -> dict[str, Any]:
        self.is_there = True
        return super().wait()


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> list[Late]:
    """Lets models be read as on a GPU, from which layers come later."""
    Late.all = []
    monkeypatch.setattr(tap, "_attend_in_tiles", lambda _query: device.attend)
    monkeypatch.setattr(device, "arrives_later", lambda _device: True)
    monkeypatch.setattr(found, "Copy", Late)
    return Late.all


@pytest.mark.usefixtures("far")
def test_layers_that_come_later_are_those_that_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, order, begun = build_family("mistral"), [], []
    true = reader.Reader.begin_layer

    def begin(self: reader.Reader, module: torch.nn.Module) -> None:
        begun.append(len(order))
        true(self, module)

    monkeypatch.setattr(reader.Reader, "begin_layer", begin)
    read = laminar_tui.capture(model, ids(), on_layer=lambda index, _layer: order.append(index))
    assert (read.origin.mechanism, read.n_read) == ("fast", read.n_layers)
    assert order == list(range(read.n_layers))
    assert begun == [0] * read.n_layers, "no layer was waited for before the last had begun"
    monkeypatch.setattr(device, "arrives_later", lambda _device: False)
    monkeypatch.setattr(found, "Copy", Copy)
    at_once = laminar_tui.capture(model, ids())
    for one, other in zip(read.layers, at_once.layers, strict=True):
        assert_same(one, other)
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.value_norms, other.value_norms)


@pytest.mark.usefixtures("far")
def test_a_layer_that_has_come_is_handed_on_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Late, "is_ready", lambda _self: True)
    order: list[str] = []
    true = reader.Reader.begin_layer

    def begin(self: reader.Reader, module: torch.nn.Module) -> None:
        order.append("begin")
        true(self, module)

    monkeypatch.setattr(reader.Reader, "begin_layer", begin)
    laminar_tui.capture(build_family("llama"), ids(), on_layer=lambda index, _layer: order.append(str(index)))
    assert order == ["begin", "0", "begin", "1"]


def test_layers_before_a_cancel_arrive(far: list[Late]) -> None:
    model, read = build_family("llama"), list[int]()
    laminar_tui.capture(model, ids())
    far.clear()
    with pytest.raises(CancelledError):
        laminar_tui.capture(
            model, ids(), on_layer=lambda index, _layer: read.append(index), is_cancelled=lambda: len(far) > 0
        )
    assert read == [0]


@pytest.mark.usefixtures("far")
def test_a_layer_that_is_wrong_is_found_out_when_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_family("llama")
    laminar_tui.capture(model, ids())
    true = device.find_in_tiles

    def spoilt(*args: Any, **kwargs: Any) -> found.Found:
        one = true(*args, **kwargs)
        one.rows[found.MEASURED.index("total"), 1, 9] += 1e-3
        return one

    monkeypatch.setattr(device, "find_in_tiles", spoilt)
    with pytest.raises(UntrustedWeightsError, match="sum to 1"):
        laminar_tui.capture(model, ids())


@pytest.mark.usefixtures("far")
def test_what_is_held_for_layers_under_way_has_an_end(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = device.hand_over

    def holding(*args: Any, **kwargs: Any) -> None:
        true(*args, **kwargs | {"n_held": reader.HELD_AT_MOST})

    monkeypatch.setattr(device, "hand_over", holding)
    handed: list[int] = []
    n_before: list[int] = []
    true_begin = reader.Reader.begin_layer

    def begin(self: reader.Reader, module: torch.nn.Module) -> None:
        n_before.append(len(handed))
        true_begin(self, module)

    monkeypatch.setattr(reader.Reader, "begin_layer", begin)
    model = tiny_model("llama", num_hidden_layers=4)
    laminar_tui.capture(model, ids(), on_layer=lambda index, _layer: handed.append(index))
    assert n_before == [0, 0, 1, 2], "one waits, the ones before it were waited for"


@pytest.mark.parametrize("n_views", [1, 3])
def test_what_is_held_for_a_layer_is_all_that_its_views_keep(n_views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are a view of fused projections in GPT-NeoX, whose queries and keys are new; in GPT-2 all three are."""
    monkeypatch.setattr(device, "arrives_later", lambda _device: True)
    monkeypatch.setattr(device, "_find_by_kernel", lambda *layer: device.find_in_tiles(*layer[:4], None))
    fused = torch.randn(6, N_TOKENS, 16)
    layer = [each.clone() for each in fused.split(2)[: 3 - n_views]] + list(fused.split(2)[3 - n_views :])
    tally = LayerTally(2, N_TOKENS, HOST)
    device.attend(*layer, 0.3, None, tally)
    n_bytes = 2 * N_TOKENS * 16 * 4
    assert tally.arriving is not None
    assert tally.arriving.n_held == (3 - n_views) * n_bytes + 3 * n_bytes


def test_a_mask_is_looked_at_once_in_a_forward(tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("mistral", num_hidden_layers=4)
    laminar_tui.capture(model, ids())
    looked_at: list[torch.Tensor] = []
    true = masks.look_at

    def look(seen: torch.Tensor) -> masks.Mask:
        looked_at.append(seen)
        return true(seen)

    monkeypatch.setattr(masks, "look_at", look)
    for attend in (tap._attend_in_tiles, lambda _query: device.attend):
        monkeypatch.setattr(tap, "_attend_in_tiles", attend)
        looked_at.clear()
        assert laminar_tui.capture(model, ids()).origin.mechanism == "fast"
        assert len(looked_at) == 1


def test_masks_that_come_again_are_remembered_and_old_ones_forgotten() -> None:
    known = masks.Masks()
    seen = [torch.ones(9, 9, dtype=torch.bool).tril(-n) for n in range(masks.MOST_MASKS + 1)]
    first = known.look_at(seen[0][None][0])
    assert known.look_at(seen[0]) is first
    assert [known.look_at(each).n_seen.tolist() for each in seen] == [each.sum(1).tolist() for each in seen]  # type: ignore[union-attr]
    assert known.look_at(seen[0]) is not first
    assert known.look_at(None) is None


def test_ids_are_asked_for_at_once() -> None:
    """One number of a tensor at a time is one wait a token on a GPU."""

    class Asked(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.n += function is torch.ops.aten._local_scalar_dense.default
            return function(*args, **(kwargs or {}))

    model, prompt = build_family("llama"), ids()[None]
    with Asked() as asked:
        profile = capturing.empty_profile(model, prompt)
    assert profile.origin.token_ids == tuple(prompt[0].tolist())
    assert asked.n == 0
