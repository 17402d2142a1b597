"""The whole program on a pseudo-terminal: what it draws, how many bytes that takes, and what it leaves behind."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from emulator import Emulator, clean_environment, program

from laminar_tui.profile.profile import Profile

Emulate = Callable[..., Emulator]


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Emulate]:
    """Runs the program in an emulator: `emulate(*words, size=(80, 24), NAME=value ...)`."""
    opened: list[Emulator] = []

    def run(
        *words: str, size: tuple[int, int] = (80, 24), command: list[str] | None = None, **changes: str | None
    ) -> Emulator:
        environment = clean_environment(tmp_path, **changes)
        opened.append(Emulator(command or program(*words), environment, size, tmp_path))
        return opened[-1]

    yield run
    for emulator in opened:
        emulator.close()


@pytest.fixture(scope="session")
def big_profile(
    patterns: Callable[..., Any], make_profile: Callable[..., Profile], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A profile of 32 layers of 32 heads on 48 tokens, as a file; each fourth layer is the same."""
    some = make_profile([patterns(seed, 32, 48, spread=1.0 + 2 * seed) for seed in range(4)])
    origin = replace(some.origin, layer_kinds=("attention",) * 32)
    path = tmp_path_factory.mktemp("profiles") / "big.laminar"
    Profile(origin, some.layers * 8).save(path)
    return path


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Path:
    """The bundled model, or a tiny one if it is not there."""
    from laminar_tui.run import BUNDLED_MODEL

    return BUNDLED_MODEL if (BUNDLED_MODEL / "model.safetensors").is_file() else model_folder
