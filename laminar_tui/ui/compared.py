"""Two profiles that are compared: which layers or heads stand side by side, and where those of the explorer's are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laminar_tui.profile.pairs import Matching, match_heads, match_layers
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.statistics import STATISTICS
from laminar_tui.render.columns import Look
from laminar_tui.ui.ahead import Subject

STATISTICS_SHOWN = ("entropy", "effective_tokens", "sink_share", "previous_token", "gini", "distance", "rest.entropy")
"""The statistics of the table; those made from the counts come before them."""


@dataclass(frozen=True)
class Compared:
    """What is compared.

    Attributes:
        own: the explorer's profile, B until it is swapped.
        reference: what it is compared with; None while that is drawn, or where nothing could be.
        is_swapped: the explorer's profile is A.
        inside: the column of layers whose heads stand side by side; None for the layers.
    """

    own: Profile
    reference: Profile | None
    is_swapped: bool = False
    inside: int | None = None

    @property
    def sides(self) -> tuple[Profile, Profile]:
        """A and B; both the explorer's profile while there is nothing to compare it with."""
        reference = self.reference or self.own
        return (self.own, reference) if self.is_swapped else (reference, self.own)

    @property
    def layers(self) -> Matching:
        """The layers that belong together."""
        return match_layers(*self.sides)

    def matching(self) -> Matching:
        """What stands side by side.

        Raises:
            LaminarError: if the heads of these layers cannot be compared.
        """
        layers = self.layers
        if self.inside is None:
            return layers
        return match_heads(*self.sides, int(layers.a[self.inside]), int(layers.b[self.inside]))

    def own_layer(self, column: int) -> int:
        """The layer of the explorer's profile in a column of layers."""
        return int(self._own_layers()[column])

    def column_of(self, layer: int) -> int:
        """The first column in which a layer of the explorer's profile stands."""
        return int(np.argmax(self._own_layers() == layer))

    def _own_layers(self) -> NDArray[np.int64]:
        return self.layers.a if self.is_swapped else self.layers.b

    def subjects(self, look: Look) -> list[Subject]:
        """What stands side by side in a look; of a column whose heads cannot be, nothing."""
        a, b = self.sides
        if self.inside is None:
            return [Subject(a, look), Subject(b, look)]
        layers = self.layers
        sides = [Subject(a, look, int(layers.a[self.inside])), Subject(b, look, int(layers.b[self.inside]))]
        read = [each.profile.layers[each.layer or 0] for each in sides]
        n_heads = {layer.n_heads if layer else None for layer in read}
        return sides if None not in n_heads and len(n_heads) == 1 else []

    def statistics(self, column: int) -> list[tuple[str, float, float, bool]]:
        """The statistics of a column: of its head, or the mean over the heads of its layer.

        Returns:
            Title, A, B, and whether it is a share; without those that one side has not.
        """
        a, b = self.sides
        layers, at = self.layers, column if self.inside is None else self.inside
        head = None if self.inside is None else column
        found = []
        for name in STATISTICS_SHOWN:
            one, other = _statistic(a, int(layers.a[at]), head, name), _statistic(b, int(layers.b[at]), head, name)
            if np.isfinite([one, other]).all():
                found.append((STATISTICS[name].title, one, other, STATISTICS[name].is_share))
        return found


def _statistic(profile: Profile, layer: int, head: int | None, name: str) -> float:
    read = profile.layers[layer]
    if read is None or name not in read.statistics:
        return float("nan")
    return read.mean_statistic(name) if head is None else float(read.statistics[name][head])
