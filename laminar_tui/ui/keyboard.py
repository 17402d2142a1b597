"""The keyboard: Textual's, except that an Esc is told as soon as it can be."""

import os
import select
from codecs import getincrementaldecoder
from collections.abc import Iterable

from textual._xterm_parser import XTermParser
from textual.constants import ESCAPE_DELAY
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

QUIET = 0.1
"""Seconds after which it is looked whether the program still wants keys."""


class Keyboard(LinuxDriver):
    """Textual's driver of a terminal; what begins with Esc is one key if nothing has followed for `ESCAPE_DELAY`.

    Textual waits 0.1 s for more before it looks whether that time is over, however short it was set. It also takes what
    is no UTF-8 for a bug, and reads a terminal that is gone over and over.
    """

    def run_input_thread(self) -> None:
        """Read keys, and hand them to the app, until it wants no more or the terminal is gone."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")(errors="replace").decode
        wait = QUIET
        while not self.exit_event.is_set():
            if not select.select([self.fileno], [], [], wait)[0]:
                self._tell(parser.tick())  # nothing has followed an Esc
                wait = QUIET
                continue
            try:
                typed = os.read(self.fileno, 4096)
            except BlockingIOError:  # another process has made the terminal so, and was quicker
                continue
            except OSError:  # hung up
                return
            if not typed:
                return
            if text := decode(typed):  # not half of a character
                self._tell(parser.feed(text))
            wait = min(ESCAPE_DELAY, QUIET)

    def _tell(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.process_message(message)
