"""The explorer with a run that is no model: `scripted.py PROFILE FOLDER BEHAVIOUR WORDS...`.

Layer N is read as soon as there is a file FOLDER/N. Behaviours: `plain`; `deaf` does not hear that it is cancelled, as
a forward pass does not; `busy` neither, and computes all the while; `raise` has a bug at layer 2; `noise` writes to the
standard streams in every way there is; `ui` has a bug on the screen when `i` is pressed.
"""

import hashlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from laminar_tui.errors import CancelledError
from laminar_tui.profile.profile import Profile
from laminar_tui.run import LayerRead, Request, Started, Step
from laminar_tui.ui import runner
from laminar_tui.ui.explorer import Explorer

PROFILE, FOLDER, BEHAVIOUR = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
BLOCK = bytes(2**22)
HOSTILE = "\x1b[2J\x1b]0;owned\x07"


class Session:
    """Reads a saved profile layer by layer, when it is told to."""

    patterns = None

    def run(self, request: Request, on_event: Callable[..., None], is_cancelled: Callable[[], bool]) -> Profile:
        del request
        profile = Profile.load(PROFILE)
        if BEHAVIOUR == "noise":
            make_noise()
        on_event(Started(replace(profile, layers=(None,) * profile.n_layers)))
        for index, layer in enumerate(profile.layers):
            on_event(Step("forward", index, profile.n_layers))
            while not (FOLDER / str(index)).exists():
                if BEHAVIOUR == "busy":
                    hashlib.sha256(BLOCK).digest()  # leaves the interpreter to other threads, as a forward pass does
                else:
                    time.sleep(0.01)
                if is_cancelled() and BEHAVIOUR not in ("deaf", "busy"):
                    raise CancelledError("stopped")
            if BEHAVIOUR == "raise" and index == 2:
                raise ZeroDivisionError(f"an odd layer {HOSTILE}")
            if layer is not None:
                on_event(LayerRead(index, layer))
        return profile


def make_noise() -> None:
    """Write to the terminal as libraries do, in C and in Python."""
    for descriptor in (1, 2):
        os.write(descriptor, f"noise on {descriptor} {HOSTILE}\n".encode())
    print(f"noise printed {HOSTILE}")
    print(f"noise printed as an error {HOSTILE}", file=sys.stderr)
    warnings.warn(f"noise in a warning {HOSTILE}", stacklevel=1)
    logging.getLogger("transformers").warning("noise from transformers %s", HOSTILE)


def fail_on_screen(*_: Any) -> None:
    """A bug in the user interface, with something in a local variable that must not be shown."""
    prompt = f"the secret prompt {HOSTILE}"
    raise RuntimeError(f"bad screen {HOSTILE}" if prompt else "")


if __name__ == "__main__":
    runner.Session = Session  # type: ignore[misc,assignment]
    if BEHAVIOUR == "ui":
        Explorer.action_about = fail_on_screen  # type: ignore[method-assign]
    from laminar_tui.cli import main

    sys.exit(main(sys.argv[4:]))
