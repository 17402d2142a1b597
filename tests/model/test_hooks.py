"""Models that are read by hooks: what is read under eager attention is what they do by default, or nothing is shown."""

import functools
from typing import Any

import pytest
import torch
from families import EXTRA, build_family

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.model.attention import uses_interface
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


def test_a_profile_says_that_the_model_rounded_its_weights() -> None:
    """The tap's softmax is float32 whatever the dtype; what hooks take has been rounded by the model."""
    name = "weights are counted as the model's own attention rounds them, to"

    def told(family: str, dtype: torch.dtype) -> list[str]:
        checks = capture(build_family(family, dtype=dtype), IDS).origin.checks
        return [check.name.removeprefix(name).strip() for check in checks if check.name.startswith(name)]

    assert told("bloom", torch.bfloat16) == ["bfloat16"]
    assert told("bloom", torch.float16) == ["float16"]
    assert told("bloom", torch.float32) == told("gpt_neox", torch.bfloat16) == []


@pytest.mark.parametrize(("called", "expected"), [("ALL_ATTENTION_FUNCTIONS", True), ("OTHER_FUNCTIONS", False)])
def test_what_calls_the_interface_is_known_without_its_source(called: str, expected: bool) -> None:
    """Which takes a tenth of a second a class to find, where it is there at all; a decorator is looked behind."""
    made: dict[str, Any] = {"Module": torch.nn.Module, "wraps": functools.wraps}
    exec(
        "def decorate(function):\n"
        "    return wraps(function)(lambda *args: function(*args))\n"
        "class Mixer(Module):\n"
        "    @decorate\n"
        "    def forward(self, hidden):\n"
        f"        return {called}['eager'](hidden)\n",
        made,
    )
    assert uses_interface(made["Mixer"]()) is expected
