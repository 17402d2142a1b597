"""Numbers and shares as a person reads them."""

import math


def number(value: float) -> str:
    """Write what was measured in three digits: `0.00240`, `13.2`, `1.2e-7`, `–` where there is none.

    Zeros at the end stay, so that the numbers below one another in a table have the same digits.
    """
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:#.3g}".removesuffix(".")


def limit(value: float) -> str:
    """Write a limit that somebody has set as it is said: `0.6`, not `0.600`; `0.9999`, for nothing is above 1."""
    text = number(value)
    if value < 1 and text == "1.00":
        text = f"{value:.7g}"
    return text.rstrip("0").removesuffix(".") if "." in text and "e" not in text else text


def percent(share: float) -> str:
    """Write a share in percent: `81 %`, `7.1 %`, `0.03 %`, `–` where there is none."""
    if not math.isfinite(share):
        return "–"
    value = 100 * share
    if value == 0 or value >= 99.95:
        return f"{value:.0f} %"
    if value > 99:
        return f"{value:.1f} %"
    if value < 0.01:
        return "<0.01 %"
    return f"{value:.2f} %" if value < 1 else f"{value:.1f} %" if value < 10 else f"{value:.0f} %"
