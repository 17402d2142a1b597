"""What the tests of the fast paths share: models that they take, a prompt, and what the slow way finds."""

import numpy as np
import pytest
import torch

import laminar_tui
from laminar_tui.model import fast
from laminar_tui.profile.profile import LayerProfile, Profile

PLAIN = ("gpt_neox", "llama", "mistral", "deepseek_v3", "phimoe", "qwen2")
N_TOKENS = 40  # beyond the window of 8; a tile of 100 weights makes many tiles of it


def ids(n_tokens: int = N_TOKENS) -> torch.Tensor:
    return torch.randint(3, 60, (n_tokens,), generator=torch.Generator().manual_seed(0))


def slowly(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, n_tokens: int = N_TOKENS) -> Profile:
    with monkeypatch.context() as patch:
        patch.setattr(fast, "AT_LEAST_TOKENS", 10**9)
        return laminar_tui.capture(model, ids(n_tokens))  # type: ignore[arg-type]


def assert_same(one: LayerProfile | None, other: LayerProfile | None) -> None:
    """Tiles are multiplied in another order: float32 moves a weight across a bin's edge now and then."""
    if one is None or other is None:
        assert one is other
        return
    for part in one.parts:
        a, b = one.parts[part].unpack(), other.parts[part].unpack()
        assert (a.n == b.n).all(), part
        np.testing.assert_allclose(a.total, b.total, atol=1e-4, err_msg=part)
        np.testing.assert_allclose(a.total_sq, b.total_sq, atol=1e-4, err_msg=part)
        assert np.abs(a.hits.cumsum(-1) - b.hits.cumsum(-1)).max() <= 3, part
    for name, values in one.statistics.items():
        np.testing.assert_allclose(values, other.statistics[name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert one.final_weights is not None
    assert other.final_weights is not None
    np.testing.assert_allclose(one.final_weights, other.final_weights, atol=1e-5)
    assert one.key_shares is not None
    assert other.key_shares is not None
    np.testing.assert_allclose(one.key_shares, other.key_shares, atol=1e-5)
