"""Pythia-2.8B's exact geometry with random parameters through the whole chain: what it takes in time and memory.

    python benchmarks/pythia_geometry.py [--tokens 128] [--output FILE.laminar] [--check]

32 layers x 32 heads of 80, D = 2560, bfloat16: about 5.6 GB of parameters, so a machine with 24 GB runs it. Prints one
JSON object. `tests/test_scale.py` runs the same.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import laminar_tui
from laminar_tui.model.check import check_model
from laminar_tui.render.columns import Look
from laminar_tui.render.palette import make_ramp
from laminar_tui.render.rows import to_ansi
from laminar_tui.render.views import VIEWS, Page, Place


def pythia_config() -> GPTNeoXConfig:
    """The sizes of EleutherAI/pythia-2.8b."""
    return GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=2560,
        num_hidden_layers=32,
        num_attention_heads=32,
        intermediate_size=10240,
        rotary_pct=0.25,
        max_position_embeddings=2048,
        use_parallel_residual=True,
        tie_word_embeddings=False,
    )


def make_model(seed: int = 0) -> GPTNeoXForCausalLM:
    """Make the model with random parameters in bfloat16; scores are spread wider than at initialisation."""
    torch.manual_seed(seed)
    model = GPTNeoXForCausalLM._from_config(pythia_config(), dtype=torch.bfloat16)
    return model.eval()


def peak_memory_gb() -> float:
    """The most memory this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def run(n_tokens: int, output: Path | None = None) -> dict[str, Any]:
    """Make the model, run it without and with the capture, draw the overview, and give the figures."""
    started = time.perf_counter()
    model = make_model()
    made = time.perf_counter()
    memory_of_model = peak_memory_gb()
    ids = torch.randint(0, 50000, (1, n_tokens), generator=torch.Generator().manual_seed(1))
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        model.base_model(ids, use_cache=False)
        before = time.perf_counter()
        model.base_model(ids, use_cache=False)
        plain = time.perf_counter() - before
    before = time.perf_counter()
    profile = laminar_tui.capture(model, ids)
    captured = time.perf_counter() - before
    before = time.perf_counter()
    page = Page(120, 30, make_ramp("viridis", "none"))
    picture = to_ansi(VIEWS["overview"](profile, Look(), Place(), page), "none")
    drawn = time.perf_counter() - before
    if output is not None:
        profile.save(output)
    return {
        "n_tokens": n_tokens,
        "n_layers": profile.n_layers,
        "n_heads": profile.n_heads,
        "n_weights": int(profile.layer_counts("all").n.sum()),
        "seconds_to_make_the_model": round(made - started, 1),
        "seconds_plain_forward_sdpa": round(plain, 2),
        "seconds_capture": round(captured, 2),
        "seconds_draw_overview": round(drawn, 3),
        "peak_gb_model": round(memory_of_model, 2),
        "peak_gb": round(peak_memory_gb(), 2),
        "checks": [f"{check.name}: {check.found}" for check in profile.origin.checks],
        "picture": picture,
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--check", action="store_true", help="compare every weight with an eager run instead")
    options = parser.parse_args()
    if options.check:
        verdict = check_model(make_model(), torch.randint(0, 50000, (options.tokens,)))
        print("\n".join(f"{check.passed}  {check.name}: {check.found}" for check in verdict.checks))
        return
    figures = run(options.tokens, options.output)
    picture = figures.pop("picture")
    print(picture)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
