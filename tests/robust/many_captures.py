"""Capture a model again and again in one process and tell what memory, threads and file descriptors do.

    python tests/robust/many_captures.py --captures 500

Prints one JSON object: `resident` [n] bytes, `threads` [n], `descriptors` [n], a reading every ten captures, from the
end of the warm-up on. Every fifth capture is cancelled in its second layer, every seventh fails on its prompt, and they
go by turns through the fast path and through the family's own function.
"""

import argparse
import ctypes
import gc
import json
import os
import resource
import threading
from contextlib import suppress
from pathlib import Path

WARM_UP = 60
EVERY = 10


def reading() -> tuple[int, int, int]:
    """Resident bytes, threads and descriptors of this process now."""
    gc.collect()
    # What was freed goes back to the system: glibc keeps some of it for later by chance, which is no leak.
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    n_threads = len(list(Path("/proc/self/task").iterdir()))
    assert n_threads >= threading.active_count()
    return pages * resource.getpagesize(), n_threads, len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def capture_many(n_captures: int) -> dict[str, list[int]]:
    """Warm up, then take a reading every ten captures."""
    from laminar_tui.errors import CancelledError, PromptError
    from laminar_tui.model import fast
    from laminar_tui.run import Request, Session

    session = Session()
    sizes: list[tuple[int, int, int]] = []
    text = "Once upon a time there was a girl who lived by the sea. " * 12
    for number in range(WARM_UP + n_captures + 1):
        if number >= WARM_UP and (number - WARM_UP) % EVERY == 0:
            sizes.append(reading())
        layers: list[object] = []
        fast.AT_LEAST_TOKENS = 10**9 if number % 2 else 1
        prompt = "" if number % 7 == 3 else text[: 80 + 17 * (number % 11)]
        with suppress(PromptError, CancelledError):
            profile = session.run(
                Request(prompt=prompt),
                layers.append,
                lambda seen=layers, stop=number % 5 == 4: stop and len(seen) > 6,  # type: ignore[misc]
            )
            assert profile.n_read == profile.n_layers
    return dict(zip(("resident", "threads", "descriptors"), map(list, zip(*sizes, strict=True)), strict=True))


def main() -> None:
    """Capture and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", type=int, default=500)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    print(json.dumps(capture_many(options.captures)))


if __name__ == "__main__":
    main()
