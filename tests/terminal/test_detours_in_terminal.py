"""The screens of their own on a real terminal: how many bytes a key costs, and two files compared from the shell."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laminar_tui.profile.profile import Profile

pytestmark = pytest.mark.terminal

Emulate = Callable[..., Any]
# In 24-bit colour a change of colour takes 36 bytes: three rulers, two curves and a table of numbers are many of them.
MATRIX = [((80, 24), "truecolor", 2_000), ((200, 60), None, 5_000), ((200, 60), "truecolor", 6_500)]
COMPARISON = [((80, 24), "truecolor", 2_300), ((80, 24), None, 2_000), ((200, 60), "truecolor", 5_000)]


@pytest.mark.parametrize(("size", "colorterm", "budget"), MATRIX)
def test_a_key_in_the_matrix_stays_within_its_budget(
    emulate: Emulate, big_profile: Path, size: tuple[int, int], colorterm: str | None, budget: int
) -> None:
    emulator = emulate(str(big_profile), size=size, COLORTERM=colorterm)
    emulator.until("layer 0 ")
    emulator.type("6")
    emulator.until("layer 0 head 0")
    emulator.quiet()
    spent = {}
    for key, shows in (("l", "layer 1 head 0"), ("j", "layer 1 head 1"), ("h", "layer 0 head 1")):
        spent[shows] = emulator.bytes_of(key, shows)
    emulator.type("g")
    emulator.until("rank 1 of")
    emulator.quiet()
    spent["rank"] = emulator.bytes_of("n", "rank 2 of")
    assert max(spent.values()) <= budget, spent
    assert min(spent.values()) > 50, spent


@pytest.mark.parametrize(("size", "colorterm", "budget"), COMPARISON)
def test_a_key_in_a_comparison_stays_within_its_budget(
    emulate: Emulate, big_profile: Path, tmp_path: Path, size: tuple[int, int], colorterm: str | None, budget: int
) -> None:
    profile = Profile.load(big_profile)
    other = replace(profile, layers=profile.layers[1:] + profile.layers[:1])
    other = replace(other, origin=replace(profile.origin, revision="main"))
    other.save(tmp_path / "b.laminar")
    emulator = emulate(str(big_profile), "--compare", str(tmp_path / "b.laminar"), size=size, COLORTERM=colorterm)
    emulator.until("compare")
    emulator.until("change ")
    assert "A  step1000" in emulator.text
    assert "B  main" in emulator.text
    emulator.quiet()
    spent = {}
    for key, shows in (("l", "layer 1  JS"), ("l", "layer 2  JS"), ("h", "layer 1  JS")):
        spent[shows] = emulator.bytes_of(key, shows)
    assert max(spent.values()) <= budget, spent
    assert min(spent.values()) > 50, spent
    emulator.quiet(0.5)
    before = len(emulator.received)
    emulator.quiet(0.5)
    assert len(emulator.received) == before, "idle it writes nothing"
