"""Many prompts out of a text file, a folder of them, or a JSONL file, one at a time.

A corpus may be larger than memory: files are read in pieces, and a text is cut into windows of the model's context
while it is read. Whoever reads the same corpus with the same tokenizer gets the same windows in the same order.
"""

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from laminar_tui.errors import PromptError, UsageError
from laminar_tui.source import as_path

JSONL_SUFFIXES = (".jsonl", ".ndjson")
FIELDS = ("text", "prompt")
"""Where a line of JSONL has its text, if nothing else is said."""

PIECE_BYTES = 2**20
"""A longer text goes to the tokenizer in pieces that end with a line, so that no file has to fit into memory."""

Encode = Callable[[str], list[int]]
"""A text's token ids, without those that the tokenizer puts in front of every text."""


@dataclass(frozen=True)
class Text:
    """One text of a corpus.

    Attributes:
        place: the file, and the line where the file has several texts.
        pieces: the text, a piece after the other; to be read once.
        n_bytes: what it takes up of the file, where that is known before it is read; 0 stands for its own bytes.
    """

    place: str
    pieces: Iterable[str]
    n_bytes: int = 0


class Window(NamedTuple):
    """Token ids to run a model on, and how many bytes of the corpus are behind with them, about."""

    ids: list[int]
    n_bytes: float


def read_texts(path: str, field: str | None = None) -> Iterator[Text]:
    """Read a corpus text by text; blank lines of JSONL are no texts.

    Args:
        path: a JSONL file (`.jsonl`, `.ndjson`), any other file, which is one text (one line break at its end is the
            file's, not the text's), or a folder of both, whose files are read in the order of their names; hidden ones
            are left out.
        field: the field of a JSONL line with the text; `text` or `prompt` when left out.

    Raises:
        UsageError: if there is nothing to read, or a file or a line of it is not what it should be.
    """
    for file in corpus_files(path):
        if file.suffix in JSONL_SUFFIXES:
            yield from _read_jsonl(file, field)
        else:
            yield Text(str(file), _without_file_end(_read_pieces(file)))


def corpus_files(path: str) -> list[Path]:
    """Name the files of a corpus.

    Raises:
        UsageError: if there are none.
    """
    found = as_path(path)
    if path and found.is_file():
        return [found]
    if not path or not found.is_dir():
        raise UsageError(
            f"no such file or folder: {path}", "a corpus is a text file, a folder of them or a .jsonl file"
        )
    names = (file.relative_to(found) for file in found.rglob("*") if file.is_file())
    files = sorted(name for name in names if not any(part.startswith(".") for part in name.parts))
    if not files:
        raise UsageError(f"there are no files in {path}", "a corpus is a text file, a folder of them or a .jsonl file")
    return [found / name for name in files]


class CorpusSize(NamedTuple):
    """How large a corpus is, in bytes: all of its files, and the largest one, which no text of it is longer than."""

    total: int
    largest: int


def measure_corpus(path: str) -> CorpusSize:
    """See how large a corpus is, without reading it.

    Raises:
        UsageError: if there is none, or it cannot be looked at.
    """
    try:
        sizes = [file.stat().st_size for file in corpus_files(path)]
    except OSError as error:
        raise UsageError(f"cannot look at {error.filename}: {error.strerror}", "check its permissions") from error
    return CorpusSize(sum(sizes), max(sizes))


def _read_jsonl(path: Path, field: str | None) -> Iterator[Text]:
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                place = f"{path}, line {number}"
                yield Text(place, (_text_of(line, place, field),), len(line))


def _text_of(line: bytes, place: str, field: str | None) -> str:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: this is no JSON", "each line of a .jsonl file is one JSON object") from error
    if not isinstance(fields, dict):
        raise UsageError(f"{place}: this is no JSON object", 'a line looks like {"text": "..."}')
    names = (field,) if field else FIELDS
    texts = [fields[name] for name in names if name in fields]
    if not texts:
        found = ", ".join(fields) or "none"
        raise UsageError(f"{place}: there is no field '{' or '.join(names)}'", f"its fields: {found[:80]}; see --field")
    if not isinstance(texts[0], str):
        raise UsageError(f"{place}: the text is no string", "name the field that holds it with --field")
    try:
        texts[0].encode()
    except UnicodeEncodeError as error:  # JSON can spell what UTF-8 cannot
        raise UsageError(f"{place}: the text holds half a surrogate pair", "leave this line out") from error
    return texts[0]


def _read_pieces(path: Path) -> Iterator[str]:
    """Read a file piece by piece, each but the last one up to the end of a line, if it has one."""
    rest = ""
    for text in _decode(path):
        rest += text
        end = rest.rfind("\n") + 1
        if end and len(rest) >= PIECE_BYTES // 4:  # characters of up to four bytes
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def _without_file_end(pieces: Iterator[str]) -> Iterator[str]:
    """Take one line break from the end of the last piece: it ends the file, and is not the text's final token."""
    last = ""
    for piece in pieces:
        if last:
            yield last
        last = piece
    last = last.removesuffix("\n").removesuffix("\r") if last.endswith("\n") else last
    if last:
        yield last


def _decode(path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line = 1
    with _opened(path) as file:
        while True:
            piece = file.read(PIECE_BYTES)
            try:
                text = decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise UsageError(
                    f"{path}, line {line}: this is no UTF-8 text", "convert it, or leave it out"
                ) from error
            if not piece:
                return
            line += text.count("\n")
            yield text


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "check the file's permissions") from error


def cut_windows(texts: Iterable[Text], encode: Encode, leading: list[int], size: int) -> Iterator[Window]:
    """Cut texts into windows of token ids, none of which holds tokens of two texts.

    Every window begins as the tokenizer begins a text, so that the first key means the same in all of them.

    Args:
        texts: read one after another, and no further than the windows that are asked for.
        encode: gives a piece's token ids without the leading ones.
        leading: what stands in front of every window, shorter than `size`.
        size: tokens of a window; the last one of a text is what remains.

    Returns:
        At most `size` ids each; a piece's bytes are spread evenly over its tokens.

    Raises:
        PromptError: for a text that cannot be encoded; it says which one.
    """
    room = size - len(leading)
    n_bytes = 0
    for text in texts:
        rest: list[int] = []
        for piece in text.pieces:
            try:
                ids = encode(piece) if piece else []
            except PromptError as error:
                raise PromptError(f"{text.place}: {error.message}", "leave this text out of the corpus") from error
            in_piece = text.n_bytes or len(piece.encode())
            n_bytes += in_piece
            rest += ids
            while len(rest) >= room:
                ids_here, rest = rest[:room], rest[room:]
                yield Window(leading + ids_here, n_bytes - in_piece * len(rest) / len(ids))
        if rest:
            yield Window(leading + rest, n_bytes)
