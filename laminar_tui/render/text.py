"""The one place where text from outside (tokens, prompts, paths, errors) becomes visible and harmless.

A byte-level vocabulary holds ESC as a token, so this needs no attacker. All widths are terminal cells, not
characters.
"""

import unicodedata
from functools import lru_cache
from typing import Literal

from rich.cells import cell_len, split_graphemes

Align = Literal["left", "right", "center"]

_DELETE = 0x7F
# Control, format, surrogate, private use, unassigned, line and paragraph separator: nothing one could see.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Assigned letters and marks that draw nothing (Default_Ignorable_Code_Point outside of category Cf). The two
# emoji variation selectors U+FE0E and U+FE0F are left alone: ordinary text uses them.
_INVISIBLE = frozenset(
    (
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0xFE00, 0xFE0E),
        *range(0xE0100, 0xE01F0),
    )
)


@lru_cache(maxsize=4096)
def _visible_character(character: str, ascii_only: bool) -> str:
    code = ord(character)
    if " " <= character <= "~":
        return character
    if character == "\n":
        return "\\n" if ascii_only else "⏎"
    if character == "\t":
        return "\\t" if ascii_only else "⇥"
    if code < 0x20 or code == _DELETE:
        if ascii_only:
            return "^" + chr(code ^ 0x40)
        return chr(0x2421 if code == _DELETE else 0x2400 + code)
    if ascii_only or code in _INVISIBLE or unicodedata.category(character) in _HIDDEN_CATEGORIES:
        return f"\\u{{{code:x}}}"
    return character


_ASCII_FOR = str.maketrans(
    {"×": "x", "→": "->", "←": "<-", "·": "|", "–": "-", "›": ">", "‥": ".", "…": "~", "±": "+-"}
)
"""What the program's own words become where nothing but ASCII is to be shown."""


def visible(text: str, *, ascii_only: bool = False) -> str:
    """Make any text one line that shows what is in it and moves nothing on the terminal.

    Args:
        text: anything, also with lone surrogates.
        ascii_only: write every character beyond ASCII as an escape, and controls in caret notation.

    Returns:
        Text without control, format, bidi, zero-width, private or unassigned characters: controls become
        their pictures (`␛`, newline `⏎`, tab `⇥`), the others escapes like `\\u{202e}`. Ordinary text comes
        back unchanged.
    """
    return "".join([_visible_character(character, ascii_only) for character in text])


def token_label(piece: str, *, ascii_only: bool = False) -> str:
    """Make one token visible: as `visible` does, and every blank, which is part of it, a `·` (`_` in ASCII).

    A piece that begins with a combining mark gets a dotted circle to stand on, or it would change the cell to
    its left.
    """
    blank = "_" if ascii_only else "·"
    label = "".join(
        blank if unicodedata.category(character) == "Zs" else _visible_character(character, ascii_only)
        for character in piece
    )
    if label and unicodedata.category(label[0]) in ("Mn", "Mc", "Me"):
        return "◌" + label
    return label


def fit(text: str, width: int, *, align: Align = "left", ascii_only: bool = False) -> str:
    """Cut and pad a visible text to exactly `width` terminal cells.

    Args:
        text: one line, already made visible.
        width: in cells; a cut is marked by `…` (`~` in ASCII) in the last cells used.
        align: where the text stands when there is room.
    """
    if width <= 0:
        return ""
    if ascii_only:
        text = text.translate(_ASCII_FOR).encode("ascii", "backslashreplace").decode()
    taken = cell_len(text)
    if taken > width:
        text = _cut(text, width - 1) + ("~" if ascii_only else "…")
        taken = cell_len(text)
    room = width - taken
    left = {"left": 0, "right": room, "center": room // 2}[align]
    return " " * left + text + " " * (room - left)


def wrap(text: str, width: int) -> list[str]:
    """Break a visible text between words into lines of at most `width` cells; a longer word is cut."""
    lines = [""]
    for word in text.split(" "):
        word = fit(word, width).rstrip() if cell_len(word) > width else word
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".lstrip(" ")
    return lines


def _cut(text: str, width: int) -> str:
    """The longest start of the text, in whole graphemes, that takes at most `width` cells."""
    if text.isascii():
        return text[:width]
    end = taken = 0
    for _, stop, cells in split_graphemes(text)[0]:
        taken += cells
        if taken > width:
            break
        end = stop
    return text[:end]
