"""Roles on repeated random tokens: the bundled model's known heads, and scores against dense eager weights."""

from typing import Any

import numpy as np
import pytest
import torch
from families import build_family

from laminar_tui.errors import CancelledError, ModelError
from laminar_tui.model import eager
from laminar_tui.model.check import eager_patterns
from laminar_tui.model.loaded import LoadedModel
from laminar_tui.model.roles import make_repeats, measure_roles, wrong_offsets
from laminar_tui.profile.roles import NEAR, ROLES, Roles
from laminar_tui.run import Request, load

PERIOD, N_SEQUENCES = 12, 3
SAME = 1e-5


@pytest.fixture(scope="module")
def bundled() -> LoadedModel:
    torch.set_num_threads(1)  # small tensors: threads only wait for one another
    return load(Request(device="cpu"), lambda _event: None, lambda: False)


@pytest.fixture(scope="module")
def found(bundled: LoadedModel) -> Roles:
    return measure_roles(bundled.model, bundled.tokenizer)


def dense_scores(model: Any, tokenizer: Any) -> dict[str, np.ndarray]:
    """The scores by their definitions, entry by entry, from the model's own eager weights; [n_layers, n_heads]."""
    sequences, period, n_before = make_repeats(model, tokenizer, PERIOD, N_SEQUENCES, 0)
    by_sequence = []
    for ids in sequences:
        patterns = np.stack([each.double().numpy() for each in eager_patterns(model, ids[None])])
        n = patterns.shape[-1]
        second = range(n_before + period, n)
        rows = [patterns[:, :, q, : q + 1] for q in range(1, n)]
        entropies = [-np.sum(row * np.log(np.maximum(row, 1e-300)), axis=-1) for row in rows]

        def at(offset: int, a: np.ndarray = patterns, queries: range = second) -> np.ndarray:
            return np.mean([a[:, :, q, q - offset] for q in queries if q - offset > 0], axis=0)

        by_sequence.append(
            {
                "previous_token": at(1),
                "induction": at(period - 1),
                "duplicate_token": at(period),
                "sink": patterns[:, :, :, 0].mean(axis=-1),
                "local": np.sum([at(back) for back in range(NEAR)], axis=0),
                "diffuse": np.mean([np.exp(h) / (q + 2) for q, h in enumerate(entropies)], axis=0),
                "wrong": np.stack([at(offset) for offset in wrong_offsets("induction", period)]),
            }
        )
    return {name: np.mean([each[name] for each in by_sequence], axis=0) for name in by_sequence[0]}


def test_the_true_induction_head_of_the_bundled_model_has_rank_one(found: Roles) -> None:
    """The card's own measurement, with eager weights and another period: layer 1 head 0, then heads 4 and 5."""
    ranking = found.ranking("induction")
    assert (ranking[0].rank, ranking[0].layer, ranking[0].head) == (1, 1, 0)
    assert ranking[0].score > 0.8
    assert {(each.layer, each.head) for each in ranking[:3]} == {(1, 0), (1, 4), (1, 5)}


def test_the_bundled_models_heads_are_told_apart_by_the_thresholds(found: Roles) -> None:
    """As on the card: previous token in layer 0, induction in layer 1, and no duplicate-token head."""
    assert {tuple(each) for each in np.argwhere(found.has("previous_token"))} == {(0, head) for head in (0, 1, 2, 4, 5)}
    assert {tuple(each) for each in np.argwhere(found.has("induction"))} == {(1, head) for head in range(8)}
    assert not found.has("duplicate_token").any()
    assert found.of(1, 0) == ["induction"]
    assert (found.period, found.n_sequences) == (40, 8)


def test_random_parameters_have_no_heads_with_a_place() -> None:
    roles = measure_roles(build_family("gpt_neox"), period=25)
    for name in ("induction", "duplicate_token"):
        assert roles.has(name).sum() <= 1, "one model in twenty may exceed every wrong offset"


@pytest.mark.parametrize("family", ["gpt_neox", "bloom", "gemma2"])
def test_scores_are_those_of_dense_eager_weights(family: str) -> None:
    """By the tap, by hooks, and with a window, in which a far offset gets nothing."""
    model = build_family(family)
    roles, expected = measure_roles(model, period=PERIOD, n_sequences=N_SEQUENCES), dense_scores(model, None)
    for name in ROLES:
        np.testing.assert_allclose(roles.scores[name], expected[name], atol=SAME, err_msg=name)
    assert roles.thresholds["induction"] == pytest.approx(expected["wrong"].max(), abs=SAME)
    assert roles.thresholds["sink"] == 0.3


def test_scores_with_a_bos_in_front_are_too(bundled: LoadedModel) -> None:
    roles = measure_roles(bundled.model, bundled.tokenizer, period=PERIOD, n_sequences=N_SEQUENCES)
    expected = dense_scores(bundled.model, bundled.tokenizer)
    for name in ROLES:
        np.testing.assert_allclose(roles.scores[name], expected[name], atol=SAME, err_msg=name)


def test_rows_that_come_in_pieces_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_family("llama")
    whole = measure_roles(model, period=PERIOD, n_sequences=1)
    monkeypatch.setattr(eager, "CHUNK_WEIGHTS", 2000)
    for name, scores in measure_roles(model, period=PERIOD, n_sequences=1).scores.items():
        np.testing.assert_allclose(scores, whole.scores[name], atol=SAME)


def test_a_layer_without_attention_has_no_score() -> None:
    roles = measure_roles(build_family("jamba"), period=PERIOD, n_sequences=1)
    attends = np.isfinite(roles.scores["induction"]).any(axis=1)
    assert attends.any()
    assert not attends.all()


def test_the_sequences_repeat_different_ordinary_tokens(bundled: LoadedModel) -> None:
    ids, period, n_before = make_repeats(bundled.model, bundled.tokenizer, 30, 4, 0)
    assert (ids.shape, period, n_before) == ((4, 61), 30, 1)
    assert (ids[:, 0] == bundled.tokenizer.bos_token_id).all()
    torch.testing.assert_close(ids[:, 1:31], ids[:, 31:])
    assert all(len(set(row.tolist())) == 31 for row in ids), "no token twice within a period, no BOS among them"
    assert len({tuple(row.tolist()) for row in ids}) == 4
    again = make_repeats(bundled.model, bundled.tokenizer, 30, 4, 0)[0]
    other = make_repeats(bundled.model, bundled.tokenizer, 30, 4, 1)[0]
    assert torch.equal(ids, again)
    assert not torch.equal(ids, other)


def test_without_a_bos_there_is_none() -> None:
    ids, period, n_before = make_repeats(build_family("llama"), None, 20, 2, 0)
    assert (ids.shape, period, n_before) == ((2, 40), 20, 0)


def test_the_period_fits_into_the_model(tiny_model: Any) -> None:
    assert measure_roles(tiny_model("gpt2", n_positions=50)).period == 25
    with pytest.raises(ModelError, match="too few to repeat"):
        measure_roles(tiny_model("gpt2", n_positions=15))


def test_it_stops_and_leaves_the_model_as_it_was(bundled: LoadedModel) -> None:
    before = bundled.model.config._attn_implementation
    asked = iter(range(100))
    with pytest.raises(CancelledError):
        measure_roles(bundled.model, bundled.tokenizer, is_cancelled=lambda: next(asked) > 10)
    assert bundled.model.config._attn_implementation == before
    assert next(asked) < 20
