"""The keyboard: Textual's, except that an Esc is told as soon as it can be."""

import os
import select
from codecs import getincrementaldecoder

from textual._xterm_parser import XTermParser
from textual.constants import ESCAPE_DELAY
from textual.drivers.linux_driver import LinuxDriver

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
            typed = b""
            if select.select([self.fileno], [], [], wait)[0]:
                try:
                    typed = os.read(self.fileno, 4096)
                except OSError:  # hung up
                    return
                if not typed:
                    return
            if text := decode(typed):
                for message in parser.feed(text):
                    self.process_message(message)
            for message in parser.tick():
                self.process_message(message)
            wait = ESCAPE_DELAY if typed else QUIET
