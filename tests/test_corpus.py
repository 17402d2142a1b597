"""Reading a corpus: texts in order, windows that fit, little at a time, and errors with file and line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from laminar_tui import corpus
from laminar_tui.corpus import Text, corpus_files, cut_windows, read_texts
from laminar_tui.errors import UsageError


def texts_of(path: Path, field: str | None = None) -> list[str]:
    return ["".join(text.pieces) for text in read_texts(str(path), field)]


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


def windows_of(*texts: str, size: int, leading: str = "") -> list[str]:
    found = cut_windows([Text("here", (text,)) for text in texts], encode, encode(leading), size)
    return ["".join(map(chr, window.ids)) for window in found]


def test_a_text_file_is_one_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffGrüße →\r\n\r\nzwei".encode())
    assert texts_of(path) == ["Grüße →\r\n\r\nzwei"]


def test_lines_of_jsonl_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [{"text": "one", "prompt": "not this"}, {"prompt": "two\n"}, {"other": 1, "text": ""}]
    path.write_text("\n\n".join(json.dumps(line) for line in lines))
    assert texts_of(path) == ["one", "two\n", ""]
    path.write_text('{"text": "x", "body": "é"}')
    assert texts_of(path, "body") == ["é"]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name, text in {"c.txt": "3", "b/a.txt": "2", "a.md": "1", ".d.txt": "no", ".hidden/e.txt": "no"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "d.jsonl").write_text('{"text": "4"}\n{"text": "5"}')
    assert texts_of(tmp_path) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "x"}\n\n{"text": \n', "line 3: this is no JSON"),
        ("a.jsonl", b'{"text": "x"}\n[1]\n', "line 2: this is no JSON object"),
        ("a.jsonl", b'{"body": "x"}\n', "line 1: there is no field 'text or prompt'"),
        ("a.jsonl", b'{"text": ["x"]}\n', "line 1: the text is no string"),
        ("a.jsonl", b'{"text": "\xff"}\n', "line 1: this is no JSON"),
        ("a.ndjson", b"[" * 100_000, "line 1: this is no JSON"),
        ("a.txt", b"good\ngood\nb\xffd\n", "line 3: this is no UTF-8"),
        ("a.txt", b"good\ncut \xc3", "line 2: this is no UTF-8"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as refused:
        texts_of(tmp_path / name)
    assert f"{name}, {said}" in refused.value.message
    assert refused.value.hint


def test_the_line_is_right_beyond_the_first_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "PIECE_BYTES", 16)
    (tmp_path / "a.txt").write_bytes("é\n".encode() * 50 + b"\xff")
    with pytest.raises(UsageError, match="line 51"):
        texts_of(tmp_path / "a.txt")


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(UsageError):
            corpus_files(str(path))


@pytest.mark.parametrize(
    "text", ["line\n" * 400, "x" * 900, "é→\n" * 99 + "end", "\n\n\n" * 200, "a" * 90 + "\n" + "b" * 90]
)
def test_pieces_are_the_text_and_end_with_lines(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "PIECE_BYTES", 64)
    (tmp_path / "a.txt").write_text(text)
    (found,) = read_texts(str(tmp_path / "a.txt"))
    pieces = list(found.pieces)
    assert "".join(pieces) == text.removesuffix("\n"), "the line break at the end is the file's"
    assert all(piece.endswith("\n") for piece in pieces[:-1])


@pytest.mark.parametrize(("written", "read"), [(b"a\r\n", "a"), (b"a\n\n", "a\n"), (b"\n", ""), (b"a", "a")])
def test_one_line_break_at_the_end_of_a_file_is_no_token(written: bytes, read: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(written)
    assert texts_of(tmp_path / "a.txt") == [read]


def test_windows_hold_one_text_each_and_all_of_it() -> None:
    assert windows_of("abcdefgh", "", "ij", size=3) == ["abc", "def", "gh", "ij"]
    assert windows_of("abcdef", size=3) == ["abc", "def"], "no empty window at the end"
    assert windows_of("abcdefg", "h", size=3, leading="^") == ["^ab", "^cd", "^ef", "^g", "^h"]


def test_windows_run_on_over_the_pieces_of_a_text() -> None:
    found = cut_windows([Text("here", ("abcd", "", "ef"))], encode, [], 3)
    assert ["".join(map(chr, window.ids)) for window in found] == ["abc", "def"]


def test_a_window_says_how_many_bytes_are_behind(tmp_path: Path) -> None:
    """Of a text as many as its tokens have, of a line of JSONL its own, whatever else is in it."""
    (tmp_path / "a.txt").write_text("abcdé\n")
    line = '{"id": 123456, "text": "abcd"}\n'
    (tmp_path / "b.jsonl").write_text(line * 2)
    windows = list(cut_windows(read_texts(str(tmp_path)), encode, [], 2))
    of_line = [len(line) / 2, len(line)]
    expected = [2 * 6 / 5, 4 * 6 / 5, 6, *(6 + each for each in of_line), *(6 + len(line) + each for each in of_line)]
    assert [window.n_bytes for window in windows] == pytest.approx(expected)
    pieces = cut_windows([Text("here", ("abcd", "ef", "", "gh"))], encode, [], 3)
    assert [window.n_bytes for window in pieces] == pytest.approx([3, 6, 8])


def test_no_more_is_read_than_was_asked_for() -> None:
    read: list[int] = []

    def pieces() -> Iterator[str]:
        for number in range(1000):
            read.append(number)
            yield "abc"

    windows = cut_windows([Text("here", pieces())], encode, [], 6)
    for _ in range(4):
        next(windows)
    assert len(read) <= 9
