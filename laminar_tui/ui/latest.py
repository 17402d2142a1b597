"""The latest value of its kind: made again only when what it depends on has changed."""

from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Latest(Generic[Value]):
    """Holds one value; the one before is forgotten when another is asked for.

    Attributes:
        value: what was made last; None before anything was.
    """

    def __init__(self) -> None:
        self.value: Value | None = None
        self._key: tuple[object, ...] = ()

    def of(self, key: tuple[object, ...], make: Callable[[], Value]) -> Value:
        """The value of a key, which holds all that the value depends on; made now if the last key was another."""
        if self.value is None or key != self._key:
            self.value, self._key = make(), key
        return self.value
