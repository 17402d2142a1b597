"""Models that are read by hooks: what is read under eager attention is what they do by default, or nothing is shown."""

import pytest
import torch
from families import EXTRA, build_family

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.model.capture import capture

IDS = torch.arange(3, 21)
HALF_OR_NOT = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALF_OR_NOT, ids=str)
def test_falcon_with_alibi_is_not_believed(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its eager attention adds the ALiBi twice, its default one adds it once."""
    monkeypatch.setitem(EXTRA, "falcon", {"alibi": True})
    model = build_family("falcon", dtype=dtype)
    with pytest.raises(UntrustedWeightsError, match="falcon computes something else under eager attention than under"):
        capture(model, IDS)
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("dtype", HALF_OR_NOT, ids=str)
@pytest.mark.parametrize("family", ["falcon", "bloom", "mpt"])
def test_a_model_that_does_the_same_by_default_is_read(family: str, dtype: torch.dtype) -> None:
    profile = capture(build_family(family, dtype=dtype), IDS)
    assert profile.origin.mechanism == "hooks"
    assert "the model's output is what it is without the reading" in [check.name for check in profile.origin.checks]
    assert not profile.origin.failed_checks
