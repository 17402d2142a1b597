"""What a capture costs on a GPU, on Pythia-2.8B's geometry with random parameters in bfloat16: one command.

    python benchmarks/gpu.py [--tokens 2048 8192 32768] [--repeats 5] [--layers 32] [--device cuda] [--json FILE]

Side by side in one run, interleaved, medians: the model's forward without LM head under SDPA and under eager attention,
and a capture of every weight of every head in torch's operations and by the kernel, which may give way to them on some
layers: the last word of a line says which were used. Prints ratios to SDPA, and from a run of its own the peak of the
memory beyond the parameters. Where there is no GPU it says so and ends. It has not been run on a GPU yet; the command
itself was tried with `--device cpu --layers 1 --tokens 128`.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pythia_geometry import pythia_config
from transformers import GPTNeoXForCausalLM

import laminar_tui
from laminar_tui.errors import MemoryNeededError
from laminar_tui.model import device as device_path
from laminar_tui.model.memory import is_out_of_memory, release_unused

SWITCH = "LAMINAR_NO_TRITON"
Run = Callable[[], str | None]
"""Runs a way once; may say how the weights were read."""


def make_model(device: str, n_layers: int, n_tokens: int) -> GPTNeoXForCausalLM:
    """Make the model on the device, with positions for the longest prompt."""
    config = pythia_config()
    config.num_hidden_layers, config.max_position_embeddings = n_layers, n_tokens
    torch.manual_seed(0)
    with torch.device(device):
        return GPTNeoXForCausalLM._from_config(config, dtype=torch.bfloat16).eval()


def run_forward(model: GPTNeoXForCausalLM, ids: torch.Tensor, implementation: str) -> None:
    """Run everything up to the LM head."""
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        model.base_model(ids, use_cache=False)


def run_capture(model: GPTNeoXForCausalLM, ids: torch.Tensor, with_kernel: bool) -> str:
    """Capture a profile, layers handed to the host included, and say how they were read."""
    model.set_attn_implementation("sdpa")
    os.environ[SWITCH] = "0" if with_kernel else "1"
    return laminar_tui.capture(model, ids).origin.mechanism


def run_once(run: Run, device: torch.device) -> tuple[float, str | None] | None:
    """Give the seconds that a run takes, and what it says; None if memory ran out."""
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    try:
        said = run()
    except (RuntimeError, MemoryError, MemoryNeededError) as error:
        if not isinstance(error, MemoryNeededError) and not is_out_of_memory(error):
            raise
        return None
    if is_cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, said


def measure_peak(run: Run, device: torch.device) -> float:
    """Give the peak of the memory beyond what was held before, in GB, of a run that had to ask the driver for it."""
    if device.type != "cuda":
        return float("nan")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    if run_once(run, device) is None:
        return float("nan")
    return (torch.cuda.max_memory_allocated(device) - held) / 1e9


def compare(model: GPTNeoXForCausalLM, n_tokens: int, repeats: int) -> dict[str, Any]:
    """Measure every way at one length, in turns; the first turn warms up and does not count."""
    ids = torch.randint(0, 50000, (1, n_tokens), generator=torch.Generator().manual_seed(1)).to(model.device)
    ways: dict[str, Run] = {
        "sdpa": lambda: run_forward(model, ids, "sdpa"),
        "eager": lambda: run_forward(model, ids, "eager"),
        "ours, torch": lambda: run_capture(model, ids, with_kernel=False),
    }
    if device_path.is_kernel_at_hand(model.device):
        ways["ours, kernel"] = lambda: run_capture(model, ids, with_kernel=True)
    found: dict[str, list[float]] = {name: [] for name in ways}
    said: dict[str, str | None] = {}
    for turn in range(repeats + 1):
        for name in list(found):
            one = run_once(ways[name], model.device)
            if one is None:
                del found[name]
                release_unused(model.device)
            elif turn:
                found[name].append(one[0])
                said[name] = one[1]
    row: dict[str, Any] = {"n_tokens": n_tokens} | dict.fromkeys(ways)
    for name, seconds in found.items():
        peak = measure_peak(ways[name], model.device)
        row[name] = {
            "seconds": round(statistics.median(seconds), 5),
            "peak_gb": None if math.isnan(peak) else round(peak, 3),
            "read_by": said[name],
        }
    return row


def describe(row: dict[str, Any]) -> str:
    """Write a row as one line a way."""
    base = row["sdpa"]
    lines = [f"T = {row['n_tokens']:,}"]
    for name, one in row.items():
        if name == "n_tokens":
            continue
        if one is None:
            lines.append(f"  {name:14} out of memory")
            continue
        ratio = f"{one['seconds'] / base['seconds']:6.2f} x" if base else "      -"
        peak = "" if one["peak_gb"] is None else f"   {one['peak_gb']:7.2f} GB beside parameters"
        read_by = f"   read by {one['read_by']}" if one["read_by"] else ""
        lines.append(f"  {name:14} {one['seconds'] * 1000:10.1f} ms {ratio}{peak}{read_by}")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 8192, 32768])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no GPU that torch can use on this machine, so there is nothing to measure.")
        sys.exit(0)
    model = make_model(options.device, options.layers, max(options.tokens))
    card = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "a CPU"
    print(f"{card}, torch {torch.__version__}, {options.layers} layers x 32 heads of 80, bfloat16")
    rows = []
    for n_tokens in options.tokens:
        rows.append(compare(model, n_tokens, options.repeats))
        print(describe(rows[-1]), flush=True)
        if options.json is not None:  # after each length: the next one may end the process
            text = json.dumps({"card": card, "layers": options.layers, "rows": rows}, indent=2)
            options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
