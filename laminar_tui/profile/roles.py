"""What a head does, in six words, each with a score and the score that chance explains.

The scores are measured on random tokens that repeat (`model.roles`): nothing but the repetition and the positions can
be attended to, so what a head puts on one fixed place is its own doing.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NEAR = 8
"""How many of the nearest keys are `local`, the query's own included."""


@dataclass(frozen=True)
class Role:
    """Something a head can do.

    Attributes:
        name: as in `Roles.scores` and in a file.
        title: as on the screen.
        description: one sentence with the formula.
        threshold: what the score has to exceed; None where it is measured on the model (`Roles.thresholds`).
    """

    name: str
    title: str
    description: str
    threshold: float | None = None


ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role("previous_token", "previous token", "Looks at the token before: mean A[q, q-1] in the repetition."),
        Role(
            "induction",
            "induction",
            "Looks at what followed the last time: mean A[q, q-P+1] in the repetition of P random tokens.",
        ),
        Role(
            "duplicate_token",
            "duplicate token",
            "Looks at the same token of the last time: mean A[q, q-P] in the repetition of P random tokens.",
        ),
        Role("sink", "sink", "Rests on the first token: the mean weight on key 0 is above 0.3.", 0.3),
        Role(
            "local",
            "local",
            f"Looks near by: over half of the weight on the {NEAR} nearest keys, itself included, key 0 not.",
            0.5,
        ),
        Role("diffuse", "diffuse", "Looks everywhere: exp(entropy) is over half of the number of keys it sees.", 0.5),
    )
}


@dataclass(frozen=True)
class RankedHead:
    """A head's place in the order of a score, 1 for the highest."""

    rank: int
    layer: int
    head: int
    score: float


@dataclass(frozen=True, eq=False)
class Roles:
    """The scores of all heads.

    Attributes:
        scores: name in `ROLES` -> float64 [n_layers, n_heads], 0 to 1; NaN where there is no such head.
        thresholds: name -> the score that chance explains: for the three places of a repetition the highest that any
            head reaches at a wrong place, for the others the convention in `ROLES`.
        period: P, how many random tokens are repeated.
        n_sequences: how many such sequences the scores are the mean over.
        seed: of the random tokens.
    """

    scores: dict[str, NDArray[np.float64]]
    thresholds: dict[str, float] = field(default_factory=dict)
    period: int = 0
    n_sequences: int = 0
    seed: int = 0

    def ranking(self, name: str) -> list[RankedHead]:
        """Order all heads by a score, the highest first."""
        scores = self.scores[name]
        order = [at for at in np.argsort(-scores, axis=None, kind="stable") if np.isfinite(scores.flat[at])]
        places = [divmod(int(at), scores.shape[1]) for at in order]
        return [
            RankedHead(place + 1, layer, head, float(scores[layer, head])) for place, (layer, head) in enumerate(places)
        ]

    def rank(self, name: str, layer: int, head: int) -> int:
        """A head's place in the order of a score, 1 for the highest; equal scores share a place."""
        return 1 + int((self.scores[name] > self.scores[name][layer, head]).sum())

    def has(self, name: str) -> NDArray[np.bool_]:
        """Say which heads have a role, bool [n_layers, n_heads]: those above its threshold."""
        return self.scores[name] > self.thresholds.get(name, np.nan)

    def of(self, layer: int, head: int) -> list[str]:
        """Name the roles of a head, the farthest above its threshold first."""
        names = [name for name in self.scores if self.has(name)[layer, head]]
        return sorted(names, key=lambda name: self.thresholds[name] - self.scores[name][layer, head])
