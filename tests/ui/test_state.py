"""Each key's action as a function from state to state: where one stands, and what one looks at."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from laminar_tui.profile.density import ESTIMATORS
from laminar_tui.profile.parts import POPULATIONS, SINK_CHOICES
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Look
from laminar_tui.render.curve import MODES
from laminar_tui.render.palette import COLOR_MAPS, SCALES
from laminar_tui.ui import state as states
from laminar_tui.ui.state import State


@pytest.fixture
def here(walk: Profile) -> State:
    return State(walk)


def at(state: State, view: str, layer: int, head: int = 0) -> State:
    return replace(state, view=view, layer_index=layer, head_index=head)


def place(state: State) -> tuple[str, int, int]:
    return state.view, state.layer_index, state.head_index


def test_nothing_moves_before_there_is_a_profile() -> None:
    empty = State()
    for change in (
        lambda s: states.move_column(s, 1),
        lambda s: states.move_to_column(s, -1),
        lambda s: states.move_layer(s, 1),
        states.go_in,
        states.go_out,
        lambda s: states.go_to_view(s, "head"),
        states.settle,
    ):
        assert place(change(empty)) == ("overview", 0, 0)


@pytest.mark.parametrize(("step", "layer"), [(1, 1), (2, 2), (8, 4), (-1, 0), (-8, 0)])
def test_the_cursor_goes_along_the_layers_and_stops_at_their_ends(here: State, step: int, layer: int) -> None:
    assert place(states.move_column(here, step)) == ("overview", layer, 0)


@pytest.mark.parametrize("view", ["layer", "head"])
@pytest.mark.parametrize(("step", "head"), [(1, 1), (3, 3), (8, 3), (-1, 0)])
def test_inside_a_layer_the_cursor_goes_along_its_heads(here: State, view: str, step: int, head: int) -> None:
    assert place(states.move_column(at(here, view, 2), step)) == (view, 2, head)


def test_the_lines_have_no_columns_to_go_along(here: State) -> None:
    lines = at(here, "lines", 2, 1)
    assert states.move_column(lines, 1) == lines


@pytest.mark.parametrize(("column", "expected"), [(0, 0), (2, 2), (-1, 4), (99, 4)])
def test_a_column_is_reached_by_number_and_the_last_one_by_minus_one(here: State, column: int, expected: int) -> None:
    assert states.move_to_column(here, column).layer_index == expected
    inside = at(here, "layer", 3)
    assert states.move_to_column(inside, column).head_index == min(expected, 4)


def test_layer_steps_inside_a_layer_leap_over_gaps_and_keep_the_head(here: State) -> None:
    assert place(states.move_layer(at(here, "head", 0, 2), 1)) == ("head", 2, 2)
    assert place(states.move_layer(at(here, "layer", 2, 1), -1)) == ("layer", 0, 1)


def test_layer_steps_in_the_overview_stop_at_gaps_too(here: State) -> None:
    assert place(states.move_layer(here, 1)) == ("overview", 1, 0)


def test_layer_steps_stop_at_the_ends(here: State) -> None:
    for state, step in ((at(here, "layer", 0), -1), (at(here, "layer", 4), 1)):
        assert states.move_layer(state, step) == state


def test_no_layer_step_leads_into_a_gap_at_the_end(here: State, walk: Profile) -> None:
    short = replace(here, profile=replace(walk, layers=walk.layers[:2]))
    inside = at(short, "layer", 0)
    assert states.move_layer(inside, 1) == inside


def test_a_smaller_layer_brings_the_head_into_range(here: State) -> None:
    assert place(states.move_layer(at(here, "head", 3, 4), 1)) == ("head", 4, 3)


def test_settling_on_a_shorter_profile_brings_layer_and_head_into_range(here: State, walk: Profile) -> None:
    short = replace(walk, layers=walk.layers[:1])
    assert place(states.settle(replace(at(here, "layer", 4, 4), profile=short))) == ("layer", 0, 3)


def test_settling_on_a_layer_without_weights_leaves_it_for_the_overview(here: State) -> None:
    assert states.settle(at(here, "layer", 1)).view == "overview"
    assert states.settle(at(here, "head", 1)).view == "overview"
    assert states.settle(at(here, "lines", 1)).view == "lines"


def test_in_and_out_are_a_way_there_and_back(here: State) -> None:
    layer = states.go_in(at(here, "overview", 2, 3))
    head = states.go_in(layer)
    assert [place(each) for each in (layer, head)] == [("layer", 2, 3), ("head", 2, 3)]
    pattern = states.go_in(head)
    assert place(pattern) == ("map", 2, 3)
    assert states.go_in(pattern) == pattern
    assert states.go_out(pattern) == head
    assert states.go_out(head) == layer
    assert place(states.go_out(layer)) == ("overview", 2, 3)
    assert place(states.go_out(states.go_out(layer))) == ("overview", 2, 3)
    assert states.go_out(at(here, "lines", 2)).view == "overview"
    assert states.go_in(at(here, "lines", 2)).view == "lines"


def test_a_gap_is_not_opened(here: State) -> None:
    gap = at(here, "overview", 1)
    assert states.go_in(gap) == gap
    assert states.go_to_view(gap, "layer").view == "overview"
    assert states.go_to_view(gap, "head").view == "overview"
    assert states.go_to_view(gap, "lines").view == "lines"
    assert not gap.has_layer
    assert gap.n_heads == 0


def test_the_crosshair_stays_on_the_axis(here: State) -> None:
    assert states.move_height(here, 0.25).height == 0.25
    assert states.move_height(here, 7.0).height == 1.0
    assert states.move_height(here, -7.0).height == 0.0


CYCLES: list[tuple[Callable[[State], State], Callable[[State], object], list[object]]] = [
    (states.next_population, lambda s: s.look.population, list(POPULATIONS)),
    (states.next_sink, lambda s: s.look.sink, list(SINK_CHOICES)),
    (states.next_scale, lambda s: s.look.scale, list(SCALES)),
    (states.switch_per_column, lambda s: s.look.per_column, [False, True]),
    (states.next_color_map, lambda s: s.color_map, list(COLOR_MAPS)),
    (states.switch_reverse, lambda s: s.reverse, [False, True]),
    (states.next_mode, lambda s: s.mode, list(MODES)),
    (states.next_estimator, lambda s: s.look.estimator, [n for n, e in ESTIMATORS.items() if not e.is_log]),
]


@pytest.mark.parametrize(("change", "value", "names"), CYCLES)
def test_each_choice_goes_once_around_and_changes_nothing_else(
    here: State, change: Callable[[State], State], value: Callable[[State], object], names: list[object]
) -> None:
    seen, state = [value(here)], here
    for _ in names[1:]:
        state = change(state)
        seen.append(value(state))
    assert sorted(map(str, seen)) == sorted(map(str, names))
    assert change(state) == here


def test_populations_go_backwards_too(here: State) -> None:
    assert states.next_population(states.next_population(here), -1) == here
    assert states.next_population(here, -1).look.population == list(POPULATIONS)[-1]


def test_the_axis_goes_to_log_and_back_to_the_estimator_it_came_from(here: State) -> None:
    histogram = here
    while histogram.look.estimator != "histogram":
        histogram = states.next_estimator(histogram)
    log = states.switch_axis(histogram)
    assert log.look.method.is_log
    assert states.switch_axis(log) == histogram


def test_choosing_an_estimator_leaves_the_log_axis(here: State) -> None:
    log = states.switch_axis(here)
    assert not states.next_estimator(log).look.method.is_log


def test_begun_on_the_log_axis_there_is_a_linear_one_to_go_to() -> None:
    assert states.switch_axis(State(look=Look(estimator="log"))).look.estimator == "reflected"
