"""Weights on the device -> counts: one layer's weights come in as chunks of query rows and are dropped again.

What the mask hides is subtracted by number, never by looking for zeros: a weight that underflowed is a weight.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.profile.counts import N_BINS, Counts, PackedCounts
from laminar_tui.profile.parts import PARTS
from laminar_tui.profile.profile import LayerProfile
from laminar_tui.profile.statistics import REST_AT_LEAST, STATISTICS, UNDERFLOW, gini_queries


class _Sums:
    """How many weights of a part there are, and their moments, on the device, [n_heads] each."""

    def __init__(self, n_heads: int, device: torch.device) -> None:
        self.zeros = torch.zeros(n_heads, dtype=torch.int64, device=device)
        self.total = torch.zeros(n_heads, dtype=torch.float64, device=device)
        self.total_sq = torch.zeros(n_heads, dtype=torch.float64, device=device)

    def add(self, weights: torch.Tensor, n_hidden: torch.Tensor, sign: int = 1) -> None:
        """Add weights [n_heads, n] of which `n_hidden` [n_heads] are zeros that stand for nothing."""
        self.zeros += sign * ((weights == 0).sum(dim=1) - n_hidden)
        self.total += sign * weights.sum(dim=1, dtype=torch.float64)
        self.total_sq += sign * weights.square().sum(dim=1, dtype=torch.float64)

    def moments(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Bring them to the host; what was moved to another part leaves rounding errors, never below 0."""
        return _numpy(self.zeros), _numpy(self.total.clamp(min=0)), _numpy(self.total_sq.clamp(min=0))


class _FewWeights:
    """A part with at most one weight a query: its float16 patterns are kept until the end, -1 for none."""

    def __init__(self, n_heads: int, device: torch.device) -> None:
        self.sums = _Sums(n_heads, device)
        self._patterns: list[torch.Tensor] = [torch.zeros(n_heads, 0, dtype=torch.int16, device=device)]

    def add(self, weights: torch.Tensor, chosen: torch.Tensor) -> None:
        """Add the chosen of some weights [n_heads, n]."""
        self.sums.add(torch.where(chosen, weights, 0.0), (~chosen).sum(dim=1))
        self._patterns.append(torch.where(chosen, bit_patterns(weights), -1))

    def patterns(self) -> NDArray[np.int16]:
        """All of them, int16 [n_heads, n]."""
        return _numpy(torch.cat(self._patterns, dim=1))


def bit_patterns(weights: torch.Tensor) -> torch.Tensor:
    """The bit patterns of the weights as float16: the bins, int16."""
    return weights.to(torch.float16).view(torch.int16)


def _count_few(patterns: NDArray[np.int16]) -> NDArray[np.int64]:
    """Count [n_heads, n] patterns, -1 standing for none: int64 [n_entries, 3] of head, bin and hits."""
    heads, places = np.nonzero(patterns >= 0)
    keys, hits = np.unique(heads * N_BINS + patterns[heads, places], return_counts=True)
    return np.stack([keys // N_BINS, keys % N_BINS, hits], axis=1)


def _pack_few(part: _FewWeights) -> PackedCounts:
    entries = _count_few(part.patterns())
    n_heads = len(part.sums.total)
    return PackedCounts(
        np.searchsorted(entries[:, 0], np.arange(n_heads + 1)).astype(np.int64),
        entries[:, 1].astype(np.uint16),
        entries[:, 2].astype(np.uint32),
        *part.sums.moments(),
    )


def _numpy(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.cpu().numpy()


@dataclass
class Rows:
    """What is needed of some query rows once their weights are gone, [n_heads, rows] each.

    Sums are over the keys k >= 1 and the sink's term is added after, so that what is left without the sink is no
    difference of two numbers near 1.

    Attributes:
        queries: int64 [rows], their positions.
        n_seen: int64 [1 or n_heads, rows], how many keys each sees.
        sees_first, sees_itself: bool [1 or n_heads, rows].
        first, itself, previous: float32, the weights on key 0, on key q and on key q - 1.
        total, squares, entropy, position: float64, the sums of p, p^2, -p ln p and p k.
    """

    queries: torch.Tensor
    n_seen: torch.Tensor
    sees_first: torch.Tensor
    sees_itself: torch.Tensor
    first: torch.Tensor
    itself: torch.Tensor
    previous: torch.Tensor
    total: torch.Tensor
    squares: torch.Tensor
    entropy: torch.Tensor
    position: torch.Tensor


def measure_rows(weights: torch.Tensor, allowed: torch.Tensor, queries: torch.Tensor) -> Rows:
    """Measure query rows: float32 [n_heads, rows, n_tokens] under bool [1 or n_heads, rows, n_tokens]."""
    rows = queries - queries[0]
    keys = torch.arange(weights.shape[2], device=weights.device, dtype=torch.float32)
    others = weights[:, :, 1:]
    return Rows(
        queries,
        n_seen=allowed.sum(dim=-1),
        sees_first=allowed[:, :, 0],
        sees_itself=allowed[:, rows, queries],
        first=weights[:, :, 0],
        itself=weights[:, rows, queries],
        previous=weights[:, rows, (queries - 1).clamp(min=0)],
        total=others.sum(dim=-1, dtype=torch.float64),
        squares=others.square().sum(dim=-1, dtype=torch.float64),
        entropy=torch.special.entr(others).sum(dim=-1, dtype=torch.float64),
        position=(others @ keys[1:]).double(),
    )


class LayerTally:
    """The counts and numbers of one layer and one sequence under way.

    Args:
        n_heads, n_tokens: sizes of the pattern `[n_heads, n_tokens, n_tokens]`.
        device: where the weights come from and the counts are made.
        off_sequence: whether rows may sum to less than 1 (sink logits).
        tolerance: how far row sums may be from 1 otherwise.

    Attributes:
        hits, zeros: int64 [n_heads, N_BINS] and [n_heads], all weights that were counted, whatever their part.
        received: float64 [n_heads, n_tokens], the sum of the weights that each key got.
        sorted_queries: int64, whose rows are to be sorted for the Gini coefficient.
        row_sum_error: how far a row's sum was from 1 at most.
    """

    def __init__(
        self,
        n_heads: int,
        n_tokens: int,
        device: torch.device,
        *,
        off_sequence: bool = False,
        tolerance: float = 1e-4,
    ) -> None:
        self.n_heads = n_heads
        self.n_tokens = n_tokens
        self._off_sequence = off_sequence
        self._tolerance = tolerance
        self._parts = {part: _FewWeights(n_heads, device) for part in PARTS if part != "content"}
        self._content = _Sums(n_heads, device)
        self.hits = torch.zeros(n_heads, N_BINS, dtype=torch.int64, device=device)
        self.zeros = torch.zeros(n_heads, dtype=torch.int64, device=device)
        self.received = torch.zeros(n_heads, n_tokens, dtype=torch.float64, device=device)
        self._numbers = {name: torch.zeros(n_heads, dtype=torch.float64, device=device) for name in STATISTICS}
        self._defined = {name: torch.zeros(n_heads, dtype=torch.int64, device=device) for name in STATISTICS}
        self._may_see = torch.zeros(n_tokens, dtype=torch.float64, device=device)
        self._final: torch.Tensor | None = None
        self.sorted_queries = torch.tensor(gini_queries(n_tokens), dtype=torch.int64, device=device)
        self.row_sum_error = 0.0

    def add(self, weights: torch.Tensor, allowed: torch.Tensor, first_query: int) -> None:
        """Take in some query rows.

        Args:
            weights: float32 [n_heads, rows, n_tokens].
            allowed: bool [1 or n_heads, rows, n_tokens], what the mask lets through.
            first_query: the position of the first row.

        Raises:
            UntrustedWeightsError: for weights that no softmax under this mask can give.
        """
        self._check(weights, allowed, first_query)
        queries = torch.arange(first_query, first_query + weights.shape[1], device=weights.device)
        n_hidden = (~allowed).sum(dim=(1, 2)).expand(self.n_heads)
        # bincount over int16 patterns is the fastest way on a CPU; heads one after another keep the tile in the cache.
        patterns = bit_patterns(weights).flatten(1)
        for head in range(self.n_heads):
            self.hits[head] += torch.bincount(patterns[head], minlength=N_BINS)
        self.hits[:, 0] -= n_hidden
        self.zeros += (weights == 0).sum(dim=(1, 2)) - n_hidden
        self.received += weights.sum(dim=1, dtype=torch.float64)
        chosen = torch.isin(queries, self.sorted_queries)
        if chosen.any():
            self.take_sorted(weights[:, chosen].sort(dim=-1).values, allowed[:, chosen], queries[chosen])
        if queries[-1] == self.n_tokens - 1:
            self.take_final(weights[:, -1], allowed[:, -1])
        self.take(measure_rows(weights, allowed, queries))

    def take(self, rows: Rows) -> None:
        """Take in what was measured of some rows whose weights are counted in `hits`, `zeros` and `received`."""
        later = rows.queries > 0
        keys = torch.arange(self.n_tokens, device=rows.queries.device)
        self._may_see += (keys[None, :] <= rows.queries[:, None]).sum(dim=0)
        self._content.total += rows.total.sum(dim=1) + rows.first.sum(dim=1, dtype=torch.float64)
        # Squares are those of float32 throughout: what is moved to another part is then taken away without a rest.
        self._content.total_sq += (rows.squares + rows.first.square().double()).sum(dim=1)
        self._move_from_content("origin", rows.itself, rows.sees_itself & ~later)
        self._move_from_content("self", rows.itself, rows.sees_itself & later)
        self._move_from_content("sink", rows.first, rows.sees_first & later)
        self._measure(rows)

    def finish(self) -> LayerProfile:
        """Give the layer's profile; every row must have been added."""
        means = {
            name: torch.where(self._defined[name] > 0, total / self._defined[name], torch.nan)
            for name, total in self._numbers.items()
        }
        shares = self.received / self._may_see.clamp(min=1)
        return LayerProfile(
            parts={part: self._pack_content() if part == "content" else _pack_few(self._parts[part]) for part in PARTS},
            statistics={name: _numpy(mean).astype(np.float64) for name, mean in means.items()},
            final_weights=None if self._final is None else _numpy(self._final).astype(np.float32),
            key_shares=_numpy(shares).astype(np.float32),
        )

    def _check(self, weights: torch.Tensor, allowed: torch.Tensor, first_query: int) -> None:
        if not torch.isfinite(weights.sum()):
            raise UntrustedWeightsError(
                "the model gave attention weights that are not finite",
                "its parameters may be damaged, or overflow in this dtype: try --dtype float32",
            )
        if weights.amin() < 0:
            raise UntrustedWeightsError(
                f"a layer gave a negative weight ({weights.amin().item():.3g})", "what it computes is no softmax"
            )
        future = torch.ones(weights.shape[1:], dtype=torch.bool, device=weights.device).triu(first_query + 1)
        if (allowed & future).any():
            raise UntrustedWeightsError(
                "the mask lets tokens attend to later ones", "this program reads causal attention only"
            )
        hidden = weights.masked_fill(allowed, 0.0).amax().item()
        if hidden > 0:
            raise UntrustedWeightsError(
                f"a key that the mask hides got the weight {hidden:.3g}", "the model does not use its mask as given"
            )
        sums = weights.sum(dim=-1)
        error = (sums - 1).amax().item() if self._off_sequence else (sums - 1).abs().amax().item()
        if error > self._tolerance:
            raise UntrustedWeightsError(
                f"a query's weights sum to {1 + (sums - 1).flatten()[(sums - 1).abs().argmax()].item():.4g}, not 1",
                "what this layer computes is no plain softmax",
            )
        self.row_sum_error = max(self.row_sum_error, error)

    def _move_from_content(self, part: str, entries: torch.Tensor, chosen: torch.Tensor) -> None:
        """Count the chosen of some entries [n_heads, rows] in a part of their own."""
        chosen = chosen.expand(self.n_heads, -1)
        self._parts[part].add(entries, chosen)
        self._content.add(torch.where(chosen, entries, 0.0), (~chosen).sum(dim=1), sign=-1)

    def take_final(self, row: torch.Tensor, allowed: torch.Tensor) -> None:
        """Take in the last query's weights [n_heads, n_tokens]."""
        self._final = row
        if self.n_tokens < 2:
            return
        allowed = allowed.expand(self.n_heads, -1)
        entries = {"final.self": slice(-1, None), "final.sink": slice(0, 1), "final.content": slice(1, -1)}
        for part, some in entries.items():
            self._parts[part].add(row[:, some], allowed[:, some])

    def _pack_content(self) -> PackedCounts:
        hits = _numpy(self.hits).copy()
        for part in ("origin", "self", "sink"):
            heads, bins, moved = _count_few(self._parts[part].patterns()).T
            hits[heads, bins] -= moved
        self._content.zeros += self.zeros
        return PackedCounts.pack(Counts(hits, *self._content.moments()))

    def _measure(self, rows: Rows) -> None:
        """Add up each query's numbers; the formulas stand in `profile.statistics`."""
        query = rows.queries.double()
        sink = rows.first.double()
        n_seen = rows.n_seen.expand(self.n_heads, -1)
        several = (n_seen >= 2) & (rows.queries > 0)
        later = (rows.queries > 0).expand(self.n_heads, -1)
        rest_distance = query * rows.total - rows.position
        total, squares = rows.total + sink, rows.squares + sink.square()
        entropy = rows.entropy + torch.special.entr(sink)
        n_safe = n_seen.clamp(min=2).double()
        self._average("entropy", entropy, several)
        self._average("entropy_share", entropy / n_safe.log(), several)
        self._average("effective_tokens", entropy.exp(), several)
        self._average("participation_ratio", 1 / squares, several)
        self._average("hoyer", (n_safe.sqrt() - total / squares.sqrt()) / (n_safe.sqrt() - 1), several)
        self._average("distance", rest_distance + sink * query, several)
        self._average("sink_share", sink, later)
        self._average("previous_token", rows.previous.double(), later)
        self._average("self", rows.itself.double(), later)
        self._average("off_sequence", 1 - total, later)
        self._measure_rest(rows, rest_distance, several)
        if rows.queries[-1] == self.n_tokens - 1:
            last = several[:, -1:]
            self._average("final.entropy", entropy[:, -1:], last)
            self._average("final.effective_tokens", entropy[:, -1:].exp(), last)
            self._average("final.sink_share", sink[:, -1:], last)

    def _measure_rest(self, rows: Rows, distance: torch.Tensor, several: torch.Tensor) -> None:
        """The numbers of the weights on the keys k >= 1, divided by their sum."""
        defined = several & (rows.total > REST_AT_LEAST)
        total = rows.total.clamp(min=REST_AT_LEAST)
        entropy = rows.entropy / total + total.log()
        self._average("rest.entropy", entropy, defined)
        self._average("rest.effective_tokens", entropy.exp(), defined)
        self._average("rest.participation_ratio", total.square() / rows.squares, defined)
        self._average("rest.distance", distance / total, defined)

    def take_sorted(self, ascending: torch.Tensor, allowed: torch.Tensor, queries: torch.Tensor) -> None:
        """Take in the sorted weights [n_heads, n, n_tokens] of the queries the Gini coefficient is made of.

        Hidden keys are zeros at the front of the ascending order, so with n the number of visible keys the rank counted
        from the end is the same with and without them.
        """
        from_end = torch.arange(ascending.shape[-1], 0, -1, device=ascending.device).double() - 0.5
        n_seen = allowed.sum(dim=-1).expand(self.n_heads, -1)
        exact = ascending.double()
        gini = 1 - 2 * (exact @ from_end) / (exact.sum(dim=-1) * n_seen.clamp(min=1))
        self._average("gini", gini, (n_seen >= 2) & (queries > 0))
        visible = from_end < n_seen[..., None]
        scores = torch.where(visible, exact.clamp(min=UNDERFLOW).log(), 0.0)
        spread = torch.where(visible, scores - (scores.sum(dim=-1) / n_seen.clamp(min=1))[..., None], 0.0)
        variance = spread.square().sum(dim=-1) / (n_seen - 1).clamp(min=1)
        self._average("score_variance", variance, (n_seen >= 2) & (queries > 0))

    def _average(self, name: str, values: torch.Tensor, defined: torch.Tensor) -> None:
        """Add up the values [n_heads, rows] where they are defined."""
        self._numbers[name] += torch.where(defined, values, 0.0).sum(dim=1)
        self._defined[name] += defined.sum(dim=1)
