"""Layers whose indexer selects keys: under its own names a family puts that into the mask, here it comes beside it."""

from typing import Any

import numpy as np
import pytest
import torch
from families import build_family
from torch import nn

from laminar_tui.errors import ModelError
from laminar_tui.model import eager
from laminar_tui.model.capture import capture
from laminar_tui.model.check import check_model, eager_patterns
from laminar_tui.model.patterns import KeptPatterns

N_TOKENS = 18  # beyond the two blocks of four keys, and the eight keys, that the tiny configs select
IDS = torch.randint(3, 60, (1, N_TOKENS), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("chunk_weights", [eager.CHUNK_WEIGHTS, 200])
@pytest.mark.parametrize("family", ["minimax_m3_vl_text", "deepseek_v32"])
def test_unselected_keys_have_no_weight(family: str, chunk_weights: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "CHUNK_WEIGHTS", chunk_weights)
    model = build_family(family)
    truth = eager_patterns(model, IDS)
    assert any((pattern[:, -1] == 0).any() for pattern in truth), "a selection that leaves keys out"
    verdict = check_model(model, IDS)
    assert verdict.passed, verdict.checks
    assert max(layer.max_difference for layer in verdict.layers) <= 1e-6


def test_blocks_are_selected_head_by_head_in_kept_patterns_too() -> None:
    model, kept = build_family("minimax_m3_vl_text"), KeptPatterns()
    truth = eager_patterns(model, IDS)
    capture(model, IDS, keep=kept)
    for layer, pattern in enumerate(truth):
        for head, expected in enumerate(pattern):
            read = np.nan_to_num(kept.pattern(layer, head))
            np.testing.assert_allclose(read, expected.numpy(), atol=1e-6)


def test_half_precision_and_padding_select_the_same_blocks() -> None:
    model = build_family("minimax_m3_vl_text", dtype=torch.bfloat16, spread=False)
    assert not capture(model, IDS).origin.failed_checks
    model = build_family("minimax_m3_vl_text")
    padded = torch.cat([IDS, torch.zeros(1, 3, dtype=torch.long)], dim=1)
    read = capture(model, padded, torch.tensor([[1] * N_TOKENS + [0] * 3])).counts("all")
    alone = capture(model, IDS).counts("all")
    assert (read.n == alone.n).all()
    np.testing.assert_allclose(read.total, alone.total, atol=1e-5)


def test_a_tensor_that_the_familys_own_function_does_not_read_is_refused_by_name() -> None:
    model = build_family("llama")

    def add(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"chosen_keys": torch.zeros(1, N_TOKENS, 2, dtype=torch.long)}

    for layer in model.model.layers:
        layer.self_attn.register_forward_pre_hook(add, with_kwargs=True)
    with pytest.raises(ModelError, match="LlamaAttention hands 'chosen_keys' over"):
        capture(model, IDS)
