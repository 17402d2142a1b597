"""What is typed after `/`: a layer, a head, a weight, or a token's text; and the state that it leads to."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from laminar_tui.render.entries import exact
from laminar_tui.render.text import visible
from laminar_tui.ui import state as states
from laminar_tui.ui.scene import Scene
from laminar_tui.ui.state import State

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


def go_to(state: State, target: Target) -> State | str:
    """The state at a place, or why there is no such place."""
    problem = states.problem_with_place(state, target.layer, target.head)
    if problem:
        return problem
    if target.layer is not None or target.head is not None:
        layer = state.layer_index if target.layer is None else target.layer
        state = states.go_to_place(state, layer, target.head)
    if target.weight is not None:
        state = state if state.is_picture else replace(state, view="overview")
        state = states.go_to_weight(state, target.weight)
    return state


class Finder:
    """The tokens that were searched for last, and at which of them one is."""

    def __init__(self) -> None:
        self._text = ""
        self._tokens: tuple[str, ...] = ()
        self._found: tuple[int, ...] = ()
        self._at = 0

    def search(self, state: State, text: str) -> bool:
        """Look for a text in the prompt; whether it is there."""
        self._text, self._at = text, 0
        self._tokens = state.profile.origin.tokens if state.profile else ()
        self._found = tuple(find_tokens(self._tokens, text))
        return bool(self._found)

    def step(self, state: State, step: int, *, is_last_only: bool) -> State | str:
        """The state at the next token that was found, or the one before; or why there is none.

        Args:
            step: 1 or -1; 0 for the first one.
            is_last_only: only the last query can be looked at, so that a token is shown as its key.
        """
        if not self._text:
            return "nothing was searched for yet: / and a token's text"
        if state.profile is not None and state.profile.origin.tokens != self._tokens:  # another prompt has come
            self.search(state, self._text)
        if not self._found:
            return f"no token has the text {visible(self._text)!r}"
        if not state.has_layer:
            return "this layer holds no attention weights: choose another one first"
        self._at = (self._at + step) % len(self._found) if step else 0
        token = self._found[self._at]
        if state.view == "map":
            query = token if token > state.query_index else state.query
            return states.settle(replace(state, query=query, key=token))
        if is_last_only:
            return states.settle(replace(state, view="head", key=token))
        return states.settle(replace(state, view="head", query=token, key=token))

    def found_text(self, scene: Scene) -> str:
        """Which of the found tokens this is; where its query cannot be looked at, what it gets from the last one."""
        state, token, n = scene.state, self._found[self._at], len(self._found)
        said = f"token {token} {scene.token(token)}, {self._at + 1} of {n}"
        if state.view == "head" and scene.is_last_only and scene.weights is not None:
            said += f": gets {exact(float(scene.weights[token]))} from the final token"
        return said + ("  (n next, N previous)" if n > 1 else "")
