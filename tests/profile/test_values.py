"""Weights times value norms against vectors that are really multiplied; what is said of them; that files keep them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.profile.file import parse_profile, profile_bytes
from laminar_tui.profile.measures import list_measures
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.report import make_report
from laminar_tui.profile.report_formats import report_json
from laminar_tui.profile.values import (
    Contributions,
    SinkValues,
    contributions,
    measure_shifts,
    measure_sink_values,
    norms_of,
    value_shares,
    why_none,
)
from laminar_tui.render.columns import Look
from laminar_tui.render.palette import make_ramp
from laminar_tui.render.prompt import moved_keys, taken_keys
from laminar_tui.render.rows import row_text, row_width
from laminar_tui.render.views import MOVED_WORDS, Page, Place, draw_head

N_TOKENS, D = 12, 8


@pytest.fixture(scope="module")
def pattern(patterns: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
    """Three heads; the final token of the first two looks at key 0 with 0.8."""
    made = patterns(5, 3, N_TOKENS)
    made[:2, -1] *= 0.2 / made[:2, -1, 1:].sum(axis=-1, keepdims=True)
    made[:2, -1, 0] = 0.8
    made[2, -1] = 1 / N_TOKENS
    return made


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float64]:
    """Value vectors [n_heads, n_tokens, d]; small: key 0 of head 0; key 3 of head 2, seen little."""
    made = np.random.default_rng(0).normal(size=(3, N_TOKENS, D))
    made[[0, 2], [0, 3]] *= 0.01
    return made


@pytest.fixture(scope="module")
def profile(
    pattern: NDArray[np.float32], vectors: NDArray[np.float64], make_profile: Callable[..., Profile]
) -> Profile:
    bare = make_profile([pattern, None])
    norms = np.sqrt((vectors**2).sum(axis=-1)).astype(np.float32)
    return replace(bare, layers=(replace(bare.layer(0), value_norms=norms), None))


def test_shares_are_those_of_the_vectors_that_are_added_up(
    profile: Profile, pattern: NDArray[np.float32], vectors: NDArray[np.float64]
) -> None:
    layer = profile.layer(0)
    for head in range(3):
        for query in (3, N_TOKENS - 1):
            found = contributions(layer, head, pattern[head, query])
            assert found is not None
            added = [float(np.linalg.norm(w * v)) for w, v in zip(pattern[head, query], vectors[head], strict=True)]
            np.testing.assert_allclose(found.shares, np.array(added) / sum(added), atol=1e-6)  # norms are float32
            lengths = [float(np.linalg.norm(v)) for v in vectors[head]]
            np.testing.assert_allclose(found.norms, np.array(lengths) / np.mean(lengths), rtol=1e-6)


def test_shares_of_many_queries_are_those_of_each(
    profile: Profile, pattern: NDArray[np.float32], vectors: NDArray[np.float64]
) -> None:
    rows = pattern[0].copy()
    rows[~np.tril(np.ones(rows.shape, bool))] = np.nan
    norms = profile.layer(0).value_norms
    assert norms is not None
    shares = value_shares(rows, norms[0])
    assert shares.dtype == np.float32
    assert (np.isnan(shares) == np.isnan(rows)).all()
    for query in (0, 5, N_TOKENS - 1):
        added = np.linalg.norm(pattern[0, query][:, None] * vectors[0], axis=1)[: query + 1]
        np.testing.assert_allclose(shares[query, : query + 1], added / added.sum(), atol=1e-6)
    assert (value_shares(np.ones((1, 3), np.float32), np.zeros(3, np.float32)) == 0).all()


def test_a_shift_is_the_attention_that_goes_elsewhere(profile: Profile) -> None:
    layer = profile.layer(0)
    assert layer.final_weights is not None
    assert layer.value_norms is not None
    shifts = measure_shifts(layer)
    taken = layer.final_weights * layer.value_norms
    taken /= taken.sum(axis=1, keepdims=True)
    gained = np.maximum(taken - layer.final_weights, 0).sum(axis=1)
    np.testing.assert_allclose(shifts, gained, atol=1e-5)
    assert 0.7 < shifts[0] < 1
    np.testing.assert_allclose(
        measure_shifts(replace(layer, value_norms=np.ones((3, N_TOKENS), np.float32))), 0, atol=1e-6
    )
    assert np.isnan(measure_shifts(replace(layer, value_norms=None))).all()
    assert any(each.name == "final.value_shift" for each in list_measures(profile))


def test_the_norms_of_entries_are_those_of_their_keys(profile: Profile, vectors: NDArray[np.float64]) -> None:
    lengths = np.linalg.norm(vectors, axis=-1)
    found = norms_of(profile.layer(0), np.array([0, 2, 2]), np.array([0, 3, 5]))
    assert found is not None
    np.testing.assert_allclose(found, (lengths / lengths.mean(axis=1, keepdims=True))[[0, 2, 2], [0, 3, 5]], rtol=1e-5)
    assert norms_of(replace(profile.layer(0), value_norms=None), np.array([0]), np.array([0])) is None


@pytest.mark.parametrize(
    ("weight", "share", "is_flagged"),
    [(0.812, 0.362, True), (0.3, 0.149, True), (0.3, 0.151, False), (0.29, 0.001, False), (0.8, 0.41, False)],
)
def test_a_large_weight_that_loses_half_is_flagged(weight: float, share: float, is_flagged: bool) -> None:
    found = Contributions(np.array([weight], np.float32), np.array([0.2]), np.array([share]))
    assert found.is_on_little(0) == is_flagged


def test_a_large_weight_on_little_is_flagged_and_no_other(profile: Profile) -> None:
    layer = profile.layer(0)
    assert layer.final_weights is not None
    flagged = []
    for head in range(3):
        found = contributions(layer, head, layer.final_weights[head])
        assert found is not None
        flagged += [(head, key) for key in range(N_TOKENS) if found.is_on_little(key)]
    assert flagged == [(0, 0)]


def test_nothing_is_said_where_there_is_nothing(profile: Profile) -> None:
    layer = profile.layer(0)
    assert contributions(layer, 0, None) is None
    assert contributions(replace(layer, value_norms=None), 0, np.ones(N_TOKENS, np.float32)) is None
    none = replace(layer, value_norms=np.zeros((3, N_TOKENS), np.float32))
    assert contributions(none, 0, np.ones(N_TOKENS, np.float32)) is None
    found = contributions(layer, 0, np.zeros(N_TOKENS, np.float32))
    assert found is not None
    assert np.isnan(found.shares).all()


def test_the_sinks_values_are_measured(profile: Profile, vectors: NDArray[np.float64]) -> None:
    found = measure_sink_values(profile, 0.6)
    lengths = np.linalg.norm(vectors, axis=-1)
    ratios = (lengths[:, 0] / lengths.mean(axis=1))[:2]
    assert isinstance(found, SinkValues)
    assert (found.n, found.n_on_little) == (2, 1)
    assert found.norm == pytest.approx(np.median(ratios), rel=1e-6)
    assert found.weight == pytest.approx(0.8)
    assert measure_sink_values(profile, 0.9) is None


def test_the_report_says_how_small_they_are(profile: Profile) -> None:
    report = make_report(profile)
    (said,) = [each for each in report.sentences if "value vectors" in each]
    assert said.startswith("The value vectors that the 2 weights above 0.6 on key 0 (' token0é→\\x1b') multiply have ")
    assert said.endswith("(medians); for 1 of them that is less than half of the weight.")
    assert '"sink_values": {"threshold": 0.6, "n": 2' in report_json(report)


def test_a_single_one_is_told_in_the_singular(profile: Profile) -> None:
    layer = profile.layer(0)
    assert layer.final_weights is not None
    weights = layer.final_weights.copy()
    weights[1, 0] = 0.1
    (said,) = [
        each
        for each in make_report(replace(profile, layers=(replace(layer, final_weights=weights), None))).sentences
        if "value vector" in each
    ]
    assert said.startswith("The value vector that the only weight above 0.6 on key 0 (' token0é→\\x1b') multiplies has")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"mechanism": "hooks"}, "Value vectors are not read: the model is read by hooks"),
        ({"recipe": "literal"}, "Value vectors are not read: the weights are a control's"),
        ({}, "The profile holds no value norms: capture it again"),
    ],
)
def test_the_report_says_why_it_does_not_know(profile: Profile, changes: dict[str, Any], why: str) -> None:
    bare = replace(profile, layers=(replace(profile.layer(0), value_norms=None), None))
    bare = replace(bare, origin=replace(bare.origin, **changes))
    assert any(each.startswith(why) for each in make_report(bare).sentences)
    assert make_report(bare).sink_values is None
    assert why_none(profile) == ""


def test_a_file_keeps_them_and_an_older_one_is_read(
    profile: Profile, small_profile: Profile, same_profile: Callable[[Profile, Profile], None]
) -> None:
    again = parse_profile(profile_bytes(profile))
    same_profile(again, profile)
    assert again.layer(0).value_norms is not None
    assert parse_profile(profile_bytes(small_profile)).layer(0).value_norms is None
    assert b"value_norms" not in profile_bytes(small_profile)


def page(ascii_only: bool = False) -> Page:
    return Page(90, 24, make_ramp("viridis", "none", ascii_only=ascii_only), ascii_only)


@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf8", "ascii"])
def test_a_head_is_shown_with_its_values(profile: Profile, ascii_only: bool) -> None:
    drawn = draw_head(profile, Look(), Place(0, 0), page(ascii_only))
    assert {row_width(row) for row in drawn} == {90}
    bare = replace(profile, layers=(replace(profile.layer(0), value_norms=None), None))
    assert len(drawn) == len(draw_head(bare, Look(), Place(0, 0), page(ascii_only)))
    (line,) = [row_text(row) for row in drawn if row_text(row).startswith(MOVED_WORDS[:6] + " ")]
    assert "(0) 0.800 " in line
    assert line.isascii() or not ascii_only
    assert not {"\x1b"} & set(line)
    found = contributions(profile.layer(0), 0, profile.layer(0).final_weights[0])  # type: ignore[index]
    assert found is not None
    said = moved_keys(profile, 0, 0, found.weights, 3)
    assert said[0].endswith(f"× {found.norms[0]:.3g} → {100 * found.shares[0]:.1f} % on little")
    assert not any("little" in each for each in said[1:])


def test_a_small_weight_on_a_long_vector_is_named(profile: Profile) -> None:
    layer = profile.layer(0)
    assert layer.value_norms is not None
    assert layer.final_weights is not None
    norms, weights = np.ones((3, N_TOKENS), np.float32), np.full(N_TOKENS, 0.09, np.float32)
    weights[[2, 7]] = 0.11, 0.01
    norms[1, 7] = 40
    long = replace(profile, layers=(replace(layer, value_norms=norms), None))
    said = moved_keys(long, 0, 1, weights, 2)
    assert "(7) 0.0100 × " in said[0]
    assert "(2) 0.110 × " in said[1]
    assert taken_keys(profile.origin.tokens, weights, value_shares(weights[None], norms[1])[0], 1)[0].endswith(
        "(7) 28.4 % at 0.0100"
    )


def test_a_head_that_is_read_by_hooks_says_that_it_has_none(profile: Profile) -> None:
    bare = replace(profile, layers=(replace(profile.layer(0), value_norms=None), None))
    hooks = replace(bare, origin=replace(bare.origin, mechanism="hooks"))
    words = "".join(row_text(row) for row in draw_head(hooks, Look(), Place(0, 0), page()))
    assert f"{MOVED_WORDS}  not read: this model is read by hooks" in words
    assert "value" not in "".join(row_text(row) for row in draw_head(bare, Look(), Place(0, 0), page()))
