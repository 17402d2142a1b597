"""Profiles of several prompts added up: counts add, numbers become means, and not a bit depends on the order.

Floating-point sums depend on the order of their terms. Here everything is added as integers, the moments and numbers as
fixed-point ones, so that a run in one process, in several, or gone on with after an interruption gives the same bytes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.bootstrap import GROUPED_PARTS, N_GROUPS, N_SLICES, Groups, group_of, slice_counts
from laminar_tui.profile.counts import N_BINS, PackedCounts
from laminar_tui.profile.parts import PARTS
from laminar_tui.profile.profile import Check, LayerProfile, Origin, Profile
from laminar_tui.profile.spread import Spread, prompt_numbers

Integers = NDArray[np.int64]

# -- numbers whose sum does not depend on the order -------------------------------------------------------------------

DIGIT_EXPONENTS = tuple(range(192, -97, -32))
"""A number is cut into digits of 2^192, 2^160 ... 2^-96. A float64 above 2^-43 is kept to its last bit, a smaller one
to 2^-96 (1e-29); digits of 32 bits in integers of 64 take 2^31 additions. The large ones are for squares of numbers
like 1 / sum p^2, which has no bound in a model whose rows sum to less than 1."""

LARGEST = 2.0**220
"""What is larger (1e66) is taken for this; a number of a head, which is squared, for its root."""

SHARE_SCALE = 2.0**40
"""Key shares are float32 in [0, 1] and many: one integer each, in units of 2^-40 (1e-12)."""


def cut_digits(values: NDArray[np.float64]) -> Integers:
    """Cut numbers into digits that add: [...] -> [n_digits, ...]; every step is exact but the last rounding."""
    rest = np.clip(values, -LARGEST, LARGEST)
    digits = []
    for exponent in DIGIT_EXPONENTS:
        digit = np.trunc(np.ldexp(rest, -exponent))
        rest = rest - np.ldexp(digit, exponent)
        digits.append(digit.astype(np.int64))
    return np.stack(digits)


def join_digits(digits: Integers) -> NDArray[np.float64]:
    """Make the numbers again, [n_digits, ...] -> [...]: the smallest digits first; one number stays itself."""
    total = np.zeros(digits.shape[1:])
    for exponent, digit in zip(reversed(DIGIT_EXPONENTS), reversed(digits), strict=True):
        total = total + np.ldexp(digit.astype(np.float64), exponent)
    return total


# -- one layer --------------------------------------------------------------------------------------------------------

UNEQUAL = -1
"""In place of the prompts' length where they have several."""


class LayerSums:
    """What was read from one layer on several prompts, as sums of integers.

    Args:
        n_heads: of the layer.
        names: of the numbers that are averaged over the prompts.

    Attributes:
        zeros: int64 [n_parts, n_heads].
        moments: int64 [n_digits, total and total_sq, n_parts, n_heads].
        n: int64 [n_names, n_heads + 1], how many prompts define a number; the layer is the last row.
        numbers: int64 [n_digits, sum and sum of squares, n_names, n_heads + 1].
        length: the prompts' length; 0 while there is none, UNEQUAL where they have several.
        shares: int64 [n_heads, length], of the keys; [n_heads, 0] without a common length.
        groups: int64 [n_heads, N_GROUPS, n_grouped_parts, N_SLICES], coarse counts by groups of prompts.
    """

    def __init__(self, n_heads: int, names: Sequence[str], length: int = 0) -> None:
        self.n_heads = n_heads
        self.names = tuple(names)
        self.length = length
        self._keys = self._hits = np.zeros(0, np.int64)
        self._pending: list[tuple[Integers, Integers]] = []
        self._n_pending = 0
        self.zeros: Integers = np.zeros((len(PARTS), n_heads), np.int64)
        self.moments: Integers = np.zeros((len(DIGIT_EXPONENTS), 2, len(PARTS), n_heads), np.int64)
        self.n: Integers = np.zeros((len(names), n_heads + 1), np.int64)
        self.numbers: Integers = np.zeros((len(DIGIT_EXPONENTS), 2, len(names), n_heads + 1), np.int64)
        self.shares: Integers = np.zeros((n_heads, max(0, length)), np.int64)
        self.groups: Integers = np.zeros((n_heads, N_GROUPS, len(GROUPED_PARTS), N_SLICES), np.int64)

    @classmethod
    def like(cls, layer: LayerProfile) -> "LayerSums":
        """Make sums of nothing for layers of this kind."""
        names = layer.spread.names if layer.spread else tuple(prompt_numbers(layer.parts, layer.statistics))
        return cls(layer.n_heads, names)

    # -- adding --

    def add(self, layer: LayerProfile, group: int = 0) -> None:
        """Add a layer of one prompt, or of several that were added up before.

        Args:
            layer: the layer.
            group: that of the prompt; not looked at where the layer has groups already.

        Raises:
            UsageError: if it has other heads or numbers.
        """
        if layer.n_heads != self.n_heads:
            raise UsageError(
                f"a layer of {layer.n_heads} heads cannot be added to one of {self.n_heads}",
                "only profiles of one model can be added up",
            )
        n, sums = _number_sums(layer, self.names)
        self.n += n
        self.numbers += cut_digits(sums)
        for index, part in enumerate(PARTS):
            packed = layer.parts[part]
            heads = np.repeat(np.arange(self.n_heads), np.diff(packed.starts))
            self.add_hits((index * self.n_heads + heads) * N_BINS + packed.bins, packed.hits.astype(np.int64))
            self.zeros[index] += packed.zeros
            self.moments[:, :, index] += cut_digits(np.stack([packed.total, packed.total_sq]))
        self._add_shares(layer, int(n.max(initial=1)) if layer.spread else 1)
        if layer.groups is None:
            self.groups[:, group] += slice_counts(layer.parts)
        else:
            self.groups += layer.groups.counts.astype(np.int64)

    def add_hits(self, keys: Integers, hits: Integers) -> None:
        """Add hits by (part, head, bin), as one number; they are sorted in when they are as many as those before."""
        self._pending.append((keys, hits))
        self._n_pending += len(keys)
        if self._n_pending > max(2**16, len(self._keys)):
            self.settle_hits()

    def settle_hits(self) -> tuple[Integers, Integers]:
        """Give all hits so far: keys ascending, each once."""
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._pending)])
        hits = np.concatenate([self._hits, *(hits for _, hits in self._pending)])
        if self._pending and len(keys):
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            firsts = np.flatnonzero(np.diff(keys, prepend=-1))
            self._keys, self._hits = keys[firsts], np.add.reduceat(hits[order], firsts)
        self._pending, self._n_pending = [], 0
        return self._keys, self._hits

    def _add_shares(self, layer: LayerProfile, n_prompts: int) -> None:
        length = UNEQUAL if layer.key_shares is None else layer.key_shares.shape[1]
        if self.length not in (0, length):
            length = UNEQUAL
        if length == UNEQUAL:
            self.shares = np.zeros((self.n_heads, 0), np.int64)
        elif layer.key_shares is not None:
            units = np.rint(layer.key_shares.astype(np.float64) * SHARE_SCALE).astype(np.int64) * n_prompts
            self.shares = units if self.length == 0 else self.shares + units
        self.length = length

    # -- as arrays, to be kept in a file or added up over processes --

    def arrays(self) -> dict[str, Integers]:
        """Everything but the hits, by name."""
        return {name: getattr(self, name) for name in ("zeros", "moments", "n", "numbers", "shares", "groups")}

    def set_arrays(self, arrays: dict[str, Integers]) -> None:
        """Take everything but the hits.

        Raises:
            ValueError: if an array has another shape or is not of 64-bit integers.
        """
        for name, old in self.arrays().items():
            if arrays[name].shape != old.shape or arrays[name].dtype != np.int64:
                raise ValueError(f"{name} does not fit")
            setattr(self, name, arrays[name])

    # -- the result --

    def layer(self, n_prompts: int) -> LayerProfile:
        """Make the layer's profile; each number is the mean over the prompts that define it."""
        with np.errstate(invalid="ignore", divide="ignore"):
            total, total_sq = join_digits(self.numbers)
            mean = np.where(self.n > 0, total / self.n, np.nan)
            variance = np.maximum(total_sq - self.n * mean**2, 0) / (self.n - 1)
            std = np.where(self.n > 1, np.sqrt(variance), np.nan)
        spread = Spread(self.names, self.n.copy(), mean, std)
        statistics = {name: mean[index, :-1].copy() for index, name in enumerate(self.names) if _is_statistic(name)}
        shares = (self.shares / (SHARE_SCALE * n_prompts)).astype(np.float32) if self.length > 0 else None
        groups = Groups(self.groups.copy())
        return LayerProfile(self._parts(), statistics, key_shares=shares, spread=spread, groups=groups)

    def _parts(self) -> dict[str, PackedCounts]:
        keys, hits = self.settle_hits()
        total, total_sq = join_digits(self.moments)
        parts = {}
        for index, part in enumerate(PARTS):
            first, last = np.searchsorted(keys, np.array([index, index + 1]) * self.n_heads * N_BINS)
            heads, bins = np.divmod(keys[first:last] - index * self.n_heads * N_BINS, N_BINS)
            found = hits[first:last]
            parts[part] = PackedCounts(
                np.searchsorted(heads, np.arange(self.n_heads + 1)).astype(np.int64),
                bins.astype(np.uint16),
                found.astype(np.uint32 if found.max(initial=0) < 2**32 else np.uint64),
                self.zeros[index].copy(),
                total[index],
                total_sq[index],
            )
        return parts


def _is_statistic(name: str) -> bool:
    """Whether a number is one of `statistics`: the shares of a population have two dots in their names."""
    return name.count(".") < 2


def _number_sums(layer: LayerProfile, names: tuple[str, ...]) -> tuple[Integers, NDArray[np.float64]]:
    """How many prompts of a layer define each number, and the sum over them of it and of its square.

    Returns:
        [n_names, n_heads + 1] and [2, n_names, n_heads + 1].
    """
    if layer.spread is not None:
        if layer.spread.names != names:
            raise _other_numbers()
        n, mean, std = layer.spread.n, layer.spread.mean, layer.spread.std
        mean, squares = np.where(n > 0, mean, 0.0), np.where(n > 1, std, 0.0) ** 2
        return n, np.stack([mean * n, squares * np.maximum(n - 1, 0) + n * mean**2])
    numbers = prompt_numbers(layer.parts, layer.statistics)
    if tuple(numbers) != names:
        raise _other_numbers()
    values = np.stack(list(numbers.values()))
    defined = np.isfinite(values)
    values = np.clip(np.where(defined, values, 0.0), -(LARGEST**0.5), LARGEST**0.5)
    return defined.astype(np.int64), np.stack([values, values**2])


def _other_numbers() -> UsageError:
    return UsageError("the profiles hold different numbers of a head", "capture them again with one version")


def merge_layers(layers: Sequence[LayerProfile]) -> LayerProfile:
    """Add up what was read from one layer on several prompts: counts add, each number is the mean over the prompts."""
    if len(layers) == 1:
        return layers[0]
    sums = LayerSums.like(layers[0])
    for number, layer in enumerate(layers):
        sums.add(layer, number % N_GROUPS)
    return sums.layer(len(layers))


# -- whole profiles ---------------------------------------------------------------------------------------------------


class ProfileSums:
    """Profiles of one model added up.

    Attributes:
        origin: that of the first one; None while there is none.
        layers: one a layer; None without attention.
        n_prompts, n_tokens: of all prompts.
        lengths: tokens -> how many prompts have so many, as far as the profiles tell.
        mechanisms: how the weights were read, each once.
        checks: name -> how many prompts passed, how many did not, and the number of the first that did not, with what
            was found there.
    """

    def __init__(self) -> None:
        self.origin: Origin | None = None
        self.layers: list[LayerSums | None] = []
        self.n_prompts = 0
        self.n_tokens = 0
        self.lengths: Counter[int] = Counter()
        self.seconds = 0.0
        self.mechanisms: set[str] = set()
        self.checks: dict[str, list[Any]] = {}

    def add(self, profile: Profile, number: int | None = None) -> None:
        """Add a profile; `number` is the prompt's, for its group and for what a failed check says.

        Raises:
            UsageError: if it is that of another model or recipe.
        """
        origin = profile.origin
        if self.origin is None:
            self.origin = origin
            self.layers = [None if layer is None else LayerSums.like(layer) for layer in profile.layers]
        self._check_same(profile)
        group = group_of(origin.token_ids, number)
        for sums, layer in zip(self.layers, profile.layers, strict=True):
            if sums is not None and layer is not None:
                sums.add(layer, group)
        for check in origin.checks:
            here = self.n_prompts if number is None else number
            passed = (origin.n_prompts, 0, -1, "") if check.passed else (0, origin.n_prompts, here, check.found)
            self.add_check(check.name, *passed)
        self.n_prompts += origin.n_prompts
        self.n_tokens += profile.total_tokens
        self.lengths.update(profile.lengths)
        self.seconds += origin.seconds
        self.mechanisms |= set(origin.mechanism.split(MECHANISM_SEPARATOR))

    def profile(self, corpus: str = "") -> Profile:
        """Make the profile of everything that was added.

        Raises:
            UsageError: if it was nothing.
        """
        if self.origin is None:
            raise UsageError("there is nothing to add up", "give at least one prompt")
        lengths = {sums.length for sums in self.layers if sums is not None}
        origin = replace(
            self.origin,
            tokens=(),
            token_ids=(),
            n_prompts=self.n_prompts,
            n_tokens=self.n_tokens,
            prompt_length=max(0, min(lengths, default=0)),
            lengths=tuple(sorted(self.lengths.items())) if self.lengths.total() == self.n_prompts else (),
            corpus=corpus,
            seconds=self.seconds,
            mechanism=MECHANISM_SEPARATOR.join(sorted(self.mechanisms)),
            checks=tuple(_sum_up(name, *found) for name, found in self.checks.items()),
        )
        layers = (None if sums is None else sums.layer(self.n_prompts) for sums in self.layers)
        return Profile(origin, tuple(layers))

    def add_check(self, name: str, n_passed: int, n_failed: int, number: int, found: str) -> None:
        """Add what a check found in some prompts; the number is that of the first in which it failed, or -1."""
        before = self.checks.setdefault(name, [0, 0, -1, ""])
        before[0] += n_passed
        before[1] += n_failed
        if n_failed and not 0 <= before[2] <= number:
            before[2:] = number, found

    def _check_same(self, profile: Profile) -> None:
        assert self.origin is not None
        for what in ("model", "revision", "architecture", "recipe", "dtype"):
            ours, theirs = getattr(self.origin, what), getattr(profile.origin, what)
            if ours != theirs:
                raise UsageError(
                    f"profiles of different {what}s cannot be added up: '{ours}' and '{theirs}'",
                    "only profiles of one model, read in one way, can be added up",
                )
        ours_heads = [0 if sums is None else sums.n_heads for sums in self.layers]
        if ours_heads != [0 if layer is None else layer.n_heads for layer in profile.layers]:
            raise UsageError(
                "profiles of different layers or heads cannot be added up", "see that each of them is complete"
            )


MECHANISM_SEPARATOR = " + "


def _sum_up(name: str, n_passed: int, n_failed: int, number: int, found: str) -> Check:
    n = n_passed + n_failed
    if n_failed:
        return Check(name, False, f"not in {n_failed:,} of {n:,} prompts; in prompt {number:,}: {found}")
    return Check(name, True, f"in each of {n:,} prompts" if n > 1 else "in the one prompt")


def merge(profiles: Iterable[Profile]) -> Profile:
    """Add up profiles of one model on several prompts: counts add, each number is the mean over the prompts.

    Raises:
        UsageError: if there are none, or they are not of one model, read in one way.
    """
    sums = ProfileSums()
    for profile in profiles:
        sums.add(profile)
    return sums.profile()
