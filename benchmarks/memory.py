"""The most memory that one way to run a prompt takes, in a process of its own: in one process peaks would mix.

    python benchmarks/memory.py --geometry pythia|FOLDER_OR_GGUF --layers 3 --tokens 2048 --variant "eager"

Prints one JSON object, `peak` being the bytes above what the loaded model holds (VmHWM, begun anew after loading and
a run of a few tokens).
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from geometry import make_geometry
from rounds import Budget, available_bytes, forget_peak, peak_kilobytes, resident_kilobytes
from variants import BASE, OURS, variants

from laminar_tui.profile.profile import Profile

FEW = 64


def peak_of(word: str, n_layers: int, n_tokens: int, name: str) -> dict[str, int]:
    """Load, run a few tokens, then run the prompt; gives bytes, `peak` above what was held before and `counts` kept."""
    geometry = make_geometry(word, n_layers)
    variants(geometry, min(FEW, n_tokens), [name])[name].run()
    gc.collect()
    _give_back()
    if not forget_peak():
        return {}
    before = resident_kilobytes()
    result = variants(geometry, n_tokens, [name])[name].run()
    peak = peak_kilobytes() - before
    counts = _bytes_of(result) if isinstance(result, Profile) else 0
    return {"peak": peak * 1024, "counts": counts}


def _give_back() -> None:
    """Let the allocator return what is free: memory that it kept would hide what the run takes."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def _bytes_of(profile: Profile) -> int:
    """How much the counts of a profile take."""
    return sum(
        getattr(packed, field.name).nbytes
        for layer in profile.layers
        if layer is not None
        for packed in layer.parts.values()
        for field in fields(packed)
    )


def measure_memory(
    word: str, n_layers: int, n_tokens: int, names: Sequence[str], budget: Budget
) -> tuple[dict[str, str], str]:
    """Peaks above the plain forward's.

    Args:
        names: variants that fit into memory.

    Returns:
        name -> like `+312 MB`, and a sentence about what is in them or why there is none.
    """
    base = _run(word, n_layers, n_tokens, BASE)
    if "peak" not in base:
        return {}, "The peak of memory could not be measured here."
    cells, notes = {}, [f"In brackets, T = {n_tokens:,}: memory above the plain forward's {_mb(base['peak'])}"]
    for name in names:
        if name == BASE or budget.is_over:
            continue
        print(f"memory of {name}, {available_bytes() / 1e9:.0f} GB free ...", file=sys.stderr, flush=True)
        found = _run(word, n_layers, n_tokens, name)
        cells[name] = "failed" if "peak" not in found else f"{(found['peak'] - base['peak']) / 2**20:+,.0f} MiB"
        if name == OURS and "counts" in found:
            notes.append(f"laminar_tui's includes the profile's counts, {_mb(found['counts'])}")
    return cells, "; ".join(notes) + "."


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"


def _run(word: str, n_layers: int, n_tokens: int, name: str) -> dict[str, int]:
    options = ["--geometry", word, "--layers", str(n_layers), "--tokens", str(n_tokens), "--variant", name]
    done = subprocess.run([sys.executable, str(Path(__file__)), *options], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name}: exit {done.returncode}\n{done.stderr[-2000:]}", file=sys.stderr)
        return {}
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure one variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", default="pythia")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--variant", default=BASE)
    options = parser.parse_args()
    print(json.dumps(peak_of(options.geometry, options.layers, options.tokens, options.variant)))


if __name__ == "__main__":
    main()
