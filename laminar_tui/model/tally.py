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
from laminar_tui.profile.statistics import REST_AT_LEAST, STATISTICS, gini_queries


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
        self._patterns.append(torch.where(chosen, _patterns(weights), -1))

    def patterns(self) -> NDArray[np.int16]:
        """All of them, int16 [n_heads, n]."""
        return _numpy(torch.cat(self._patterns, dim=1))


def _patterns(weights: torch.Tensor) -> torch.Tensor:
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
class _Moments:
    """Sums over some keys of each query's weights, float64 [n_heads, rows]."""

    total: torch.Tensor
    squares: torch.Tensor
    entropy: torch.Tensor
    distance: torch.Tensor


class LayerTally:
    """The counts and numbers of one layer and one sequence under way.

    Args:
        n_heads, n_tokens: sizes of the pattern `[n_heads, n_tokens, n_tokens]`.
        device: where the weights come from and the counts are made.
        off_sequence: whether rows may sum to less than 1 (sink logits).
        tolerance: how far row sums may be from 1 otherwise.
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
        self._hits = torch.zeros(n_heads, N_BINS, dtype=torch.int64, device=device)
        self._numbers = {name: torch.zeros(n_heads, dtype=torch.float64, device=device) for name in STATISTICS}
        self._defined = {name: torch.zeros(n_heads, dtype=torch.int64, device=device) for name in STATISTICS}
        self._received = torch.zeros(n_heads, n_tokens, dtype=torch.float64, device=device)
        self._may_see = torch.zeros(n_tokens, dtype=torch.float64, device=device)
        self._final: torch.Tensor | None = None
        self._gini_queries = torch.tensor(gini_queries(n_tokens), dtype=torch.int64, device=device)
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
        self._count(weights, allowed, queries)
        self._measure(weights, allowed, queries)

    def finish(self) -> LayerProfile:
        """Give the layer's profile; every row must have been added."""
        means = {
            name: torch.where(self._defined[name] > 0, total / self._defined[name], torch.nan)
            for name, total in self._numbers.items()
        }
        shares = self._received / self._may_see.clamp(min=1)
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

    def _count(self, weights: torch.Tensor, allowed: torch.Tensor, queries: torch.Tensor) -> None:
        """Count all as content, and the special entries in their own parts: they are taken away at the end."""
        rows = queries - queries[0]
        later = queries > 0
        # bincount over int16 patterns is the fastest way on a CPU; heads one after another keep the tile in the cache.
        patterns = _patterns(weights).flatten(1)
        for head in range(self.n_heads):
            self._hits[head] += torch.bincount(patterns[head], minlength=N_BINS)
        n_hidden = (~allowed).sum(dim=(1, 2)).expand(self.n_heads)
        self._hits[:, 0] -= n_hidden
        self._content.add(weights.flatten(1), n_hidden)
        diagonal, sees_itself = weights[:, rows, queries], allowed[:, rows, queries]
        self._move_from_content("origin", diagonal, sees_itself & ~later)
        self._move_from_content("self", diagonal, sees_itself & later)
        self._move_from_content("sink", weights[:, :, 0], allowed[:, :, 0] & later)
        if queries[-1] == self.n_tokens - 1:
            self._final = weights[:, -1]
            self._count_final(weights[:, -1], allowed[:, -1])

    def _move_from_content(self, part: str, entries: torch.Tensor, chosen: torch.Tensor) -> None:
        """Count the chosen of some entries [n_heads, rows] in a part of their own."""
        chosen = chosen.expand(self.n_heads, -1)
        self._parts[part].add(entries, chosen)
        self._content.add(torch.where(chosen, entries, 0.0), (~chosen).sum(dim=1), sign=-1)

    def _count_final(self, row: torch.Tensor, allowed: torch.Tensor) -> None:
        if self.n_tokens < 2:
            return
        allowed = allowed.expand(self.n_heads, -1)
        entries = {"final.self": slice(-1, None), "final.sink": slice(0, 1), "final.content": slice(1, -1)}
        for part, some in entries.items():
            self._parts[part].add(row[:, some], allowed[:, some])

    def _pack_content(self) -> PackedCounts:
        hits = _numpy(self._hits).copy()
        for part in ("origin", "self", "sink"):
            heads, bins, moved = _count_few(self._parts[part].patterns()).T
            hits[heads, bins] -= moved
        return PackedCounts.pack(Counts(hits, *self._content.moments()))

    def _measure(self, weights: torch.Tensor, allowed: torch.Tensor, queries: torch.Tensor) -> None:
        """Add up each query's numbers; the formulas stand in `profile.statistics`.

        Sums are made over the keys k >= 1 and the sink's term added after, so that what is left without the sink is no
        difference of two numbers near 1.
        """
        position = queries.double()
        keys = torch.arange(self.n_tokens, device=weights.device, dtype=torch.float32)
        self._received += weights.sum(dim=1, dtype=torch.float64)
        self._may_see += (keys[None, :] <= position[:, None]).sum(dim=0)
        n_seen = allowed.sum(dim=-1).expand(self.n_heads, -1)
        several = (n_seen >= 2) & (queries > 0)
        sink, others = weights[:, :, 0].double(), weights[:, :, 1:]
        rest = _Moments(
            total=others.sum(dim=-1, dtype=torch.float64),
            squares=others.square().sum(dim=-1, dtype=torch.float64),
            entropy=torch.special.entr(others).sum(dim=-1, dtype=torch.float64),
            distance=torch.zeros_like(sink),
        )
        rest.distance = position * rest.total - (others @ keys[1:]).double()
        total, entropy = rest.total + sink, rest.entropy + torch.special.entr(sink)
        squares = rest.squares + sink.square()
        n_safe = n_seen.clamp(min=2).double()
        numbers = {
            "entropy": entropy,
            "entropy_share": entropy / n_safe.log(),
            "effective_tokens": entropy.exp(),
            "participation_ratio": 1 / squares,
            "hoyer": (n_safe.sqrt() - total / squares.sqrt()) / (n_safe.sqrt() - 1),
            "distance": rest.distance + sink * position,
        }
        for name, values in numbers.items():
            self._average(name, values, several)
        self._measure_rest(rest, several)
        self._measure_entries(weights, queries, total)
        self._measure_gini(weights, allowed, queries, several)
        if queries[-1] == self.n_tokens - 1:
            last = several[:, -1:]
            self._average("final.entropy", entropy[:, -1:], last)
            self._average("final.effective_tokens", entropy[:, -1:].exp(), last)
            self._average("final.sink_share", sink[:, -1:], last)

    def _measure_rest(self, rest: "_Moments", several: torch.Tensor) -> None:
        """The numbers of the weights on the keys k >= 1, divided by their sum."""
        defined = several & (rest.total > REST_AT_LEAST)
        total = rest.total.clamp(min=REST_AT_LEAST)
        entropy = rest.entropy / total + total.log()
        self._average("rest.entropy", entropy, defined)
        self._average("rest.effective_tokens", entropy.exp(), defined)
        self._average("rest.participation_ratio", total.square() / rest.squares, defined)
        self._average("rest.distance", rest.distance / total, defined)

    def _measure_entries(self, weights: torch.Tensor, queries: torch.Tensor, total: torch.Tensor) -> None:
        later = (queries > 0).expand(self.n_heads, -1)
        rows = queries - queries[0]
        self._average("sink_share", weights[:, :, 0].double(), later)
        self._average("previous_token", weights[:, rows, (queries - 1).clamp(min=0)].double(), later)
        self._average("self", weights[:, rows, queries].double(), later)
        self._average("off_sequence", 1 - total, later)

    def _measure_gini(
        self, weights: torch.Tensor, allowed: torch.Tensor, queries: torch.Tensor, several: torch.Tensor
    ) -> None:
        chosen = torch.isin(queries, self._gini_queries)
        if not chosen.any():
            return
        # Hidden keys are zeros at the front of the ascending order, so with n the number of visible keys the rank
        # counted from the end is the same with and without them.
        ascending = weights[:, chosen].sort(dim=-1).values.double()
        from_end = torch.arange(self.n_tokens, 0, -1, device=weights.device).double() - 0.5
        n_seen = allowed[:, chosen].sum(dim=-1).clamp(min=1).double()
        gini = 1 - 2 * (ascending @ from_end) / (ascending.sum(dim=-1) * n_seen)
        self._average("gini", gini, several[:, chosen])

    def _average(self, name: str, values: torch.Tensor, defined: torch.Tensor) -> None:
        """Add up the values [n_heads, rows] where they are defined."""
        self._numbers[name] += torch.where(defined, values, 0.0).sum(dim=1)
        self._defined[name] += defined.sum(dim=1)
