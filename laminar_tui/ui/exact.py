"""Exact weights for what is on the screen: at once where a profile carries them, else asked of the last run."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from laminar_tui.errors import UsageError
from laminar_tui.profile.patterns import Entries, FinalWeights, Interruptible, PatternSource
from laminar_tui.profile.profile import Profile
from laminar_tui.render.entries import Asked
from laminar_tui.render.pattern import Rows
from laminar_tui.ui.runner import Runner
from laminar_tui.ui.state import State

T = TypeVar("T")

NO_ROWS = Rows(0, np.zeros((0, 0), np.float32))
LISTED = 1000
"""Entries that are listed at most; all of them are counted."""
MAX_WEIGHTS = 2**24
"""Weights of a head that are held at once: all of 4,096 tokens, of longer prompts the queries around the one in
sight."""
SEVERAL = "of several prompts no single weights are kept, so there is no map"
SAVED = "a saved profile holds the last query's weights only: r loads its model"


class ExactWeights:
    """Keeps the newest answers, and asks again when something else is on the screen.

    Args:
        runner: answers for the run it has made.
        show: called when an answer has come.
    """

    def __init__(self, runner: Runner, show: Callable[[], None]) -> None:
        self._runner = runner
        self._show = show
        self._run_of: Profile | None = None
        self._saved: FinalWeights | None = None
        self._saved_of: Profile | None = None
        self._entries: Entries | None = None
        self._entries_for: tuple[object, ...] = ()
        self._rows: Rows | None = None
        self._rows_for: tuple[object, ...] = ()
        self._run_again: dict[str, int] = {}  # kind of question -> the layer whose forward it waits for

    def is_of(self, profile: Profile | None) -> None:
        """Remember which profile the last run has made: of this one all queries can be looked at; None for none."""
        self._run_of = profile
        self._rows_for = self._entries_for = ()  # what was asked before may never be answered
        self._run_again.clear()

    def goes_on_as(self, old: Profile, new: Profile) -> None:
        """Take a profile for another one of the same run that holds more."""
        self.is_of(new if self._run_of is old else self._run_of)

    def has_all_queries(self, state: State) -> bool:
        """Whether more than the last query's weights can be had."""
        return state.profile is not None and state.profile is self._run_of and not self._runner.is_running

    def scope(self, state: State) -> str:
        """Which weights can be looked at, in words."""
        source = self._runner.patterns if self.has_all_queries(state) else None
        return (source or self._carried(state)).scope

    def reads_again(self, profile: Profile) -> bool:
        """Whether the model is run again for questions about some layers of the last run."""
        source, read = self._runner.patterns, [at for at, layer in enumerate(profile.layers) if layer is not None]
        return isinstance(source, Interruptible) and any(map(source.reads_again, read))

    @property
    def waits_for(self) -> str:
        """What the question that waits is answered by, where that is another forward; empty for none."""
        layers = sorted(set(self._run_again.values()))
        which = f"layer {layers[0]} is" if len(layers) == 1 else f"layers {', '.join(map(str, layers))} are"
        return f"{which} run again for exact weights" if layers else ""

    def _ask(self, kind: str, layer: int, question: Callable[[PatternSource], T], take: Callable[[T], None]) -> None:
        """Ask the last run; while it has to be run again for that, `waits_for` says so."""
        self._run_again.pop(kind, None)
        source = self._runner.patterns
        if isinstance(source, Interruptible) and source.reads_again(layer):
            self._run_again[kind] = layer

        def answered(answer: T) -> None:
            self._run_again.pop(kind, None)
            take(answer)

        self._runner.ask(kind, question, answered)

    def why_last_only(self, state: State) -> str:
        """Why other queries cannot be looked at."""
        if state.profile is not None and not state.has_tokens:
            return SEVERAL
        if self._runner.is_running:
            return "the model is running: other queries can be looked at when it has ended"
        return SAVED

    def entries(self, state: State, asked: Asked) -> Entries | None:
        """The entries behind a cell; None until they have come."""
        look = state.look
        head = state.head_index if state.view == "layer" else None
        is_live = look.population != "final" and self.has_all_queries(state)
        key = (state.profile, look.population, look.sink, state.layer_index, head, asked.low, asked.high, is_live)
        if key == self._entries_for:
            return self._entries
        self._entries, self._entries_for = None, key

        def question(source: PatternSource) -> Entries:
            return source.entries(
                state.layer_index,
                asked.low,
                asked.high,
                population=look.population,
                sink=look.sink,
                head=head,
                limit=LISTED,
            )

        def take(entries: Entries) -> None:
            if key == self._entries_for:
                self._entries = entries
                self._show()

        if is_live:
            self._ask("entries", state.layer_index, question, take)
        else:
            self._entries = self._at_once(state, question)
        return self._entries

    def _at_once(self, state: State, question: Callable[[PatternSource], Entries]) -> Entries | None:
        try:
            return question(self._carried(state))
        except UsageError:
            # The counts of several prompts: no single weights are kept.
            nowhere = np.zeros(0, np.int64)
            return Entries(nowhere, nowhere, nowhere, np.zeros(0, np.float32), 0, False)

    def rows(self, state: State) -> Rows | None:
        """The weights of the head under the cursor around the query in sight; None until they have come."""
        n_tokens, query = state.n_tokens, state.query_index
        height = max(1, min(n_tokens, MAX_WEIGHTS // max(1, n_tokens)))
        first = 0 if height == n_tokens else max(0, min(query - query % height, n_tokens - height))
        layer, head = state.layer_index, state.head_index
        is_live = self.has_all_queries(state) and (state.view == "map" or query < n_tokens - 1)
        key = (state.profile, layer, head, first, is_live)
        if key == self._rows_for:
            return self._rows
        self._rows, self._rows_for = None, key

        def take(rows: Rows) -> None:
            if key == self._rows_for:
                self._rows = rows
                self._show()

        if is_live:
            last = first + height
            self._ask("rows", layer, lambda source: Rows(first, source.rows(layer, head, first, last)), take)
        else:
            try:
                last_row = self._carried(state).rows(layer, head, n_tokens - 1, n_tokens)
                self._rows = Rows(n_tokens - 1, last_row)
            except UsageError:
                self._rows = NO_ROWS
        return self._rows

    def _carried(self, state: State) -> FinalWeights:
        """What the profile itself carries."""
        assert state.profile is not None
        if self._saved is None or self._saved_of is not state.profile:
            self._saved, self._saved_of = FinalWeights(state.profile), state.profile
        return self._saved
