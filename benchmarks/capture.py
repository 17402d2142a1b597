"""What a capture costs, as ratios to a plain forward in one run: every variant in turn, medians of interleaved rounds.

    python benchmarks/capture.py [--geometry pythia|FOLDER_OR_GGUF] [--layers 3] [--tokens 512 1024 2048] [--rounds 5]

`pythia` makes a GPT-NeoX of Pythia-2.8B's layer geometry (32 heads x 80, D = 2560): few layers, random parameters,
float32. The ratios are to the forward without the LM head under transformers' default (SDPA) attention.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import laminar_tui
from laminar_tui.model.capture import evaluating, forward
from laminar_tui.model.load import load_model
from laminar_tui.model.tap import attention_implementation
from laminar_tui.source import find_source

EAGER_UP_TO = 2048
"""Longer prompts are not run with `output_attentions`: it holds every pattern."""


def pythia_layers(n_layers: int) -> Any:
    """A few layers of Pythia-2.8B's geometry with random parameters."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=2560,
        num_hidden_layers=n_layers,
        num_attention_heads=32,
        intermediate_size=10240,
        rotary_pct=0.25,
        max_position_embeddings=16384,
    )
    return GPTNeoXForCausalLM._from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()


def variants(model: Any, ids: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The ways to run a prompt that are compared."""

    def plain() -> None:
        with evaluating(model), attention_implementation(model, "sdpa"):
            forward(model, ids, None)

    def with_head() -> None:
        with evaluating(model), attention_implementation(model, "sdpa"):
            model(input_ids=ids, use_cache=False)

    def eager() -> None:
        with evaluating(model), attention_implementation(model, "eager"):
            forward(model, ids, None)

    def patterns() -> None:
        with evaluating(model), attention_implementation(model, "eager"):
            forward(model, ids, None, output_attentions=True)

    table: dict[str, Callable[[], object]] = {
        "SDPA": plain,
        "SDPA + LM head": with_head,
        "laminar_tui, every weight": lambda: laminar_tui.capture(model, ids),
        "eager": eager,
    }
    if ids.shape[1] <= EAGER_UP_TO:
        table["eager + output_attentions"] = patterns
    else:
        del table["eager"]
    return table


def measure(table: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each variant over rounds in which all take their turn, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in table}
    for turn in range(rounds + 1):
        for name, run in table.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", default="pythia")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.geometry == "pythia":
        model = pythia_layers(options.layers)
    else:
        model = load_model(find_source(options.geometry)).model
    print(f"{options.geometry}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for n_tokens in options.tokens:
        ids = torch.randint(5, 40000, (1, n_tokens), generator=torch.Generator().manual_seed(0))
        medians = measure(variants(model, ids), options.rounds)
        base = medians["SDPA"]
        cells = "  ".join(f"{name} {value / base:.2f}" for name, value in medians.items())
        print(f"T = {n_tokens:5}  SDPA {base:.3f} s  {cells}", flush=True)


if __name__ == "__main__":
    main()
