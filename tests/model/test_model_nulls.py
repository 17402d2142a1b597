"""Chance with a model: random parameters, and the same tokens in another order."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import build_family

from laminar_tui.errors import MemoryNeededError, UsageError
from laminar_tui.model.estimate import Estimate
from laminar_tui.model.nulls import NULLS, find_null, shuffled, with_random_parameters
from laminar_tui.profile.nulls import MODEL_NULLS
from laminar_tui.run import Request, Session, load, run

PROMPT = "a short prompt that is shuffled"


def request_for(folder: Path, **changes: Any) -> Request:
    return Request(**({"source": str(folder), "prompt": PROMPT, "device": "cpu"} | changes))


@pytest.mark.parametrize("family", ["gpt_neox", "llama", "bloom", "gemma2"])
def test_random_parameters_are_other_numbers_of_the_same_model(family: str) -> None:
    model = build_family(family).to(torch.bfloat16)
    before = {name: each.clone() for name, each in model.named_parameters()}
    state = torch.random.get_rng_state()
    fresh = with_random_parameters(model, 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert type(fresh) is type(model)
    assert fresh.config is not model.config
    assert fresh.dtype == torch.bfloat16
    shapes = {name: each.shape for name, each in fresh.named_parameters()}
    assert shapes == {name: each.shape for name, each in before.items()}
    for name, each in model.named_parameters():
        assert torch.equal(each, before[name]), "the model itself is left as it is"
    large = [name for name, each in before.items() if each.ndim == 2 and each.shape[0] > 8]
    assert large
    assert all(not torch.equal(dict(fresh.named_parameters())[name], before[name]) for name in large)
    again = with_random_parameters(model, 1)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("n_tokens", [0, 1, 2, 3, 50])
def test_shuffled_tokens_are_the_same_ones_and_the_first_stays(n_tokens: int) -> None:
    order = shuffled(n_tokens)
    assert sorted(order) == list(range(n_tokens))
    assert order[:1] == list(range(n_tokens))[:1]
    assert order == shuffled(n_tokens)
    if n_tokens == 50:
        assert order != list(range(50))


def test_a_null_of_shuffled_tokens(model_folder: Path) -> None:
    true, null = (run(request_for(model_folder, null=name)) for name in ("", "shuffled"))
    assert null.origin.recipe == "null: shuffled tokens"
    assert null.origin.model == "tiny-llama"
    assert "".join(null.origin.tokens) != PROMPT
    assert sorted(null.origin.tokens) == sorted(PROMPT)
    assert null.origin.tokens[0] == PROMPT[0]
    assert dict(zip(null.origin.tokens, null.origin.token_ids, strict=True)) == dict(
        zip(true.origin.tokens, true.origin.token_ids, strict=True)
    )
    as_typed = run(request_for(model_folder, prompt="".join(null.origin.tokens)))
    for mine, theirs in zip(null.layers, as_typed.layers, strict=True):
        assert mine is not None
        assert theirs is not None
        np.testing.assert_array_equal(mine.final_weights, theirs.final_weights)


def test_a_null_of_random_parameters_and_the_model_after_it(model_folder: Path) -> None:
    session = Session()
    true, null, after = (
        session.run(request_for(model_folder, null=name), lambda _event: None, lambda: False)
        for name in ("", "random", "")
    )
    assert null.origin.recipe == "null: random parameters"
    assert null.origin.tokens == true.origin.tokens
    moved = np.abs(null.layer(0).final_weights - true.layer(0).final_weights).max()  # type: ignore[operator]
    assert moved > 1e-3
    np.testing.assert_array_equal(after.layer(0).final_weights, true.layer(0).final_weights)
    assert after.origin.recipe == "true"


def test_a_null_after_a_run_is_that_of_the_command_and_leaves_the_runs_weights_to_be_asked_for(
    model_folder: Path,
) -> None:
    session, request = Session(), request_for(model_folder, roles=False)
    session.run(request, lambda _event: None, lambda: False)
    kept = session.patterns
    assert kept is not None
    before = kept.rows(0, 0, 0, 3)
    for name in NULLS:
        null = session.run_null(request, name, lambda _event: None, lambda: False)
        by_command = run(request_for(model_folder, null=name))
        assert null.origin.recipe == by_command.origin.recipe == f"null: {MODEL_NULLS[name]}"
        for mine, theirs in zip(null.layers, by_command.layers, strict=True):
            assert mine is not None
            assert theirs is not None
            np.testing.assert_array_equal(mine.final_weights, theirs.final_weights)
    assert session.patterns is kept
    np.testing.assert_array_equal(kept.rows(0, 0, 0, 3), before)
    with pytest.raises(UsageError, match="no longer in memory"):
        session.run_null(replace(request, revision="other"), "random", lambda _event: None, lambda: False)


def test_an_unknown_null_and_a_null_with_a_recipe(model_folder: Path) -> None:
    with pytest.raises(UsageError, match="no null 'other'"):
        find_null("other")
    assert set(NULLS) == {"random", "shuffled"}
    with pytest.raises(UsageError, match="no recipe"):
        run(request_for(model_folder, null="random", recipe="literal"))


def test_roles_are_measured_when_asked_for(model_folder: Path) -> None:
    assert run(request_for(model_folder)).roles is None
    roles = run(request_for(model_folder, roles=True)).roles
    assert roles is not None
    assert roles.scores["induction"].shape == (2, 4)
    assert roles.period == 32 - 1 + (64 - 2 * 31) // 2, "64 positions, no BOS"


def test_a_second_model_is_refused_where_there_is_no_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laminar_tui.model.nulls.free_memory", lambda _device: 1000)
    with pytest.raises(MemoryNeededError, match="a second time"):
        with_random_parameters(build_family("llama"))


def test_a_second_model_is_counted_before_the_first_is_loaded(model_folder: Path) -> None:
    said: list[int] = []

    def take(needs: Estimate) -> str:
        said.append(needs.parameters)
        return ""

    for null in ("", "random"):
        request = Request(str(model_folder), "one two three", device="cpu", null=null)
        load(request, lambda _event: None, lambda: False, say_needs=take)
    assert said[1] == 2 * said[0] > 0
