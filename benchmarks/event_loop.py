"""How long the app's event loop stands still while a model is read.

    python benchmarks/event_loop.py [--layers 4] [--tokens 512 2048] [--runs 4]

A model of Pythia-2.8B's layer geometry (32 heads of 80) with random parameters is read in the app, on Textual's
headless driver; in the same loop a task wakes 60 times a second and takes note of how late it is. The first run, which
loads the parameters, is told apart from those that follow; of these the quietest one is told too,
since what else the machine does only adds to it.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import quantiles

from laminar_tui.run import BUNDLED_MODEL, Request
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.state import State

EVERY = 1 / 60


def write_model(folder: Path, n_layers: int) -> None:
    """Save a model of random parameters with the bundled model's tokenizer."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=2048,
        hidden_size=2560,
        num_hidden_layers=n_layers,
        num_attention_heads=32,
        intermediate_size=10240,
        rotary_pct=0.25,
        max_position_embeddings=2048,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    for path in BUNDLED_MODEL.glob("tokenizer*"):
        shutil.copy(path, folder)


async def lateness(into: list[float]) -> None:
    """Wake at 60 Hz and note by how many seconds each time is late."""
    while True:
        due = time.perf_counter() + EVERY
        await asyncio.sleep(EVERY)
        into.append(time.perf_counter() - due)


async def measure(request: Request, n_runs: int) -> list[list[float]]:
    """Run again and again in one app; gives the lateness of each run."""
    runs: list[list[float]] = []
    app = LaminarApp(State(), request)
    async with app.run_test(size=(160, 48)) as pilot:
        for number in range(n_runs):
            late: list[float] = []
            task = asyncio.create_task(lateness(late))
            if number:
                app.explorer.action_run_again()
            await asyncio.sleep(0.1)
            while app.explorer.runner.is_running:
                await asyncio.sleep(0.05)
            await pilot.pause()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            runs.append(late)
            profile = app.explorer.state.profile
            assert profile is not None, app.explorer.query_one("#banner").render()
            assert profile.n_read == profile.n_layers
    return runs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    with tempfile.TemporaryDirectory() as name:
        write_model(Path(name), options.layers)
        for n_tokens in options.tokens:
            text = "Once upon a time there was a girl who lived by the sea. " * n_tokens
            request = Request(name, prompt=text, max_tokens=n_tokens)
            load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
            print(f"{load}, {options.layers} layers, T = {n_tokens}")
            first, *others = asyncio.run(measure(request, options.runs))
            report("load and read", first)
            for late in others:
                report("read again", late)
            if others:
                report("the quietest of these", min(others, key=lambda late: quantiles(late, n=100)[98]))


def report(words: str, late: list[float]) -> None:
    """Print the median, the 99th percentile and the largest."""
    parts = quantiles(late, n=100)
    print(
        f"{words:<22} median {1000 * parts[49]:5.1f} ms   99 % {1000 * parts[98]:5.0f} ms   "
        f"max {1000 * max(late):5.0f} ms   n = {len(late)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
