"""What is typed after `/`: a layer, a head, a weight, or a token's text."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

_PLACE = re.compile(r"(?:[lL]?(\d{1,5}))?(?:(?:\.|\s*[hH])(\d{1,5}))?\s*(?:>=?\s*(\d*\.?\d+(?:e-?\d+)?))?")
_QUOTES = ("'", '"')


@dataclass(frozen=True)
class Target:
    """Where to go; what is None stays as it is.

    Attributes:
        layer, head: by number.
        weight: where the entries begin, from 0 to 1.
        text: of a token; empty for a place.
    """

    layer: int | None = None
    head: int | None = None
    weight: float | None = None
    text: str = ""


def parse_target(typed: str) -> Target | None:
    """Read `20`, `20.7`, `L20H7`, `H7`, `>0.6`, `18>.6`; all else is a token's text, as is what follows a quote.

    Returns:
        None for nothing, and for a weight above 1.
    """
    place = _PLACE.fullmatch(typed.strip())
    if place is not None and any(place.groups()):
        layer, head, weight = place.groups()
        if weight is not None and float(weight) > 1:
            return None
        return Target(
            None if layer is None else int(layer),
            None if head is None else int(head),
            None if weight is None else float(weight),
        )
    text = typed[1:] if typed.startswith(_QUOTES) else typed
    return Target(text=text) if text.strip() else None


def find_tokens(tokens: Sequence[str], text: str) -> list[int]:
    """The tokens in which a text begins, wherever tokens are cut; capitals count if the text has any."""
    whole = "".join(tokens)
    if text == text.lower():
        # Some capitals become two characters in lower case, which would move all that follows.
        whole = "".join(low if len(low := c.lower()) == 1 else c for c in whole)
    starts = [0, *accumulate(len(token) for token in tokens)]
    found = []
    at = whole.find(text)
    while at >= 0:
        found.append(bisect_right(starts, at) - 1)
        at = whole.find(text, at + 1)
    return sorted(set(found))
