"""How far transformers is with a model, heard from the progress bars that it would draw."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging as transformers_logging

from laminar_tui.errors import CancelledError

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0: unknown)."""


@contextmanager
def hear_progress(on_progress: OnProgress | None, is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Hear of every progress bar transformers would draw; raising in it stops the load."""

    def hook(_factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "_SilentBar":
        return _SilentBar(on_progress, is_cancelled, *args, **kwargs)

    before = transformers_logging.set_tqdm_hook(hook)
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.set_tqdm_hook(before)


class _SilentBar:
    """What a library takes for a progress bar: it draws nothing and tells how far things are."""

    def __init__(
        self,
        on_progress: OnProgress | None,
        is_cancelled: Callable[[], bool],
        iterable: Any = None,
        *_: Any,
        desc: str | None = None,
        total: float | None = None,
        initial: float = 0,
        **_others: Any,
    ) -> None:
        self._on_progress = on_progress
        self._is_cancelled = is_cancelled
        self._iterable = iterable
        self.desc = desc or "loading"
        self.total = total if total is not None else len(iterable) if hasattr(iterable, "__len__") else 0
        self.n = initial
        self.disable = False
        self.update(0)

    def update(self, n: float | None = 1) -> None:
        """Take note of some more, and stop the work if its user said so."""
        self.n += n or 0
        if self._is_cancelled():
            raise CancelledError("the loading was cancelled")
        if self._on_progress is not None:
            self._on_progress(self.desc, int(self.n), int(self.total or 0))

    def set_description(self, desc: str | None = None, refresh: bool = True) -> None:
        """Take the name of what is being done."""
        del refresh
        self.desc = desc or self.desc

    def __iter__(self) -> Iterator[Any]:
        for each in self._iterable or ():
            yield each
            self.update(1)

    def __enter__(self) -> "_SilentBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to close."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_args, **_kwargs: None
