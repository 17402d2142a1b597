"""How long after a key the screen has changed, at rest and during a run; and how soon there is something to see.

On a pseudo-terminal: the time from writing a key to the last byte that comes before 60 ms of silence. During a run the
program paints by itself too, so that the first byte may be a layer's and the last one a later layer's.

    python benchmarks/key_latency.py [--keys 60]
"""

import argparse
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from statistics import quantiles

import numpy as np

from laminar_tui.profile.counts import PackedCounts, count_weights, stack
from laminar_tui.profile.parts import PARTS
from laminar_tui.profile.profile import LayerProfile, Origin, Profile
from laminar_tui.profile.statistics import STATISTICS

SILENCE = 0.06
BRIEF = 0.02
"""Seconds of silence that end a repaint; shorter during a run, which paints by itself."""
MAX_TOKENS = "1000"
"""About as many as the bundled model takes, so that its run is long enough to press a key in."""
N_LAYERS = N_HEADS = 32
N_TOKENS = 64


def random_profile() -> Profile:
    """32 layers of 32 heads that each hold 2,000 weights in every part; four layers, again and again.

    With the last query's weights and the norms of the value vectors, as a capture of one prompt has them.
    """
    random = np.random.default_rng(0)

    def layer(shape: float) -> LayerProfile:
        heads = [count_weights(random.beta(shape, 9, 2000).astype(np.float32)) for _ in range(N_HEADS)]
        numbers = {name: random.random(N_HEADS) for name in STATISTICS}
        final = random.dirichlet(np.full(N_TOKENS, shape), N_HEADS).astype(np.float32)
        norms = random.random((N_HEADS, N_TOKENS), np.float32)
        counts = PackedCounts.pack(stack(heads))
        return LayerProfile(dict.fromkeys(PARTS, counts), numbers, final, final, value_norms=norms)

    layers = tuple(layer(shape) for shape in (0.05, 0.1, 0.2, 0.4)) * (N_LAYERS // 4)
    tokens = ("x",) * N_TOKENS
    kinds = ("attention",) * N_LAYERS
    origin = Origin("random", "none", "float32", "cpu", "tap", kinds, tokens, tuple(range(N_TOKENS)))
    return Profile(origin, layers)


@contextmanager
def program(words: list[str], size: tuple[int, int], folder: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run the program on a pseudo-terminal; gives its other end."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "XDG_STATE_HOME": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "laminar_tui", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield ours, process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(descriptor: int, sign: bytes, timeout: float = 120.0) -> bytes:
    """Read until some bytes have come."""
    end, read = time.perf_counter() + timeout, b""
    while sign not in read:
        if time.perf_counter() > end:
            raise TimeoutError(f"{sign!r} never came")
        if select.select([descriptor], [], [], 0.1)[0]:
            read += os.read(descriptor, 65536)
    return read


def last_byte(descriptor: int, silence: float) -> float:
    """Read until nothing has come for a while; gives the time of the last byte."""
    last = time.perf_counter()
    while select.select([descriptor], [], [], silence)[0]:
        os.read(descriptor, 65536)
        last = time.perf_counter()
    return last


def first_byte_after_key(descriptor: int, key: bytes, silence: float) -> tuple[float, float]:
    """Press a key; gives the seconds to the first and to the last byte of what it changes."""
    last_byte(descriptor, silence)
    began = time.perf_counter()
    os.write(descriptor, key)
    select.select([descriptor], [], [], 5.0)
    first = time.perf_counter()
    return first - began, last_byte(descriptor, silence) - began


def measure_keys(descriptor: int, n_keys: int, silence: float) -> tuple[list[float], list[float]]:
    """Go to and fro by one column; gives the seconds to the first bytes and to the last ones."""
    pairs = [first_byte_after_key(descriptor, b"hl"[at % 2 :][:1], silence) for at in range(1, n_keys + 1)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def report(name: str, seconds: list[float]) -> None:
    """Print median and 95th percentile."""
    parts = quantiles(seconds, n=20)
    print(f"{name:<52} median {1000 * parts[9]:6.0f} ms   95 % {1000 * parts[18]:6.0f} ms   n = {len(seconds)}")


def measure_start(words: list[str], sign: bytes, folder: Path, repeats: int = 7) -> list[float]:
    """Start the program some times; gives the seconds until a sign is on the screen."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        with program(words, (80, 24), folder) as (descriptor, _process):
            read_until(descriptor, sign)
            times.append(time.perf_counter() - began)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=60, help="keys to press for each figure")
    n_keys = parser.parse_args().keys
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        profile = folder / "random.laminar"
        random_profile().save(profile)

        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        report("--help", measure_start(["--help"], b"exit codes", folder))
        report("first frame, saved profile", measure_start([str(profile)], b"Quit", folder))
        report("first frame, bundled model", measure_start([], b"Quit", folder))

        for size in ((80, 24), (200, 60)):
            with program([str(profile)], size, folder) as (descriptor, _process):
                read_until(descriptor, b"Quit")
                last_byte(descriptor, 1.0)
                firsts, lasts = measure_keys(descriptor, n_keys, SILENCE)
                report(f"at rest, {size[0]}x{size[1]}, key to last byte", lasts)

        prompt = " ".join(["The quick brown fox jumps over the lazy dog."] * 400)
        with program(["--prompt", prompt, "--max-tokens", MAX_TOKENS], (80, 24), folder) as (descriptor, _process):
            read_until(descriptor, b"layers")
            firsts, lasts = measure_run(descriptor, n_keys)
            report("during a run, 80x24, key to first byte", firsts)
            report("during a run, 80x24, key to last byte", lasts)


def measure_run(descriptor: int, n_keys: int) -> tuple[list[float], list[float]]:
    """Press each key right after a run was asked for: it takes all cores for a moment, and paints layers of its own."""
    firsts, lasts = [], []
    for at in range(1, n_keys + 1):
        os.write(descriptor, b"r")
        first, last = first_byte_after_key(descriptor, b"hl"[at % 2 :][:1], BRIEF)
        firsts.append(first)
        lasts.append(last)
        last_byte(descriptor, 0.5)
    return firsts, lasts


if __name__ == "__main__":
    main()
