"""How the benchmarks measure: variants take turns in one process, ratios are medians over the rounds.

A machine is never quite idle, so a ratio is made within a round, between runs that were seconds apart, and the median
over the rounds is what is printed.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import transformers

Run = Callable[[], object]


@dataclass(frozen=True)
class Budget:
    """How long things may take.

    Attributes:
        rounds: how often each variant runs after the first time, which does not count.
        variant_seconds: a variant that has used this much takes no further turn.
        deadline: of `time.monotonic`; from then on nothing new is begun.
    """

    rounds: int
    variant_seconds: float
    deadline: float = math.inf

    @property
    def is_over(self) -> bool:
        """Whether the time for the whole run is used up."""
        return time.monotonic() > self.deadline


@dataclass(frozen=True)
class Measured:
    """Seconds of each variant, name -> round -> seconds; round 0 is the first run, kept where there is no other."""

    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """The median over the rounds that count."""
        return statistics.median(self._counting(name).values())

    def ratio(self, name: str, base: str) -> float:
        """The median over rounds of one variant's time by another's in the same round."""
        ours, theirs = self._counting(name), self._counting(base)
        common = ours.keys() & theirs.keys()
        if not common:
            return self.median(name) / self.median(base)
        return statistics.median(ours[turn] / theirs[turn] for turn in common)

    def is_once(self, name: str) -> bool:
        """Whether there is only the first run, which used the budget up."""
        return set(self.seconds[name]) == {0}

    def _counting(self, name: str) -> dict[int, float]:
        every = self.seconds[name]
        return {turn: seconds for turn, seconds in every.items() if turn > 0} or every


def interleave(table: Mapping[str, Run], budget: Budget, skipped: Mapping[str, str] | None = None) -> Measured:
    """Let all variants take their turn in each round, forwards and backwards by turns.

    Args:
        table: name -> what to run.
        budget: how often, and how long at most.
        skipped: name -> why a variant is not in the table; handed on.
    """
    measured = Measured({name: {} for name in table}, dict(skipped or {}))
    names = list(table)
    for turn in range(budget.rounds + 1):
        if turn > 1 and budget.is_over:
            break
        for name in names if turn % 2 == 0 else reversed(names):
            own = measured.seconds[name]
            if own and sum(own.values()) >= budget.variant_seconds:
                continue
            started = time.perf_counter()
            table[name]()
            own[turn] = time.perf_counter() - started
    return measured


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent of a cost law: the slope of a straight line through both logarithms, by least squares."""
    return line([math.log(size) for size in sizes], [math.log(each) for each in seconds])[1]


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """A straight line by least squares: its value at 0, and its slope."""
    fitted = statistics.linear_regression(x, y)
    return fitted.intercept, fitted.slope


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def readable(seconds: float) -> str:
    """Seconds with three digits, in the unit that suits them."""
    for unit, name in ((3600.0, "h"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:,.3g} {name}"
    return f"{seconds * 1e9:.3g} ns"


def available_bytes() -> int:
    """How much memory is free to use; 2^62 where the system does not say."""
    return _kilobytes("/proc/meminfo", "MemAvailable:") * 1024 or 2**62


def peak_kilobytes() -> int:
    """The most memory this process has held since the start, or since `forget_peak`; 0 where it cannot be known."""
    return _kilobytes("/proc/self/status", "VmHWM:")


def resident_kilobytes() -> int:
    """The memory this process holds; 0 where it cannot be known."""
    return _kilobytes("/proc/self/status", "VmRSS:")


def forget_peak() -> bool:
    """Let the peak begin anew from what is held now; False where the system does not do that."""
    try:
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123  (no regular file)
            file.write("5")
    except OSError:
        return False
    return True


def _kilobytes(file_name: str, key: str) -> int:
    try:
        with open(file_name) as file:  # noqa: PTH123
            found = [each.split()[1] for each in file if each.startswith(key)]
    except OSError:
        return 0
    return int(found[0]) if found else 0


def machine() -> str:
    """What the figures depend on, without names or paths."""
    load = os.getloadavg()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
    busy = " (busy: ratios of few rounds are not to be trusted)" if load[0] > 0.5 else ""
    return (
        f"{cores} CPU cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"{available_bytes() / 1e9:.0f} GB free; torch {torch.__version__}, transformers {transformers.__version__}; "
        f"load average at the start {load[0]:.1f}, {load[1]:.1f}, {load[2]:.1f}{busy}."
    )
