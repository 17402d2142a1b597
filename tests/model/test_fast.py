"""The fast path gives what the family's own function gives, and is used only where it was seen to."""

import threading
import time

import numpy as np
import pytest
import torch
from families import build_family
from fast_and_slow import N_TOKENS, PLAIN, assert_same, ids, slowly
from numpy.typing import NDArray

import laminar_tui
from laminar_tui.errors import CancelledError, UntrustedWeightsError
from laminar_tui.model import compiled, fast, native, tiles
from laminar_tui.model.tally import LayerTally

SPECIAL = ("gemma2", "gpt_oss", "doge", "granite_swa", "diffllama", "deepseek_v32")


@pytest.fixture(autouse=True, params=["compiled", "tensors"])
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tiny prompts take the fast path, in tiles of 8 rows, by either kind of tile."""
    if request.param == "tensors":
        monkeypatch.setattr(fast, "checked_attend", lambda: None)
    elif native.find_compiler() is None:
        pytest.skip("no C compiler here")
    else:
        assert compiled.checked_attend() is not None
    monkeypatch.setattr(fast, "AT_LEAST_TOKENS", 2)
    monkeypatch.setattr(fast, "UNIT_WEIGHTS", 1)
    monkeypatch.setattr(tiles, "TILE_WEIGHTS", 100)


@pytest.mark.parametrize("family", PLAIN)
def test_plain_attention_is_read_fast_and_equal(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_family(family)
    read, own = laminar_tui.capture(model, ids()), slowly(model, monkeypatch)
    assert (read.origin.mechanism, own.origin.mechanism) == ("fast", "tap")
    assert not read.origin.failed_checks
    for one, other in zip(read.layers, own.layers, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("family", SPECIAL)
def test_what_is_special_is_left_to_the_familys_own_function(family: str) -> None:
    assert laminar_tui.capture(build_family(family), ids()).origin.mechanism == "tap"


def test_tiles_attend_as_the_formula_does() -> None:
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(heads, 70, 16, generator=generator) for heads in (4, 2, 2))
    window = torch.ones(70, 70, dtype=torch.bool).tril().triu(-9)
    for mask in (None, window):
        seen = torch.ones(70, 70, dtype=torch.bool).tril() if mask is None else mask
        scores = query @ key.repeat_interleave(2, dim=0).transpose(1, 2) * 0.3
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        kept = torch.zeros_like(weights)
        tally = LayerTally(4, 70, torch.device("cpu"))
        output = fast.attend(query, key, value, 0.3, mask, tally, keep=kept)
        torch.testing.assert_close(kept, weights, atol=1e-6, rtol=0)
        expected = (weights @ value.repeat_interleave(2, dim=0)).transpose(0, 1)
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)


def test_a_model_on_which_it_is_not_equal_is_read_by_the_tap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key heads paired with the wrong queries: the comparison on the first tokens must see it."""
    attend = fast.attend
    monkeypatch.setattr(fast, "attend", lambda q, k, v, *rest, **more: attend(q, k.flip(0), v.flip(0), *rest, **more))
    assert laminar_tui.capture(build_family("llama"), ids()).origin.mechanism == "tap"


def test_it_gives_way_in_the_middle_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that becomes special only at the full length: everything is read again, once, by the tap."""
    fits = fast.fits
    calls = iter(range(10**6))
    monkeypatch.setattr(fast, "fits", lambda *args: fits(*args) and next(calls) != 3)
    profile = laminar_tui.capture(build_family("gpt_neox"), ids())
    assert profile.origin.mechanism == "tap"
    assert profile.n_read == profile.n_layers


def test_weights_that_are_not_finite_are_not_believed() -> None:
    query = torch.full((2, 20, 8), float("nan"))
    tally = LayerTally(2, 20, torch.device("cpu"))
    with pytest.raises(UntrustedWeightsError, match="not finite"):
        fast.attend(query, query, query, 1.0, None, tally)


def test_it_stops_between_heads_and_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    asked = iter(range(10**6))
    with pytest.raises(CancelledError):
        laminar_tui.capture(build_family("gpt_neox"), ids(), is_cancelled=lambda: next(asked) > 4)
    assert torch.get_num_threads() == before


def test_a_worker_that_starts_late_does_not_set_the_threads_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each begins by setting the number of threads to 1: all must have done so before it is put back."""
    started: list[int] = []
    work_alone = fast._work_alone

    def slowly_begin() -> None:
        time.sleep(0.05)
        work_alone()
        started.append(threading.get_ident())

    monkeypatch.setattr(fast, "_pool", None)
    monkeypatch.setattr(fast, "_work_alone", slowly_begin)
    monkeypatch.setattr(fast.os, "cpu_count", lambda: 4)
    before = torch.get_num_threads()
    with fast._one_thread_each() as (pool, n_threads):
        assert len(set(started)) == 4
        assert (torch.get_num_threads(), n_threads) == (1, before)
        list(pool.map(lambda _number: time.sleep(0.001), range(20)))
    assert len(started) == 4
    assert torch.get_num_threads() == before
    pool.shutdown()


def test_padding_and_batches_are_left_to_the_tap() -> None:
    mask = torch.ones(1, N_TOKENS, dtype=torch.long)
    assert laminar_tui.capture(build_family("llama"), ids(), mask).origin.mechanism == "tap"


def test_a_short_prompt_proves_nothing_for_a_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One token attends to itself whatever the reading does: the model is looked at again on the next prompt."""
    attend = fast.attend
    monkeypatch.setattr(fast, "attend", lambda q, k, v, *rest, **more: attend(q, k.flip(0), v, *rest, **more))
    model = build_family("llama")
    laminar_tui.capture(model, ids(1))
    assert laminar_tui.capture(model, ids()).origin.mechanism == "tap"


def test_looking_at_a_model_first_can_be_cancelled_too() -> None:
    """The forwards on few tokens come before the capture's own: a cancel must not wait for them."""
    entered: list[int] = []
    model = build_family("gpt_neox")
    model.base_model.register_forward_hook(lambda *_: entered.append(1))
    with pytest.raises(CancelledError):
        laminar_tui.capture(model, ids(), is_cancelled=lambda: True)
    assert not entered, "no forward may have ended"


def test_a_layer_without_a_mask_that_is_not_causal_is_left_to_the_tap() -> None:
    """Under SDPA no mask means causal only if the module says so; the tap then refuses what looks ahead."""
    model = build_family("llama")
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
        forward = layer.self_attn.forward
        layer.self_attn.forward = lambda *args, forward=forward, **kwargs: forward(
            *args, **(kwargs | {"attention_mask": None})
        )
    with pytest.raises(UntrustedWeightsError, match="later"):
        laminar_tui.capture(model, ids())


def test_weights_that_underflow_are_counted_apart() -> None:
    """Scores 200 apart: exp(-200) is no float32. They are weights of zero, not hidden keys."""
    generator = torch.Generator().manual_seed(2)
    query, key, value = (torch.randn(2, 60, 8, generator=generator) for _ in range(3))
    tally = LayerTally(2, 60, torch.device("cpu"))
    fast.attend(query * 40, key, value, 1.0, None, tally)
    scores = (query * 40) @ key.transpose(1, 2)
    dense = scores.masked_fill(torch.ones(60, 60, dtype=torch.bool).triu(1), -torch.inf).softmax(-1).numpy()
    content = np.tril(np.ones((60, 60), bool), -1) & (np.arange(60) > 0)
    expected = (np.where(content, dense, 1.0) < 1.2e-38).sum(axis=(1, 2))
    assert expected.min() > 100
    assert tally.finish().parts["content"].zeros == pytest.approx(expected, abs=2)  # a weight at float32's smallest


def test_what_was_given_up_half_way_leaves_nothing_behind() -> None:
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(2, 60, 8, generator=generator) for _ in range(3))

    def count(stop_after: int = 10**6) -> NDArray[np.int64]:
        asked = iter(range(10**6))

        def stop() -> None:
            if next(asked) >= stop_after:
                raise CancelledError("enough")

        tally = LayerTally(2, 60, torch.device("cpu"))
        fast.attend(query, key, value, 1.0, None, tally, stop=stop)
        return tally.finish().parts["content"].unpack().hits

    kept = query[1, 50].clone()
    before = count()
    with pytest.raises(CancelledError):
        count(stop_after=1)
    np.testing.assert_array_equal(count(), before)
    query[1, 50] = float("nan")
    with pytest.raises(UntrustedWeightsError, match="not finite"):
        count()
    query[1, 50] = kept
    np.testing.assert_array_equal(count(), before)


def test_more_tokens_than_its_bins_can_count_are_not_read_by_the_compiled_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At 92,682 tokens a head has 2^32 weights, and on a sharp head nearly all of them are in one bin."""
    assert compiled.MOST_TOKENS * (compiled.MOST_TOKENS - 1) // 2 < 2**32
    monkeypatch.setattr(compiled, "MOST_TOKENS", 19)
    made: list[int] = []
    read = compiled.CompiledReading.read
    monkeypatch.setattr(
        compiled.CompiledReading, "read", lambda self, *rest: made.append(self.n_tokens) or read(self, *rest)
    )
    for n_tokens in (19, 20):
        query = torch.randn(2, n_tokens, 8)
        fast.attend(query, query, query, 1.0, None, LayerTally(2, n_tokens, torch.device("cpu")))
    assert 20 not in made
    assert bool(made) == (fast.checked_attend() is not None)
