"""Garbage is collected while nobody types: a full collection takes as long as a key or longer, and would come amid it.

Python collects whenever enough objects were made, and looks at all there are: textual's and the program's own are some
100,000, torch's several times as many. They stay until the end, so they are looked at once.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

REST = 1.0
"""Seconds without a key after which there is time."""
_AT_MOST = 200
"""Collections of the young after which a full one waits no longer: 1.4 million objects have come and not gone."""
_ENOUGH = 5
"""Collections of the young that make a full one worth its time."""
_MANY_MODULES = 100
"""Modules that are imported together, as torch's are."""


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Collect nothing meanwhile: what a start makes is kept, and is not worth looking through again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def collected_in_rests() -> Iterator[None]:
    """Collect the young by themselves meanwhile, and all of them when `Garbage` does."""
    before = gc.get_threshold()
    gc.set_threshold(*before[:2], _AT_MOST)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def let_widgets_go() -> None:
    """Have Textual keep no widget that is gone.

    It caches a method by its instance, and so the last thousand of them with all the lines that they have drawn
    (textual issue 6665), though what that method gives depends on two colours.
    """
    from textual._styles_cache import StylesCache

    cached: Any = vars(StylesCache).get("get_inner_outer")
    if hasattr(cached, "cache_info"):
        by_colours = lru_cache(1024)(partial(cached.__wrapped__, None))
        StylesCache.get_inner_outer = staticmethod(by_colours)  # type: ignore[assignment]


class Garbage:
    """Collects in a rest, if that is worth it."""

    def __init__(self) -> None:
        self._n_modules = 0

    def collect(self) -> bool:
        """Collect what has been left, unless it is little; objects that came with many modules are set aside.

        What is set aside comes back with `gc.unfreeze()`, as before another model is loaded; the next rest sees to it.

        Returns:
            Whether anything was looked at.
        """
        n_modules = len(sys.modules)
        has_grown = n_modules - self._n_modules >= _MANY_MODULES or not gc.get_freeze_count()
        if not has_grown and gc.get_count()[2] < _ENOUGH:
            return False
        gc.collect()
        if has_grown:
            self._n_modules = n_modules
            gc.freeze()
        return True
