"""The sentence about the entries behind a cell, and their list."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.style import Style

from laminar_tui.profile.patterns import Entries
from laminar_tui.render.entries import Asked, draw_entries, exact, sentence
from laminar_tui.render.rows import row_text, row_width, to_ansi
from laminar_tui.render.text import wrap

GOLDEN = Path(__file__).parent / "golden"
TOKENS = ("The", " cat", " \x1b[31msat", "\n", " 漢字", "", " e\u0301", "[/bold]", " \u202eon", " a", " mat", ".")


def entries(*found: tuple[int, int, int, float], n: int | None = None, is_complete: bool = True) -> Entries:
    """From (head, query, key, weight)."""
    columns = [np.array([each[at] for each in found]) for at in range(4)]
    head, query, key, weight = columns
    whole = len(found) if n is None else n
    return Entries(
        head.astype(np.int64),
        query.astype(np.int64),
        key.astype(np.int64),
        weight.astype(np.float32),
        whole,
        is_complete,
    )


def asked(**changes: object) -> Asked:
    return replace(Asked("layer 18", 0.6, 1.0, True, "final", TOKENS, scope="the last query only"), **changes)  # type: ignore[arg-type]


SINK = [(head, 11, 0, 0.9 - head / 50) for head in range(9)]
OTHER = (9, 11, 4, 0.61)


@pytest.mark.parametrize(
    ("found", "question", "said"),
    [
        (entries(*SINK), asked(), "layer 18: all 9 weights above 0.6 are key 0 'The', the first token"),
        (
            entries(*SINK[:8], OTHER),
            asked(),
            "layer 18: 8 of 9 weights above 0.6 are key 0 'The', the first token",
        ),
        (entries(OTHER), asked(), "layer 18: the one weight above 0.6 is key 4 '·漢字'"),
        (entries(), asked(), "layer 18: no weight above 0.6"),
        (
            entries(SINK[0], SINK[1], OTHER, (1, 11, 1, 0.61)),
            asked(),
            "layer 18: 4 weights above 0.6 lie on 3 keys, most often 0 'The' (2)",
        ),
        (
            entries(SINK[0], OTHER),
            asked(),
            "layer 18: 2 weights above 0.6 lie on as many keys, the heaviest on 0 'The'",
        ),
        (
            entries(*SINK),
            asked(is_open=False, high=0.65),
            "layer 18: all 9 weights in 0.600–0.650 are key 0 'The', the first token",
        ),
        (entries(*SINK), asked(low=0.0), "layer 18: all 9 weights are key 0 'The', the first token"),
        (
            entries(*SINK, n=13_184),
            asked(),
            "layer 18: all of the heaviest 9 of 13,184 weights above 0.6 are key 0 'The', the first token",
        ),
        (
            entries(*[(0, q, q, 0.7) for q in (3, 4, 6)]),
            asked(population="self"),
            "layer 18: all 3 weights above 0.6 are tokens' on themselves",
        ),
        (
            entries(*[(0, q, q - 1, 0.7) for q in (3, 4, 7, 8)], OTHER),
            asked(population="past", place="layer 2 head 0"),
            "layer 2 head 0: 4 of 5 weights above 0.6 are on the token before",
        ),
        (entries((0, 11, 5, 0.9)), asked(), "layer 18: the one weight above 0.6 is key 5 '·漢字'"),
    ],
)
def test_the_sentence_says_what_the_entries_have_in_common(found: Entries, question: Asked, said: str) -> None:
    assert sentence(found, question) == said


def test_a_sentence_is_harmless_and_in_ascii_where_nothing_else_is_shown() -> None:
    found = entries((0, 11, 2, 0.7))
    assert sentence(found, asked()).endswith("key 2 '·␛[31msat'")
    assert sentence(found, asked(), ascii_only=True).isascii()


@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf8", "ascii"])
@pytest.mark.parametrize("width", [32, 54])
def test_the_list_is_drawn_as_it_was(width: int, ascii_only: bool) -> None:
    found = entries(*SINK[:4], OTHER, *((3, 11, key, 0.6) for key in range(1, 11)), is_complete=False)
    question = asked(n_counted=1234, population="past")
    rows = draw_entries(found, question, width, 14, selected=4, ascii_only=ascii_only)
    drawn = to_ansi(rows, "none")
    path = GOLDEN / f"entries_{width}{'_ascii' if ascii_only else ''}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(drawn, encoding="utf-8")
    assert drawn == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [1, 9, 20, 34, 54, 120])
@pytest.mark.parametrize("height", [1, 2, 5, 9, 40])
@pytest.mark.parametrize("selected", [None, 0, 7, 14])
def test_the_list_fits_and_the_selected_entry_is_in_sight(width: int, height: int, selected: int | None) -> None:
    found = entries(*SINK[:4], OTHER, *((3, 11, key, 0.6) for key in range(1, 11)))
    rows = draw_entries(found, asked(), width, height, selected=selected)
    assert len(rows) <= height
    if width >= 20:
        assert {row_width(row) for row in rows} == {width}
    chosen = [row for row in rows if any(segment.style == Style(reverse=True) for segment in row)]
    if selected is not None and height >= 9 and width >= 34:
        assert [row_text(row)[0] for row in chosen] == ["►"]
        assert f" {int(found.key[selected])} " in row_text(chosen[0])


def test_while_they_are_looked_up_the_list_says_so() -> None:
    assert row_text(draw_entries(None, asked(), 40, 5)[0]).strip() == "layer 18: looking the weights up"


def test_weights_are_written_so_that_what_is_not_one_is_not_called_one() -> None:
    written = [exact(weight) for weight in (1.0, 0.99999, 0.98843, 0.6, 0.0012, 0.00021, 0.0)]
    assert written == ["1.0000", ">.9999", "0.9884", "0.6000", "0.0012", "2.1e-4", "0"]


def test_lines_break_between_words_by_cells() -> None:
    assert wrap("one two 漢字漢字 four", 8) == ["one two", "漢字漢字", "four"]
    assert wrap("incomprehensible", 6) == ["incom…"]
