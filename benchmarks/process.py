"""How soon the program stops while a model is read: quit, signal, cancel, on a pseudo-terminal.

    python benchmarks/process.py [--runs 10] [--layers 3] [--tokens 1024]

A model of Pythia-2.8B's layer geometry (32 heads of 80) with random parameters is read; at a random moment while
torch is imported, while parameters are loaded or during the forward pass, the program is asked to stop. Printed are
the seconds until the terminal has been given back (the alternate screen is left), until the process has gone, and
until a cancelled run says that it has stopped. Bounds: 0.5 s from a signal to the terminal, 1 s from `q` to the end, a
layer or 2 s for a cancel.
"""

import argparse
import os
import random
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from event_loop import write_model
from key_latency import program

GIVEN_BACK = b"\x1b[?1049l"
STAGES = {"import": rb"torch and", "load": rb"loading|oading ", "forward": rb"orward|layer 0|0 of \d"}
"""What the program writes when a stage begins: parts of words, since it sends only what has changed in a row."""
END = rb"not saved|checks passed"
PATIENCE = 180.0
_BLANK = re.compile(rb"(?:\x1b\[[0-?]*[ -/]*[@-~]|[ \r\n])+")


@dataclass
class Terminal:
    """The other end of the program's terminal.

    Attributes:
        descriptor: to read from and to write keys to.
        process: the program.
        received: all that it has written.
    """

    descriptor: int
    process: "subprocess.Popen[bytes]"
    received: bytes = b""
    marks: list[int] = field(default_factory=lambda: [0])

    def read(self, timeout: float) -> bool:
        """Read what is there; False at the end."""
        if not select.select([self.descriptor], [], [], timeout)[0]:
            return True
        try:
            chunk = os.read(self.descriptor, 65536)
        except OSError:
            return False
        self.received += chunk
        return bool(chunk)

    def until(self, pattern: bytes) -> float:
        """Read until a pattern has come after the last mark, control sequences taken for blanks; gives the time.

        Raises:
            TimeoutError: if it never comes.
        """
        end = time.perf_counter() + PATIENCE
        while not re.search(pattern, _BLANK.sub(b" ", self.received[self.marks[-1] :])):
            if time.perf_counter() > end or not self.read(0.05):
                raise TimeoutError(f"{pattern!r} never came; the last bytes: {self.received[-200:]!r}")
        return time.perf_counter()

    def mark(self) -> None:
        """Look from here on."""
        while select.select([self.descriptor], [], [], 0)[0] and self.read(0):
            pass
        self.marks.append(len(self.received))

    def end(self) -> tuple[float, float]:
        """Read to the end; gives the times at which the terminal was given back, and the process had gone."""
        given_back, until = 0.0, time.perf_counter() + PATIENCE
        at = self.marks[-1]
        while self.read(0.02) and time.perf_counter() < until:
            if not given_back and GIVEN_BACK in self.received[at:]:
                given_back = time.perf_counter()
        given_back = given_back or time.perf_counter()
        self.process.wait(PATIENCE)
        return given_back, time.perf_counter()


@dataclass(frozen=True)
class Plan:
    """What is run: the model's folder, the prompt's length, and how often each figure is taken."""

    model: Path
    tokens: int
    runs: int
    seconds: dict[str, float]

    @contextmanager
    def start(self) -> Iterator[Terminal]:
        """Run the program on the model."""
        text = "Once upon a time there was a girl who lived by the sea. " * self.tokens
        words = [str(self.model), "--prompt", text[: 6 * self.tokens], "--max-tokens", str(self.tokens)]
        # A run that a signal has cut off would be offered to the next start.
        with tempfile.TemporaryDirectory() as state, program(words, (100, 30), Path(state)) as (descriptor, process):
            yield Terminal(descriptor, process)


def leave(plan: Plan, stage: str, ask: Callable[[Terminal], object]) -> tuple[float, float]:
    """Ask the program to leave at a random moment of a stage; gives the seconds to the terminal and to the end."""
    with plan.start() as terminal:
        terminal.until(STAGES[stage])
        time.sleep(random.uniform(0, plan.seconds[stage]))
        terminal.mark()
        began = time.perf_counter()
        ask(terminal)
        given_back, gone = terminal.end()
    return given_back - began, gone - began


def quit_by_key(terminal: Terminal) -> None:
    """Press q."""
    os.write(terminal.descriptor, b"q")


def by_signal(number: int) -> Callable[[Terminal], None]:
    """Send a signal."""
    return lambda terminal: os.kill(terminal.process.pid, number)


def cancel(plan: Plan) -> list[float]:
    """Run again and again in one program, and cancel at a random moment; the seconds until it says so."""
    seconds = []
    with plan.start() as terminal:
        terminal.until(END)
        for _ in range(plan.runs):
            terminal.mark()
            os.write(terminal.descriptor, b"r")
            terminal.until(STAGES["forward"])
            time.sleep(random.uniform(0, 0.8 * plan.seconds["forward"]))
            terminal.mark()
            began = time.perf_counter()
            os.write(terminal.descriptor, b"\x1b")
            seconds.append(terminal.until(rb"stopped|" + END) - began)
            time.sleep(0.3)
    return seconds


def measure_stages(plan: Plan) -> dict[str, float]:
    """How long each stage lasts, so that moments within it can be chosen."""
    with plan.start() as terminal:
        times = [terminal.until(pattern) for pattern in (*STAGES.values(), END)]
        terminal.process.send_signal(signal.SIGTERM)
        terminal.end()
    return {stage: max(0.05, b - a) for stage, a, b in zip(STAGES, times, times[1:], strict=False)}


def report(name: str, seconds: list[float]) -> None:
    """Print median, 95th percentile and the largest."""
    ordered = sorted(seconds)
    high = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    median = ordered[len(ordered) // 2]
    print(
        f"{name:<52} median {1000 * median:6.0f} ms   95 % {1000 * high:6.0f} ms   max {1000 * ordered[-1]:6.0f} ms"
        f"   n = {len(ordered)}",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="how often each figure is taken")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=1024)
    options = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model", options.layers)
        plan = Plan(folder / "model", options.tokens, options.runs, {})
        plan.seconds.update(measure_stages(plan))
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {options.layers} layers, ", end="")
        print(f"T = {options.tokens}: " + ", ".join(f"{stage} {s:.1f} s" for stage, s in plan.seconds.items()))
        for stage in STAGES:
            pairs = [leave(plan, stage, quit_by_key) for _ in range(options.runs)]
            report(f"q to terminal, during {stage}", [pair[0] for pair in pairs])
            report(f"q to the end, during {stage}", [pair[1] for pair in pairs])
        for number in (signal.SIGTERM, signal.SIGHUP):
            pairs = [leave(plan, "forward", by_signal(number)) for _ in range(options.runs)]
            report(f"{signal.Signals(number).name} to terminal, during forward", [pair[0] for pair in pairs])
            report(f"{signal.Signals(number).name} to the end, during forward", [pair[1] for pair in pairs])
        report("Esc to stopped, during forward", cancel(plan))


if __name__ == "__main__":
    main()
