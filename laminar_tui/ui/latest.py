"""The latest value of its kind: made again only when what it depends on has changed."""

from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")
Key = tuple[object, ...]


class Latest(Generic[Value]):
    """Holds one value; the one before is forgotten when another is asked for.

    It may be made in one thread and looked at in another.
    """

    def __init__(self) -> None:
        self._made: tuple[Key, Value] | None = None

    @property
    def value(self) -> Value | None:
        """What was made last; None before anything was."""
        return self._made[1] if self._made is not None else None

    def known(self, key: Key) -> Value | None:
        """The value of a key if it is the one that was made last, else None."""
        made = self._made
        return made[1] if made is not None and made[0] == key else None

    def of(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, which holds all that the value depends on; made now if the last key was another."""
        made = self._made
        if made is None or made[0] != key:
            made = self._made = key, make()
        return made[1]
