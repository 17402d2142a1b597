"""The columns that a next key may ask for, made in a thread while no key is pressed.

To estimate the densities of 32 columns takes 20 ms on one core; numpy leaves the interpreter to the screen meanwhile.
"""

import threading
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Columns, Look, head_columns, layer_columns
from laminar_tui.ui import state as states
from laminar_tui.ui.state import State

PAUSE = 0.1
"""Seconds without a key after which the next one is prepared for."""
MOST_KEPT = 10
"""Of 32 heads, one takes 6 MB."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What stands side by side in a picture: the layers of a profile, or the heads of one layer.

    Attributes:
        layer: whose heads; None for the layers.
        heads: their order; None for that of their numbers.
    """

    profile: Profile
    look: Look
    layer: int | None = None
    heads: tuple[int, ...] | None = None

    @property
    def key(self) -> Hashable:
        """All that the densities of its columns depend on."""
        look = self.look
        return (self.profile, look.population, look.sink, look.estimator, self.layer, self.heads)

    def columns(self) -> Columns:
        """Make the columns."""
        if self.layer is None:
            return layer_columns(self.profile, self.look)
        return head_columns(self.profile, self.look, self.layer, self.heads)


def subject_of(state: State) -> Subject | None:
    """What a state's view shows; None without a profile."""
    if state.profile is None:
        return None
    if state.view in ("overview", "lines") or not state.has_layer:
        return Subject(state.profile, state.look)
    return Subject(state.profile, state.look, state.layer_index, tuple(state.heads))


def likely_next(state: State) -> list[State]:
    """The states to which the next key leads that needs other densities, the most likely ones first."""
    if not state.has_layer:
        return []
    if state.view in ("overview", "lines"):
        near = [replace(state, view="layer")]
    else:
        near = [states.move_layer(state, 1), states.move_layer(state, -1), replace(state, view="overview")]
    looks = [states.next_population(state), states.next_sink(state), states.switch_axis(state)]
    return [*near, *looks, states.next_population(state, -1)]


class ColumnsAhead:
    """Keeps the columns that were asked for last, and makes those that may be asked for next.

    Args:
        most_kept: how many of them.
    """

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        self._most_kept = most_kept
        self._kept: dict[Hashable, Columns] = {}
        self._asked = 0

    def columns(self, subject: Subject) -> Columns:
        """The columns of a picture, made now if they are not there yet."""
        found = self._kept.get(subject.key)
        if found is None:
            found = subject.columns()
        self._keep(subject.key, found)
        return found.seen_with(subject.look)

    def has(self, subject: Subject) -> bool:
        """Whether the columns of a picture are there."""
        return subject.key in self._kept

    def prepare(self, wanted: Iterable[Subject | None]) -> None:
        """Make the columns of some pictures in a thread, until others are wanted."""
        self._asked += 1
        subjects = [subject for subject in wanted if subject is not None]
        missing = [subject for subject in subjects if not self.has(subject)]
        for subject in reversed(subjects):  # those that are there are not to be forgotten for the missing ones
            if (found := self._kept.get(subject.key)) is not None:
                self._keep(subject.key, found)
        if missing:
            threading.Thread(target=self._make, args=(missing, self._asked), name="columns ahead", daemon=True).start()

    def _make(self, wanted: list[Subject], asked: int) -> None:
        for subject in wanted:
            columns = subject.columns()
            columns.nodes  # noqa: B018 - the densities, which take the time
            if asked != self._asked:
                return
            self._keep(subject.key, columns)

    def _keep(self, key: Hashable, columns: Columns) -> None:
        """Keep some columns as the latest, and forget the oldest."""
        self._kept.pop(key, None)
        self._kept[key] = columns
        for old in list(self._kept)[: -self._most_kept]:
            self._kept.pop(old, None)
