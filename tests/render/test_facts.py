"""What is said beside a picture."""

from dataclasses import replace

import pytest

from laminar_tui.profile.parts import POPULATIONS
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Look, layer_columns
from laminar_tui.render.facts import found_words, join_fitting, model_facts, picture_facts


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
