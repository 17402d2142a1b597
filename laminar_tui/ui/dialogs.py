"""The windows over the explorer: help, about, the name of a file. Esc closes each of them."""

from collections.abc import Callable, Iterator
from typing import ClassVar, TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from laminar_tui.render.rows import Row
from laminar_tui.render.text import visible
from laminar_tui.ui.leaving import LeftOnce
from laminar_tui.ui.widgets import Painted

Result = TypeVar("Result")


class Dialog(LeftOnce[Result], ModalScreen[Result]):
    """A window that Esc closes without a result."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "close", show=False)]

    def action_close(self) -> None:
        """Close without a result."""
        self.dismiss(None)


def hang(text: Text, console: Console, width: int) -> Iterator[Text]:
    """Wrap a text so that its lines go on under what stands beside their label, and not under the label.

    Args:
        text: a label is what a line begins with in a style of its own.
        console: for which it is wrapped.
        width: in cells.
    """
    for line in text.split("\n", allow_blank=True):
        indent = _label_cells(line)
        if not 0 < indent < width // 2:
            yield from line.wrap(console, width)
            continue
        label, rest = line[:indent], line[indent:]
        for at, piece in enumerate(rest.wrap(console, width - indent)):
            yield Text.assemble(label if at == 0 else " " * indent, piece)


class Hanging:
    """A text that is wrapped by `hang`, for what takes renderables."""

    def __init__(self, text: Text) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from hang(self.text, console, options.max_width)


class LongText(Painted):
    """A text that is wrapped by `hang`, once for a width: Textual would have a `Static` of it drawn six times."""

    DEFAULT_CSS = "LongText { width: 1fr; height: auto; }"

    def __init__(self, text: Text, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = text
        self._rows: dict[int, list[Row]] = {}

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As high as the text is at a width."""
        del container, viewport
        return len(self._wrap(width))

    def make_row(self, y: int) -> Row:
        """Draw one row."""
        rows = self._wrap(self.size.width)
        return rows[y] if y < len(rows) else []

    def _wrap(self, width: int) -> list[Row]:
        if width <= 0:  # a terminal that is all frame
            return []
        if width not in self._rows:
            console = self.app.console
            self._rows[width] = [list(line.render(console)) for line in hang(self._text, console, width)]
        return self._rows[width]


def _label_cells(line: Text) -> int:
    """The cells of a line's label and the blanks after it; 0 where there is none, or nothing else."""
    end = max((span.end for span in line.spans if span.start == 0), default=0)
    rest = line.plain[end:]
    return end + len(rest) - len(rest.lstrip()) if rest.strip() else 0


class TextBox(VerticalScroll):
    """Scrolls a text, and asks how high it is at the width that it gets: Textual forgets the room of the scroll bar."""

    DEFAULT_CSS = "TextBox { scrollbar-gutter: stable; }"

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As high as the text is beside the scroll bar."""
        return super().get_content_height(container, viewport, max(0, width - self.styles.scrollbar_size_vertical))


class TextDialog(Dialog[None]):
    """A text to read; q, Enter and `?` close it too.

    Args:
        title: on the frame.
        body: the text, made of safe parts.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,enter,question_mark,i", "close", "close", show=False),
        Binding("j,down", "scroll(1)", "down", show=False),
        Binding("k,up", "scroll(-1)", "up", show=False),
        Binding("g,home", "to_end(False)", "the start", show=False),
        Binding("G,end", "to_end(True)", "the end", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "a page up", show=False),
        Binding("pagedown,ctrl+f,space", "page(1)", "a page down", show=False),
    ]

    def __init__(self, title: str, body: Text) -> None:
        super().__init__()
        self._title, self._body = title, body

    def compose(self) -> ComposeResult:
        with TextBox(id="box") as box:
            box.border_title = self._title
            box.border_subtitle = "j k g G scroll · Esc closes"
            yield LongText(self._body, id="text")

    def action_to_end(self, is_end: bool) -> None:
        """Go to the text's end, or to its start."""
        box = self.query_one(TextBox)
        (box.scroll_end if is_end else box.scroll_home)(animate=False)

    def action_page(self, step: int) -> None:
        """Move the text by a page."""
        box = self.query_one(TextBox)
        box.scroll_relative(y=step * max(1, box.scrollable_content_region.height - 1), animate=False, immediate=True)

    def action_scroll(self, step: int) -> None:
        """Move the text by a line."""
        self.query_one("#box").scroll_relative(y=step, animate=False, immediate=True)


class PromptArea(TextArea):
    """A text area in which Enter is for the dialog, and ctrl+j a new line; what it draws is harmless."""

    def get_line(self, line_index: int) -> Text:
        """Draw a line with one character for each, so that the cursor stands where it types."""
        line = self.document.get_line(line_index)
        return Text("".join(map(_one_character, line)), end="", no_wrap=True)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.prevent_default()
            event.stop()
            self.screen.action_run()  # type: ignore[attr-defined]
        elif event.key == "ctrl+j":
            event.prevent_default()
            event.stop()
            self.insert("\n")
        else:
            await super()._on_key(event)


def _one_character(character: str) -> str:
    shown = character if character == "\t" else visible(character)  # the area expands tabs itself
    return shown if len(shown) == 1 else "�"


class FileDialog(Dialog[str]):
    """The name of a file to write to.

    Args:
        title: on the frame.
        name: the name to begin with.
        problem: says what is wrong with a name; empty if nothing is. A second Enter goes on all the same.
        hint: what Enter does.
    """

    def __init__(
        self, title: str, name: str, problem: Callable[[str], str], hint: str = "Enter writes · Esc does not"
    ) -> None:
        super().__init__()
        self._title, self._name, self._problem, self._hint = title, name, problem, hint
        self._warned_of = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = self._title
            yield Input(self._name, id="name")
            yield Static(self._hint, id="hint", markup=False)
            yield Static("", id="note", markup=False)

    def on_mount(self) -> None:
        """Begin to type at once."""
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with the name, or say once what is wrong with it."""
        name = event.value.strip()
        problem = self._problem(name) if name != self._warned_of else ""
        if not name or problem:
            self._warned_of = name
            self.query_one("#note", Static).update(problem or "type a name")
        else:
            self.dismiss(name)


class FindLine(Input):
    """The line in which a goal is typed; it takes no character that a terminal would act on."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            placeholder="20   20.7   L20H7   >0.6   18>.6   a token's text",
            restrict=r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*",
            select_on_focus=False,
            compact=True,
            id=id,
        )
        self.cursor_blink = False
        self.close()

    def open(self) -> None:
        """Be there to take the keys, empty."""
        self.value = ""
        self.display = self.can_focus = True

    def close(self) -> None:
        """Go away."""
        self.display = self.can_focus = False
