"""Values as JSON has them: it has no arrays, no NaN and no infinity, and no keys but text."""

import math
from typing import Any

import numpy as np


def plain(value: Any, digits: int | None = None) -> Any:
    """Turn arrays and tuples into lists, what is not finite into None, and keys into text.

    Args:
        value: made of dicts, lists, tuples, arrays and numbers; anything else stays as it is.
        digits: significant digits of the numbers that are not whole; all of them where None.
    """
    if isinstance(value, dict):
        return {str(key): plain(each, digits) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), digits)
    if isinstance(value, list | tuple):
        return [plain(each, digits) for each in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else float(f"{value:.{digits}g}")
    return value
