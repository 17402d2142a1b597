"""Numbers of a head with and without the sink, as captured, against formulas of their own on dense eager weights.

None of the formulas of `profile.statistics` is used here: entropy is scipy's, the Gini coefficient is the mean
difference of all pairs over twice the mean, the variance is that of the logarithms. By each way of reading.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from families import build_family
from numpy.typing import NDArray

from laminar_tui.model import fast
from laminar_tui.model.capture import capture
from laminar_tui.model.check import eager_patterns
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.statistics import REST_AT_LEAST
from laminar_tui.run import BUNDLED_MODEL

EXACT = 1e-5
WINDOW = 8
"""Of the tiny configs of families that have one."""
N_GINI = 16
MECHANISMS = ("tap", "fast", "fast, not compiled")

Number = Callable[[NDArray[np.float64]], float]


def mean_difference(p: NDArray[np.float64]) -> float:
    return float(np.abs(p[:, None] - p[None, :]).mean() / (2 * p.mean()))


def hoyer(p: NDArray[np.float64]) -> float:
    root = np.sqrt(len(p))
    return float((root - np.linalg.norm(p, 1) / np.linalg.norm(p, 2)) / (root - 1))


EVERY_QUERY: dict[str, Number] = {
    "entropy": lambda p: float(scipy.stats.entropy(p)),
    "participation_ratio": lambda p: 1 / float(np.linalg.norm(p) ** 2),
    "hoyer": hoyer,
}
FEW_QUERIES: dict[str, Number] = {
    "gini": mean_difference,
    # A trained model's weights do underflow: what is below the smallest normal float32 counts as that much.
    "score_variance": lambda p: float(np.var(np.log(np.maximum(p, np.finfo(np.float32).tiny)), ddof=1)),
}
"""A sort a row is dear, so these two are means over 16 evenly spaced queries, the last one among them."""


def expected(pattern: NDArray[np.float64], sees: NDArray[np.bool_]) -> dict[str, float]:
    n = len(pattern)
    few = np.unique(np.round(np.linspace(1, n - 1, min(N_GINI, n - 1))).astype(int))
    means = {name: np.mean([number(pattern[q, sees[q]]) for q in range(1, n)]) for name, number in EVERY_QUERY.items()}
    means |= {name: np.mean([number(pattern[q, sees[q]]) for q in few]) for name, number in FEW_QUERIES.items()}
    return means | expected_without_sink(pattern, sees, few)


def expected_without_sink(
    pattern: NDArray[np.float64], sees: NDArray[np.bool_], few: NDArray[np.int64]
) -> dict[str, float]:
    """The same of the weights on keys k >= 1, divided by their sum; q = 1 sees only one such key."""
    others = np.arange(len(pattern)) > 0
    sums = pattern[:, others].sum(axis=1, keepdims=True)
    rest = pattern / np.maximum(sums, REST_AT_LEAST)
    seen = {q: rest[q, sees[q] & others] for q in range(2, len(rest)) if sums[q] > REST_AT_LEAST}
    entropies = {q: scipy.stats.entropy(p) for q, p in seen.items()}
    return {
        "rest.entropy_share": np.mean([entropies[q] / np.log(len(p)) for q, p in seen.items()]),
        "rest.hoyer": np.mean([hoyer(p) for p in seen.values()]),
        "rest.gini": np.mean([mean_difference(seen[q]) for q in few if q in seen]),
        "rest.previous_token": np.mean([rest[q, q - 1] for q in seen]),
        "rest.self": np.mean([rest[q, q] for q in seen]),
    }


def read(model: Any, ids: torch.Tensor, mechanism: str, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.setattr(fast, "AT_LEAST_TOKENS", 10**9 if mechanism == "tap" else 2)
    if mechanism == "fast, not compiled":
        monkeypatch.setattr(fast, "checked_attend", lambda: None)
    profile = capture(model, ids)
    assert profile.origin.mechanism == mechanism.split(",")[0]
    return profile


def assert_numbers(profile: Profile, patterns: list[torch.Tensor], sees: NDArray[np.bool_]) -> None:
    for layer, pattern in zip(profile.layers, patterns, strict=True):
        assert layer is not None
        for head, weights in enumerate(pattern.double().numpy()):
            here = expected(weights, sees)
            found = {name: float(layer.statistics[name][head]) for name in here}
            assert found == pytest.approx(here, rel=EXACT, abs=EXACT)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("family", ["gpt_neox", "llama", "mistral"])
def test_numbers_are_those_of_dense_eager_weights(family: str, mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_family(family)
    ids = torch.randint(3, 60, (41,), generator=torch.Generator().manual_seed(0))
    q, k = np.indices((41, 41))
    sees = (k <= q) & (q - k < WINDOW if family == "mistral" else True)
    assert_numbers(read(model, ids, mechanism, monkeypatch), eager_patterns(model, ids[None]), sees)


def test_numbers_of_models_without_the_interface_are_too() -> None:
    model = build_family("bloom")
    ids = torch.randint(3, 60, (41,), generator=torch.Generator().manual_seed(0))
    profile = capture(model, ids)
    assert profile.origin.mechanism == "hooks"
    assert_numbers(profile, eager_patterns(model, ids[None]), np.tri(41, dtype=bool))


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_numbers_of_a_trained_model(mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sharp heads and sinks, where sums near 1 are subtracted from one another."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(BUNDLED_MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(3, 2000, (70,), generator=torch.Generator().manual_seed(0))
    ids = torch.cat([torch.tensor([model.config.bos_token_id]), ids, ids[:30]])
    profile = read(model, ids, mechanism, monkeypatch)
    assert_numbers(profile, eager_patterns(model, ids[None]), np.tri(len(ids), dtype=bool))
