"""Value norms against the outputs of the models' own value projections, by every way of reading."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from families import build_family
from numpy.typing import NDArray

from laminar_tui.model.capture import capture
from laminar_tui.profile.profile import Profile

N_TOKENS = 20


def ids(n_tokens: int = N_TOKENS, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 60, (1, n_tokens), generator=torch.Generator().manual_seed(seed))


def projected(model: Any, name: str, tokens: torch.Tensor) -> list[NDArray[np.float64]]:
    """What each layer's projection puts out, [n_tokens, D], in float64."""
    found: list[NDArray[np.float64]] = []

    def take(_module: object, _args: object, output: torch.Tensor) -> None:
        found.append(output[0].double().numpy())

    handles = [each.register_forward_hook(take) for path, each in model.named_modules() if path.endswith(name)]
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    return found


def assert_norms(profile: Profile, wanted: list[NDArray[np.float64]]) -> None:
    """Every layer's norms are [n_heads, n_tokens] as wanted; float32 products in another order."""
    assert len(wanted) == profile.n_layers > 0
    for index, norms in enumerate(wanted):
        found = profile.layer(index).value_norms
        assert found is not None
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, norms, rtol=1e-5)


def grouped(value: NDArray[np.float64], n_kv_heads: int, n_heads: int) -> NDArray[np.float64]:
    """The norms of [n_tokens, n_kv_heads * d], head by head: head h takes its vector from h // (heads a group)."""
    d = value.shape[1] // n_kv_heads
    norms = [[np.linalg.norm(row[(h * n_kv_heads // n_heads) * d :][:d]) for row in value] for h in range(n_heads)]
    return np.array(norms)


@pytest.mark.parametrize(("n_tokens", "mechanism"), [(N_TOKENS, "fast"), (9, "tap")])
def test_heads_that_share_a_key_head_share_its_norms(
    tiny_model: Callable[..., Any], n_tokens: int, mechanism: str
) -> None:
    model, tokens = tiny_model("llama"), ids(n_tokens)
    profile = capture(model, tokens)
    assert profile.origin.mechanism == mechanism
    assert_norms(profile, [grouped(each, 2, 4) for each in projected(model, "v_proj", tokens)])


def test_a_fused_projection_is_cut_as_the_model_cuts_it(tiny_model: Callable[..., Any]) -> None:
    model, tokens = tiny_model("gpt_neox"), ids()
    fused = [each.reshape(N_TOKENS, 4, 3, 8)[:, :, 2] for each in projected(model, "query_key_value", tokens)]
    assert_norms(capture(model, tokens), [np.linalg.norm(each, axis=-1).T for each in fused])


def test_padding_has_no_norm_and_several_prompts_have_none(tiny_model: Callable[..., Any]) -> None:
    model, tokens = tiny_model("llama"), ids(9)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), tokens], dim=1)
    mask = torch.tensor([[0] * 3 + [1] * 9])
    wanted = [grouped(each, 2, 4) for each in projected(model, "v_proj", tokens)]
    profile = capture(model, padded, mask)
    found = profile.layer(0).value_norms
    assert found is not None
    np.testing.assert_allclose(found, wanted[0], rtol=1e-5)  # the first layer sees nothing but each token
    assert found.shape == (4, 9)
    several = capture(model, torch.cat([tokens, ids(9, seed=1)]))
    assert all(layer is not None and layer.value_norms is None for layer in several.layers)


def test_half_precision_is_measured_in_float32(tiny_model: Callable[..., Any]) -> None:
    model, tokens = tiny_model("llama", dtype=torch.float16), ids(9)
    wanted = [grouped(each, 2, 4) for each in projected(model, "v_proj", tokens)][:1]
    found = capture(model, tokens).layer(0).value_norms
    assert found is not None
    np.testing.assert_allclose(found, wanted[0], rtol=1e-5)  # a norm in float16 would be off by 5e-4


def test_a_control_and_a_model_that_is_read_by_hooks_have_none(tiny_model: Callable[..., Any]) -> None:
    control = capture(tiny_model("gpt_neox"), ids(), recipe="literal")
    hooked = capture(build_family("bloom"), ids())
    assert hooked.origin.mechanism == "hooks"
    for profile in (control, hooked):
        assert all(layer is None or layer.value_norms is None for layer in profile.layers)


def test_a_layer_that_attends_twice_has_values_in_two_pieces_and_no_norm() -> None:
    profile = capture(build_family("diffllama"), ids())
    assert profile.n_read > 0
    assert all(layer is None or layer.value_norms is None for layer in profile.layers)
