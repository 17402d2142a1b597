"""What a screen does with its size: the classes that say what fits, or that nothing does."""

from typing import Any

from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import Static

MIN_WIDTH, MIN_HEIGHT = 60, 16
WIDE, TALL, HIGH = 100, 36, 46


def take_room(screen: Screen[Any], size: Size) -> bool:
    """Give a screen the classes of its size, or say in its `#tiny` that this is too small; whether there is room."""
    width, height = size
    tiny = width < MIN_WIDTH or height < MIN_HEIGHT
    screen.update_classes({"-wide": width >= WIDE, "-tall": height >= TALL, "-high": height >= HIGH, "-tiny": tiny})
    if tiny:
        screen.query_one("#tiny", Static).update(
            f"laminar needs {MIN_WIDTH} × {MIN_HEIGHT} cells,\nthis terminal has {width} × {height}"
        )
    return not tiny
