"""The prompt to edit: how many tokens it is, presets, a file, and whether BOS or a chat template is put around it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.timer import Timer
from textual.widgets import TextArea

from laminar_tui.errors import LaminarError
from laminar_tui.run import PromptFacts, Request, read_prompt_file
from laminar_tui.ui.detour import PICTURE_KEYS, Detour, make_bindings
from laminar_tui.ui.dialogs import FileDialog, PromptArea
from laminar_tui.ui.keys import Key
from laminar_tui.ui.presets import PRESETS
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.state import State

CHARACTERS_A_TOKEN = 4
"""Of English text in most vocabularies: what an estimate without a tokenizer is made of."""
COUNT_AFTER = 0.2
"""Seconds without a key before the tokens are counted."""

# Python, and with it Textual's document, takes all of these for ends of lines and would make newlines of them.
_LINE_ENDS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_PRIVATE = range(0xF700, 0xF8FF)

PROMPT_KEYS = (
    Key("run", "enter", "Enter", "run", "run the model on it", label="Run", rank=0),
    Key("newline", "ctrl+j", "ctrl+j", "newline", "a new line", label="New line", rank=2),
    Key("preset", "ctrl+n", "ctrl+n", "preset", "next preset: paragraph, code, repeated words", label="Preset", rank=3),
    Key("file", "ctrl+o", "ctrl+o", "file", "the text of a file", label="File", rank=3),
    Key("bos", "ctrl+g", "ctrl+g", "bos", "begin with the BOS token, or not", label="BOS", rank=4),
    Key("chat", "ctrl+t", "ctrl+t", "chat", "put it into the model's chat template, or not", label="Chat", rank=4),
    Key("back", "escape", "Esc", "back", "leave the prompt as it was", label="Cancel", rank=1),
    Key("help", "f1", "F1", "help", "explain this screen", label="Help", rank=1),
    Key("quit", "ctrl+q", "ctrl+q", "quit", "quit"),
    *(key for key in PICTURE_KEYS if key.id == "redraw"),
)


def shield(text: str) -> tuple[str, dict[str, str]]:
    """Replace the line ends that an editor does not keep apart by characters that the text does not use.

    Returns:
        The text, and what each of these characters stands for: `unshield` gives the text back.
    """
    found = [end for end in _LINE_ENDS if end in text]
    unused = (chr(code) for code in _PRIVATE if chr(code) not in text)
    stands_for = dict(zip(unused, found, strict=False))
    return text.translate({ord(end): stand_in for stand_in, end in stands_for.items()}), stands_for


def unshield(text: str, stands_for: dict[str, str]) -> str:
    """Put the line ends back."""
    return text.translate({ord(stand_in): end for stand_in, end in stands_for.items()})


class PromptScreen(Detour[Request]):
    """The editor; the result is the request with another prompt.

    Args:
        state: the explorer's.
        terminal: what can be shown.
        request: whose prompt is edited.
        ask: asks the loaded tokenizer about a request's prompt; None while none is loaded. It is called in a thread.
    """

    NAME = "prompt"
    KEYS = PROMPT_KEYS
    IS_TYPED_IN = True
    BINDINGS: ClassVar[list[BindingType]] = [*make_bindings(PROMPT_KEYS, is_typed_in=True)]
    READING = """\
The text is given to the model as it stands: Enter runs it, ctrl+j begins a new line. The line below counts its tokens
with the model's own tokenizer, those of BOS and chat template included; before a model is loaded the number is
estimated. Words that repeat show induction heads."""
    NOT_SAID = """\
One text is one sample: code and prose show different heads at work, and what is seen on one prompt may be its
own."""
    DETAILS = (
        (
            "BOS and the chat template",
            """\
Many models were trained with a BOS token in front, and put their attention sink there; some tokenizers add it by
themselves. A chat template wraps the text as a user's message.""",
        ),
    )

    def __init__(
        self, state: State, terminal: Terminal, request: Request, ask: Callable[[Request], PromptFacts | None]
    ) -> None:
        super().__init__(state, terminal)
        self.request = request
        self._ask = ask
        self._shown, self._stands_for = shield(request.text())
        self._bos, self._chat = request.bos, request.chat
        self._preset, self._taken = -1, ""
        self._prompt_facts: PromptFacts | None = None
        self._is_counting = True
        self._timer: Timer | None = None

    def compose_body(self) -> ComposeResult:
        """The text."""
        yield PromptArea(self._shown, id="prompt")

    def on_mount(self) -> None:
        """Stand at the end of the text, and count it."""
        super().on_mount()
        area = self.area
        area.focus()
        area.move_cursor(area.document.end)
        self._count()

    @property
    def area(self) -> PromptArea:
        """The text area."""
        return self.query_one(PromptArea)

    def text(self) -> str:
        """The prompt; what was not touched is as it was."""
        return unshield(self.area.text, self._stands_for)

    def edited(self) -> Request:
        """The request with the prompt as it stands."""
        prompt = self.request.prompt if self.area.text == self._shown else self.text()
        edited = replace(self.request, prompt=prompt, bos=self._bos, chat=self._chat)
        return edited if edited == self.request else replace(edited, tokens=(), token_ids=())

    # -- drawing -----------------------------------------------------------------------------------------------------

    def facts(self) -> list[str]:
        """What is run on the prompt."""
        return super().facts()[:1]

    def show_body(self) -> None:
        """Draw the switches and the count."""
        facts = self._prompt_facts
        by_itself = facts is not None and facts.begins_with_bos and not self._bos
        remark = "" if facts is None or facts.has_bos else "this tokenizer has none"
        bos = self._switch("BOS", self._bos or by_itself, "the tokenizer adds it" if by_itself else remark or "ctrl+g")
        remark = "" if facts is None or facts.has_chat else "this tokenizer has none"
        chat = self._switch("chat template", self._chat, remark or "ctrl+t")
        preset = [f"preset: {list(PRESETS)[self._preset]}"] if self._preset >= 0 else []
        self.show_line("title", [bos, chat, *preset], "   ")
        text = self.area.text
        n_lines = text.count("\n") + 1
        lines = f"{n_lines:,} {'line' if n_lines == 1 else 'lines'}"
        self.show_line("summary", [self._tokens(), f"{len(text):,} characters", lines])

    def _switch(self, name: str, is_on: bool, remark: str) -> str:
        return f"[{'x' if is_on else ' '}] {name}" + (f" ({remark})" if remark else "")

    def _tokens(self) -> str:
        facts = self._prompt_facts
        if not self.area.text:
            return "no text yet"
        if facts is None:
            n = -(-len(self.area.text) // CHARACTERS_A_TOKEN)
            return f"about {n:,} tokens (estimated: no model is loaded yet)"
        limit = f" of {facts.max_tokens:,}" if facts.max_tokens else ""
        over = ": too long for this model" if facts.max_tokens and facts.n_tokens > facts.max_tokens else ""
        return f"{facts.n_tokens:,}{limit} tokens{over}" + (" …" if self._is_counting else "")

    # -- counting ----------------------------------------------------------------------------------------------------

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Count again once the typing has paused."""
        event.stop()
        if self._composed:
            self._note = ""
            self._preset = self._preset if self.area.text == self._taken else -1
            self._count_soon()

    def _count_soon(self) -> None:
        self._is_counting = True
        self.show()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(COUNT_AFTER, self._count)

    def _count(self) -> None:
        request = self.edited()
        if request.text():
            uncounted = partial(self._counted, self._prompt_facts)
            self.in_background("count", partial(self._ask, request), self._counted, uncounted)

    def _counted(self, facts: PromptFacts | None) -> None:
        self._prompt_facts, self._is_counting = facts, False
        self.show()

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_run(self) -> None:
        """Leave with the request, if there is any text."""
        if self.text().strip():
            self.dismiss(self.edited())
        else:
            self.say("the prompt is empty: type some text")

    def action_newline(self) -> None:
        """Begin a new line."""
        self.area.insert("\n")

    def action_preset(self) -> None:
        """Take the next preset."""
        self._preset = (self._preset + 1) % len(PRESETS)
        self._take(list(PRESETS.values())[self._preset]())

    def _take(self, text: str) -> None:
        self._taken, self._stands_for = shield(text)
        area = self.area
        area.text = self._taken
        area.move_cursor(area.document.end)
        self._count_soon()

    def action_file(self) -> None:
        """Take the text of a file."""
        hint = "Enter reads the text · Esc does not"
        self.app.push_screen(FileDialog("a text file", "", lambda _name: "", hint), self._take_file)

    def _take_file(self, name: str | None) -> None:
        if name is None:
            return
        try:
            text = read_prompt_file(name)
        except LaminarError as error:
            self.say(f"{error.message}: {error.hint}")
            return
        self._preset = -1
        self._take(text)

    def action_bos(self) -> None:
        """Begin with the BOS token, or not."""
        self._bos = not self._bos
        self._count_soon()

    def action_chat(self) -> None:
        """Wrap it in the chat template, or not."""
        self._chat = not self._chat
        self._count_soon()
