"""Every byte that the real program writes about hostile data, parsed: nothing but what its driver sends anyway.

The same keys are pressed on a profile of harmless words first. Which control sequences come then is the measure: with
hostile words in every place of the profile and in the files' names, no other kind may come, and no other text in those
that carry text (titles, the clipboard). Between them stand printable characters only.
"""

import base64
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from laminar_tui.profile.profile import Check, Profile

pytestmark = pytest.mark.terminal

Emulate = Callable[..., Any]
N_TOKENS = 12
HOSTILE = [
    "\x1b]52;c;aGk=\x07", "\x1b]0;owned\x07", "\x1b[2J\x1b[1;1H", "\x1b[?1049l", "\x1bc", "\x1bP+q544e\x1b\\",
    "\x9b31m", "\x9d0;x\x9c", "\x90q\x9c", "\u202eevil\u2066", "a\u200bb\ufeffc", "one\ntwo\r\x85\u2028",
    "[bold]x[/]", "[@click=app.quit]x[/]", "\x01\x07\x08\x0e\x18\x1a\x7f", "\ud800", "\x1b_Gi=1;AAAA\x1b\\", "\x1b[5n",
]  # fmt: skip
"""Clipboard, title, clearing, moving, the other screen, reset, terminal's data, C1, direction, hiding, lines, markup,
controls, half a pair, a picture, a question to the terminal."""

KEYS = "23m},1zspacdu " + "i\x1b?\x1b`\x1b" + "\tjvY\t" + "6j\x1b5ln\x1b7j\x1b" + "O\x1b" + "/\x1b" + "MyYw\x1bx\x1b"
KEYS += "e\x1bt3,yY\x1b1\r\r\x0c4"
"""Keys that lead through every screen and back; each of them changes something."""

TOKEN = re.compile(
    rb"(?P<csi>\x1b\[(?P<private>[<=>?]?)(?P<numbers>[0-9;:]*)(?P<middle>[ -/]*)(?P<final>[@-~]))"
    rb"|\x1b(?P<string>[\]PX^_])(?P<inside>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    rb"|(?P<escape>\x1b[ -/]*[0-~])"
    rb"|(?P<text>[^\x1b]+)"
)


@dataclass
class Written:
    """What some bytes are made of.

    Attributes:
        kinds: the control sequences, without their numbers; of modes, with them.
        strings: what OSC, DCS and their like carried, the clipboard's left out.
        copied: what went to the clipboard.
        controls: bytes below a blank.
        text: all that is between them.
    """

    kinds: set[bytes] = field(default_factory=set)
    strings: set[bytes] = field(default_factory=set)
    copied: list[str] = field(default_factory=list)
    controls: set[int] = field(default_factory=set)
    text: str = ""


def parse(data: bytes) -> Written:
    """Parse all of some bytes.

    Raises:
        AssertionError: at a byte that is part of nothing.
    """
    written, at, text = Written(), 0, b""
    while at < len(data):
        found = TOKEN.match(data, at)
        assert found, f"part of no sequence: {data[at : at + 40]!r}"
        at = found.end()
        if found["csi"]:
            numbers = found["numbers"] if found["final"] in b"hl" else b""
            written.kinds.add(b"CSI " + found["private"] + numbers + found["middle"] + found["final"])
        elif found["string"]:
            if found["inside"].startswith(b"52;"):
                written.copied.append(base64.b64decode(found["inside"].rpartition(b";")[2]).decode())
            else:
                written.strings.add(found["string"] + found["inside"])
        elif found["escape"]:
            written.kinds.add(found["escape"])
        else:
            text += found["text"]
    written.controls = {byte for byte in text if byte < 0x20 or byte == 0x7F}
    written.text = text.decode()  # and so all of it is UTF-8, which C1 bytes by themselves are not
    return written


def assert_printable(text: str, but: str = "") -> None:
    """No control, no character that hides or turns."""
    hidden = {c for c in text if c not in but and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}
    assert not hidden, hidden


def profile_with(words: list[str], plain: Profile) -> Profile:
    """Put words into every place of a profile that holds text."""
    chosen = iter(words * 40)
    names = ("model", "revision", "architecture", "dtype", "device", "mechanism", "recipe", "created")
    origin = replace(
        plain.origin,
        tokens=tuple(next(chosen) for _ in range(N_TOKENS)),
        versions={next(chosen): next(chosen)},
        checks=(Check(next(chosen), True, next(chosen)), Check(next(chosen), True, next(chosen))),
        layer_kinds=("attention", next(chosen), "attention"),
        **{name: next(chosen) for name in names},
    )
    return replace(plain, origin=origin)


def walk(emulate: Emulate, folder: Path, name: str, words: list[str], profile: Profile) -> Written:
    """Press the way through all screens on a file of some name, compared with another one, and parse what came."""
    folder.mkdir()
    path, other = folder / f"{name}.laminar", folder / f"{name}-b.laminar"
    profile_with(words, profile).save(path)
    profile_with(words[::-1], profile).save(other)
    emulator = emulate("--compare", str(other), str(path), size=(120, 40), LANG="C.UTF-8", SSH_CONNECTION="1 2 3 4")
    emulator.until("change ")
    emulator.type("\x1b")
    emulator.until("density, layer 0")
    emulator.quiet()
    for key in KEYS:
        before = len(emulator.received)
        emulator.type(key)
        emulator.until(lambda before=before: len(emulator.received) > before)
        emulator.quiet(0.1)
    emulator.type("q")
    assert emulator.exit_code() == 0
    return parse(emulator.received)


def test_no_byte_of_the_data_is_a_command_to_the_terminal(
    emulate: Emulate, patterns: Callable[..., Any], make_profile: Callable[..., Profile], tmp_path: Path
) -> None:
    plain = make_profile([patterns(1, 3, N_TOKENS), None, patterns(2, 2, N_TOKENS)])
    name = "".join(HOSTILE[:3]).replace("/", "") + HOSTILE[9] + "\x9b"
    usual = walk(emulate, tmp_path / "usual", "usual", ["word"], plain)
    found = walk(emulate, tmp_path / "hostile", name, HOSTILE, plain)

    assert len(usual.kinds) > 8, usual.kinds
    assert found.kinds <= usual.kinds, found.kinds - usual.kinds
    assert found.strings <= usual.strings, found.strings - usual.strings
    assert found.controls <= usual.controls <= set(b"\r\n\x0e\x0f"), (found.controls, usual.controls)
    assert_printable(found.text, "\r\n\x0e\x0f")
    assert "owned" in found.text, "it is shown, as text"
    assert len(found.copied) >= 3
    assert "31m" in "".join(found.copied), "tokens are copied too, as text"
    for copied in found.copied:
        assert_printable(copied, "\n\t")


@pytest.mark.parametrize("payload", [each for each in HOSTILE if each.isascii() and "\x1b" in each])
def test_the_parser_sees_what_a_terminal_would_obey(payload: str) -> None:
    usual = parse(b"\x1b[1;1H\x1b[0mword\r\n")
    found = parse(b"\x1b[1;1H\x1b[0m" + payload.encode() + b"\r\n")
    assert found.copied or found.strings or found.kinds - usual.kinds or found.text != "word\r\n"
    assert found.copied or found.strings or found.kinds - usual.kinds or payload.startswith("\x1b[2J")
