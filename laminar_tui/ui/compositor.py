"""Partial updates that are cropped on both sides: Textual's own begin at the left edge of the widget that changed.

Over SSH that is most of what a cursor key costs: a curve's row is sent from its frame on for a dot that moved.
"""

import re

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor

_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")
_MOVE = re.compile(r"\x1b\[[0-9;]*H")
_RESET = "\x1b[0m"
_ONE_COLOR = r"(?:{0}[0-7]|{1}[0-7]|{0}8;5;\d+|{0}8;2;\d+;\d+;\d+)"
_BOTH_COLORS = re.compile(rf"\x1b\[{_ONE_COLOR.format(3, 9)};{_ONE_COLOR.format(4, 10)}m")


def without_repeats(written: str) -> str:
    """Leave out style sequences that change nothing: a style of 24-bit colours takes 36 bytes wherever it is set.

    Rich sets a style before each piece of text and resets it after; to move the cursor changes no style.
    """
    out: list[str] = []
    current, wanted = _RESET, _RESET
    for piece in _STYLE.split(written):
        if _STYLE.fullmatch(piece):
            wanted = piece
        elif piece and (wanted == current or _only_moves(piece)):
            out.append(piece)
        elif piece:
            # Two colours without any attribute take the place of two colours; all else needs a reset before it.
            replaces = _BOTH_COLORS.fullmatch(current) and _BOTH_COLORS.fullmatch(wanted)
            out += ["" if replaces or current == _RESET else _RESET, "" if wanted == _RESET else wanted, piece]
            current = wanted
    return "".join(out) + ("" if current == _RESET else _RESET)


def _only_moves(piece: str) -> bool:
    """Whether a piece holds nothing but a move of the cursor."""
    return _MOVE.fullmatch(piece) is not None


class CroppedUpdate(ChopsUpdate):
    """Sends of each changed row the cells that have changed, and no others."""

    def render_segments(self, console: Console) -> str:
        """Write the spans as text with escape sequences."""
        written: list[str] = []
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, x1), min(end, x2)
                if strip is None or start >= stop:
                    continue
                written.append(Control.move_to(start, y).segment.text)
                written.append(strip.crop(start - x, stop - x).render(console))
        return without_repeats("".join(written))


class CroppingCompositor(Compositor):
    """Textual's compositor with updates that are cropped on both sides."""

    def render_partial_update(self) -> ChopsUpdate | None:
        """Render what has changed since the last time; None for nothing."""
        update = super().render_partial_update()
        return update and CroppedUpdate(update.chops, update.spans, update.chop_ends)
