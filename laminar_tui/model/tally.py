"""Weights on the device -> counts: one layer's weights come in as chunks of query rows and are dropped again.

What the mask hides is subtracted by number, never by looking for zeros: a weight that underflowed is a weight. Each
query's few single weights (on itself, on the first token) are set aside before the counting, so that the counts and
sums are those of the content, and nothing is left over of two large numbers.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.profile.counts import N_BINS, Counts, PackedCounts
from laminar_tui.profile.profile import LayerProfile
from laminar_tui.profile.statistics import REST_AT_LEAST, STATISTICS, UNDERFLOW, gini_queries

Floats = NDArray[np.float64]
Chosen = NDArray[np.bool_]


def bit_patterns(weights: torch.Tensor) -> torch.Tensor:
    """The bit patterns of the weights as float16: the bins, int16."""
    return weights.to(torch.float16).view(torch.int16)


def _numpy(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.cpu().numpy()


@dataclass(frozen=True, eq=False)
class Rows:
    """What is needed of some query rows once their weights are gone, [n_heads, rows] each.

    Attributes:
        queries: int64 [rows], their positions.
        n_seen: int64 [1 or n_heads, rows], how many keys each sees.
        sees_first, sees_itself: bool [1 or n_heads, rows].
        first, itself, previous: float32, the weights on key 0, on key q and on key q - 1.
        total, squares, entropy: the sums of p, p^2 and -p ln p over the content, 0 < k < q.
        position: the sum of p k over all keys.
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


def measure_rows(weights: torch.Tensor, content: torch.Tensor, allowed: torch.Tensor, queries: torch.Tensor) -> Rows:
    """Measure query rows.

    Args:
        weights: float32 [n_heads, rows, n_tokens].
        content: the same, 0 wherever an entry is not content.
        allowed: bool [1 or n_heads, rows, n_tokens].
        queries: int64 [rows], their positions.

    Returns:
        Numbers that share no memory with the weights: a view of one key would keep the whole pattern.
    """
    rows = queries - queries[0]
    keys = torch.arange(weights.shape[2], device=weights.device, dtype=torch.float32)
    return Rows(
        queries,
        n_seen=allowed.sum(dim=-1),
        sees_first=allowed[:, :, 0].clone(),
        sees_itself=allowed[:, rows, queries],
        first=weights[:, :, 0].clone(),
        itself=weights[:, rows, queries],
        previous=weights[:, rows, (queries - 1).clamp(min=0)],
        total=content.sum(dim=-1, dtype=torch.float64),
        squares=content.square().sum(dim=-1, dtype=torch.float64),
        entropy=torch.special.entr(content).sum(dim=-1, dtype=torch.float64),
        position=weights @ keys,
    )


class LayerTally:
    """The counts and numbers of one layer and one sequence under way.

    Args:
        n_heads, n_tokens: sizes of the pattern `[n_heads, n_tokens, n_tokens]`.
        device: where the weights come from and the counts are made.
        off_sequence: whether rows may sum to less than 1 (sink logits).
        tolerance: how far row sums may be from 1 otherwise.

    Attributes:
        layer: the whole layer's profile, from who makes it without the following.
        hits, zeros: int64 [n_heads, N_BINS] and [n_heads], of the content (0 < k < q).
        received: float64 [n_heads, n_tokens], the sum of the content weights that each key got.
        sorted_queries: whose rows are to be sorted for the Gini coefficient.
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
        self._device = device
        self.layer: LayerProfile | None = None
        self.zeros = torch.zeros(n_heads, dtype=torch.int64, device=device)
        self._rows: list[Rows] = []
        self._of_sorted: list[tuple[Floats, Floats, Chosen]] = []
        self._final: tuple[NDArray[np.float32], Chosen] | None = None
        self.sorted_queries = gini_queries(n_tokens)
        self.row_sum_error = 0.0

    @cached_property
    def hits(self) -> torch.Tensor:
        return torch.zeros(self.n_heads, N_BINS, dtype=torch.int64, device=self._device)

    @cached_property
    def received(self) -> torch.Tensor:
        return torch.zeros(self.n_heads, self.n_tokens, dtype=torch.float64, device=self._device)

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
        keys = torch.arange(self.n_tokens, device=weights.device)
        is_content = allowed & (keys > 0) & (keys < queries[:, None])
        content = torch.where(is_content, weights, 0.0)
        n_other = (~is_content).sum(dim=(1, 2)).expand(self.n_heads)
        # bincount over int16 patterns is the fastest way on a CPU; heads one after another keep the tile in the cache.
        patterns = bit_patterns(content).flatten(1)
        for head in range(self.n_heads):
            self.hits[head] += torch.bincount(patterns[head], minlength=N_BINS)
        self.hits[:, 0] -= n_other
        self.zeros += (content == 0).sum(dim=(1, 2)) - n_other
        self.received += content.sum(dim=1, dtype=torch.float64)
        for query in self.sorted_queries:
            if (row := query - first_query) in range(weights.shape[1]):
                self.take_sorted(weights[:, [row]].sort(dim=-1).values, allowed[:, [row]], queries[[row]])
        if first_query + weights.shape[1] == self.n_tokens:
            self.take_final(weights[:, -1], allowed[:, -1])
        self.take(measure_rows(weights, content, allowed, queries))

    def take(self, rows: Rows) -> None:
        """Take in what was measured of some rows whose weights are counted in `hits`, `zeros` and `received`."""
        self._rows.append(rows)

    def take_final(self, row: torch.Tensor, allowed: torch.Tensor) -> None:
        """Take in the last query's weights, [n_heads, n_tokens] under [1 or n_heads, n_tokens]."""
        seen = np.broadcast_to(_numpy(allowed), (self.n_heads, self.n_tokens))
        self._final = _numpy(row).astype(np.float32), seen

    def take_sorted(self, ascending: torch.Tensor, allowed: torch.Tensor, queries: torch.Tensor) -> None:
        """Take in the sorted weights [n_heads, n, n_tokens] of the queries that the numbers of few rows are made of.

        Hidden keys are zeros at the front of the ascending order, so with n the number of visible keys the rank counted
        from the end is the same with and without them.
        """
        weights = _numpy(ascending)
        n_seen = np.broadcast_to(_numpy(allowed.sum(dim=-1)), weights.shape[:2])
        at_least_one = np.maximum(n_seen, 1)
        visible = np.arange(weights.shape[-1], 0, -1) <= n_seen[..., None]
        # Of float32 numpy takes logarithms many times faster than of float64; they are right to 1e-7 of a score.
        scores = np.log(np.maximum(weights, np.float32(UNDERFLOW))) * visible
        mean = scores.sum(axis=-1, dtype=np.float64) / at_least_one
        spread = (scores - mean[..., None].astype(np.float32)) * visible
        self._of_sorted.append(
            (
                gini_of_sorted(weights, at_least_one),
                (spread**2).sum(axis=-1, dtype=np.float64) / np.maximum(n_seen - 1, 1),
                (n_seen >= 2) & (_numpy(queries) > 0),
            )
        )

    def finish(self) -> LayerProfile:
        """Give the layer's profile; every row must have been added."""
        if self.layer is not None:
            return self.layer
        rows = _gather(self._rows, self.n_heads)
        received = _numpy(self.received).copy()
        received[:, rows.queries] += np.where(rows.sees_itself & (rows.queries > 0), rows.itself, 0.0)
        received[:, 0] += np.where(rows.sees_first, rows.first, 0.0).sum(axis=1)
        return LayerProfile(
            parts=self._pack_parts(rows),
            statistics=self._average(rows),
            final_weights=None if self._final is None else self._final[0],
            key_shares=(received / np.arange(self.n_tokens, 0, -1)).astype(np.float32),
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

    def _pack_parts(self, rows: "_HostRows") -> dict[str, PackedCounts]:
        later = rows.queries > 0
        single = {
            "origin": (rows.itself, rows.sees_itself & ~later),
            "self": (rows.itself, rows.sees_itself & later),
            "sink": (rows.first, rows.sees_first & later),
        }
        content = Counts(
            _numpy(self.hits), _numpy(self.zeros), rows.total.sum(axis=1), np.maximum(rows.squares.sum(axis=1), 0.0)
        )
        return {"content": PackedCounts.pack(content)} | _pack_single(single | self._final_parts())

    def _final_parts(self) -> dict[str, tuple[NDArray[np.float32], Chosen]]:
        entries = {"final.self": slice(-1, None), "final.sink": slice(0, 1), "final.content": slice(1, -1)}
        if self._final is None or self.n_tokens < 2:
            nothing = np.zeros((self.n_heads, 0), np.float32)
            return dict.fromkeys(entries, (nothing, nothing > 0))
        row, seen = self._final
        return {part: (row[:, some], seen[:, some]) for part, some in entries.items()}

    def _average(self, rows: "_HostRows") -> dict[str, Floats]:
        """Every number of `STATISTICS`, [n_heads] each; the formulas stand in `profile.statistics`."""
        query, itself = rows.queries, rows.itself.astype(np.float64)
        sink = np.where(query > 0, rows.first, 0.0).astype(np.float64)
        later = np.broadcast_to(query > 0, sink.shape)
        n_seen = np.broadcast_to(rows.n_seen, sink.shape)
        several = (n_seen >= 2) & later
        # Without the sink; then with it.
        rest, rest_squares = rows.total + itself, rows.squares + itself**2
        rest_entropy = rows.entropy + _entr(itself)
        rest_distance = query * rest - rows.position
        total, squares, entropy = rest + sink, rest_squares + sink**2, rest_entropy + _entr(sink)
        effective = np.exp(entropy)
        n_safe = np.maximum(n_seen, 2).astype(np.float64)
        roots = np.sqrt(n_safe)
        has_rest = several & (rest > REST_AT_LEAST)
        rest = np.maximum(rest, REST_AT_LEAST)
        rest_entropy = rest_entropy / rest + np.log(rest)
        last = several & (query == self.n_tokens - 1)
        table: dict[str, tuple[Floats, Chosen]] = {
            "entropy": (entropy, several),
            "entropy_share": (entropy / np.log(n_safe), several),
            "effective_tokens": (effective, several),
            "participation_ratio": (_divide(1.0, squares), several),
            "hoyer": ((roots - _divide(total, np.sqrt(squares))) / (roots - 1), several),
            "distance": (rest_distance + sink * query, several),
            "sink_share": (sink, later),
            "previous_token": (rows.previous.astype(np.float64), later),
            "self": (itself, later),
            "off_sequence": (1 - total, later),
            "rest.entropy": (rest_entropy, has_rest),
            "rest.effective_tokens": (np.exp(rest_entropy), has_rest),
            "rest.participation_ratio": (_divide(rest**2, rest_squares), has_rest),
            "rest.distance": (rest_distance / rest, has_rest),
            "final.entropy": (entropy, last),
            "final.effective_tokens": (effective, last),
            "final.sink_share": (sink, last),
        }
        # All in one go: on a short prompt, starting an operation takes longer than doing it.
        values, defined = (np.stack(np.broadcast_arrays(*each)) for each in zip(*table.values(), strict=True))
        found = dict(zip(table, _mean(values, defined), strict=True))
        gini, variance, of_sorted = self._measured_of_sorted()
        found |= {"gini": _mean(gini, of_sorted), "score_variance": _mean(variance, of_sorted)}
        return {name: found[name] for name in STATISTICS}

    def _measured_of_sorted(self) -> tuple[Floats, Floats, Chosen]:
        """The Gini coefficients, the variances of the scores, and where both are defined, [n_heads, n] each."""
        if not self._of_sorted:
            nothing = np.zeros((self.n_heads, 0))
            return nothing, nothing, nothing > 0
        gini, variance, defined = zip(*self._of_sorted, strict=True)
        return np.concatenate(gini, axis=1), np.concatenate(variance, axis=1), np.concatenate(defined, axis=1)


def gini_of_sorted(ascending: NDArray[np.float32], n_seen: NDArray[np.int64]) -> Floats:
    """The Gini coefficients of sorted rows [..., n_tokens], each with zeros for what is hidden and n_seen weights."""
    exact = ascending.astype(np.float64)
    from_end = np.arange(exact.shape[-1], 0, -1) - 0.5
    coefficients: Floats = 1 - 2 * (exact @ from_end) / (exact.sum(axis=-1) * n_seen)
    return coefficients


@dataclass(frozen=True, eq=False)
class _HostRows:
    """All rows of a layer on the host, as in `Rows`; small arrays are faster in numpy than in torch."""

    queries: NDArray[np.int64]
    n_seen: NDArray[np.int64]
    sees_first: Chosen
    sees_itself: Chosen
    first: NDArray[np.float32]
    itself: NDArray[np.float32]
    previous: NDArray[np.float32]
    total: Floats
    squares: Floats
    entropy: Floats
    position: Floats


def _gather(chunks: list[Rows], n_heads: int) -> _HostRows:
    """Put the chunks together and bring them to the host at once."""

    def whole(name: str) -> torch.Tensor:
        pieces: list[torch.Tensor] = [getattr(rows, name) for rows in chunks]
        if name == "queries":
            return torch.cat(pieces)
        return pieces[0] if len(pieces) == 1 else torch.cat([each.expand(n_heads, -1) for each in pieces], dim=1)

    wide = {"total", "squares", "entropy", "position"}
    found = {field.name: whole(field.name) for field in fields(Rows)}
    return _HostRows(**{name: _numpy(each.double() if name in wide else each) for name, each in found.items()})


def _entr(weights: Floats) -> Floats:
    """-w ln w, 0 at 0."""
    return -weights * np.log(np.where(weights > 0, weights, 1.0))


def _divide(a: Floats | float, b: Floats) -> Floats:
    """Divide; 0 where b is 0."""
    quotient: Floats = np.divide(a, b, out=np.zeros_like(b), where=b > 0)
    return quotient


def _mean(values: Floats, defined: Chosen) -> Floats:
    """The mean along the last axis where defined; NaN where that is nowhere."""
    n = defined.sum(axis=-1)
    total: Floats = np.where(defined, values, 0.0).sum(axis=-1)
    mean: Floats = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
    return mean


def _pack_single(parts: dict[str, tuple[NDArray[np.float32], Chosen]]) -> dict[str, PackedCounts]:
    """Count parts that have few weights, all of them in one sort: part -> weights and which of them, [n_heads, n]."""
    n_heads = len(next(iter(parts.values()))[0])
    heads = np.arange(n_heads, dtype=np.int32)[:, None]
    keys = []
    for place, (weights, chosen) in enumerate(parts.values()):
        bins = weights.astype(np.float16).view(np.uint16)
        keys.append(((place * n_heads + heads) * N_BINS + bins)[np.broadcast_to(chosen, weights.shape)])
    found, hits = np.unique(np.concatenate(keys), return_counts=True)
    starts = np.searchsorted(found, np.arange(len(parts) * n_heads + 1) * N_BINS)
    packed = {}
    for place, (part, (weights, chosen)) in enumerate(parts.items()):
        own = starts[place * n_heads : (place + 1) * n_heads + 1]
        kept = np.where(chosen, weights, 0.0).astype(np.float64)
        packed[part] = PackedCounts(
            (own - own[0]).astype(np.int64),
            (found[own[0] : own[-1]] % N_BINS).astype(np.uint16),
            hits[own[0] : own[-1]].astype(np.uint32),
            (chosen & (weights == 0)).sum(axis=1),
            kept.sum(axis=1),
            (kept**2).sum(axis=1),
        )
    return packed
