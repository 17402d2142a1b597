"""What every key costs in every view and every screen of its own, on 32 layers x 32 heads at 200x60.

    python benchmarks/every_key.py [--scenes head,map] [--presses 5] [--slow 50] [--run]

On a pseudo-terminal: the time from writing a key to the last byte before 60 ms without bytes, and the CPU time that
the program took meanwhile, all its threads together. On a busy machine only the second is to be believed. What is sent
later (chance that is drawn, a report that is counted) is told as `done`: the time until nothing comes and nothing is
computed. The first press in a fresh program, which makes what is not there yet, is told apart from the later ones;
bytes are the most that one press sent. How fast the machine is at the moment is told by what `--help` takes.

With `--run` each key is pressed while a model of as many heads is being read, which paints by itself too: the time then
ends with the bytes that change what only a key changes, see `Screen.own`. Keys that change nothing of that are named
and not measured. It needs pyte, which comes with `pip install '.[test]'`.
"""

import argparse
import os
import re
import select
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles

from key_latency import SILENCE, measure_start, program, random_profile, read_until

from laminar_tui.run import BUNDLED_MODEL
from laminar_tui.ui.compare import COMPARE_KEYS
from laminar_tui.ui.heads import HEADS_KEYS
from laminar_tui.ui.keys import KEYS, Key, works_in
from laminar_tui.ui.picker import PICKER_KEYS
from laminar_tui.ui.prompt import PROMPT_KEYS
from laminar_tui.ui.report import REPORT_KEYS
from laminar_tui.ui.sweep import SWEEP_KEYS

SIZE = (200, 60)
N_TOKENS = 1000
NAMED = {
    "Enter": b"\r",
    "Esc": b"\x1b",
    "Tab": b"\t",
    "Space": b" ",
    "↓": b"\x1b[B",
    "↑": b"\x1b[A",
    "PgDn": b"\x1b[6~",
    "PgUp": b"\x1b[5~",
    "F1": b"\x1bOP",
}
LEAVE = {"quit", "cancel", "suspend"}
"""Keys that end the program, or hand the terminal back."""
END_RUN = {("overview", "out"), ("layer", "out"), ("head", "out"), ("map", "out"), ("lines", "out"), ("open", "open")}
"""Scenes and keys that stop the run, or begin another one."""
A_PAINT = 200
"""So many bytes are more than what moves the terminal's own cursor; after fewer one waits until nothing is computed."""
SEEN_WITHIN = 2.0
"""Seconds after which what a key does during a run is given up."""
AT_REST = 0.3
"""Seconds without a change after which it is all there."""
RUN_TRIES = 12
"""How often a run is asked for, every five seconds."""
STEPS = ("step0", "step512", "step4000", "main")
"""Of the sweep."""
WRITE = {"screenshot"}
"""Keys that write files."""
AWAY = (
    "go_",
    "view(",
    "open",
    "back",
    "help",
    "about",
    "log",
    "find",
    "heads",
    "compare",
    "report",
    "edit",
    "write",
    "switch",
    "sweep",
    "palette",
    "choose",
)
"""How actions begin that may lead to another place, from which the next press has to come back."""


@dataclass(frozen=True)
class Scene:
    """A place, the keys that lead to it from the overview, and those that are pressed there."""

    name: str
    way: bytes
    keys: Sequence[Key]


def _dialog(*shown: str) -> list[Key]:
    return [Key(each, each, each, "scroll", "") for each in shown]


SCENES = (
    *(
        Scene(view, way, [key for key in KEYS if works_in(key, view)])
        for view, way in (("overview", b""), ("layer", b"2"), ("head", b"3"), ("map", b"m"), ("lines", b"4"))
    ),
    Scene("entries", b"\t", [key for key in KEYS if key.id in ("up", "down", "in", "reach", "listing")]),
    Scene("heads", b"6", HEADS_KEYS),
    Scene("compare", b"5", COMPARE_KEYS),
    Scene("report", b"7", REPORT_KEYS),
    Scene("sweep", b"8", SWEEP_KEYS),
    Scene("open", b"O", PICKER_KEYS),
    Scene("find", b"/", _dialog("1", "x", "Esc")),
    Scene("help", b"?", _dialog("j", "k", "Esc")),
)
PROMPT = Scene("prompt", b"e", [*_dialog("x"), *PROMPT_KEYS])
"""Needs a model; typed text is a key too."""


@dataclass(frozen=True)
class Press:
    """What one press took, in seconds and bytes: until it was painted, and until all that it leads to was done."""

    wall: float
    cpu: float
    n_bytes: int
    done: float = 0.0


class Screen:
    """What a terminal makes of the bytes that have come."""

    def __init__(self) -> None:
        import pyte

        self._screen = pyte.Screen(*SIZE)
        self._stream = pyte.ByteStream(self._screen)
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Take bytes as they come; an escape sequence that is not whole yet waits."""
        chunk = self._rest + chunk
        unfinished = re.search(rb"\x1b(\[[0-?]*[ -/]*)?\Z", chunk)
        end = unfinished.start() if unfinished else len(chunk)
        self._stream.feed(re.sub(rb"\x1b\[[<=>][0-?]*[ -/]*[@-~]", b"", chunk[:end]))  # unknown to pyte
        self._rest = chunk[end:]

    @property
    def text(self) -> str:
        """All rows."""
        return "\n".join(self._screen.display)

    def own(self) -> tuple[str, ...]:
        """What a run does not change: the path, the title without its n, the cursors on the axes, the line of keys."""
        where, title, *_, keys = self._screen.display
        return where, title.partition("n = ")[0], *re.findall(r"\[\w+\]", self.text), keys


class Program:
    """The running program and its terminal.

    Attributes:
        screen: what is on it; None where that is not looked at.
    """

    def __init__(self, descriptor: int, pid: int, screen: Screen | None = None) -> None:
        self.descriptor = descriptor
        self.screen = screen
        self._clock = ~pid << 3 | 2  # as clock_getcpuclockid(3) makes it

    def read(self) -> bytes:
        """Read what has come."""
        chunk = os.read(self.descriptor, 65536)
        if self.screen is not None:
            self.screen.feed(chunk)
        return chunk

    def press_seen(self, key: bytes) -> Press | None:
        """Press a key, and read until what only a key changes has come to rest; None where it does not change."""
        assert self.screen is not None
        began, n_bytes, shown = time.perf_counter(), 0, self.screen.own()
        rest = None
        os.write(self.descriptor, key)
        while time.perf_counter() - began < (SEEN_WITHIN if rest is None else rest.wall + AT_REST):
            came = []
            # The screen is slow: it is made of what has come only once nothing more comes.
            while select.select([self.descriptor], [], [], 0.005)[0]:
                came.append((os.read(self.descriptor, 65536), time.perf_counter()))
            for chunk, moment in came:
                self.screen.feed(chunk)
                n_bytes += len(chunk)
                if shown != (shown := self.screen.own()):
                    rest = Press(moment - began, 0.0, n_bytes)
        return rest

    def begin_run(self) -> None:
        """Have the model read, and come back once there are layers to look at."""
        assert self.screen is not None
        for _ in range(RUN_TRIES):  # while the run before is being stopped, none begins
            os.write(self.descriptor, b"r")
            end = time.perf_counter() + 5
            while time.perf_counter() < end:
                if select.select([self.descriptor], [], [], 0.1)[0]:
                    self.read()
                if re.search(r"layer ([2-9]|\d\d) of \d+", self.screen.text):
                    return
        raise TimeoutError("no run has begun")

    def settle(self, silence: float = SILENCE) -> None:
        """Wait until it neither writes nor computes."""
        before = -1.0
        while time.clock_gettime(self._clock) - before > silence / 20:
            before = time.clock_gettime(self._clock)
            while select.select([self.descriptor], [], [], silence)[0]:
                self.read()

    def press(self, key: bytes) -> Press:
        """Press a key, and read what it changes, until nothing comes and nothing is computed any more."""
        began, cpu, n_bytes = time.perf_counter(), time.clock_gettime(self._clock), 0
        computed = cpu
        os.write(self.descriptor, key)
        last, used = began, cpu
        idle = silent = 0.0
        painted: tuple[float, float] | None = None
        while idle < SILENCE if n_bytes else idle < 2 * SILENCE:
            if select.select([self.descriptor], [], [], SILENCE / 3)[0]:
                n_bytes += len(self.read())
                last, used = time.perf_counter(), time.clock_gettime(self._clock)
                idle = silent = 0.0
            else:
                silent += SILENCE / 3
                if painted is None and n_bytes >= A_PAINT and silent >= SILENCE:
                    painted = last, used
                if time.clock_gettime(self._clock) - computed < SILENCE / 60:
                    idle += SILENCE / 3
            computed = time.clock_gettime(self._clock)
        wall, spent = painted or (last, used)
        return Press(wall - began, spent - cpu, n_bytes, last - began)

    def go_to(self, scene: Scene) -> None:
        """Come to a scene from wherever one is: no place is more than five steps from the overview."""
        for key in [b"\x1b"] * 5 + [scene.way[at : at + 1] for at in range(len(scene.way))]:
            os.write(self.descriptor, key)
            self.settle(0.03)
            while select.select([self.descriptor], [], [], 0.12)[0]:  # a lone Esc is waited for
                self.read()
        self.settle()


def bytes_of(key: Key) -> bytes:
    """What a terminal sends for the first name of a key."""
    name = key.shown.split()[0]
    if name.startswith("ctrl+"):
        return bytes([ord(name[5:]) & 0x1F])
    return NAMED.get(name) or name.encode()


def measure(program: Program, scene: Scene, n_presses: int) -> dict[str, list[Press]]:
    """Press each key of a scene some times."""
    found: dict[str, list[Press]] = {}
    program.go_to(scene)
    for key in scene.keys:
        if key.id in LEAVE | WRITE:
            continue
        pressed = found[f"{key.shown.split()[0]} ({key.description})" if key.description else key.shown] = []
        for _ in range(n_presses):
            pressed.append(program.press(bytes_of(key)))
            program.settle()
            if key.action.startswith(AWAY) or key.shown == "Esc":
                program.go_to(scene)
    return found


def show(scene: str, found: dict[str, list[Press]], slow: float) -> None:
    """Print the keys of a scene whose worst press is not below a limit, and how many are."""
    print(f"\n{scene}: {len(found)} keys", flush=True)
    print(f"{'':44} {'first':>11} {'later: median':>14} {'worst':>11} {'bytes':>8} {'done':>8}")
    for name, pressed in found.items():
        first, later = pressed[0], pressed[1:] or pressed
        if max(each.wall for each in pressed) * 1000 >= slow:
            columns = [
                _pair(first.wall, first.cpu),
                _pair(median(each.wall for each in later), median(each.cpu for each in later)),
                _pair(max(each.wall for each in later), max(each.cpu for each in later)),
            ]
            print(
                f"{name[:44]:44} {columns[0]:>11} {columns[1]:>14} {columns[2]:>11} {_most(pressed):8,}"
                f" {1000 * max(each.done for each in pressed):8.0f}",
                flush=True,
            )
    presses = [each for pressed in found.values() for each in pressed]
    for word, some in (("first", [each[0] for each in found.values()]), ("all", presses)):
        walls, cpus = [each.wall for each in some], [each.cpu for each in some]
        print(f"  {word}: 95 % {_pair(_percentile(walls), _percentile(cpus))} ms (wall, CPU)", flush=True)


def _most(pressed: list[Press]) -> int:
    return max(each.n_bytes for each in pressed)


def _pair(wall: float, cpu: float) -> str:
    return f"{1000 * wall:.0f}/{1000 * cpu:.0f}"


def _percentile(values: list[float]) -> float:
    return quantiles(values, n=20)[18] if len(values) > 1 else values[0]


def yardstick(folder: Path) -> str:
    """How fast the machine is at the moment."""
    return f"--help takes {1000 * median(measure_start(['--help'], b'exit codes', folder)):.0f} ms"


def write_model(folder: Path) -> None:
    """Save a model of 32 layers of 32 small heads with random parameters, and the bundled model's tokenizer."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=2048,
        hidden_size=256,
        num_hidden_layers=32,
        num_attention_heads=32,
        intermediate_size=256,
        max_position_embeddings=2048,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    for path in BUNDLED_MODEL.glob("tokenizer*"):
        shutil.copy(path, folder)


def write_sweep(folder: Path) -> Path:
    """Save the random profile as some steps of training."""
    folder.mkdir()
    profile = random_profile()
    for name in STEPS:
        replace(profile, origin=replace(profile.origin, revision=name)).save(folder / f"{name}.laminar")
    return folder


def measure_run(program: Program, scene: Scene, n_presses: int) -> dict[str, list[Press]]:
    """Press each key of a scene while a model is read."""
    found: dict[str, list[Press]] = {}
    unseen: list[str] = []
    for key in scene.keys:
        if key.id in LEAVE | WRITE | {"again"} or (scene.name, key.id) in END_RUN:
            continue
        pressed = []
        for _ in range(n_presses):
            program.go_to(SCENES[0])  # its Esc stops the run before
            program.begin_run()
            for at in range(len(scene.way)):
                program.press_seen(scene.way[at : at + 1])
            press = program.press_seen(bytes_of(key))
            pressed += [press] if press is not None else []
        if pressed:
            found[f"{key.shown.split()[0]} ({key.description})"] = pressed
        else:
            unseen.append(key.shown.split()[0])
    print(f"\n{scene.name}: not to be told from what the run paints: {' '.join(unseen) or 'none'}", flush=True)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", default="", help="names with commas between; all without")
    parser.add_argument("--presses", type=int, default=5, help="how often each key is pressed")
    parser.add_argument("--slow", type=float, default=50.0, help="only print keys whose worst press took as many ms")
    parser.add_argument("--run", action="store_true", help="press keys while a model is read")
    options = parser.parse_args()
    wanted = options.scenes.split(",") if options.scenes else []
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {sys.version.split()[0]}; ms: wall/CPU")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(yardstick(folder), flush=True)
        words = [str(folder / "random.laminar")]
        if options.run:
            write_model(folder / "model")
            prompt = " ".join(["The quick brown fox jumps over the lazy dog."] * 400)
            words = [str(folder / "model"), "--prompt", prompt, "--max-tokens", str(N_TOKENS)]
        else:
            random_profile().save(folder / "random.laminar")
        scenes = [scene for scene in (*SCENES, PROMPT) if not (options.run and scene.name == "sweep")]
        if not options.run and (not wanted or "sweep" in wanted):
            write_sweep(folder / "steps")
        words_of = {"sweep": [str(folder / "steps")], **({} if options.run else {"prompt": []})}
        presses: list[Press] = []
        for scene in scenes:
            if wanted and scene.name not in wanted:
                continue
            # A state folder each: a run that the scene before has left cut off would be offered.
            with program(words_of.get(scene.name, words), SIZE, folder / scene.name) as (descriptor, process):
                running = Program(descriptor, process.pid, Screen() if options.run else None)
                shown = read_until(descriptor, b"Quit")
                if running.screen is not None:
                    running.screen.feed(shown)
                running.settle(1.0)
                found = (measure_run if options.run else measure)(running, scene, options.presses)
            if found:
                show(scene.name, found, options.slow)
            presses += [press for pressed in found.values() for press in pressed]
        walls, cpus = [each.wall for each in presses], [each.cpu for each in presses]
        print(
            f"\nall of these, n = {len(presses):,}: 95 % {_pair(_percentile(walls), _percentile(cpus))} ms (wall, CPU)"
        )
        print(f"\n{yardstick(folder)}")


if __name__ == "__main__":
    main()
