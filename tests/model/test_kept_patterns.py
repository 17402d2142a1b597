"""Weights made again after a run are the model's own: from what was kept, and from another run of the model."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from families import build_family
from numpy.typing import NDArray
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from laminar_tui.errors import CancelledError, UntrustedWeightsError, UsageError
from laminar_tui.model import eager, fast
from laminar_tui.model.capture import capture
from laminar_tui.model.check import eager_patterns, read_recipe
from laminar_tui.model.patterns import KeptPatterns
from laminar_tui.model.recipes import RECIPES
from laminar_tui.profile.parts import POPULATIONS, SINK_CHOICES, SinkChoice
from laminar_tui.profile.patterns import Interruptible
from laminar_tui.profile.profile import Profile

BY_TAP = ("gpt_neox", "gpt2", "llama", "mistral", "gemma2", "gpt_oss", "opt", "phimoe", "deepseek_v3", "doge")
BY_HOOKS = ("falcon", "bloom")
N_TOKENS = 18  # beyond the window of 8 that the tiny configs have where a family has one
SAME = 1e-6
"""In one piece the family's own function is run on the same numbers: only the last digit may differ."""
BANDS = (0.0, 1e-4, 1e-2, 0.1, 0.6, 1.0)

EVERY_CHOICE = [(population, sink) for population in POPULATIONS for sink in SINK_CHOICES]

Kept = tuple[PreTrainedModel, KeptPatterns, Profile]


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Any:
    """Every test here leaves the registries as they were, also those that end in an error."""
    before = dict(AttentionInterface._global_mapping), dict(AttentionMaskInterface._global_mapping)
    yield
    assert (AttentionInterface._global_mapping, AttentionMaskInterface._global_mapping) == before


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """Tiny products are slower with two threads, and much slower beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ids(n_tokens: int = N_TOKENS, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 60, (1, n_tokens), generator=torch.Generator().manual_seed(seed))


def captured(family: str, keep_bytes: int = 2**30, **options: Any) -> Kept:
    model, kept = build_family(family), KeptPatterns(keep_bytes)
    profile = capture(model, options.pop("input_ids", ids()), keep=kept, **options)
    return model, kept, profile


def state(model: PreTrainedModel) -> dict[str, Any]:
    """What a question must not change about a model."""
    return {
        name: (
            module.training,
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            getattr(getattr(module, "config", None), "_attn_implementation", None),
            torch.is_grad_enabled(),
        )
        for name, module in model.named_modules()
    }


def dense(pattern: torch.Tensor, n_tokens: int = N_TOKENS) -> NDArray[np.float32]:
    return pattern[..., :n_tokens].numpy()


def assert_patterns(source: KeptPatterns, profile: Profile, truth: list[torch.Tensor], atol: float = SAME) -> None:
    layers = [index for index, layer in enumerate(profile.layers) if layer is not None]
    assert len(layers) == len(truth)
    for layer, expected in zip(layers, truth, strict=True):
        for head in range(len(expected)):
            found = source.pattern(layer, head)
            assert np.isnan(found).sum() > 0, "the future is hidden"
            np.testing.assert_allclose(np.nan_to_num(found), dense(expected[head]), atol=atol, rtol=0)


# -- the truth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", BY_TAP + BY_HOOKS)
@pytest.mark.parametrize("keep_bytes", [2**30, 0], ids=["kept", "run again"])
def test_a_pattern_is_the_models_own(family: str, keep_bytes: int) -> None:
    model, kept, profile = captured(family, keep_bytes)
    assert bool(kept.kept_layers) == (keep_bytes > 0 and family in BY_TAP)
    truth = eager_patterns(model, ids())  # transformers leaves hooks of its own
    before = state(model)
    assert_patterns(kept, profile, truth)
    assert state(model) == before


@pytest.mark.parametrize(
    ("family", "keep_bytes", "choices"),
    [
        ("gpt_oss", 2**30, EVERY_CHOICE),
        ("mistral", 2**30, EVERY_CHOICE),
        ("mistral", 0, [("all", "without")]),
        ("bloom", 0, [("all", "with"), ("final", "with")]),
    ],
)
def test_the_entries_of_a_partition_are_as_many_as_the_profile_counts(
    family: str, keep_bytes: int, choices: list[tuple[str, SinkChoice]]
) -> None:
    model, kept, profile = captured(family, keep_bytes)
    truth = dense(eager_patterns(model, ids())[1])
    for population, sink in choices:
        found = [kept.entries(1, low, high, population=population, sink=sink) for low, high in pairwise(BANDS)]
        n = profile.layer(1).head_counts(population, sink).n
        places = {place for each in found for place in zip(each.head, each.query, each.key, strict=True)}
        assert len(places) == sum(each.n for each in found) == n.sum(), (population, sink)
        heads = np.concatenate([each.head for each in found])
        assert np.bincount(heads, minlength=len(n)).tolist() == n.tolist()
        for each in found:
            np.testing.assert_allclose(each.weight, truth[each.head, each.query, each.key], atol=SAME, rtol=0)
            assert each.is_complete


def test_the_entries_behind_a_cell_are_those_of_the_dense_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    model, kept, _ = captured("llama")
    monkeypatch.setattr(eager, "CHUNK_WEIGHTS", 4 * N_TOKENS * 5)  # five rows of four heads
    pattern = np.stack([kept.pattern(1, head) for head in range(4)])
    query, key = np.indices((N_TOKENS, N_TOKENS))
    places = np.argwhere((pattern >= 0.05) & (pattern < 0.4) & (key < query) & (key > 0))
    places = sorted(places.tolist(), key=lambda place: -pattern[tuple(place)])
    assert len(places) > 30
    found = kept.entries(1, 0.05, 0.4, population="past", sink="without", limit=20)
    assert np.stack([found.head, found.query, found.key], axis=1).tolist() == places[:20]
    assert (found.n, found.n_shown) == (len(places), 20)
    of_head = kept.entries(1, 0.05, 0.4, population="past", sink="without", head=2)
    assert np.stack([of_head.head, of_head.query, of_head.key], axis=1).tolist() == [p for p in places if p[0] == 2]
    np.testing.assert_allclose(np.nan_to_num(pattern), dense(eager_patterns(model, ids())[1]), atol=1e-5)


@pytest.mark.parametrize("keep_bytes", [2**30, 0], ids=["kept", "run again"])
def test_only_the_pieces_that_are_asked_for_are_made(keep_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "AT_LEAST_TOKENS", 10**9)  # the pieces are the tap's
    _, kept, _ = captured("llama", keep_bytes)
    whole = kept.pattern(1, 3)
    monkeypatch.setattr(eager, "CHUNK_WEIGHTS", 4 * N_TOKENS * 5)
    made: list[int] = []
    own = eager.own_attention_function

    def counted(module: Any) -> Any:
        def attend(*args: Any, **kwargs: Any) -> Any:
            if module.layer_idx == 1:
                made.append(args[1].shape[2])
            return own(module)(*args, **kwargs)

        return attend

    monkeypatch.setattr(eager, "own_attention_function", counted)
    np.testing.assert_allclose(kept.rows(1, 3, 6, 9), whole[6:9], atol=1e-5)
    assert made == [5], "the second of four pieces"
    made.clear()
    assert kept.entries(1, 0, 1, population="final", sink="with").n == 4 * (N_TOKENS - 1)
    assert made == [3], "the last one"


@pytest.mark.parametrize("keep_bytes", [2**30, 0], ids=["kept", "run again"])
@pytest.mark.parametrize("family", ["gpt_neox", "llama", "mistral"])
def test_after_the_fast_path(family: str, keep_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "AT_LEAST_TOKENS", 2)
    model, kept, profile = captured(family, keep_bytes)
    assert profile.origin.mechanism == "fast"
    assert bool(kept.kept_layers) == (keep_bytes > 0)
    # What the layers before put out was made of tiles, which are multiplied in another order.
    assert_patterns(kept, profile, eager_patterns(model, ids()), atol=1e-5)
    whole = [
        kept.entries(1, 0, 1, population="past", sink="with"),
        *(kept.entries(1, 0, 1, population="past", sink="with", head=head) for head in range(4)),
    ]
    for head, alone in enumerate(whole[1:]):
        of_head = whole[0].head == head
        assert (alone.head == head).all()
        assert alone.n == of_head.sum() == profile.layer(1).head_counts("past").n[head]
        np.testing.assert_allclose(alone.weight, whole[0].weight[of_head], atol=SAME, rtol=0)


def test_of_a_plain_layer_one_head_is_made_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "AT_LEAST_TOKENS", 2)
    _, kept, _ = captured("llama")
    monkeypatch.setattr(eager, "own_attention_function", lambda _module: pytest.fail("all heads were made"))
    monkeypatch.setattr(eager, "CHUNK_WEIGHTS", N_TOKENS * 5)  # five rows of one head
    pattern = kept.pattern(1, 3)
    assert (np.isfinite(pattern) == np.tril(np.ones((N_TOKENS, N_TOKENS), bool))).all()
    np.testing.assert_allclose(np.nansum(pattern, axis=1), 1, atol=1e-6)


def test_after_the_fast_path_gave_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "AT_LEAST_TOKENS", 2)
    fits = fast.fits
    calls = iter(range(10**6))
    monkeypatch.setattr(fast, "fits", lambda *args: fits(*args) and next(calls) != 3)
    model, kept, profile = captured("gpt_neox")
    assert profile.origin.mechanism == "tap"
    assert_patterns(kept, profile, eager_patterns(model, ids()))
    assert "run again" not in kept.scope


def test_a_half_precision_model_gives_float32_weights(tiny_model: Callable[..., Any]) -> None:
    model, kept = tiny_model("llama", dtype=torch.bfloat16), KeptPatterns()
    profile = capture(model, ids(), keep=kept)
    found = kept.rows(0, 1, N_TOKENS - 1, N_TOKENS)[0]
    # The same scores, whose exponentials are summed in another order.
    np.testing.assert_allclose(found, profile.layer(0).final_weights[1], rtol=1e-6, atol=0)
    assert kept._calls[0].query.dtype == torch.bfloat16, "kept as small as it was"


# -- controls, batches, padding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_control_gives_its_own_weights(recipe: str) -> None:
    model, kept, profile = captured("gpt_neox", recipe=recipe)
    assert_patterns(kept, profile, read_recipe(model, ids(), RECIPES[recipe]))
    truth = eager_patterns(model, ids())
    assert np.abs(np.nan_to_num(kept.pattern(0, 0)) - dense(truth[0][0])).max() > 0.1
    assert recipe in kept.scope
    assert kept.kept_layers == ()


@pytest.mark.parametrize("side", ["left", "right"])
def test_of_a_batch_the_first_prompt_is_looked_at(side: str) -> None:
    first, second = ids(N_TOKENS), ids(N_TOKENS + 3, seed=1)
    pad = torch.zeros(1, 3, dtype=torch.long)
    pair = (pad, first) if side == "left" else (first, pad)
    mask = torch.cat([torch.cat([torch.ones_like(each) if each is first else pad for each in pair], 1), second * 0 + 1])
    batch = torch.cat([torch.cat(pair, dim=1), second])
    model, kept, profile = captured("llama", input_ids=batch, attention_mask=mask)
    assert kept.kept_layers == ()
    assert kept.scope == "every query of the first of 2 prompts; the model is run again when asked for"
    assert_patterns(kept, profile, eager_patterns(model, first))


# -- memory ----------------------------------------------------------------------------------------------------------


def held(kept: KeptPatterns) -> int:
    """The bytes of all tensors that are kept and are no parameter, each storage once."""
    storages = {}
    for call in kept._calls.values():
        for tensor in (call.query, call.key, call.value, call.mask, *call.kwargs.values()):
            if isinstance(tensor, torch.Tensor) and not isinstance(tensor, torch.nn.Parameter):
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values())


def test_the_bound_is_kept_and_the_layers_that_cost_least_to_read_again_go_first(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "AT_LEAST_TOKENS", 10**9)  # the tap is handed a mask, the fast path none
    model = tiny_model("llama", num_hidden_layers=6)
    everything = KeptPatterns()
    capture(model, ids(), keep=everything)
    one = N_TOKENS * (32 + 16) * 4  # queries of four heads and keys of two, 8 numbers each
    mask = N_TOKENS * N_TOKENS * 4
    small = everything.n_bytes - 6 * one - mask
    assert 0 <= small < 2 * N_TOKENS * 8, "nothing but positions beside queries, keys and one mask for all layers"
    seen: list[int] = []
    keep = KeptPatterns.keep

    def watched(self: KeptPatterns, layer: int, call: Any) -> None:
        keep(self, layer, call)
        seen.append(held(self))

    monkeypatch.setattr(KeptPatterns, "keep", watched)
    some = KeptPatterns(3 * one + mask + small)
    profile = capture(model, ids(), keep=some)
    assert some.kept_layers == (3, 4, 5)
    assert "layers 0-2 are run again" in some.scope
    assert [some.reads_again(layer) for layer in range(6)] == [True, True, True, False, False, False]
    assert_patterns(some, profile, eager_patterns(model, ids()))
    assert len(seen) > 6
    assert max(seen) <= some.keep_bytes
    assert held(some) == some.n_bytes


def test_a_layer_that_was_run_again_is_at_hand_for_the_next_question(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama", num_hidden_layers=4)
    everything, some = KeptPatterns(), KeptPatterns()
    capture(model, ids(), keep=everything)
    some.keep_bytes = everything.n_bytes - 1
    capture(model, ids(), keep=some)
    assert some.kept_layers == (1, 2, 3)
    entered: list[int] = []
    for index, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(lambda _module, _args, index=index: entered.append(index))
    some.pattern(1, 0)
    assert entered == [], "this one is kept"
    some.pattern(0, 0)
    assert entered == [0], "the forward is stopped in the layer that was asked for"
    some.pattern(0, 3)
    assert entered == [0]
    assert some.kept_layers == (0, 1, 3), "what was not used for longest has gone"


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gpt_oss"])
def test_nothing_is_held_but_what_the_weights_are_made_of(family: str, tiny_model: Callable[..., Any]) -> None:
    """GPT-2's query and key are views of the fused output: they must not hold its values."""
    model, kept = tiny_model(family), KeptPatterns()
    model.train()  # gradients are on outside of the capture
    capture(model, ids(), keep=kept)
    for call in kept._calls.values():
        for tensor in (call.query, call.key) if call.mask is None else (call.query, call.key, call.mask):
            assert tensor.grad_fn is None
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        assert call.value.untyped_storage().nbytes() == 4


def test_a_session_keeps_by_default_and_the_headless_commands_do_not(
    model_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laminar_tui import run

    kept: list[int] = []
    keep = KeptPatterns.keep
    monkeypatch.setattr(KeptPatterns, "keep", lambda self, layer, call: kept.append(layer) or keep(self, layer, call))
    request = run.Request(str(model_folder), "a short prompt")
    run.run(request)
    assert kept == []
    session = run.Session()
    assert session.patterns is None
    profile = session.run(request, lambda _event: None, lambda: False)
    assert kept == [0, 1]
    assert session.patterns is not None
    row = session.patterns.rows(1, 2, profile.n_tokens - 1, profile.n_tokens)[0]
    np.testing.assert_array_equal(row, profile.layer(1).final_weights[2])
    during: list[object] = []
    session.run(request, lambda _event: during.append(session.patterns), lambda: False)
    assert set(during) == {None}, "the old run's are let go of before the next one"


# -- questions that cannot be answered -------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "keep_bytes"), [("llama", 2**30), ("llama", 0), ("bloom", 0)])
def test_a_question_can_be_cancelled_and_leaves_the_model_as_it_was(
    family: str, keep_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, kept, _ = captured(family, keep_bytes)
    model.train()
    before = state(model)
    assert isinstance(kept, Interruptible)
    monkeypatch.setattr(eager, "CHUNK_WEIGHTS", 1)  # one row at a time
    for n_passed in (0, 3):
        asked = iter(range(100))
        with pytest.raises(CancelledError):
            kept.until(lambda asked=asked, n=n_passed: next(asked) >= n).pattern(1, 0)
        assert next(asked) == n_passed + 1, "it was not asked again"
    assert state(model) == before
    assert kept.pattern(1, 0).shape == (N_TOKENS, N_TOKENS), "the next one is answered"
    assert state(model) == before


def test_dropout_is_off_also_when_weights_are_made_again(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("gpt2", attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5)
    for keep_bytes in (2**30, 0):
        kept = KeptPatterns(keep_bytes)
        profile = capture(model.train(), ids(), keep=kept)
        assert_patterns(kept, profile, eager_patterns(model, ids()))
        assert model.training


def test_what_is_not_there_is_refused_in_words() -> None:
    _, kept, _ = captured("jamba")
    with pytest.raises(UsageError, match="no layer 99"):
        kept.pattern(99, 0)
    with pytest.raises(UsageError, match="no attention"):
        kept.entries(0, 0, 1, population="past", sink="with")
    with pytest.raises(UsageError, match="no head 99"):
        kept.pattern(1, 99)
    with pytest.raises(UsageError, match="no head -1"):
        kept.entries(1, 0, 1, population="past", sink="with", head=-1)
    with pytest.raises(UsageError, match="no population"):
        kept.entries(1, 0, 1, population="future", sink="with")
    with pytest.raises(UsageError, match="no queries"):
        kept.rows(1, 0, 5, 3)
    with pytest.raises(UsageError, match="no run"):
        KeptPatterns().pattern(0, 0)


def test_one_token_has_a_pattern_and_no_entries() -> None:
    _, kept, _ = captured("llama", input_ids=ids(1))
    np.testing.assert_allclose(kept.pattern(0, 0), [[1.0]], atol=SAME)
    for population in POPULATIONS:
        assert kept.entries(0, 0, 1, population=population, sink="with").n == 0


def test_a_model_that_attends_in_another_order_is_not_believed() -> None:
    model, kept, _ = captured("llama", 0)
    for layer in model.model.layers:
        layer.self_attn.forward = lambda hidden_states, **_kwargs: (hidden_states, None)
    with pytest.raises(UntrustedWeightsError, match="another order"):
        kept.pattern(1, 0)


def test_library_use(tiny_model: Callable[..., Any]) -> None:
    import laminar_tui

    kept = laminar_tui.KeptPatterns()
    laminar_tui.capture(tiny_model("gpt_neox"), list(range(12)), keep=kept)
    assert kept.pattern(layer=1, head=3).shape == (12, 12)
    assert kept.scope == "every query, from queries and keys in memory"


def test_a_capture_that_was_cancelled_answers_nothing_not_even_for_the_one_before() -> None:
    model, kept, _ = captured("llama")
    read: list[int] = []
    with pytest.raises(CancelledError):
        capture(model, ids(9), keep=kept, on_layer=lambda layer, _: read.append(layer), is_cancelled=lambda: bool(read))
    with pytest.raises(UsageError, match="no run"):
        kept.pattern(0, 0)
    assert kept.kept_layers == (0,)
