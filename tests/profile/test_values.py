"""Weights times value norms against vectors that are really multiplied; what is said of them; that files keep them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.profile.file import parse_profile, profile_bytes
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.report import make_report
from laminar_tui.profile.report_formats import report_json
from laminar_tui.profile.values import SinkValues, contributions, measure_sink_values, why_none
from laminar_tui.render.columns import Look
from laminar_tui.render.palette import make_ramp
from laminar_tui.render.prompt import moved_keys
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


def test_a_large_weight_on_nothing_is_flagged_and_no_other(profile: Profile) -> None:
    layer = profile.layer(0)
    assert layer.final_weights is not None
    flagged = []
    for head in range(3):
        found = contributions(layer, head, layer.final_weights[head])
        assert found is not None
        flagged += [(head, key) for key in range(N_TOKENS) if found.is_on_nothing(key)]
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
    assert (found.n, found.n_on_nothing) == (2, 1)
    assert found.norm == pytest.approx(np.median(ratios), rel=1e-6)
    assert found.weight == pytest.approx(0.8)
    assert measure_sink_values(profile, 0.9) is None


def test_the_report_says_how_small_they_are(profile: Profile) -> None:
    report = make_report(profile)
    (said,) = [each for each in report.sentences if "value vectors" in each]
    assert said.startswith("The value vectors that the 2 weights above 0.6 on key 0 (' token0é→\\x1b') multiply have ")
    assert "1 of them at most 0.1" in said
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
    assert said[0].endswith(f"× {found.norms[0]:.3g} → {100 * found.shares[0]:.1f} % on nothing")
    assert not any("nothing" in each for each in said[1:])


def test_a_head_that_is_read_by_hooks_says_that_it_has_none(profile: Profile) -> None:
    bare = replace(profile, layers=(replace(profile.layer(0), value_norms=None), None))
    hooks = replace(bare, origin=replace(bare.origin, mechanism="hooks"))
    words = "".join(row_text(row) for row in draw_head(hooks, Look(), Place(0, 0), page()))
    assert f"{MOVED_WORDS}  not read: this model is read by hooks" in words
    assert "value" not in "".join(row_text(row) for row in draw_head(bare, Look(), Place(0, 0), page()))
