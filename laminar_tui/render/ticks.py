"""Round numbers for axes and colour bars, and where their labels fit."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

Float64 = NDArray[np.float64]

_ROUND_STEPS = (1.0, 2.0, 5.0, 10.0)
_DECADE_STEPS = (1, 2, 3, 4, 5, 10, 20, 50, 100)


def axis_ticks(low: float, high: float, n_max: int, *, log: bool = False) -> list[float]:
    """Choose at most `n_max` round values in [low, high], ascending; none if the range is empty."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return []
    n_max = max(1, n_max)
    return _log_ticks(low, high, n_max) if log and low > 0 else _linear_ticks(low, high, n_max)


def _linear_ticks(low: float, high: float, n_max: int) -> list[float]:
    step = 10.0 ** math.floor(math.log10((high - low) / n_max))
    while True:
        for factor in _ROUND_STEPS:
            # The slack keeps 1.0 in when it is reached as 0.9999999999999999.
            first = math.ceil(low / (step * factor) - 1e-9)
            last = math.floor(high / (step * factor) + 1e-9)
            if last - first + 1 <= n_max:
                # Where floats hardly tell the ends apart, neighbours can fall together.
                return list(dict.fromkeys(_tidy(i * step * factor) for i in range(first, last + 1)))
        step *= 10.0


def _tidy(value: float) -> float:
    return float(f"{value:.12g}") + 0.0


def _log_ticks(low: float, high: float, n_max: int) -> list[float]:
    first = math.ceil(math.log10(low) - 1e-9)
    last = math.floor(math.log10(high) + 1e-9)
    if last - first < 1:  # less than a decade: 1, 2, 5 of each, or plain round numbers
        for digits in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3)):
            values = [d * 10.0**e for e in range(first - 1, last + 1) for d in digits]
            inside = [_tidy(v) for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
            if 2 <= len(inside) <= n_max:
                return inside
        return _linear_ticks(low, high, n_max)
    for step in _DECADE_STEPS:
        exponents = range(-(-first // step) * step, last + 1, step)
        if len(exponents) <= n_max:
            return [10.0**e for e in exponents]
    return []


def tick_labels(values: Sequence[float], *, log: bool = False) -> list[str]:
    """Write ticks with the same decimals for all (`0.0` `0.2`), on a log axis each for itself (`1e-4`)."""
    largest = max((abs(value) for value in values), default=0.0)
    step = min((b - a for a, b in pairwise(values)), default=largest) or 1.0
    short = [short_number(value) for value in values]
    exact = all(abs(float(text) - value) <= 1e-6 * step for text, value in zip(short, values, strict=True))
    if exact and (log or largest >= 1e4 or 0 < largest < 1e-3):
        return short
    decimals = 0
    while decimals < 12 and any(abs(round(value, decimals) - value) > 1e-6 * step for value in values):
        decimals += 1
    return [f"{value:.{decimals}f}" for value in values]


def short_number(value: float) -> str:
    """Write a number in few characters: `0` `0.005` `1` `250` `1e4` `1e-4` `2.5e-6`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 - 1e-12 <= abs(value) < 1e4 and not (abs(value) >= 1e3 and value % 1000 == 0):
        return f"{value:.3g}" if abs(value) < 1e3 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def fraction(values: Float64 | Sequence[float], low: float, high: float, *, log: bool = False) -> Float64:
    """Where values lie between low (0.0) and high (1.0); NaN for what a log axis cannot show."""
    array = np.asarray(values, dtype=np.float64)
    if log:
        with np.errstate(divide="ignore", invalid="ignore"):
            array = np.where(array > 0, np.log10(array), np.nan)
        low, high = math.log10(low), math.log10(high)
    with np.errstate(invalid="ignore"):
        return np.asarray((array - low) / (high - low), dtype=np.float64)


def tick_cells(values: Sequence[float], low: float, high: float, n_cells: int, *, log: bool = False) -> list[int]:
    """The cell, from 0 at `low` to n_cells - 1, in which each value lies; `high` lies in the last one."""
    # The slack puts a tick that is a rounding error below a cell's edge into the cell that begins there.
    cells = np.floor(fraction(values, low, high, log=log) * n_cells + 1e-6)
    return [int(cell) for cell in np.clip(cells, 0, n_cells - 1)]


def place_labels(
    marks: Sequence[tuple[int, str]], left: int, right: int, *, kept: tuple[int, str] | None = None
) -> list[tuple[int, str]]:
    """Put labels on one row, centred on their marks; those that would touch another are left out.

    Args:
        marks: (cell, label) from left to right; the earlier of two that collide stays.
        left: the first cell that may be used.
        right: the cell after the last that may be used.
        kept: a mark that is always shown, and whose neighbours make room.

    Returns:
        (first cell, label), from left to right, none clipped, at least one blank between any two.
    """
    placed: list[tuple[int, str]] = []
    reserved = _place(*kept, left, right) if kept else None
    end = left - 1
    for cell, label in marks:
        start = _place(cell, label, left, right)
        if start is None or start <= end:
            continue
        stop = start + cell_len(label)
        if kept and reserved is not None and start <= reserved + cell_len(kept[1]) and stop >= reserved:
            continue
        placed.append((start, label))
        end = stop
    if kept and reserved is not None:
        placed.append((reserved, kept[1]))
    return sorted(placed)


def _place(cell: int, label: str, left: int, right: int) -> int | None:
    taken = cell_len(label)
    if taken > right - left or not label:
        return None
    return min(max(cell - (taken - 1) // 2, left), right - taken)
