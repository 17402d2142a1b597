"""What is said beside a picture."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.profile.merge import merge
from laminar_tui.profile.parts import POPULATIONS
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.roles import ROLES, Roles
from laminar_tui.profile.statistics import STATISTICS
from laminar_tui.render.columns import Look, layer_columns
from laminar_tui.render.facts import (
    HEAD_NUMBERS,
    found_words,
    join_fitting,
    model_facts,
    over_words,
    picture_facts,
    role_lines,
    sink_lines,
    statistics_lines,
)

MakeProfile = Callable[[list[NDArray[np.float32] | None]], Profile]
Patterns = Callable[..., NDArray[np.float32]]


def test_facts_are_left_out_whole() -> None:
    assert join_fitting(["one", "two", "three"], " · ", 9) == "one · two"
    assert join_fitting(["one", "two"], " · ", 8) == "one"
    assert join_fitting(["one"], " · ", 1) == "one"
    assert join_fitting([], " · ", 9) == ""


def test_a_control_is_named_before_all_else(small_profile: Profile) -> None:
    control = replace(small_profile, origin=replace(small_profile.origin, recipe="literal"))
    assert "CONTROL 'literal'" in model_facts(control, "layer 3")[0]
    assert not any("CONTROL" in fact for fact in model_facts(small_profile))


def test_the_picture_s_facts_begin_with_what_is_looked_at(small_profile: Profile) -> None:
    facts = picture_facts(layer_columns(small_profile, Look("past", "without", per_column=True)))
    assert facts[0] == POPULATIONS["past"].title
    assert "sink left out" in facts[1]
    assert facts[-1] == "log colours per column"


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("off by 0.0e+00 of it", "not changed at all"),
        ("off by 3.1e-07 of it", "changed by 1 part in 3.2 million"),
        ("within 3.6e-07", "within 1 part in 2.8 million"),
        ("within 0.0e+00", "exactly"),
        ("30 layers", "30 layers"),
        ("off by \x1b[31m0.2", "off by ␛[31m0.2"),
    ],
)
def test_what_an_earlier_version_s_check_found_is_said_in_words(kept: str, said: str) -> None:
    assert found_words(kept) == said


def test_a_head_s_sinks_stand_under_its_sink_share_the_strongest_first(
    patterns: Patterns, make_profile: MakeProfile
) -> None:
    pattern = patterns(0, 2, 64, spread=0.1) / 10
    pattern[0, :5, 0] += 0.9
    pattern[0, 5:, 5] += 0.5
    pattern[0, 5:, 0] += 0.4
    profile = make_profile([pattern])
    (first, a), (second, b) = sink_lines(profile, 0, 0)
    assert (first, second) == ("sink 5 ·token5é→␛", "sink 0 ·token0é→␛")
    assert (float(a), float(b)) == pytest.approx((pattern[0, 5:, 5].mean(), pattern[0, :, 0].mean()), abs=5e-4)
    assert sink_lines(profile, 0, 0, ascii_only=True)[1][0].isascii()
    assert sink_lines(profile, 0, 1) == []
    named = [name for name, _ in statistics_lines(profile, 0, 0)]
    assert named[named.index("sink share") + 1 :][:2] == [first, second]
    assert not any(name.startswith("sink 5") for name, _ in statistics_lines(profile, 0))
    assert sink_lines(merge([profile, profile]), 0, 0)[0][0] == "sink 5", "of several prompts there are no tokens"


def test_many_sinks_of_a_head_are_counted(make_profile: MakeProfile) -> None:
    pattern = np.zeros((1, 64, 64), np.float32)
    for key, queries in {0: slice(0, 20), 20: slice(20, 34), 21: slice(34, 48), 22: slice(48, 64)}.items():
        pattern[0, queries, key] = 1
    *named, more = sink_lines(make_profile([pattern]), 0, 0)
    assert [name.split()[1] for name, _ in named] == ["22", "21", "20"]
    assert more == ("1 more sink", "above 0.3")


def test_a_head_s_roles_have_score_rank_and_threshold(small_profile: Profile) -> None:
    scores = {name: np.full((small_profile.n_layers, small_profile.n_heads), 0.1) for name in ROLES}
    scores["induction"][2, 1] = 0.62
    scores["sink"][2, 1] = 0.05
    roles = Roles(scores, dict.fromkeys(ROLES, 0.25) | {"local": float("nan")}, 8, 1)
    profile = replace(small_profile, roles=roles)
    lines = role_lines(profile, 2, 1)
    assert lines[:2] == [("roles: score, rank, threshold", ""), ("induction", "0.62 #1 >0.25")]
    assert dict(lines)["sink"] == f"0.05 #{scores['sink'].size} ≤0.25"
    assert dict(lines)["local"] == "0.10 #1"
    assert {name for name, _ in lines[1:]} == {role.title for role in ROLES.values()}
    assert statistics_lines(profile, 2, 1)[-len(lines) :] == lines
    assert role_lines(small_profile, 2, 1) == []


def test_it_is_said_how_many_queries_the_numbers_are_over(small_profile: Profile) -> None:
    assert over_words(small_profile) == "over 11 queries"
    assert over_words(merge([small_profile, small_profile])) == "over 2 prompts, ± 95 %"


def test_a_head_s_numbers_without_the_sink_stand_beside_those_with_it(small_profile: Profile) -> None:
    rest = {name for name in HEAD_NUMBERS if name.startswith("rest.")}
    assert {f"rest.{name}" for name in HEAD_NUMBERS} & STATISTICS.keys() == rest
    titles = [title for title, _ in statistics_lines(small_profile, 2, 1)]
    assert {STATISTICS[name].title for name in rest} <= set(titles)
