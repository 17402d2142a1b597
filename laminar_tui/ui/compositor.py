"""Partial updates that are cropped on both sides: Textual's own begin at the left edge of the widget that changed.

Over SSH that is most of what a cursor key costs: a curve's row is sent from its frame on for a dot that moved.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor

_STYLE = re.compile(r"\x1b\[([0-9;]*)m")
_CODES = re.compile(r"[34]8;5;\d+|[34]8;2;\d+;\d+;\d+|\d+")
_MOVE = re.compile(r"\x1b\[[0-9;]*H")
_ENDS = {1: 22, 2: 22, 3: 23, 4: 24, 5: 25, 6: 25, 7: 27, 8: 28, 9: 29, 21: 24, 51: 54, 52: 54, 53: 55}
"""What ends an attribute (ECMA-48, 8.3.117); bold and dim have one end."""


@dataclass(frozen=True)
class Look:
    """How text is written: attributes by their numbers, colours as the codes that set them."""

    attributes: frozenset[int] = frozenset()
    ink: str = "39"
    ground: str = "49"

    def codes_after(self, before: "Look") -> str:
        """The sequence that leads from another look to this one: only what differs."""
        ended = {_ENDS[each] for each in before.attributes - self.attributes}
        begun = {each for each in self.attributes if each not in before.attributes or _ENDS[each] in ended}
        codes = [str(each) for each in (*sorted(ended), *sorted(begun))]
        codes += [self.ink] if self.ink != before.ink else []
        codes += [self.ground] if self.ground != before.ground else []
        return f"\x1b[{';'.join(codes)}m" if codes else ""


PLAIN = Look()


@lru_cache(maxsize=4096)
def _read_look(codes: str) -> Look:
    """The look that a sequence of Rich's sets, which always begins from nothing."""
    attributes, ink, ground = set(), PLAIN.ink, PLAIN.ground
    for code in _CODES.findall(codes):
        number = int(code.partition(";")[0])
        if number in _ENDS:
            attributes.add(number)
        elif 30 <= number <= 39 or 90 <= number <= 97:
            ink = code
        elif 40 <= number <= 49 or 100 <= number <= 107:
            ground = code
    return Look(frozenset(attributes), ink, ground)


def without_repeats(written: str) -> str:
    """Leave out of style sequences what changes nothing: two colours of 24 bits take 36 bytes wherever they are set.

    Rich sets a whole style before each piece of text and resets it after; to move the cursor changes no style.
    """
    out: list[str] = []
    current = wanted = PLAIN
    for at, piece in enumerate(_STYLE.split(written)):
        if at % 2:
            wanted = _read_look(piece)
        elif piece:
            if not _MOVE.fullmatch(piece):
                out.append(wanted.codes_after(current))
                current = wanted
            out.append(piece)
    return "".join(out) + ("" if current == PLAIN else "\x1b[0m")


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
