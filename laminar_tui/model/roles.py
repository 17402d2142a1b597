"""Measure what the heads do on random tokens that repeat: the scores of `profile.roles`, read through the tap or hooks.

A sequence is one BOS where the tokenizer has one, P different random tokens, and the same P again. In the repetition
an induction head looks P - 1 tokens back, at what followed the token the last time; a duplicate-token head P back.

What chance explains is measured in the same run: the same mean at *wrong* offsets around P, of every head. The
threshold is the highest of them. If no head knew the right offset from a wrong one, the highest score at the right
one would be as likely as any to come out on top, so that with m wrong offsets a head exceeds all of them by chance in
one model of m + 1 (the maximum statistic of Westfall and Young, which holds for all heads together). The previous token
is compared with the other places of a fixed distance, near ones included: there heads that look near by are an honest
rival.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from laminar_tui.errors import ModelError
from laminar_tui.model.capture import empty_profile
from laminar_tui.model.eager import Chunk
from laminar_tui.model.forward import context_length, evaluating, input_device
from laminar_tui.model.mechanisms import find_mechanism
from laminar_tui.model.reader import IsCancelled, Reader
from laminar_tui.profile.profile import LayerProfile
from laminar_tui.profile.roles import NEAR, ROLES, Roles

PERIOD = 40
SHORTEST_PERIOD = 8
"""A shorter one leaves no wrong offsets to compare with."""
N_SEQUENCES = 8


def measure_roles(
    model: PreTrainedModel,
    tokenizer: Any = None,
    *,
    period: int = PERIOD,
    n_sequences: int = N_SEQUENCES,
    seed: int = 0,
    is_cancelled: IsCancelled | None = None,
    on_sequence: Callable[[int, int], None] = lambda _done, _total: None,
) -> Roles:
    """Run a model on repeated random tokens and score its heads.

    Args:
        model: a causal LM in memory; it is left as it was found.
        tokenizer: names BOS and the special tokens, which are not among the random ones; all ids are drawn from where
            None, and no BOS stands first.
        period: P; shorter on a model that takes fewer than 2 P + 1 tokens.
        n_sequences: how many sequences the scores are the mean over; they are run one after another.
        seed: of the tokens.
        is_cancelled: asked before each layer; True stops the forward.
        on_sequence: called before each sequence with how many are done, of how many.

    Returns:
        Scores and thresholds by the names in `ROLES`; NaN where a layer has no attention.

    Raises:
        ModelError: if the model's attention cannot be read, or it takes too few tokens.
        CancelledError: if `is_cancelled` said so.
    """
    sequences, period, n_before = make_repeats(model, tokenizer, period, n_sequences, seed)
    kinds = empty_profile(model, sequences[:1]).origin.layer_kinds
    mechanism = find_mechanism(model)
    sums: list[_Scores] = []
    for done, sequence in enumerate(sequences):
        on_sequence(done, len(sequences))
        ids = sequence[None].to(input_device(model))
        reader = _RoleReader(kinds, torch.ones_like(ids), is_cancelled, _Repeat(period, n_before))
        with evaluating(model), reader.watching(model):
            mechanism.read(model, reader, ids)
        sums.append(reader.scores)
    return _make_roles(sums, period, seed)


def make_repeats(
    model: PreTrainedModel, tokenizer: Any, period: int, n_sequences: int, seed: int
) -> tuple[torch.Tensor, int, int]:
    """Draw the sequences.

    Returns:
        Ids [n_sequences, n_before + 2 * period] on the CPU, the period, and n_before: 1 with BOS in front, else 0.

    Raises:
        ModelError: if the model takes, or knows, too few tokens.
    """
    config = model.config.get_text_config()
    n_known = int(model.get_input_embeddings().weight.shape[0])
    n_named = len(tokenizer) if tokenizer is not None else n_known
    special = set(getattr(tokenizer, "all_special_ids", ()) or ())
    bos = getattr(tokenizer, "bos_token_id", None)
    before = [bos] if isinstance(bos, int) and bos < n_known else []
    ordinary = np.array([each for each in range(min(n_known, n_named)) if each not in special])
    limit = context_length(model)
    if limit is not None:
        period = min(period, (limit - len(before)) // 2)
    period = min(period, len(ordinary))
    if period < SHORTEST_PERIOD:
        raise ModelError(
            f"{config.model_type} takes {limit or 'any number of'} tokens and knows {n_known}, too few to repeat "
            f"{SHORTEST_PERIOD}",
            "its roles cannot be measured",
        )
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(ordinary, period, replace=False) for _ in range(n_sequences)]
    return torch.tensor([[*before, *each, *each] for each in drawn]), period, len(before)


@dataclass(frozen=True)
class _Repeat:
    """Where things are in a sequence."""

    period: int
    n_before: int

    @property
    def queries(self) -> range:
        """The queries of the repetition."""
        return range(self.n_before + self.period, self.n_before + 2 * self.period)

    @property
    def offsets(self) -> range:
        """How far back it is looked: from 1 to 3/2 P."""
        return range(1, self.period + self.period // 2 + 1)


_Scores = dict[int, dict[str, NDArray[np.float64]]]
"""Layer -> name -> [n_heads]; under `offsets`, [n_heads, n_offsets]."""


class _RoleReader(Reader):
    """Finds each layer's place as a capture does, and scores the rows instead of counting them."""

    def __init__(
        self, kinds: tuple[str, ...], mask: torch.Tensor, is_cancelled: IsCancelled | None, repeat: _Repeat
    ) -> None:
        super().__init__(kinds, mask, None, is_cancelled)
        self.scores: _Scores = {}
        self._repeat = repeat
        self._rows: list[torch.Tensor] = []

    def begin_layer(self, module: nn.Module) -> None:
        """Begin a layer."""
        super().begin_layer(module)
        self._rows = []

    def receive(self, chunk: Chunk) -> None:
        """Keep some rows; a layer's are few."""
        self.stop_if_cancelled()
        if chunk.weights.shape[-1] != self._n_tokens or chunk.n_queries != self._n_tokens:
            raise ModelError(
                f"a layer has {chunk.weights.shape[-1]} keys for {self._n_tokens} tokens",
                "attention to anything but the prompt's own tokens is not supported",
            )
        if not self._is_repeat:
            self._rows.append(chunk.weights[0])

    def restart_layer(self) -> None:
        """Forget the layer's rows: they come again."""
        super().restart_layer()
        self._rows = []

    def end_layer(self) -> None:
        """Score the layer."""
        if self._is_repeat:
            return
        weights = torch.cat(self._rows, dim=1)
        self.scores[self._index] = {name: _on_host(score) for name, score in score_heads(weights, self._repeat).items()}
        self.layers[self._index] = LayerProfile({}, {})  # the place is taken


def _on_host(score: torch.Tensor) -> NDArray[np.float64]:
    return np.asarray(score.cpu().double().numpy())


def score_heads(weights: torch.Tensor, repeat: _Repeat) -> dict[str, torch.Tensor]:
    """Score the heads of one layer on one sequence.

    Args:
        weights: float32 [n_heads, n_tokens, n_tokens].
        repeat: where the repetition is.

    Returns:
        Name in `ROLES` -> [n_heads]; `offsets` -> [n_heads, n_offsets], the mean A[q, q - d] in the repetition, key 0
        left out: what it gets, it gets as the sink.
    """
    n_tokens = weights.shape[-1]
    queries = torch.tensor(repeat.queries, device=weights.device)
    keys = queries[:, None] - torch.tensor(repeat.offsets, device=weights.device)  # [queries, offsets]
    at_offset = weights[:, queries].gather(2, keys.clamp(min=0).expand(len(weights), -1, -1))
    is_there = keys >= 1
    offsets = (at_offset * is_there).sum(dim=1) / is_there.sum(dim=0)
    near = torch.stack([weights[:, queries, queries - back] for back in range(NEAR)])
    entropy = torch.special.entr(weights[:, 1:]).sum(dim=-1)
    n_seen = torch.arange(2, n_tokens + 1, device=weights.device)
    return {
        "previous_token": offsets[:, 0],
        "induction": offsets[:, repeat.period - 2],
        "duplicate_token": offsets[:, repeat.period - 1],
        "sink": weights[:, :, 0].mean(dim=1),
        "local": near.sum(dim=0).mean(dim=1),
        "diffuse": (entropy.exp() / n_seen).mean(dim=1),
        "offsets": offsets,
    }


def wrong_offsets(name: str, period: int) -> list[int]:
    """The offsets that a score of one offset is compared with: around P, or all others for the previous token."""
    right = {period - 2, period - 1, period, period + 1}  # and their neighbours: a head may be a little blurred
    first = 2 if name == "previous_token" else period // 2
    return [offset for offset in range(first, period + period // 2 + 1) if offset not in right]


def _make_roles(sums: list[_Scores], period: int, seed: int) -> Roles:
    layers = sorted(set.intersection(*(set(each) for each in sums)))
    mean = {
        layer: {name: np.mean([each[layer][name] for each in sums], axis=0) for name in (*ROLES, "offsets")}
        for layer in layers
    }
    n_heads = max(len(scores["offsets"]) for scores in mean.values())
    tables = {name: np.full((max(layers) + 1, n_heads), np.nan) for name in ROLES}
    for layer, scores in mean.items():
        for name, table in tables.items():
            table[layer, : len(scores[name])] = scores[name]
    by_offset = np.concatenate([scores["offsets"] for scores in mean.values()])  # [heads, offsets]
    thresholds = {
        name: role.threshold
        if role.threshold is not None
        else float(by_offset[:, np.array(wrong_offsets(name, period)) - 1].max())
        for name, role in ROLES.items()
    }
    return Roles(tables, thresholds, period, len(sums), seed)
