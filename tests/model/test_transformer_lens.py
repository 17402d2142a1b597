"""TransformerLens as a second oracle, where it is installed: another implementation of the same attention."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from laminar_tui.model.check import Keeper
from laminar_tui.model.forward import evaluating, forward
from laminar_tui.model.tap import tapped
from laminar_tui.run import BUNDLED_MODEL

lens = pytest.importorskip("transformer_lens", reason="TransformerLens is not installed")

TOLERANCE = 1e-5
"""Its parameters are folded and multiplied in another order than transformers does."""


@pytest.mark.filterwarnings("ignore")
def test_its_patterns_are_those_that_the_tap_reads() -> None:
    model = AutoModelForCausalLM.from_pretrained(BUNDLED_MODEL, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED_MODEL)
    ids = torch.randint(3, 2000, (1, 40), generator=torch.Generator().manual_seed(0))
    keeper = Keeper()
    with evaluating(model), tapped(model, keeper):
        forward(model, ids, None)
    bridge = lens.TransformerBridge.boot_transformers(
        "EleutherAI/pythia-70m", hf_model=model, tokenizer=tokenizer, device="cpu"
    )
    _, cache = bridge.run_with_cache(ids)
    for layer, pattern in enumerate(keeper.patterns):
        theirs = cache[f"blocks.{layer}.attn.hook_pattern"][0].detach().numpy()
        np.testing.assert_allclose(pattern.numpy(), theirs, atol=TOLERANCE)
