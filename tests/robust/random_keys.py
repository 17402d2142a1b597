"""Press random keys in the app, for a number of keys or for a time, and tell whether it lived.

    python tests/robust/random_keys.py --seconds 7200

Half of the walks begin on the sample profile, half on the bundled model; each in an empty folder of its own, with a
terminal of random size that changes now and then. The keys are the program's own, everything a keyboard has, and text
for the dialogs. A walk ends when a key quits the app; a crash is printed with its seed and its last keys, and the exit
code is 1 then.
"""

import argparse
import asyncio
import contextlib
import os
import random
import string
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from laminar_tui.profile.profile import Profile
from laminar_tui.run import SAMPLE_PROFILE, Request
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.explorer import Terminal
from laminar_tui.ui.keys import KEYS
from laminar_tui.ui.state import State

QUITS = frozenset({"q", "ctrl+q"})
"""Keys that end a walk: they are pressed rarely, or no walk would get far."""
SUSPENDS = frozenset({"ctrl+z"})
"""Would stop this process, with nobody to continue it; `tests/terminal` presses it."""

OWN = sorted({name for key in KEYS for name in key.keys.split(",")} - QUITS - SUSPENDS)
KEYBOARD = [*string.ascii_letters, *string.digits, "tab", "shift+tab", "enter", "escape", "backspace", "delete"]
KEYBOARD += ["up", "down", "left", "right", "home", "end", "pageup", "pagedown", "space", "insert", "f1", "f2", "f12"]
KEYBOARD += [f"ctrl+{letter}" for letter in string.ascii_lowercase if f"ctrl+{letter}" not in QUITS | SUSPENDS]
KEYBOARD += ["slash", "comma", "full_stop", "semicolon", "minus", "plus", "question_mark", "left_square_bracket"]
KEYBOARD = [key for key in KEYBOARD if key not in QUITS]
TEXTS = ["the cat sat", "\x1b[2J", "[bold]x[/]", "漢字 é", "/nowhere/x", "..", "a" * 60, "\u202e\u200b", "~nobody/x"]
SIZES = [(80, 24), (60, 16), (160, 48), (240, 70), (59, 15), (20, 5), (1, 1), (100, 36)]
WINDOWS = frozenset({"TextDialog", "FileDialog", "PromptScreen", "PickerScreen", "FindLine", "CommandPalette"})
"""Where most keys do nothing: there they are left, and answered, more often."""
LONGEST_WALK = 400
"""Keys after which a walk ends by itself, so that no state is walked over for ever."""


@dataclass
class Tally:
    """What the walks came to.

    Attributes:
        keys: pressed in all.
        walks: ended as they should.
        crashes: seed, last keys and error of each walk that did not.
        seen: how often which view or dialog was on top, so that one can tell that the walks went anywhere.
    """

    keys: int = 0
    walks: int = 0
    crashes: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)


class Walk:
    """One app, and random keys until it has gone.

    Args:
        seed: decides everything that is random.
        with_model: begin with a run of the bundled model instead of the sample profile.
        n_keys: how many keys at most.
    """

    def __init__(self, seed: int, *, with_model: bool, n_keys: int = LONGEST_WALK) -> None:
        self._random = random.Random(seed)
        self._seed = seed
        self._with_model = with_model
        self._n_keys = n_keys
        self.last: deque[str] = deque(maxlen=30)

    async def run(self, tally: Tally, until: float) -> None:
        """Press keys until the app has gone, the keys are spent, or the time is over."""
        try:
            await self._walk(tally, until)
            tally.walks += 1
        except Exception as error:  # whatever it is, it is what this program looks for
            words = f"seed {self._seed}, model {self._with_model}: {type(error).__name__}: {error}"
            frames = traceback.extract_tb(error.__traceback__)[-6:]
            where = "\n".join(f"  {Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
            tally.crashes.append(f"{words}\n{where}\n  after {' '.join(self.last)}")

    async def _walk(self, tally: Tally, until: float) -> None:
        app = self._open()
        async with app.run_test(size=self._random.choice(SIZES[:4])) as pilot:
            for _ in range(self._n_keys):
                if not app.is_running or time.monotonic() > until:
                    break
                for key in self._next_keys(self._where(app)):
                    self.last.append(key)
                    tally.keys += 1
                    await pilot.press(key)
                if self._random.random() < 0.02:
                    await pilot.resize_terminal(*self._random.choice(SIZES))
                tally.seen[self._where(app)] += 1
            app.explorer.runner.cancel()
        thread = app.explorer.runner._thread
        if thread is not None:
            await asyncio.to_thread(thread.join, 60)
            assert not thread.is_alive(), "the run does not stop"
        assert not app.return_code, f"the app ended with {app.return_code}"

    def _open(self) -> LaminarApp:
        terminal = Terminal(self._random.choice(["truecolor", "256", "16", "none"]), self._random.random() < 0.2)
        if self._with_model:
            return LaminarApp(State(), Request(max_tokens=self._random.choice([1, 2, 17, 60])), terminal)
        return LaminarApp(State(Profile.load(SAMPLE_PROFILE)), None, terminal)

    def _next_keys(self, where: str) -> list[str]:
        """One key, or some text, as a hand would type it into a dialog; a key that quits once in some hundred."""
        dice = self._random.random()
        if where in WINDOWS and dice < 0.6:
            typed = ["ctrl+u", *self._random.choice(TEXTS)] if dice < 0.2 and where != "TextDialog" else []
            return [*typed, self._random.choice(["escape", "enter"])]
        if dice < 0.003:
            return [self._random.choice(sorted(QUITS))]
        if dice < 0.03:
            return list(self._random.choice(TEXTS))
        if dice < 0.15:
            return [self._random.choice(KEYBOARD)]
        if dice < 0.2:
            return [self._random.choice(OWN)] * 5
        return [self._random.choice(OWN)]

    @staticmethod
    def _where(app: LaminarApp) -> str:
        screen = app.screen_stack[-1] if app.screen_stack else app.explorer
        return app.explorer.state.view if screen is app.explorer else type(screen).__name__


@contextlib.contextmanager
def empty_folder() -> Iterator[None]:
    """Work in a folder that goes away, since keys write profiles."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield
        finally:
            os.chdir(before)


async def press_keys(seed: int, *, n_keys: int | None = None, seconds: float = 1e9) -> Tally:
    """Walk again and again until so many keys are pressed, or the time is over."""
    tally, until = Tally(), time.monotonic() + seconds
    while (n_keys is None or tally.keys < n_keys) and time.monotonic() < until:
        left = LONGEST_WALK if n_keys is None else min(LONGEST_WALK, n_keys - tally.keys)
        with empty_folder():
            await Walk(seed, with_model=bool(seed % 2), n_keys=left).run(tally, until)
        seed += 1
    return tally


def main() -> int:
    """Press keys for a time and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first walk")
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = os.environ["HF_HUB_OFFLINE"] = "1"  # a second `r` asks the hub for a saved model
    began = time.monotonic()
    tally = asyncio.run(press_keys(options.seed, seconds=options.seconds))
    print(f"{tally.keys:,} keys in {tally.walks + len(tally.crashes)} walks, {time.monotonic() - began:.0f} s")
    print("on the screen after a key:", ", ".join(f"{name} {n:,}" for name, n in tally.seen.most_common()))
    print(f"crashes: {len(tally.crashes)}")
    for crash in tally.crashes:
        print(crash)
    return 1 if tally.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
