"""What the tap reads is what the model uses: compared with the model's own eager weights, family by family."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AttentionInterface, AttentionMaskInterface

import laminar_tui
from laminar_tui.errors import CancelledError, ModelError, PromptError, UntrustedWeightsError
from laminar_tui.model import eager, fast
from laminar_tui.model.capture import capture
from laminar_tui.model.patterns import KeptPatterns
from laminar_tui.profile.counts import Counts, count_weights
from laminar_tui.profile.parts import POPULATIONS, SINK_CHOICES
from laminar_tui.profile.profile import LayerProfile, Profile
from laminar_tui.profile.statistics import STATISTICS, pattern_statistics

FAMILIES = ("gpt_neox", "gpt2", "llama", "mistral", "gemma2", "gpt_oss")
ROTARY = ("gpt_neox", "llama", "mistral", "gemma2", "gpt_oss")
WINDOWED = {"mistral": (0, 1), "gemma2": (0,), "gpt_oss": (0,)}
"""Which layers see WINDOW keys only; all prompts here are longer."""
WINDOW = 7
N_TOKENS = 24

SUMS = 1e-5
"""float32 weights of two ways to the same softmax, summed up: a few 1e-7 a weight at most."""
AT_AN_EDGE = 4
"""Weights that differ in the last float32 bit may fall on two sides of a bin's edge; few are that close to one."""
NUMBERS = 2e-4
"""Entropies and ratios of weights that differ in the last bits, accumulated over a row."""

TinyModel = Callable[..., Any]
Entries = Callable[[str, str, int], NDArray[np.bool_]]
SameProfile = Callable[[Profile, Profile], None]


@pytest.fixture(autouse=True)
def by_tap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tap is looked at here; `test_fast.py` compares the fast path with it."""
    monkeypatch.setattr(fast, "AT_LEAST_TOKENS", 10**9)


def prompt(n_tokens: int = N_TOKENS, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (1, n_tokens), generator=torch.Generator().manual_seed(seed))


def eager_patterns(model: Any, ids: torch.Tensor, mask: torch.Tensor | None = None) -> list[NDArray[np.float32]]:
    """The weights [n_heads, query, key] that the model's own eager attention gives, layer by layer."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            found = model(input_ids=ids, attention_mask=mask, output_attentions=True, use_cache=False).attentions
    finally:
        model.set_attn_implementation(before)
    return [weights[0].float().numpy() for weights in found]


def allowed_entries(family: str, layer: int, n_tokens: int) -> NDArray[np.bool_]:
    q, k = np.indices((n_tokens, n_tokens))
    sees = k <= q
    return sees & (q - k < WINDOW) if layer in WINDOWED.get(family, ()) else sees


def assert_counts_close(found: Counts, expected: Counts, at_an_edge: int = AT_AN_EDGE, sums: float = SUMS) -> None:
    assert found.n == expected.n
    assert found.total == pytest.approx(float(expected.total), abs=sums)
    assert found.total_sq == pytest.approx(float(expected.total_sq), abs=sums)
    assert np.abs(found.hits.cumsum() - expected.hits.cumsum()).max() <= at_an_edge


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Any:
    """Every test here leaves the registries as they were, also those that end in an error."""
    before = dict(AttentionInterface._global_mapping), dict(AttentionMaskInterface._global_mapping)
    yield
    assert (AttentionInterface._global_mapping, AttentionMaskInterface._global_mapping) == before


# -- the truth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_are_those_of_the_eager_weights(
    family: str, tiny_model: TinyModel, entries_of_population: Entries
) -> None:
    model, ids = tiny_model(family), prompt()
    profile, truth = capture(model, ids), eager_patterns(model, ids)
    assert profile.n_read == len(truth) == 2
    for population in POPULATIONS:
        for sink in SINK_CHOICES:
            counts = profile.counts(population, sink)
            for layer, pattern in enumerate(truth):
                chosen = entries_of_population(population, sink, N_TOKENS) & allowed_entries(family, layer, N_TOKENS)
                for head, weights in enumerate(pattern):
                    assert_counts_close(counts[layer, head], count_weights(weights[chosen]))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_is_that_of_the_eager_weights(family: str, tiny_model: TinyModel) -> None:
    model, ids = tiny_model(family), prompt()
    found = capture(model, ids).statistics
    assert found.keys() == STATISTICS.keys()
    for layer, pattern in enumerate(eager_patterns(model, ids)):
        for head, weights in enumerate(pattern):
            expected = pattern_statistics(weights, allowed_entries(family, layer, N_TOKENS))
            here = {name: values[layer, head] for name, values in found.items()}
            assert here == pytest.approx(expected, rel=NUMBERS, abs=NUMBERS, nan_ok=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_final_weights_and_key_shares_are_those_of_the_eager_weights(family: str, tiny_model: TinyModel) -> None:
    model, ids = tiny_model(family), prompt()
    profile = capture(model, ids)
    for layer, pattern in zip(profile.layers, eager_patterns(model, ids), strict=True):
        assert layer is not None
        np.testing.assert_allclose(layer.final_weights, pattern[:, -1], atol=1e-6)
        mean = pattern.sum(axis=1) / np.arange(N_TOKENS, 0, -1)
        np.testing.assert_allclose(layer.key_shares, mean, atol=1e-6)


def test_a_family_with_sink_logits_loses_mass_off_the_sequence_and_says_so(tiny_model: TinyModel) -> None:
    profile = capture(tiny_model("gpt_oss"), prompt())
    assert (profile.statistics["off_sequence"] > 1e-3).all()
    assert any("sink logits" in check.name for check in profile.origin.checks)
    assert (np.abs(capture(tiny_model("llama"), prompt()).statistics["off_sequence"]) < 1e-5).all()


@pytest.mark.parametrize("family", WINDOWED)
def test_what_a_window_hides_is_no_weight(family: str, tiny_model: TinyModel) -> None:
    counts = capture(tiny_model(family), prompt()).counts("past")
    for layer in (0, 1):
        n = int(np.tril(allowed_entries(family, layer, N_TOKENS), -1).sum())
        assert counts.n[layer].tolist() == [n] * 4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_forward_is_the_models_own(family: str, tiny_model: TinyModel) -> None:
    model, ids = tiny_model(family), prompt()
    outputs: list[torch.Tensor] = []  # those of the checks on few tokens, the capture's, then the model's own
    handle = model.base_model.register_forward_hook(lambda _module, _args, output: outputs.append(output[0]))
    capture(model, ids)
    with torch.no_grad():
        model(ids)
    handle.remove()
    captured = next(output for output in outputs if output.shape == outputs[-1].shape)
    assert captured is not outputs[-1]
    torch.testing.assert_close(captured, outputs[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_read_in_pieces_are_the_weights_read_at_once(
    family: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = tiny_model(family), prompt()
    whole = capture(model, ids)
    pieces: list[slice] = []
    cut = eager._row_chunks

    def counted(*args: Any) -> list[slice]:
        pieces.extend(cut(*args))
        return cut(*args)

    monkeypatch.setattr(eager, "_row_chunks", counted)
    monkeypatch.setattr(eager, "CHUNK_WEIGHTS", 4 * N_TOKENS * 5)  # five rows of four heads
    cut_up = capture(model, ids)
    five_at_a_time = [slice(start, min(start + 5, N_TOKENS)) for start in range(0, N_TOKENS, 5)]
    assert pieces[:10] == 2 * five_at_a_time, "two layers of 24 rows"
    assert_profiles_close(cut_up, whole)


def assert_profiles_close(found: Profile, expected: Profile, at_an_edge: int = AT_AN_EDGE) -> None:
    for one, other in zip(found.layers, expected.layers, strict=True):
        assert one is not None
        assert other is not None
        for part, packed in one.parts.items():
            for head in range(one.n_heads):
                assert_counts_close(packed.unpack()[head], other.parts[part].unpack()[head], at_an_edge)
        for name in STATISTICS:
            np.testing.assert_allclose(one.statistics[name], other.statistics[name], rtol=NUMBERS, atol=NUMBERS)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # A bfloat16 has 8 bits, a float16 11: the eager weights are rounded to them, and layer 1 sees rounded inputs.
    [(torch.bfloat16, 1e-2), (torch.float16, 5e-3)],
)
def test_half_precision_models_agree_with_eager_in_their_dtype(
    family: str, dtype: torch.dtype, tolerance: float, tiny_model: TinyModel
) -> None:
    # Scores of moderate size: where they are large, rounding of the *scores* is what eager is wrong by.
    model, ids = tiny_model(family, dtype=dtype, initializer_range=0.1), prompt()
    profile = capture(model, ids)
    assert profile.origin.dtype == str(dtype).removeprefix("torch.")
    for layer, pattern in zip(profile.layers, eager_patterns(model, ids), strict=True):
        assert layer is not None
        np.testing.assert_allclose(layer.final_weights, pattern[:, -1], atol=tolerance)


def test_half_precision_weights_are_no_comb(tiny_model: TinyModel) -> None:
    layer = capture(tiny_model("llama", dtype=torch.bfloat16), prompt(48)).layer(0)
    weights = layer.final_weights
    assert weights is not None
    assert (weights != torch.from_numpy(weights).bfloat16().float().numpy()).mean() > 0.9


# -- batches and padding ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ROTARY)
def test_padded_prompts_together_are_the_prompts_one_by_one(family: str, side: str, tiny_model: TinyModel) -> None:
    model = tiny_model(family)
    prompts = [prompt(n, seed=n) for n in (9, 14, 11)]
    ids, mask = torch.zeros(3, 14, dtype=torch.long), torch.zeros(3, 14, dtype=torch.long)
    for row, each in enumerate(prompts):
        where = slice(14 - each.shape[1], 14) if side == "left" else slice(0, each.shape[1])
        ids[row, where], mask[row, where] = each[0], 1
    together, alone = capture(model, ids, mask), [capture(model, each) for each in prompts]
    for index, layer in enumerate(together.layers):
        assert layer is not None
        for part, packed in layer.parts.items():
            expected = Counts.empty((4,))
            for profile in alone:
                expected = expected + profile.layer(index).parts[part].unpack()
            for head in range(4):
                assert_counts_close(packed.unpack()[head], expected[head], at_an_edge=3 * AT_AN_EDGE)
        for name in STATISTICS:
            mean = np.mean([profile.layer(index).statistics[name] for profile in alone], axis=0)
            np.testing.assert_allclose(layer.statistics[name], mean, rtol=NUMBERS, atol=NUMBERS)
        assert layer.final_weights is None


@pytest.mark.parametrize("n_first", [1, 6])
def test_a_prompt_of_one_token_may_stand_among_longer_ones(n_first: int, tiny_model: TinyModel) -> None:
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[0, n_first:] = 0
    mask[1, 7 - n_first :] = 0
    profile = capture(tiny_model("llama"), torch.cat([prompt(6, 1), prompt(6, 2)]), mask)
    assert profile.counts("all").n.tolist() == [[20] * 4] * 2
    assert np.isfinite(profile.statistics["gini"]).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_prompt_alone_can_be_saved(side: str, tiny_model: TinyModel, tmp_path: Any) -> None:
    mask = torch.ones(1, 10, dtype=torch.long)
    mask[0, slice(0, 3) if side == "left" else slice(7, 10)] = 0
    profile = capture(tiny_model("llama"), prompt(10), mask)
    assert profile.n_tokens == 7, "padding is no token of the prompt"
    profile.save(tmp_path / "run.laminar")
    assert Profile.load(tmp_path / "run.laminar").layer(0).final_weights.shape == (4, 7)


@pytest.mark.parametrize(("second", "n_tokens"), [(12, 12), (7, 0)])
def test_prompts_of_different_lengths_have_no_length(second: int, n_tokens: int, tiny_model: TinyModel) -> None:
    """Nulls and sinks go by it: what holds for the first prompt alone is not said of all of them."""
    mask = torch.tensor([[1] * 12, [1] * second + [0] * (12 - second)])
    kept = KeptPatterns()
    profile = capture(tiny_model("llama"), torch.cat([prompt(12, 1), prompt(12, 2)]), mask, keep=kept)
    assert (profile.n_tokens, profile.total_tokens) == (n_tokens, 12 + second)
    assert kept.pattern(0, 0).shape == (12, 12), "the first prompt's exact weights are at hand all the same"


def test_padding_within_a_prompt_is_refused(tiny_model: TinyModel) -> None:
    mask = torch.tensor([[1, 1, 0, 1]])
    with pytest.raises(PromptError, match="within"):
        capture(tiny_model("llama"), prompt(4), mask)


def test_a_prompt_that_is_all_padding_is_refused(tiny_model: TinyModel) -> None:
    with pytest.raises(PromptError, match="no tokens"):
        capture(tiny_model("llama"), prompt(4), torch.zeros(1, 4))


# -- short and wrong prompts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_one_token_is_all_origin(family: str, tiny_model: TinyModel) -> None:
    profile = capture(tiny_model(family), prompt(1))
    for layer in profile.layers:
        assert layer is not None
        assert {
            part: packed.unpack().n.tolist() for part, packed in layer.parts.items() if packed.unpack().n.any()
        } == {"origin": [1] * 4}
        if family != "gpt_oss":
            np.testing.assert_allclose(layer.parts["origin"].total, 1, atol=1e-6)
    assert all(np.isnan(values).all() for values in profile.statistics.values())


def test_one_token_can_be_saved(tiny_model: TinyModel, same_profile: SameProfile, tmp_path: Any) -> None:
    profile = capture(tiny_model("llama"), prompt(1))
    profile.save(tmp_path / "one.laminar")
    same_profile(Profile.load(tmp_path / "one.laminar"), profile)


def test_two_tokens_have_no_content(tiny_model: TinyModel) -> None:
    layer = capture(tiny_model("llama"), prompt(2)).layer(0)
    n = {part: int(packed.unpack().n[0]) for part, packed in layer.parts.items()}
    assert n == {"origin": 1, "self": 1, "sink": 1, "content": 0} | {
        "final.self": 1,
        "final.sink": 1,
        "final.content": 0,
    }


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (torch.zeros(1, 0, dtype=torch.long), "no tokens"),
        ([], "no tokens"),
        (torch.zeros(1, 65, dtype=torch.long), "65 tokens"),
        (torch.tensor([[1, 300]]), "id 300"),
        (torch.tensor([[1, -1]]), "id -1"),
    ],
)
def test_a_prompt_that_the_model_cannot_take_is_refused_before_the_forward(
    family: str, ids: Any, words: str, tiny_model: TinyModel
) -> None:
    model = tiny_model(family)
    model.base_model.forward = lambda *_args, **_kwargs: pytest.fail("the forward was run")
    with pytest.raises(PromptError, match=words):
        capture(model, ids)


def test_the_longest_prompt_is_taken(tiny_model: TinyModel) -> None:
    assert capture(tiny_model("gpt2"), prompt(64)).n_tokens == 64


# -- models that cannot be read --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*causal_conv1d.*", "ignore:.*selective_scan.*")
def test_a_model_without_attention_is_refused(tiny_model: TinyModel) -> None:
    with pytest.raises(ModelError, match="no softmax attention"):
        capture(tiny_model("mamba"), prompt(6))


def test_a_model_with_undefined_parameters_is_not_believed(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight[0, 0] = float("nan")
    seen: list[int] = []
    with pytest.raises(UntrustedWeightsError, match="not finite"):
        capture(model, prompt(), on_layer=lambda index, _layer: seen.append(index))
    assert seen == [0], "the layer before was read and given"


def test_a_model_that_attends_to_later_tokens_is_not_believed(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    for layer in model.model.layers:
        forward = layer.self_attn.forward
        layer.self_attn.forward = lambda *args, forward=forward, **kwargs: forward(
            *args, **(kwargs | {"attention_mask": None})
        )
    with pytest.raises(UntrustedWeightsError, match="later"):
        capture(model, prompt())


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda weights: weights * 1.01, "sum to"), (lambda weights: weights - 0.01, "negative")],
)
def test_weights_that_are_no_softmax_are_not_believed(
    change: Callable[[torch.Tensor], torch.Tensor],
    words: str,
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = eager.own_attention_function

    def changed(module: Any) -> Any:
        def attend(*args: Any, **kwargs: Any) -> Any:
            output, weights = own(module)(*args, **kwargs)
            return output, change(weights)

        return attend

    monkeypatch.setattr(eager, "own_attention_function", changed)
    with pytest.raises(UntrustedWeightsError, match=words):
        capture(tiny_model("llama"), prompt())


def test_a_layer_that_was_not_seen_is_missed(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    hidden = model.model.layers[1].self_attn
    hidden.forward = lambda hidden_states, **_kwargs: (hidden_states, None)
    with pytest.raises(UntrustedWeightsError, match=r"^1 .*unseen"):
        capture(model, prompt())


# -- the model is left as it was found -------------------------------------------------------------------------------


class NoisyError(Exception):
    """Raised by a listener."""


def _no_error(_index: int, _layer: LayerProfile) -> None:
    return None


def _error(_index: int, _layer: LayerProfile) -> None:
    raise NoisyError


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("on_layer", "is_cancelled", "ends_with"),
    [(_no_error, lambda: False, None), (_error, lambda: False, NoisyError), (_no_error, lambda: True, CancelledError)],
    ids=["success", "error", "cancel"],
)
def test_the_attention_of_the_model_is_put_back(
    implementation: str, on_layer: Any, is_cancelled: Any, ends_with: Any, tiny_model: TinyModel
) -> None:
    model, ids = tiny_model("llama"), prompt()
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        before = model(ids).logits
    if ends_with is None:
        capture(model, ids, on_layer=on_layer, is_cancelled=is_cancelled)
    else:
        with pytest.raises(ends_with):
            capture(model, ids, on_layer=on_layer, is_cancelled=is_cancelled)
    assert model.config._attn_implementation == implementation
    assert all(layer.self_attn.config._attn_implementation == implementation for layer in model.model.layers)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_is_put_back_also_after_an_error(training: bool, tiny_model: TinyModel) -> None:
    model = tiny_model("gpt2", attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5).train(training)
    first, second = capture(model, prompt()), capture(model, prompt())
    assert model.training == training
    np.testing.assert_array_equal(first.counts("all").hits, second.counts("all").hits, "dropout is off in a capture")
    with pytest.raises(NoisyError):
        capture(model, prompt(), on_layer=_error)
    assert model.training == training


def test_a_frozen_part_of_a_model_in_training_stays_as_it_is(tiny_model: TinyModel) -> None:
    model = tiny_model("gpt2").train()
    model.transformer.h[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    capture(model, prompt())
    assert {name: module.training for name, module in model.named_modules()} == before


def test_no_gradients_are_kept_and_none_are_lost(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    capture(model, prompt())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_captures_of_two_models_do_not_meet(tiny_model: TinyModel) -> None:
    outer, inner = tiny_model("llama"), tiny_model("gpt2")
    alone = capture(inner, prompt())
    met: list[Profile] = []
    capture(outer, prompt(), on_layer=lambda _index, _layer: met.append(capture(inner, prompt())))
    for profile in met:
        np.testing.assert_array_equal(profile.counts("all").hits, alone.counts("all").hits)


# -- events and cancelling -------------------------------------------------------------------------------------------


def test_layers_are_given_as_they_are_read_and_are_those_of_the_profile(tiny_model: TinyModel) -> None:
    given: list[tuple[int, LayerProfile]] = []
    profile = capture(
        tiny_model("llama", num_hidden_layers=3), prompt(), on_layer=lambda index, layer: given.append((index, layer))
    )
    assert [index for index, _ in given] == [0, 1, 2]
    assert all(profile.layers[index] is layer for index, layer in given)


def test_a_cancel_stops_within_a_layer_and_the_layers_before_were_given(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "CHUNK_WEIGHTS", 1)  # one row at a time
    given: list[int] = []
    asked_after: list[int] = []

    def is_cancelled() -> bool:
        if len(given) == 1:
            asked_after.append(1)
        return len(asked_after) >= 3  # the begin of layer 1 and its first piece pass, the second does not

    model = tiny_model("gpt2", n_layer=3)
    with pytest.raises(CancelledError):
        capture(model, prompt(), on_layer=lambda index, _layer: given.append(index), is_cancelled=is_cancelled)
    assert given == [0]
    assert len(asked_after) == 3


# -- as a library ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [list(range(12)), torch.arange(12), torch.arange(12)[None], np.arange(12)])
def test_library_use(ids: Any, tiny_model: TinyModel, tmp_path: Any, same_profile: SameProfile) -> None:
    profile = laminar_tui.capture(tiny_model("gpt_neox"), ids)
    assert profile.density("final", sink="without").values.shape == (2, 300)
    profile.save(tmp_path / "run.laminar")
    same_profile(laminar_tui.Profile.load(tmp_path / "run.laminar"), profile)


def test_a_tokenizer_gives_the_tokens_their_words(tiny_model: TinyModel, tokenizer: Any) -> None:
    ids = tokenizer("a né").input_ids
    model = tiny_model("llama")
    assert laminar_tui.capture(model, ids, tokenizer=tokenizer).origin.tokens == ("a", " ", "n", "é", "")
    assert laminar_tui.capture(model, ids, tokenizer=tokenizer, tokens="abcde").origin.tokens == tuple("abcde")
    padded = torch.tensor([[0, 0, *ids]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1]])
    assert laminar_tui.capture(model, padded, mask, tokenizer=tokenizer).origin.tokens == ("a", " ", "n", "é", "")


def test_the_origin_says_where_the_profile_comes_from(tiny_model: TinyModel) -> None:
    model = tiny_model("mistral")
    origin = capture(model, torch.tensor([[5, 6, 7]]), tokens=["a", "b", "c"]).origin
    assert (origin.architecture, origin.dtype, origin.device, origin.mechanism) == ("mistral", "float32", "cpu", "tap")
    assert origin.tokens == ("a", "b", "c")
    assert origin.token_ids == (5, 6, 7)
    assert origin.n_parameters == sum(each.numel() for each in model.parameters())
    assert origin.versions["torch"] == torch.__version__
    assert origin.seconds > 0
    assert origin.checks
    assert all(check.passed for check in origin.checks)


def test_sliding_layers_are_called_so(tiny_model: TinyModel) -> None:
    assert capture(tiny_model("gemma2"), prompt()).origin.layer_kinds == ("sliding", "attention")
