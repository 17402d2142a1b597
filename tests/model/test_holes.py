"""What the allocator holds without need is given back when it has grown too much, and not after every layer."""

import pytest

from laminar_tui.model import memory
from laminar_tui.model.memory import Holes, resident_memory

MB = 2**20


class Process:
    """A process that grows by some megabytes a layer, and shrinks to what is needed when asked to."""

    def __init__(self, needed: int, grows: int) -> None:
        self.needed, self.grows = needed, grows
        self.resident = needed
        self.n_trims = 0

    def trim(self, pad: int) -> int:
        assert pad == 0
        self.n_trims += 1
        self.resident = self.needed
        return 1


@pytest.mark.parametrize(("grows", "n_trims"), [(0, 0), (1, 0), (13, 7), (60, 29)])
def test_it_is_given_back_now_and_then(grows: int, n_trims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(100 * MB, grows * MB)
    monkeypatch.setattr(memory, "resident_memory", lambda: process.resident)
    monkeypatch.setattr(memory, "_malloc_trim", process.trim)
    holes = Holes()
    most = 0
    for _ in range(30):
        holes.give_back()
        process.resident += process.grows
        most = max(most, process.resident)
    assert process.n_trims == n_trims
    assert most <= process.needed + Holes.AT_MOST + 2 * process.grows


def test_what_is_needed_is_not_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that grows: giving back does not help, and is tried once for each further 48 MB."""
    process = Process(100 * MB, 0)
    monkeypatch.setattr(memory, "resident_memory", lambda: process.resident)
    monkeypatch.setattr(memory, "_malloc_trim", process.trim)
    holes = Holes()
    for _ in range(30):
        holes.give_back()
        process.needed += 10 * MB
        process.resident += 10 * MB
    assert process.n_trims == 5


@pytest.mark.parametrize(("resident", "trim"), [(None, lambda _pad: 1), (100 * MB, None)])
def test_another_system_goes_without(resident: int | None, trim: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident_memory", lambda: resident)
    monkeypatch.setattr(memory, "_malloc_trim", trim)
    for _ in range(3):
        Holes().give_back()


def test_what_the_process_occupies_is_a_number_of_bytes() -> None:
    found = resident_memory()
    assert found is None or 10 * MB < found < 2**40
