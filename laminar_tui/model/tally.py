"""Weights on the device -> counts: one layer's weights come in as chunks of query rows and are dropped again.

What the mask hides is subtracted by number, never by looking for zeros: a weight that underflowed is a weight. Each
query's few single weights (on itself, on the first token) are set aside before the counting, so that the counts and
sums are those of the content, and nothing is left over of two large numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.profile.counts import N_BINS, Counts, PackedCounts
from laminar_tui.profile.formulas import OF_ROWS, OF_SORTED, WholeRows, average_rows, mean_where, measure_sorted
from laminar_tui.profile.profile import LayerProfile
from laminar_tui.profile.statistics import STATISTICS, gini_queries

Floats = NDArray[np.float64]
Chosen = NDArray[np.bool_]


def bit_patterns(weights: torch.Tensor) -> torch.Tensor:
    """The bit patterns of the weights as float16: the bins, int16."""
    return weights.to(torch.float16).view(torch.int16)


def has_float64(device: torch.device) -> bool:
    """Whether a device has numbers of 64 bits; what needs them is done on the host otherwise."""
    return device.type != "mps"


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


class Arriving(Protocol):
    """A layer on its way to the host, as `found.Handover`.

    Attributes:
        n_held: how many bytes of the device's memory are held for it.
    """

    n_held: int

    def is_ready(self) -> bool:
        """Whether `finish` would not wait."""

    def finish(self) -> tuple[LayerProfile, float, bool]:
        """Give the layer, its `row_sum_error`, and whether the kernel found it."""


class LayerTally:
    """The counts and numbers of one layer and one sequence under way.

    Args:
        n_heads, n_tokens: sizes of the pattern `[n_heads, n_tokens, n_tokens]`.
        device: where the weights come from. There the counts are made, or on the host where it has no float64.
        off_sequence: whether rows may sum to less than 1 (sink logits).
        tolerance: how far row sums may be from 1 otherwise.

    Attributes:
        layer: the whole layer's profile, from who makes it without the following.
        arriving: the same on its way.
        hits, zeros: int64 [n_heads, N_BINS] and [n_heads], of the content (0 < k < q).
        received: float64 [n_heads, n_tokens], the sum of the content weights that each key got.
        sorted_queries: whose rows are to be sorted for the Gini coefficient.
        row_sum_error: how far a row's sum was from 1 at most.
        by_kernel: whether a GPU's kernel read the layer.
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
        self._device = device if has_float64(device) else torch.device("cpu")
        self.layer: LayerProfile | None = None
        self.arriving: Arriving | None = None
        self.zeros = torch.zeros(n_heads, dtype=torch.int64, device=self._device)
        self._rows: list[Rows] = []
        self._of_sorted: list[tuple[Floats, Chosen]] = []
        self._final: tuple[NDArray[np.float32], Chosen] | None = None
        self.sorted_queries = gini_queries(n_tokens)
        self.row_sum_error = 0.0
        self.by_kernel = False

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
        weights, allowed = weights.to(self._device), allowed.to(self._device)
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
                self.take_sorted(weights[:, [row]].sort(dim=-1).values, weights[:, [row], 0], allowed[:, [row]])
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

    def take_sorted(self, ascending: torch.Tensor, first: torch.Tensor, allowed: torch.Tensor) -> None:
        """Take in the sorted weights of the queries that the numbers of few rows are made of.

        Hidden keys are zeros at the front of the ascending order, so with n the number of visible keys the rank counted
        from the end is the same with and without them.

        Args:
            ascending: float32 [n_heads, n, n_tokens].
            first: float32 [n_heads, n], the weights on key 0.
            allowed: bool [1 or n_heads, n, n_tokens].
        """
        weights = _numpy(ascending)
        n_seen = np.broadcast_to(_numpy(allowed.sum(dim=-1)), weights.shape[:2])
        ranks = np.arange(weights.shape[-1], 0, -1)
        n_rest = n_seen - _numpy(allowed[..., 0])
        self._of_sorted.append(measure_sorted(weights, _numpy(first), n_seen, n_rest, ranks, np))

    def finish(self) -> LayerProfile:
        """Give the layer's profile; every row must have been added. Waits for one that is on its way."""
        if self.arriving is not None:
            self.layer, error, self.by_kernel = self.arriving.finish()
            self.row_sum_error, self.arriving = max(self.row_sum_error, error), None
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
                "its parameters may be damaged, or overflow in this dtype: try float32 (--dtype)",
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

    def _pack_parts(self, rows: WholeRows) -> dict[str, PackedCounts]:
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

    def _average(self, rows: WholeRows) -> dict[str, Floats]:
        """Every number of `STATISTICS`, [n_heads] each."""
        nothing = np.zeros((len(OF_SORTED), self.n_heads, 0))
        values, defined = zip((nothing, nothing > 0), *self._of_sorted, strict=True)
        few = mean_where(np.concatenate(values, axis=-1), np.concatenate(defined, axis=-1), np)
        found = dict(zip(OF_ROWS, average_rows(rows, np), strict=True)) | dict(zip(OF_SORTED, few, strict=True))
        return {name: found[name] for name in STATISTICS}


def _gather(chunks: list[Rows], n_heads: int) -> WholeRows:
    """Put the chunks together and bring them to the host at once: small arrays are faster in numpy than in torch."""

    def whole(name: str) -> torch.Tensor:
        pieces: list[torch.Tensor] = [getattr(rows, name) for rows in chunks]
        if name == "queries":
            return torch.cat(pieces)
        return pieces[0] if len(pieces) == 1 else torch.cat([each.expand(n_heads, -1) for each in pieces], dim=1)

    wide = {"total", "squares", "entropy", "position"}
    found = {field.name: whole(field.name) for field in fields(Rows)}
    return WholeRows(**{name: _numpy(each.double() if name in wide else each) for name, each in found.items()})


def _pack_single(parts: dict[str, tuple[NDArray[np.float32], Chosen]]) -> dict[str, PackedCounts]:
    """Count parts that have few weights, all of them in one sort: part -> weights and which of them, [n_heads, n]."""
    n_heads = len(next(iter(parts.values()))[0])
    heads = np.arange(n_heads, dtype=np.int32)[:, None]
    keys = []
    for place, (weights, chosen) in enumerate(parts.values()):
        bins = weights.astype(np.float16).view(np.uint16)
        keys.append(((place * n_heads + heads) * N_BINS + bins)[np.broadcast_to(chosen, weights.shape)])
    found, hits = np.unique(np.concatenate(keys), return_counts=True)
    kept = [np.where(chosen, weights, 0.0).astype(np.float64) for weights, chosen in parts.values()]
    zeros = [(chosen & (weights == 0)).sum(axis=1) for weights, chosen in parts.values()]
    totals, squares = [each.sum(axis=1) for each in kept], [(each**2).sum(axis=1) for each in kept]
    return pack_runs(tuple(parts), found, hits, zeros, totals, squares)


def pack_runs(
    parts: Sequence[str],
    found: NDArray[np.integer[Any]],
    hits: NDArray[np.integer[Any]],
    zeros: Sequence[NDArray[Any]] | NDArray[Any],
    totals: Sequence[NDArray[Any]] | NDArray[Any],
    squares: Sequence[NDArray[Any]] | NDArray[Any],
) -> dict[str, PackedCounts]:
    """Cut sorted bins into parts and heads.

    Args:
        found: (place of the part x n_heads + head) x N_BINS + bin, ascending, each once.
        hits: how often each of them was there.
        zeros, totals, squares: [n_heads] for each part.
    """
    n_heads = len(zeros[0])
    starts = np.searchsorted(found, np.arange(len(parts) * n_heads + 1) * N_BINS)
    packed = {}
    for place, part in enumerate(parts):
        own = starts[place * n_heads : (place + 1) * n_heads + 1]
        packed[part] = PackedCounts(
            (own - own[0]).astype(np.int64),
            (found[own[0] : own[-1]] % N_BINS).astype(np.uint16),
            hits[own[0] : own[-1]].astype(np.uint32),
            zeros[place],
            totals[place],
            squares[place],
        )
    return packed
