"""Numbers as a person reads them; shares are written by `profile.wording`."""

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
