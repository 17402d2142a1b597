"""Amounts of memory as people write them (`8GB`, `512 MiB`, `1.5g`), and as they read them, times too."""

import re

from laminar_tui.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([kmgt]i?)?b?", re.IGNORECASE)
LARGEST = 2**60
"""No machine has an exbibyte: what is above is a slip of the keys."""


def parse_size(text: str) -> int:
    """Read an amount of memory, in bytes: GB is 10^9, GiB is 2^30.

    Raises:
        UsageError: if it is no amount of memory, or not positive.
    """
    found = _SIZE.fullmatch(text.strip())
    size = float(found[1]) * _UNITS[(found[2] or "").lower()] if found else 0.0
    if not 1 <= size <= LARGEST:
        shown = text if len(text) <= 30 else text[:29] + "…"
        raise UsageError(f"'{shown}' is no amount of memory", "write it like 8GB, 512MB or 1.5GiB")
    return int(size)


def format_size(n_bytes: float) -> str:
    """Write an amount of memory in two or three digits: `5.6 GB`, `350 MB`."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= size * 0.9995:
            value = n_bytes / size
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"
    return f"{n_bytes:.0f} bytes"


def format_seconds(seconds: float) -> str:
    """Write a rough time: `less than a second`, `about 40 s`, `about 12 min`, `about 3 h`."""
    if seconds < 1:
        return "less than a second"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:,.0f} {unit}"
    return f"about {seconds:.0f} s"
