"""A scripted run that goes on when the test says so, and how far it is."""

import threading
from collections.abc import Callable
from typing import Any


class Gate:
    """Lets a scripted run go on layer by layer, when the test says so."""

    def __init__(self) -> None:
        self._opened = threading.Semaphore(0)

    def __call__(self, _index: int, is_cancelled: Callable[[], bool]) -> None:
        while not is_cancelled():
            if self._opened.acquire(timeout=0.01):
                return

    def open(self, layers: int = 1) -> None:
        """Let so many layers be read."""
        for _ in range(layers):
            self._opened.release()


def n_read(driven: Any) -> int:
    profile = driven.state.profile
    return profile.n_read if profile else -1
