"""What a capture costs, as ratios to a plain forward in one run: every variant in turn, medians of interleaved rounds.

    python benchmarks/capture.py [--geometry pythia|FOLDER_OR_GGUF] [--layers 3] [--tokens 512 1024 2048] [--rounds 5]

`pythia` makes a GPT-NeoX of Pythia-2.8B's layer geometry (32 heads x 80, D = 2560): few layers, random parameters,
float32. The ratios are to the forward without the LM head under transformers' default (SDPA) attention. It is one
table of `python benchmarks/all.py`.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence

from geometry import Geometry, make_geometry, one_layer_of_heads
from rounds import Budget, Measured, Run, available_bytes, interleave, line, machine, markdown, readable, slope
from variants import ALWAYS, BASE, OURS, Variant, variants

SPARE = 0.8
"""How much of the free memory a variant may hold by its own estimate."""


def measure(
    geometry: Geometry, names_by_length: Mapping[int, Sequence[str]], budget: Budget
) -> Iterator[tuple[int, Measured]]:
    """Measure variants for prompts of ascending length.

    Yields:
        the length, and what was measured; a variant that would not fit in memory, or of which a single run would last
        longer than its budget, is skipped with the reason.
    """
    before: dict[str, tuple[int, float]] = {}
    for n_tokens, names in names_by_length.items():
        if n_tokens > geometry.most_tokens or budget.is_over:
            reason = "the time is over" if budget.is_over else f"the model takes {geometry.most_tokens:,} tokens"
            yield n_tokens, Measured({}, dict.fromkeys(names, reason))
            continue
        table: dict[str, Run] = {}
        skipped: dict[str, str] = {}
        for name, variant in variants(geometry, n_tokens, names).items():
            last = None if name in (BASE, OURS) else before.get(name)  # without these two there is no row
            reason = _too_large(variant) or _too_long(last, n_tokens, budget)
            if reason:
                skipped[name] = reason
            else:
                table[name] = variant.run
        print(f"{geometry.title}, T = {n_tokens:,} ...", file=sys.stderr, flush=True)
        measured = interleave(table, budget, skipped)
        before |= {name: (n_tokens, measured.median(name)) for name in table}
        yield n_tokens, measured


def _too_large(variant: Variant) -> str:
    free = available_bytes()
    if variant.held_bytes <= SPARE * free:
        return ""
    return f"holds {variant.held_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"


def _too_long(before: tuple[int, float] | None, n_tokens: int, budget: Budget) -> str:
    if before is None:
        return ""
    expected = before[1] * n_tokens / before[0]
    if expected <= budget.variant_seconds:
        return ""
    return f"would take more than {readable(expected)} a run, {readable(budget.variant_seconds)} are given"


def ratio_cell(measured: Measured, name: str, base: str = BASE) -> str:
    """A ratio, a `*` after one that is of a single run; a dash for what was skipped."""
    if name not in measured.seconds:
        return "–"
    star = "*" if measured.is_once(name) else ""
    return f"{measured.ratio(name, base):.2f}{star}"


def reasons(results: dict[int, Measured]) -> str:
    """Why cells are empty, a sentence each; empty where all were measured."""
    found = []
    for n_tokens, measured in results.items():
        for reason in dict.fromkeys(measured.skipped.values()):
            names = ", ".join(name for name, own in measured.skipped.items() if own == reason)
            found.append(f"T = {n_tokens:,}: {names}: {reason}.")
    once = any(measured.is_once(name) for measured in results.values() for name in measured.seconds)
    return "\n\n".join((["\\* a single run, which used its time up."] if once else []) + found)


def capture_table(geometry: Geometry, results: dict[int, Measured], extra: dict[int, dict[str, str]]) -> str:
    """Ratios, one row a prompt length; beside them what `extra` says of a length and a variant (memory)."""
    names = [name for name in ALWAYS if any(name in measured.seconds for measured in results.values())]
    rows = []
    for n_tokens, measured in results.items():
        if BASE not in measured.seconds:
            continue
        memory = extra.get(n_tokens, {})
        weights = geometry.n_layers * geometry.n_heads * n_tokens * (n_tokens + 1) // 2
        cells = [f"{n_tokens:,}", f"{_millions(weights)}", readable(measured.median(BASE))]
        for name in names[1:]:
            cells.append(ratio_cell(measured, name) + (f" ({memory[name]})" if name in memory else ""))
        rows.append(cells)
    notes = reasons(results)
    table = markdown(["T", "weights", f"{BASE} = 1", *names[1:]], rows)
    return table + (f"\n\n{notes}" if notes else "")


def _millions(n: int) -> str:
    return f"{n / 1e6:,.0f} M" if n >= 10e6 else f"{n / 1e6:.1f} M"


def law_in_tokens(geometry: Geometry, lengths: Sequence[int], budget: Budget) -> str:
    """Seconds by prompt length, and the exponents."""
    results = dict(measure(geometry, dict.fromkeys(lengths, (BASE, OURS)), budget))
    done = [n_tokens for n_tokens, measured in results.items() if OURS in measured.seconds]
    if not done:
        return reasons(results)
    rows, ours = [], [results[n_tokens].median(OURS) for n_tokens in done]
    for n_tokens, seconds in zip(done, ours, strict=True):
        plain = results[n_tokens].median(BASE)
        weights = geometry.n_heads * n_tokens * (n_tokens + 1) // 2
        more = 1e9 * (seconds - plain) / weights
        ratio = ratio_cell(results[n_tokens], OURS)
        rows.append([f"{n_tokens:,}", readable(plain), readable(seconds), ratio, f"{more:.2f} ns"])
    text = markdown(["T", BASE, "laminar_tui", "ratio", "more than SDPA, per weight"], rows)
    if len(done) > 1:
        text += f"\n\nlaminar_tui's seconds go with T^{slope(done, ours):.2f} over T = {done[0]:,} … {done[-1]:,}"
        text += f", with T^{slope(done[-2:], ours[-2:]):.2f} from {done[-2]:,} to {done[-1]:,}."
    notes = reasons(results)
    return text + (f"\n\n{notes}" if notes else "")


def law_in_heads(heads: Sequence[int], n_tokens: int, budget: Budget) -> str:
    """Seconds of one layer by its number of heads, and the exponent."""
    rows, done, ours = [], [], []
    for n_heads in heads:
        for _, measured in measure(one_layer_of_heads(n_heads), {n_tokens: (BASE, OURS)}, budget):
            if OURS in measured.seconds:
                done.append(n_heads)
                ours.append(measured.median(OURS))
                plain = readable(measured.median(BASE))
                rows.append([str(n_heads), plain, readable(ours[-1]), ratio_cell(measured, OURS)])
    text = markdown(["heads", BASE, "laminar_tui", "ratio"], rows)
    if len(done) > 1:
        start, per_head = line(done, ours)
        text += f"\n\nlaminar_tui's seconds go with heads^{slope(done, ours):.2f}: "
        text += f"{readable(max(start, 0.0))} and {readable(max(per_head, 0.0))} a head (T = {n_tokens:,})."
    return text


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", default="pythia")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=60, help="a variant that has used as much takes no further turn"
    )
    options = parser.parse_args()
    geometry = make_geometry(options.geometry, options.layers)
    print(f"{machine()}\n\n{geometry.title}\n")
    budget = Budget(options.rounds, options.seconds)
    results = dict(measure(geometry, dict.fromkeys(sorted(options.tokens), ALWAYS), budget))
    print(capture_table(geometry, results, {}))


if __name__ == "__main__":
    main()
