"""A real model end to end: SmolLM2-135M through the headless capture, against an eager run of its own and scipy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from laminar_tui.cli import main
from laminar_tui.profile.profile import Profile

pytestmark = pytest.mark.smollm2

PARAGRAPH = Path(__file__).parent / "paragraph.txt"
OF_THE_PEAK = 1e-3
SUMS = 3e-5
"""Relative: what two orders of summing a softmax differ by in the last digit has grown to 1.2e-5 at layer 21."""

Entries = Callable[[str, str, int], NDArray[np.bool_]]


@pytest.fixture(scope="module")
def profile(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """What `laminar-tui capture` reads."""
    output = tmp_path_factory.mktemp("smollm2") / "paragraph.laminar"
    words = ["capture", str(smollm2_path), "--prompt-file", str(PARAGRAPH), "--device", "cpu", "-q", "-o", str(output)]
    assert main(words) == 0
    return Profile.load(output)


@pytest.fixture(scope="module")
def truth(smollm2_path: Path, profile: Profile) -> list[NDArray[np.float32]]:
    """The weights [n_heads, query, key] of each layer, as transformers gives them, without this package."""
    from transformers import AutoModelForCausalLM

    where: dict[str, Any] = {"gguf_file": smollm2_path.name, "dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(smollm2_path.parent, **where, attn_implementation="eager").eval()
    with torch.no_grad():
        found = model(torch.tensor([profile.origin.token_ids]), output_attentions=True).attentions
    return [weights[0].numpy() for weights in found]


def test_the_whole_model_was_read(profile: Profile, truth: list[NDArray[np.float32]]) -> None:
    assert (profile.n_layers, profile.n_read, profile.n_heads) == (30, 30, 9) == (len(truth), 30, len(truth[0]))
    assert 100 <= profile.n_tokens <= 130
    assert "".join(profile.origin.tokens).strip() == PARAGRAPH.read_text().strip()
    assert all(check.passed for check in profile.origin.checks)


@pytest.mark.parametrize("population", ["self", "final", "past", "all"])
@pytest.mark.parametrize("sink", ["with", "without"])
def test_number_and_sums_of_every_head_are_those_of_an_eager_run(
    population: str,
    sink: Any,
    profile: Profile,
    truth: list[NDArray[np.float32]],
    entries_of_population: Entries,
) -> None:
    counts = profile.counts(population, sink)
    chosen = entries_of_population(population, sink, profile.n_tokens)
    weights = np.stack(truth)[:, :, chosen].astype(np.float64)  # [n_layers, n_heads, n]
    assert (counts.n == chosen.sum()).all()
    np.testing.assert_allclose(counts.total, weights.sum(axis=-1), rtol=SUMS, atol=1e-9)
    np.testing.assert_allclose(counts.total_sq, (weights**2).sum(axis=-1), rtol=SUMS, atol=1e-9)


@pytest.mark.parametrize("population", ["self", "final"])
def test_each_layers_density_is_scipys(
    population: str, profile: Profile, truth: list[NDArray[np.float32]], entries_of_population: Entries
) -> None:
    density = profile.density(population, estimator="gaussian")
    step = density.grid[1] - density.grid[0]
    chosen = entries_of_population(population, "with", profile.n_tokens)
    compared = 0
    for layer, pattern in enumerate(truth):
        kde = gaussian_kde(pattern[:, chosen].astype(np.float64).ravel())
        if np.sqrt(kde.covariance[0, 0]) < step:
            continue  # a spike that falls between the points of scipy's grid
        reference = kde(density.grid)
        assert np.abs(density.values[layer] - reference).max() <= OF_THE_PEAK * reference.max(), f"layer {layer}"
        compared += 1
    assert compared >= 20, "most layers are wide enough to be compared"


def test_late_satellites_of_the_final_token_are_the_sink(profile: Profile) -> None:
    with_sink = profile.layer_counts("final").share_above(0.5)
    without = profile.layer_counts("final", "without").share_above(0.5)
    late = slice(12, 27)
    assert with_sink[late].mean() > 4 * without[late].mean()
    assert with_sink[late].mean() > 2 * with_sink[:8].mean()
