"""Write the table of keys into README.md from the program's own list.

python tools/make_key_table.py [--check]
"""

import sys
from pathlib import Path

from laminar_tui.ui.keys import KEYS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- keys: made by tools/make_key_table.py -->\n", "<!-- /keys -->"


def key_table() -> str:
    """The table in Markdown, two keys a row."""
    cells = [f"{_code(key.shown)} | {key.description}" for key in KEYS]
    half = (len(cells) + 1) // 2
    rows = [f"| {left} | {right} |" for left, right in zip(cells, [*cells[half:], " | "][:half], strict=False) if left]
    return "\n".join(["| key | does | key | does |", "|---|---|---|---|", *rows]) + "\n"


def _code(shown: str) -> str:
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def with_table(text: str) -> str:
    """The README with the table put in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + key_table() + END + after


def main() -> int:
    """Write the table, or with --check say whether it is the program's."""
    text = README.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        return int(text != with_table(text))
    README.write_text(with_table(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
