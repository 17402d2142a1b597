"""The whole table in one run, as Markdown: capture, memory, the exercise end to end, densities, cost laws.

    python benchmarks/all.py [--quick] [--model FOLDER_OR_GGUF] [--keys 30]

Every figure is a median of interleaved rounds, every ratio a median of ratios within a round. What is being done is
said on standard error; what does not fit into memory or time is skipped with the reason. About 12 minutes on two idle
cores, 2 with `--quick`. With `--keys` the key latency of the program on a terminal follows (key_latency.py).
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from capture import capture_table, law_in_heads, law_in_tokens, measure
from exercise import FOR_EXERCISE, end_to_end, every_head, every_head_table, exercise_table, seconds_of_curves
from geometry import Geometry, make_geometry
from kde import Law, column_mass, errors, make_profile, one_distribution, scipy_law
from memory import measure_memory
from rounds import Budget, Measured, machine
from variants import ALWAYS, BASE, EXERCISE, OUR_HEADS, OURS, has_lens

ROOT = Path(__file__).parent.parent
SMOLLM2 = ROOT / ".cache" / "smollm2"


@dataclass(frozen=True)
class Plan:
    """What is measured, and after how many minutes nothing new is begun (a guard for busy machines)."""

    minutes: float
    rounds: int
    variant_seconds: float
    pythia_layers: int
    tokens: tuple[int, ...]
    long_tokens: tuple[int, ...]
    exercise_tokens: int
    memory_tokens: int
    law_tokens: tuple[int, ...]
    law_heads: tuple[int, ...]
    heads_tokens: int
    kde_tokens: int
    error_tokens: tuple[int, ...]
    error_random: int
    law_sizes: tuple[int, ...]


FULL = Plan(
    minutes=15,
    rounds=4,
    variant_seconds=20,
    pythia_layers=3,
    tokens=(128, 512, 1024, 2048),
    long_tokens=(4096,),
    exercise_tokens=512,
    memory_tokens=2048,
    law_tokens=(128, 256, 512, 1024, 2048, 4096, 8192),
    law_heads=(4, 8, 16, 32),
    heads_tokens=1024,
    kde_tokens=2048,
    error_tokens=(64, 128, 256),
    error_random=2_000_000,
    law_sizes=(4096, 32768, 131072),
)
QUICK = replace(
    FULL,
    minutes=4,
    rounds=2,
    variant_seconds=4,
    pythia_layers=1,
    tokens=(128, 512),
    long_tokens=(),
    memory_tokens=512,
    law_tokens=(128, 256, 512, 1024),
    law_heads=(4, 8, 16),
    heads_tokens=512,
    kde_tokens=1024,
    error_tokens=(64, 128),
    error_random=200_000,
    law_sizes=(2048, 8192, 32768),
)


@dataclass(frozen=True, eq=False)
class Rows:
    """What one geometry gave, prompt length -> what was measured."""

    word: str
    geometry: Geometry
    captures: dict[int, Measured]


def section(title: str, text: str) -> None:
    """Print one part of the report."""
    print(f"## {title}\n\n{text}\n", flush=True)


def find_smollm2() -> str | None:
    """The GGUF file that the tests fetch, if it is there."""
    return next((str(path) for path in sorted(SMOLLM2.glob("*.gguf"))), None)


def measure_captures(word: str, geometry: Geometry, plan: Plan, budget: Budget) -> Rows:
    """All variants at all lengths; those of the exercise at its own; of the longest prompts ours and the forward."""
    names = {n: (*ALWAYS, *FOR_EXERCISE) if n == plan.exercise_tokens else ALWAYS for n in plan.tokens}
    names |= dict.fromkeys(plan.long_tokens, (BASE, OURS))
    return Rows(word, geometry, dict(measure(geometry, names, budget)))


def print_captures(rows: Rows, plan: Plan, budget: Budget) -> None:
    """The table of one geometry, with memory in brackets where it was measured."""
    memory: dict[str, str] = {}
    note = "Memory was not measured: the time is over."
    if not budget.is_over:
        names = [name for name in ALWAYS if name in rows.captures[plan.memory_tokens].seconds]
        memory, note = measure_memory(rows.word, plan.pythia_layers, plan.memory_tokens, names, budget)
    text = capture_table(rows.geometry, rows.captures, {plan.memory_tokens: memory})
    section(f"Capture: {rows.geometry.title}", f"Ratios to {BASE} without LM head. {note}\n\n{text}")


def print_exercise(every: Sequence[Rows], law: Law, plan: Plan) -> None:
    """The two tables that compare end to end."""
    first, second, reasons = [], [], ""
    for rows in every:
        title, layers, heads = rows.geometry.title, rows.geometry.n_layers, rows.geometry.n_heads
        own = rows.captures[plan.exercise_tokens]
        first.append(end_to_end(title, layers, plan.exercise_tokens, own))
        reasons += f"\n\n{title}: {own.skipped[EXERCISE]}." if EXERCISE in own.skipped else ""
        if OUR_HEADS not in own.seconds:
            continue
        curves = seconds_of_curves(own)
        for n_tokens, measured in rows.captures.items():
            if n_tokens >= plan.exercise_tokens and OURS in measured.seconds:
                second.append(every_head(title, layers, heads, n_tokens, measured, curves, law))
    section("The exercise, end to end", exercise_table(first) + reasons)
    section("The same for every head and all weights", every_head_table(second, law))


def print_densities(plan: Plan, budget: Budget) -> None:
    """Time and error of densities."""
    print("densities ...", file=sys.stderr, flush=True)
    profile = make_profile(plan.kde_tokens)
    section(
        "Densities: time", one_distribution(plan.kde_tokens, profile, replace(budget, rounds=min(budget.rounds, 3)))
    )
    text = "L1 distance to `scipy.stats.gaussian_kde`.\n\n" + errors(plan.error_tokens, plan.error_random)
    section("Densities: error", f"{text}\n\n{column_mass(profile)}")


def print_laws(geometries: Sequence[Geometry], plan: Plan, budget: Budget) -> None:
    """How the cost goes with tokens and heads."""
    few = replace(budget, rounds=min(budget.rounds, 2))
    for geometry in geometries:
        layer = geometry.first_layer()
        section(f"Cost law in T: {layer.title}", law_in_tokens(layer, plan.law_tokens, few))
    section(
        "Cost law in heads: one layer, heads of 64 on a stream of 512",
        law_in_heads(plan.law_heads, plan.heads_tokens, few),
    )


def print_keys(n_keys: int) -> None:
    """What benchmarks/key_latency.py prints."""
    command = [sys.executable, str(ROOT / "benchmarks" / "key_latency.py"), "--keys", str(n_keys)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    section("Keys and first frames", f"```\n{done.stdout.strip() or f'failed, exit {done.returncode}'}\n```")


def introduction(plan: Plan, model: str | None) -> str:
    """What the figures are, on what machine, and what is missing."""
    words = [f"Medians of up to {plan.rounds} interleaved rounds, float32."]
    if model is None:
        words.append("There is no SmolLM2 here: give a model with --model.")
    if not has_lens():
        words.append("TransformerLens is not installed: its columns are left out.")
    return f"{machine()}\n\n{' '.join(words)}\n"


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short prompts, few rounds")
    parser.add_argument("--model", help="a folder or GGUF file beside Pythia's layers; else the tests' SmolLM2")
    parser.add_argument("--minutes", type=float, help="after so many nothing new is begun")
    parser.add_argument("--keys", type=int, default=0, help="keys to press for each figure of key latency; 0: none")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    began = time.monotonic()
    budget = Budget(plan.rounds, plan.variant_seconds, began + 60 * (options.minutes or plan.minutes))
    model = options.model or find_smollm2()

    print(f"# Benchmarks{' (quick)' if options.quick else ''}\n\n{introduction(plan, model)}", flush=True)
    law = scipy_law(plan.law_sizes, budget)
    print_densities(plan, budget)
    every = []
    for word in ("pythia", *([model] if model else [])):
        rows = measure_captures(word, make_geometry(word, plan.pythia_layers), plan, budget)
        print_captures(rows, plan, budget)
        every.append(rows)
    print_exercise(every, law, plan)
    print_laws([rows.geometry for rows in every], plan, budget)
    if options.keys:
        print_keys(options.keys)
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.1f} minutes; load average at the end {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
