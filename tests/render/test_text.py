"""Text from outside becomes harmless, and takes the cells it was given."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from laminar_tui.render.text import fit, token_label, visible

anything = st.text(alphabet=st.characters(codec=None, exclude_categories=[]), max_size=60)

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(anything)
def test_visible_text_has_no_control_format_or_unassigned_character(text: str) -> None:
    assert not [c for c in visible(text) if unicodedata.category(c) in HIDDEN]
    assert not [c for c in token_label(text) if unicodedata.category(c) in HIDDEN]


@given(anything)
def test_ascii_variant_is_printable_ascii(text: str) -> None:
    assert all(" " <= c <= "~" for c in visible(text, ascii_only=True))
    assert all(" " < c <= "~" for c in token_label(text, ascii_only=True))


@given(anything)
def test_visible_text_can_be_encoded_and_is_stable(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert visible(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Trường học của em",
        unicodedata.normalize("NFD", "Trường học"),
        "首都是巴黎",
        "🎉👍🏽❤\ufe0f",
        "عاصمة فرنسا",
        "[bold]markup[/]",
        "a\\b",
        "\ufffd",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown", "ascii_shown"),
    [
        ("\x1b]52;c;eA==\x07", "␛]52;c;eA==␇", "^[]52;c;eA==^G"),
        ("a\nb\tc\r", "a⏎b⇥c␍", "a\\nb\\tc^M"),
        ("\x00\x7f", "␀␡", "^@^?"),
        ("\x9b2J", "\\u{9b}2J", "\\u{9b}2J"),
        ("\u202eabc\u2066", "\\u{202e}abc\\u{2066}", "\\u{202e}abc\\u{2066}"),
        ("a\u200bb\ufeff\u00ad", "a\\u{200b}b\\u{feff}\\u{ad}", "a\\u{200b}b\\u{feff}\\u{ad}"),
        ("\u3164\U000e0041\U000e0101", "\\u{3164}\\u{e0041}\\u{e0101}", "\\u{3164}\\u{e0041}\\u{e0101}"),
        ("\ud800\ue000\u2028", "\\u{d800}\\u{e000}\\u{2028}", "\\u{d800}\\u{e000}\\u{2028}"),
        ("é", "é", "\\u{e9}"),
    ],
)
def test_what_hidden_characters_look_like(text: str, shown: str, ascii_shown: str) -> None:
    assert visible(text) == shown
    assert visible(text, ascii_only=True) == ascii_shown


def test_a_token_shows_its_blanks_and_stands_on_its_own() -> None:
    assert token_label(" the") == "·the"
    assert token_label("  \n") == "··⏎"
    assert token_label(" the", ascii_only=True) == "_the"
    assert token_label("\u3000x") == "·x"
    assert token_label("\u0301") == "◌\u0301"
    assert token_label("") == ""


@given(anything, st.integers(-2, 40), st.sampled_from(["left", "right", "center"]), st.booleans())
def test_fit_takes_exactly_the_width(text: str, width: int, align: str, ascii_only: bool) -> None:
    label = visible(text, ascii_only=ascii_only)
    assert cell_len(fit(label, width, align=align, ascii_only=ascii_only)) == max(0, width)  # type: ignore[arg-type]


def test_fit_cuts_in_whole_characters_and_pads() -> None:
    assert fit("abcdef", 4) == "abc…"
    assert fit("abcdef", 4, ascii_only=True) == "abc~"
    assert fit("首都是", 4) == "首… "
    assert fit("首都是", 6) == "首都是"
    assert fit("ab", 5, align="right") == "   ab"
    assert fit("ab", 5, align="center") == " ab  "
    assert fit("abc", 1) == "…"
    assert fit("abc", 0) == ""
