"""The screens of their own, by their keys: what each shows and gives back, and that Esc leaves all as it was."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from textual.widgets import Input, TextArea

from laminar_tui import catalog
from laminar_tui.log import start_log, stop_log
from laminar_tui.profile.nulls import COMPUTED_NULLS, MODEL_NULLS
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.report import make_report
from laminar_tui.profile.report_formats import report_markdown
from laminar_tui.profile.roles import ROLES, Roles
from laminar_tui.render.matrix import rank_heads
from laminar_tui.run import PromptFacts, Request
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.compare import COMPARE_KEYS, CompareScreen
from laminar_tui.ui.detour import Detour, fitting_keys
from laminar_tui.ui.explorer import Terminal
from laminar_tui.ui.heads import HEADS_KEYS, HeadsScreen
from laminar_tui.ui.keys import KEYS, Key
from laminar_tui.ui.picker import PICKER_KEYS, PickerScreen
from laminar_tui.ui.presets import PRESETS, repeated_words
from laminar_tui.ui.prompt import PROMPT_KEYS, PromptScreen, shield, unshield
from laminar_tui.ui.report import REPORT_KEYS, ReportScreen
from laminar_tui.ui.sweep import SWEEP_KEYS, SweepScreen

Drive = Callable[..., Any]
SCREENS: dict[type[Detour[Any]], tuple[Key, ...]] = {
    HeadsScreen: HEADS_KEYS,
    CompareScreen: COMPARE_KEYS,
    ReportScreen: REPORT_KEYS,
    PickerScreen: PICKER_KEYS,
    PromptScreen: PROMPT_KEYS,
    SweepScreen: SWEEP_KEYS,
}
OPENING = {"6": HeadsScreen, "5": CompareScreen, "7": ReportScreen, "O": PickerScreen}
SIZES = [(80, 24), (160, 48), (240, 70)]


def line(driven: Any, name: str) -> str:
    """The text of a one-row widget of the screen in front."""
    return str(driven.app.screen.query_one(f"#{name}").render_line(0).text)


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test looks into the hub's cache of this machine."""
    monkeypatch.setattr("laminar_tui.model.cache.cached_models", list)


@pytest.fixture(scope="module")
def other(patterns: Callable[..., Any], make_profile: Callable[..., Profile]) -> Profile:
    """Shaped like `walk`, with other weights and another revision."""
    made = make_profile(
        [patterns(11, 4, 12), None, patterns(12, 4, 12), patterns(13, 5, 12, spread=6.0), patterns(14, 4, 12)]
    )
    return replace(made, origin=replace(made.origin, revision="main"))


# -- what they have in common ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("screen", SCREENS)
def test_keys_of_a_screen_are_unique_described_and_have_an_action(screen: type[Detour[Any]]) -> None:
    keys = SCREENS[screen]
    assert screen.KEYS is keys
    names = [name for key in keys for name in key.keys.split(",")]
    assert len(names) == len(set(names))
    assert len({key.id for key in keys}) == len(keys)
    for key in keys:
        assert key.description
        assert key.shown
        assert hasattr(screen, f"action_{key.action.partition('(')[0]}"), key.action


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("width", [59, 79, 300])
def test_the_line_of_keys_fits_and_tells_the_way_out(screen: type[Detour[Any]], width: int) -> None:
    kept = fitting_keys(screen.KEYS, width)
    assert sum(len(key.shown) + len(key.label) + 3 for key in kept) <= width
    assert {"back", "help"} <= {key.id for key in kept}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("key", OPENING)
async def test_a_key_opens_a_screen_and_esc_leaves_everything_as_it_was(
    drive: Drive, walk: Profile, key: str, size: tuple[int, int]
) -> None:
    async with drive(walk, size=size) as driven:
        await driven.press("l", "l", "p")
        before = driven.state
        await driven.press(key)
        assert isinstance(driven.app.screen, OPENING[key])
        assert driven.app.screen.NAME in line(driven, "where")
        assert not any(row.rstrip().endswith("…") for row in driven.text().splitlines()[:2])
        await driven.press("f1")
        assert f"help: {driven.app.screen_stack[-2].NAME}" in driven.text()
        await driven.press("escape", "escape")
        assert driven.app.screen is driven.app.explorer
        assert driven.state == before


@pytest.mark.parametrize("key", sorted(OPENING.keys() - {"O"}))
async def test_digits_go_from_a_screen_to_the_others_and_to_the_overview(drive: Drive, walk: Profile, key: str) -> None:
    async with drive(walk) as driven:
        await driven.press("2", key)
        for other in OPENING.keys() - {"O", key}:
            await driven.press(other)
            await driven.until(lambda other=other: isinstance(driven.app.screen, OPENING[other]), other)
            await driven.press(other)
            assert isinstance(driven.app.screen, OPENING[other]), "its own digit leads nowhere"
            await driven.press(key)
            await driven.until(lambda: isinstance(driven.app.screen, OPENING[key]), "and back")
        await driven.press("1")
        await driven.until(lambda: driven.app.screen is driven.app.explorer, "out of it")
        await driven.until(lambda: driven.state.view == "overview", "all layers")


@pytest.mark.parametrize("key", ["6", "5"])
async def test_esc_from_a_head_goes_back_to_the_screen_it_was_chosen_on(drive: Drive, walk: Profile, key: str) -> None:
    async with drive(walk) as driven:
        await driven.press(key, "enter")
        if key == "5":
            await driven.press("enter")
        assert driven.state.view == "head"
        chosen = driven.state.layer_index, driven.state.head_index
        await driven.press("escape")
        assert isinstance(driven.app.screen, OPENING[key])
        await driven.press("escape")
        assert driven.app.screen is driven.app.explorer
        assert (driven.state.layer_index, driven.state.head_index) == chosen
        assert driven.state.view == "overview", "as before the screen was opened"
        await driven.press("2", "3", "escape")
        assert driven.app.screen is driven.app.explorer, "from a head that was opened in the explorer, to its layer"
        assert driven.state.view == "layer"


async def test_the_palette_offers_the_keys_of_the_screen_in_front(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("6")
        offered = [each.title for each in driven.app.get_system_commands(driven.app.screen)]
        assert offered == [key.description for key in HEADS_KEYS]


@pytest.mark.parametrize("key", OPENING)
async def test_too_small_a_terminal_is_told_so(drive: Drive, walk: Profile, key: str) -> None:
    async with drive(walk) as driven:
        await driven.press(key)
        await driven.pilot.resize_terminal(50, 10)
        await driven.until(lambda: "laminar needs 60 × 16 cells" in driven.text(), "it is told")
        await driven.pilot.resize_terminal(1, 1)
        await driven.pilot.resize_terminal(80, 24)
        assert driven.app.screen.NAME in line(driven, "where")


@pytest.mark.parametrize("key", OPENING)
@pytest.mark.parametrize("depth", ["truecolor", "256", "none"])
async def test_ascii_screens_are_ascii(drive: Drive, walk: Profile, key: str, depth: str) -> None:
    async with drive(walk, terminal=Terminal(depth, ascii_only=True)) as driven:  # type: ignore[arg-type]
        await driven.press(key)
        await driven.pilot.pause(0.3)
        assert driven.text().isascii()


@pytest.mark.parametrize("key", OPENING)
async def test_what_came_from_outside_is_harmless(drive: Drive, hostile: Profile, other: Profile, key: str) -> None:
    async with drive(hostile, size=(160, 48)) as driven:
        driven.app.explorer.reference = other
        await driven.press(key)
        await driven.pilot.pause(0.3)
        assert not [
            c for c in driven.text() if (c < " " and c != "\n") or c in "\x7f\u202e\u200b" or "\x80" <= c < "\xa0"
        ]


async def test_a_prompt_of_one_token_has_no_numbers_and_breaks_nothing(
    drive: Drive, patterns: Callable[..., Any], make_profile: Callable[..., Profile]
) -> None:
    """No head has a number there: every key of the program is pressed."""
    profile = make_profile([patterns(layer, 2, 1, spread=1.0) for layer in range(2)])
    async with drive(profile) as driven:
        await driven.press("6")
        assert "no number of a head is defined" in driven.row("status")
        ends = {"q", "ctrl+q", "ctrl+c", "ctrl+z"}
        for name in sorted({name for key in KEYS for name in key.keys.split(",")} - ends):
            await driven.press(name, "escape", "escape")
        await driven.press("1")
        assert driven.state.view == "overview"


@pytest.mark.parametrize("key", ["5", "6", "7", "M"])
async def test_before_anything_is_read_there_is_nothing_to_open(drive: Drive, key: str) -> None:
    async with drive(None) as driven:
        await driven.press(key)
        assert driven.app.screen is driven.app.explorer
        assert "nothing is read yet" in driven.row("status")


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was put into the clipboard."""
    texts: list[str] = []
    monkeypatch.setattr(LaminarApp, "copy_to_clipboard", lambda _app, text: texts.append(text))
    return texts


async def test_the_line_and_the_table_of_each_screen_are_copied(
    drive: Drive, walk: Profile, other: Profile, copied: list[str]
) -> None:
    async with drive(other, size=(160, 48)) as driven:
        driven.app.explorer.reference = walk
        await driven.press("6", "n", "y")
        screen = driven.app.screen
        assert copied[-1].startswith(f"layer {screen.place[0]} head {screen.place[1]}  sink share")
        assert "copied the line" in line(driven, "note")
        await driven.press("Y")
        rows = [row.split("\t") for row in copied[-1].splitlines()]
        assert rows[0] == ["rank", "layer", "head", "sink_share"]
        assert [(int(row[1]), int(row[2])) for row in rows[1:]] == screen.order
        values = other.statistics["sink_share"]
        assert [float(row[3]) for row in rows[1:]] == pytest.approx([values[place] for place in screen.order], rel=1e-5)
        assert f"copied {len(screen.order)} rows" in line(driven, "note")

        await driven.press("escape", "5", "l", "l")
        screen = driven.app.screen
        await driven.until(lambda: screen._change is not None, "the distances")
        await driven.press("y")
        assert copied[-1].startswith("layer 2  JS ")
        await driven.press("Y")
        rows = [row.split("\t") for row in copied[-1].splitlines()]
        assert [row[0] for row in rows] == ["layer", "0", "2", "3", "4"]
        table = {name: row for name, *row in zip(*rows, strict=True)}
        assert float(table["jensen_shannon_bits"][1]) == pytest.approx(screen._change.jensen_shannon[2], rel=1e-5)
        for side, profile in (("a", walk), ("b", other)):
            mean = float(profile.layer_counts("final").mean[2])
            assert float(table[f"mean.{side}"][1]) == pytest.approx(mean, rel=1e-5)
        await driven.press("enter", "Y")
        assert copied[-1].split("\t")[0] == "head"
        assert "copied 4 rows" in line(driven, "note")

        await driven.press("escape", "escape", "7")
        await driven.until(lambda: driven.app.screen.report is not None, "the report")
        await driven.press("y")
        assert "1. Pressed to zero early, spread out late?" in copied[-1]
        assert f"copied {len(copied[-1].splitlines())} lines" in line(driven, "note")
        await driven.press("Y")
        assert copied[-1] == report_markdown(make_report(other))
        assert "copied the report" in line(driven, "note")


@pytest.mark.parametrize("key", ["5", "6", "7"])
async def test_a_screen_is_written_as_it_is_without_the_dialog(
    drive: Drive, walk: Profile, tmp_path: Path, key: str
) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press(key)
        await driven.press("S")
        field = driven.app.screen.query_one(Input)
        assert field.value == f"model-{OPENING[key].NAME}.svg"
        field.value = str(tmp_path / "screen.svg")
        await driven.press("enter")
        await driven.until(lambda: "wrote" in line(driven, "note"), "it is written")
    drawn = (tmp_path / "screen.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert OPENING[key].NAME in drawn
    assert "screenshot to" not in drawn


async def test_a_layer_or_head_is_gone_to_by_its_number(drive: Drive, walk: Profile, other: Profile) -> None:
    async with drive(other, size=(160, 48)) as driven:
        driven.app.explorer.reference = walk
        await driven.press("6", *"/3.4", "enter")
        screen = driven.app.screen
        assert screen.place == (3, 4)
        await driven.press(*"/L2", "enter")
        assert screen.place == (3, 4)
        assert "layer 2 head 4 has no sink share here" in line(driven, "note")
        await driven.press(*"/here", "enter")
        assert "type 20, 20.7 or L20H7" in driven.text()
        await driven.press("escape", "escape", "5", *"/4", "enter")
        screen = driven.app.screen
        assert (screen.compared.inside, screen.column) == (None, 4)
        await driven.press(*"/3.4", "enter")
        assert (screen.compared.inside, screen.column) == (3, 4)
        await driven.press(*"/2", "enter")
        assert (screen.compared.inside, screen.column) == (2, 0), "among heads another layer's heads are gone to"
        await driven.press(*"/H3", "enter")
        assert (screen.compared.inside, screen.column) == (2, 3)
        await driven.press(*"/9", "enter")
        assert (screen.compared.inside, screen.column) == (2, 3)
        assert "there is no layer 9: the last one is 4" in line(driven, "note")
        await driven.press(*"/1.0", "enter")
        assert (screen.compared.inside, screen.column) == (2, 3), "it has no heads"
        assert line(driven, "note").strip()


# -- heads -------------------------------------------------------------------------------------------------------------


async def test_the_matrix_begins_at_the_explorers_head_and_gives_one_back(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("l", "l", "enter", "l", "6")
        screen = driven.app.screen
        assert screen.place == (2, 1)
        assert "layer 2 head 1  sink share" in line(driven, "summary")
        await driven.press("j", "l")
        assert screen.place == (3, 2)
        await driven.press("h", "h")
        assert screen.place == (0, 2), "layer 1 has no attention and is passed over"
        await driven.press("k", "enter")
        assert (driven.state.view, driven.state.layer_index, driven.state.head_index) == ("head", 0, 1)


async def test_the_sinks_of_the_head_are_named(
    drive: Drive, patterns: Callable[..., NDArray[np.float32]], make_profile: Callable[..., Profile]
) -> None:
    pattern = patterns(0, 2, 64, spread=0.1) / 2
    pattern[1, :5, 0] += 0.5
    pattern[1, 5:, 5] += 0.5
    async with drive(make_profile([pattern])) as driven:
        await driven.press("6")
        assert " sink 5" not in line(driven, "summary")
        await driven.press("j")
        assert "sink 5 ·token5" in line(driven, "summary")
        await driven.press("enter")
        assert any("sink 5 ·token5" in row for row in driven.text().splitlines())


async def test_the_table_is_walked_by_rank_and_turned_around(drive: Drive, walk: Profile) -> None:
    order = rank_heads(walk.statistics["sink_share"])
    async with drive(walk) as driven:
        await driven.press("6", "g")
        screen = driven.app.screen
        assert screen.place == order[0]
        await driven.press("n", "n", "N")
        assert screen.place == order[1]
        assert f"rank 2 of {len(order)}" in line(driven, "summary")
        await driven.press("G")
        assert screen.place == order[-1]
        await driven.press("o", "g")
        assert screen.place == order[-1]


async def test_the_number_is_chosen_from_a_list_or_stepped_through(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("6", "v")
        assert "colour the heads by" in driven.text()
        await driven.press("j", "j", "enter")
        screen = driven.app.screen
        assert screen.at == 2
        title = screen.measures[2].title
        assert title in line(driven, "title")
        await driven.press("full_stop")
        assert screen.at == 3
        await driven.press("comma", "comma")
        assert screen.at == 1
        await driven.press("v", "escape")
        assert screen.at == 1


async def test_heads_nearest_in_distribution_are_sorted_from_the_one_under_the_cursor(
    drive: Drive, walk: Profile
) -> None:
    async with drive(walk) as driven:
        await driven.press("6", "p")
        assert "d compares" in line(driven, "note")
        await driven.press("d")
        screen = driven.app.screen
        await driven.until(lambda: screen.nearest is not None, "the distances")
        assert screen.order[0] == (0, 0)
        assert "JS from L0H0 0" in line(driven, "summary")
        first = screen.nearest
        await driven.press("p")
        await driven.until(lambda: screen.nearest is not first, "the distances of another population")
        assert "each token → itself" in line(driven, "summary")
        assert "d goes back" in line(driven, "note")
        await driven.press("d")
        assert screen.nearest is None
        assert "d goes back" not in line(driven, "note")
        assert "sink share" in line(driven, "title")


async def test_roles_are_coloured_where_they_were_measured_and_asked_for_where_not(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("6")
        assert "--roles" in line(driven, "note")
    scores = {name: np.full((walk.n_layers, walk.n_heads), 0.1) for name in ROLES}
    scores["induction"][3, 4] = 0.9
    with_roles = replace(walk, roles=Roles(scores, {"induction": 0.5}, 8, 1))
    async with drive(with_roles, size=(160, 48)) as driven:
        await driven.press("6")
        screen = driven.app.screen
        assert "--roles" not in line(driven, "note")
        while screen.measure.name != "role.induction":
            await driven.press("full_stop")
        await driven.press("g")
        assert screen.place == (3, 4)
        assert "rank 1 of" in line(driven, "summary")
        assert "1 of 17 above 0.5" in line(driven, "summary").replace(f"{len(screen.order)}", "17")


async def test_roles_that_are_still_measured_are_announced_and_come_by_themselves(
    drive: Drive, script: Any, walk: Profile
) -> None:
    scores = {name: np.full((5, 4), 0.1) for name in ROLES}
    script.profile = replace(walk, roles=Roles(scores, {}))
    is_over = threading.Event()
    script.pace = lambda index, _is_cancelled: is_over.wait(20) if index == 4 else None
    async with drive(request=Request(roles=True), size=(160, 48)) as driven:
        await driven.until(lambda: driven.state.profile and driven.state.profile.n_read, "a layer is read")
        await driven.press("6", "full_stop")
        assert "are being measured" in line(driven, "note")
        shown = line(driven, "title").split(" by layer")[0]
        assert "score" not in shown
        is_over.set()
        await driven.until(lambda: line(driven, "note").strip() == "", "the run has ended")
        assert line(driven, "title").split(" by layer")[0] == shown, "the number that is looked at stays"
        assert any(each.name == "role.induction" for each in driven.app.screen.measures)


async def test_the_number_of_the_matrix_is_that_of_the_last_time(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("6", "full_stop", "full_stop")
        shown = line(driven, "title")
        for key in ("enter", "escape"):
            await driven.press(key)
            await driven.until(lambda: driven.app.screen is driven.app.explorer, "it is left")
            await driven.press("6")
            await driven.until(lambda: isinstance(driven.app.screen, HeadsScreen), "it is open again")
            assert line(driven, "title") == shown


async def test_a_click_goes_to_a_head_and_a_second_one_opens_it(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("6")
        screen = driven.app.screen
        picture = screen.query_one("#picture")
        x, y = next(
            (x, y)
            for y in range(picture.size.height)
            for x in range(picture.size.width)
            if screen._drawing.value.place_at(x, y, screen.place) == (2, 3)
        )
        await driven.pilot.click(picture, offset=(x, y))
        assert screen.place == (2, 3)
        await driven.pilot.click(picture, offset=(x, y), times=2)
        assert (driven.state.layer_index, driven.state.head_index) == (2, 3)


# -- compare -----------------------------------------------------------------------------------------------------------


async def test_the_marked_profile_is_a_and_the_present_one_b(drive: Drive, walk: Profile, other: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("M")
        assert "marked as A" in driven.row("status")
        driven.app.explorer.go_on_with(other)
        await driven.press("l", "l", "5")
        screen = driven.app.screen
        assert screen.compared.sides == (walk, other)
        assert "A  step1000" in driven.text()
        assert "B  main" in driven.text()
        await driven.until(lambda: screen._change is not None, "the distances")
        change = screen._change
        order = change.ranking()
        await driven.press("n")
        assert screen.column == order[0]
        assert f"change 1 of {len(order)}" in line(driven, "summary")
        await driven.press("n", "n", "N")
        assert screen.column == order[1]
        await driven.press("x")
        assert screen.compared.sides == (other, walk)


async def test_enter_goes_to_heads_and_then_to_the_head_in_the_explorer(
    drive: Drive, walk: Profile, other: Profile
) -> None:
    async with drive(other) as driven:
        driven.app.explorer.reference = walk
        await driven.press("5", "l", "l", "l", "enter")
        screen = driven.app.screen
        assert "heads of layer 3" in line(driven, "where")
        await driven.press("G")
        assert screen.column == 4
        await driven.press("escape")
        assert (screen.compared.inside, screen.column) == (None, 3)
        await driven.press("enter", "l", "enter")
        assert (driven.state.view, driven.state.layer_index, driven.state.head_index) == ("head", 3, 1)


async def test_heads_that_cannot_be_paired_are_refused_in_words(
    drive: Drive, walk: Profile, patterns: Callable[..., Any], make_profile: Callable[..., Profile]
) -> None:
    few = make_profile([patterns(layer, 2, 12) for layer in range(3)])
    async with drive(walk) as driven:
        driven.app.explorer.reference = few
        await driven.press("5")
        assert "matched by depth, numbers of B" in line(driven, "title")
        await driven.press("enter")
        assert "layer 0 of A has 2 heads, layer 0 of B has 4" in line(driven, "note")
        assert driven.app.screen.compared.inside is None


async def test_without_a_mark_it_is_compared_with_chance(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("M", "5")
        screen = driven.app.screen
        await driven.until(lambda: screen.compared.reference is not None, "the first null")
        assert "uniform attention" in driven.text()
        await driven.press("b")
        await driven.until(lambda: "A is chance: independent scores" in line(driven, "note"), "the second null")
        await driven.press("b")
        await driven.until(lambda: "A is chance: uniform attention" in line(driven, "note"), "the first again")


@pytest.mark.parametrize("size", [(60, 16), (70, 18), (80, 20), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_curve_and_numbers_give_way_to_five_rows_of_the_pictures(
    drive: Drive, walk: Profile, size: tuple[int, int]
) -> None:
    async with drive(walk, size=size) as driven:
        await driven.press("5")
        screen = driven.app.screen
        await driven.until(lambda: "A is chance" in line(driven, "note"), "the first null")
        screen.say(" · ".join(["a note that takes more than a line"] * 5))
        await driven.pilot.pause()
        picture, below = screen.query_one("#picture"), screen.query_one("#below")
        assert picture.size.height >= 4 + 5, driven.text()
        assert "B - A" in driven.text()
        assert "density 0" in driven.text(), "the legend is the last row of the picture"
        assert "Esc" in driven.text().splitlines()[-1]
        assert below.display == (size[1] >= 20)


async def test_alike_has_a_colour_in_the_lift_and_none_in_the_difference(
    drive: Drive, walk: Profile, other: Profile
) -> None:
    async with drive(walk, size=(80, 24)) as driven:
        driven.app.explorer.reference = other
        await driven.press("5", "V")
        screen = driven.app.screen
        assert "B / A" in driven.text()
        assert screen.two_sided().n_levels % 2 == 1, "the middle is for what is alike"
        await driven.press("V")
        assert "B - A" in driven.text()
        assert screen.two_sided().n_levels % 2 == 0


def chance_by(script: Any, walk: Profile) -> None:
    """Give the fake session what it reads as chance."""
    for name, title in MODEL_NULLS.items():
        script.nulls[name] = replace(walk, origin=replace(walk.origin, recipe=f"null: {title}"))


async def test_with_the_model_in_memory_chance_goes_on_to_random_parameters_and_shuffled_tokens(
    drive: Drive, script: Any, walk: Profile
) -> None:
    chance_by(script, walk)
    async with drive(request=Request(), size=(160, 48)) as driven:
        await driven.until(lambda: driven.row("status").find("read") >= 0, "the run has ended")
        await driven.press("5")
        screen = driven.app.screen
        for title in (*COMPUTED_NULLS, *MODEL_NULLS.values(), *COMPUTED_NULLS):
            await driven.until(lambda title=title: f"A is chance: {title} " in line(driven, "note"), title)
            assert "need the model" not in line(driven, "note")
            if title in MODEL_NULLS.values():
                assert screen.compared.sides[0].origin.recipe == f"null: {title}"
            await driven.press("b")
        assert [request.null for request in script.seen] == ["", *MODEL_NULLS], "each was drawn once"
        await driven.press("escape", "7")
        await driven.until(lambda: driven.app.screen.report is not None, "the report")
        nulls = {each.null for each in driven.app.screen.report.chance}
        assert nulls >= set(MODEL_NULLS.values())


async def test_while_a_null_is_drawn_that_is_told_and_keys_and_esc_go_on(
    drive: Drive, script: Any, walk: Profile
) -> None:
    chance_by(script, walk)
    stopped = threading.Event()
    async with drive(request=Request(), size=(160, 48)) as driven:
        await driven.until(lambda: driven.row("status").find("read") >= 0, "the run has ended")

        def wait(index: int, is_cancelled: Callable[[], bool]) -> None:
            while index == 2 and not is_cancelled():
                stopped.wait(0.001)
            if is_cancelled():
                stopped.set()

        script.pace = wait
        await driven.press("5", "b")
        await driven.until(lambda: "A is chance: independent scores" in line(driven, "note"), "the second null")
        await driven.press("b")
        await driven.until(lambda: "drawing random parameters: forward 2 of 5" in line(driven, "note"), "its progress")
        screen = driven.app.screen
        await driven.press("l")
        assert screen.column == 1
        assert screen.null == "independent scores", "what was there stays until then"
        await driven.press("b")
        await driven.until(stopped.is_set, "the first is given up")
        await driven.until(lambda: "drawing shuffled tokens" in line(driven, "note"), "the next is drawn")
        stopped.clear()
        await driven.press("escape")
        await driven.until(stopped.is_set, "whoever leaves leaves the model free")
        assert driven.app.screen is driven.app.explorer
        script.pace = lambda _index, _is_cancelled: None
        await driven.press("r")
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the next run")


@pytest.mark.parametrize("marked", [False, True], ids=["chance", "marked"])
async def test_a_comparison_that_was_opened_during_a_run_has_all_layers_when_it_has_ended(
    drive: Drive, script: Any, walk: Profile, other: Profile, marked: bool
) -> None:
    chance_by(script, walk)
    is_over = threading.Event()
    script.pace = lambda index, _is_cancelled: is_over.wait(20) if index == 4 else None
    async with drive(request=Request(), size=(160, 48)) as driven:
        driven.app.explorer.reference = other if marked else None
        await driven.until(lambda: driven.state.profile and driven.state.profile.n_read == 3, "three layers")
        await driven.press("5", "l", "l", "l")
        screen = driven.app.screen
        await driven.until(lambda: screen.compared.reference is not None, "what it is compared with")
        if not marked:
            await driven.press("b")
            await driven.until(lambda: "when the run has ended" in line(driven, "note"), "what is not there yet")
        own = [profile for profile in screen.compared.sides if profile is not screen.compared.reference]
        assert [profile.n_read for profile in own] == [3]
        is_over.set()
        await driven.until(lambda: screen.compared.own is walk, "the run has ended")
        await driven.until(lambda: screen.compared.reference is not None, "what it is compared with")
        assert screen.compared.reference.n_read == 4
        assert screen.compared.reference is other or not marked
        assert screen.column == 3
        assert screen.null == ("" if marked else "independent scores")
        await driven.until(lambda: screen._change is not None, "the distances")
        assert len(screen._change.ranking()) == 4
        if not marked:
            await driven.until(lambda: "is chance" in line(driven, "note"), "what it is compared with")
            await driven.press("b")
            await driven.until(lambda: "A is chance: random parameters" in line(driven, "note"), "that of the model")


async def test_a_report_that_was_opened_during_a_run_is_made_anew(drive: Drive, script: Any) -> None:
    is_over = threading.Event()
    script.pace = lambda index, _is_cancelled: is_over.wait(20) if index == 4 else None
    async with drive(request=Request(), size=(160, 48)) as driven:
        await driven.until(lambda: driven.state.profile and driven.state.profile.n_read == 3, "three layers")
        await driven.press("7")
        screen = driven.app.screen
        await driven.until(lambda: screen.report is not None, "the report")
        assert screen.report.facts["layers"] == "3 of 5"
        is_over.set()
        await driven.until(lambda: screen.report.facts["layers"] == "4 of 5", "the report on all layers")
        assert screen._rows_for, "it is shown"


async def test_without_a_model_it_is_said_what_the_other_nulls_need(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("5", "b")
        await driven.until(lambda: "A is chance: independent scores" in line(driven, "note"), "the second null")
        assert "random parameters and shuffled tokens need the model" in line(driven, "note")
        await driven.press("b")
        await driven.until(lambda: "A is chance: uniform attention" in line(driven, "note"), "the first again")


async def test_a_swap_keeps_the_open_profile_what_chance_is_drawn_for_and_enter_opens(
    drive: Drive, walk: Profile, other: Profile
) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        driven.app.explorer.reference = other
        await driven.press("5", "x")
        screen = driven.app.screen
        assert screen.compared.sides == (walk, other)
        await driven.press("b")
        await driven.until(lambda: "chance: uniform attention" in line(driven, "note"), "the null")
        assert "B is chance" in line(driven, "note")
        assert screen.compared.sides[0] is walk
        assert screen.compared.sides[1].n_tokens == walk.n_tokens
        await driven.press("x")
        assert "A is chance" in line(driven, "note")
        assert screen.compared.sides[1] is walk
        await driven.press("b", "b")
        await driven.until(lambda: screen.compared.sides == (other, walk), "the marked one again")
        assert "chance" not in line(driven, "note")


async def test_a_reference_with_other_heads_leads_back_to_the_layers(
    drive: Drive, walk: Profile, patterns: Callable[..., Any], make_profile: Callable[..., Profile]
) -> None:
    few = make_profile([patterns(layer, 2, 12) for layer in range(3)])
    async with drive(walk) as driven:
        driven.app.explorer.reference = few
        await driven.press("5", "b")
        screen = driven.app.screen
        await driven.until(lambda: screen.compared.reference is not few, "the null")
        await driven.press("l", "l", "enter")
        assert screen.compared.inside == 2
        await driven.press("b", "b")
        await driven.until(lambda: screen.compared.reference is few, "the marked one again")
        assert (screen.compared.inside, screen.column) == (None, 2)
        await driven.press("x", "b")
        await driven.until(lambda: screen.compared.reference is not few, "the null")
        await driven.press("l", "enter", "l", "enter")
        await driven.until(lambda: driven.state.view == "head", "the head")
        assert (driven.state.layer_index, driven.state.head_index) == (3, 1), "of the open profile, which is A"


async def test_the_layer_that_one_is_at_stays_whatever_it_is_compared_with(
    drive: Drive, walk: Profile, patterns: Callable[..., Any], make_profile: Callable[..., Profile]
) -> None:
    """The marked profile is deeper: it has more columns than the null, and the open one's layers stand in several."""
    deep = make_profile([patterns(20 + layer, 4, 12) for layer in range(11)])
    async with drive(walk, size=(160, 48)) as driven:
        driven.app.explorer.reference = deep
        await driven.press("l", "l", "5")
        screen = driven.app.screen
        assert screen.compared.own_layer(screen.column) == 2
        await driven.press("G", "enter", "b")
        await driven.until(lambda: screen.compared.reference is not deep, "the null")
        assert screen.compared.own_layer(screen.compared.inside) == 4
        assert "heads of layer 4" in line(driven, "where")
        await driven.press("b", "b")
        await driven.until(lambda: screen.compared.reference is deep, "the marked one again")
        assert screen.compared.own_layer(screen.compared.inside) == 4


async def test_a_comparison_has_the_whole_axis(drive: Drive, walk: Profile, other: Profile) -> None:
    """A zoom of the explorer's would be in the pictures and not in their ticks."""
    async with drive(walk) as driven:
        driven.app.explorer.reference = other
        await driven.press("K", "plus", "plus", "5")
        screen = driven.app.screen
        pair = screen.pair()
        assert pair is not None
        assert pair.a.look.window is None
        assert pair.a.look.weights == (0.0, 1.0)


async def test_where_no_chance_can_be_drawn_that_is_said(drive: Drive, walk: Profile, other: Profile) -> None:
    uneven = replace(walk, origin=replace(walk.origin, tokens=(), token_ids=(), n_prompts=2, n_tokens=23))
    async with drive(uneven, size=(160, 48)) as driven:
        await driven.press("5")
        await driven.until(lambda: "nothing to compare with" in line(driven, "title"), "the failure")
        assert "length" in line(driven, "note")
        driven.app.explorer.reference = other
        await driven.press("escape", "5", "b")
        screen = driven.app.screen
        await driven.until(lambda: "length" in line(driven, "note"), "the failure")
        assert screen.compared.sides == (other, uneven)
        await driven.press("x")
        assert "chance" not in line(driven, "note")


async def test_another_model_s_numbers_come_to_an_open_matrix(
    drive: Drive, walk: Profile, patterns: Callable[..., Any], make_profile: Callable[..., Profile]
) -> None:
    small = make_profile([patterns(5, 2, 12)])
    small = replace(small, origin=replace(small.origin, model="small/one"))
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("6", "l", "l", "l", "l")
        screen = driven.app.screen
        assert screen.place[0] > 1
        screen.renew(small)
        await driven.pilot.pause()
        assert screen.place[0] == 0
        assert "small/one" in line(driven, "where")
        screen.renew(Profile(small.origin, (None,)))
        await driven.pilot.pause()
        assert driven.app.screen is driven.app.explorer


async def test_what_the_nearest_heads_need_leaves_the_other_numbers_as_they_were(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("6", "o")
        screen = driven.app.screen
        order = list(screen.order)
        await driven.press("d")
        await driven.until(lambda: screen.nearest is not None, "the distances")
        assert screen.order[0] == screen._anchor
        first = screen.nearest
        await driven.press("s", "s")
        await driven.until(lambda: screen.look.sink == "only", "the sink alone")
        look, found = screen.look, screen.nearest
        assert found is not first
        await driven.press("p")
        await driven.until(lambda: "has no weights here" in line(driven, "note"), "the refusal")
        assert (screen.look, screen.nearest) == (look, found)
        await driven.press("d")
        assert screen.order == order


@pytest.mark.parametrize(
    ("key", "said"),
    [("p", "each token → itself"), ("s", "sink left out"), ("d", "scipy's KDE"), ("a", "log10"), ("z", "sqrt colours")],
)
async def test_what_is_looked_at_changes_as_in_the_explorer(
    drive: Drive, walk: Profile, other: Profile, key: str, said: str
) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        driven.app.explorer.reference = other
        await driven.press("5")
        before = line(driven, "title")
        assert said not in before
        await driven.press(key)
        assert said in line(driven, "title")


SIDES = ("A  main", "B  step1000", "B - A", "B / A")


async def test_layouts_go_round(drive: Drive, walk: Profile, other: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        driven.app.explorer.reference = other
        await driven.press("5")
        picture = driven.app.screen.query_one("#picture")

        def heading() -> str:
            return str(picture.render_line(0).text)

        first = heading()
        seen = []
        for _ in range(5):
            await driven.press("v")
            seen.append("".join(side for side in SIDES if side in heading()))
        assert seen == [*SIDES, "".join(SIDES[:3])]
        assert heading() == first
        await driven.press("V")
        assert SIDES[3] in heading()
        assert "colours: B over A" in line(driven, "title")
        await driven.press("z")
        assert SIDES[3] in heading(), "its colours are factors on every scale"


async def test_a_reference_from_the_command_line_is_compared_at_once(walk: Profile, other: Profile) -> None:
    from laminar_tui.ui.state import State

    app = LaminarApp(State(other), None)
    app.explorer.reference = walk
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert isinstance(app.screen, CompareScreen)
        assert app.screen.compared.sides == (walk, other)


# -- report ------------------------------------------------------------------------------------------------------------


async def test_a_report_that_was_made_is_there_at_once(
    drive: Drive, walk: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laminar_tui.ui import report as module

    made: list[Profile] = []
    make = module.make_report
    monkeypatch.setattr(module, "make_report", lambda profile, nulls: made.append(profile) or make(profile, nulls))
    async with drive(walk) as driven:
        for _ in range(2):
            await driven.press("7")
            await driven.until(lambda: driven.app.screen.report is not None, "the report")
            assert "1. Pressed to zero early" in driven.text()
            await driven.press("escape")
        assert made == [walk]
        driven.app.explorer.go_on_with(other := replace(walk, roles=None))
        await driven.press("7")
        await driven.until(lambda: driven.app.screen.report is not None, "the other report")
        assert made == [walk, other], "another profile has a report of its own"


async def test_the_report_is_read_page_by_page_and_written(drive: Drive, walk: Profile, tmp_path: Path) -> None:
    async with drive(walk) as driven:
        await driven.press("7")
        screen = driven.app.screen
        await driven.until(lambda: screen.report is not None, "the report")
        assert "1. Pressed to zero early" in driven.text()
        n = len(screen._rows)
        await driven.press("j")
        assert f"lines 2 to 20 of {n}" in line(driven, "title")
        await driven.press("space")
        assert f"lines 20 to 38 of {n}" in line(driven, "title")
        await driven.press("G")
        assert f"to {n} of {n}" in line(driven, "title")
        assert "Attention is not importance" in driven.text()
        await driven.press("g", "n", "n")
        assert "2. Which tokens are the satellites?" in screen.query_one("#page").render_line(0).text
        await driven.press("N")
        assert "1. Pressed to zero" in screen.query_one("#page").render_line(0).text
        await driven.press("w")
        field = driven.app.screen.query_one(Input)
        assert field.value == "model.md"
        field.value = str(tmp_path / "report.md")
        await driven.press("enter")
        await driven.until(lambda: "wrote" in line(driven, "note"), "it is written")
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == report_markdown(make_report(walk))


# -- picker ------------------------------------------------------------------------------------------------------------


async def test_what_comes_with_the_program_recent_profiles_and_the_cache_are_listed(
    drive: Drive, walk: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laminar_tui.model.cache import CachedModel

    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "config.json").write_text('{"num_hidden_layers": 32, "num_attention_heads": 16}')
    cached = CachedModel("owner/big", "main", 5_680_000_000, folder, True)
    monkeypatch.setattr("laminar_tui.model.cache.cached_models", lambda: [cached])
    walk.save(tmp_path / "kept.laminar")
    catalog.remember(tmp_path / "kept.laminar")
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("O")
        await driven.until(lambda: "owner/big" in driven.text(), "the cache")
        rows = [" ".join(row.split()) for row in driven.text().splitlines()]
        assert any(row.startswith("laminar-small") and "6 × 8" in row for row in rows)
        assert any(row.endswith("kept.laminar") or "kept.laminar" in row for row in rows)
        assert any(row.startswith("owner/big 5.7 GB 32 × 16") for row in rows)


async def test_a_profile_is_opened_and_remembered(
    drive: Drive, walk: Profile, other: Profile, tmp_path: Path, same_profile: Callable[..., None]
) -> None:
    other.save(tmp_path / "b.laminar")
    async with drive(walk) as driven:
        await driven.press("O")
        driven.app.screen.query_one("#typed").value = str(tmp_path / "b.laminar")
        await driven.pilot.pause()
        await driven.press("enter")
        await driven.until(lambda: driven.app.screen is driven.app.explorer, "the explorer")
        same_profile(driven.state.profile, other)
        assert catalog.read_recent() == [tmp_path / "b.laminar"]


async def test_a_model_is_run_on_the_present_prompt(drive: Drive, script: Any, tmp_path: Path) -> None:
    (tmp_path / "some-model").mkdir()
    async with drive(request=Request(prompt="one", dtype="float16", revision="step1")) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("O")
        driven.app.screen.query_one("#typed").value = str(tmp_path / "some-model")
        await driven.pilot.pause()
        await driven.press("enter")
        await driven.until(lambda: len(script.seen) == 2, "a second run")
        assert script.seen[1] == Request(str(tmp_path / "some-model"), "one", dtype="float16")


async def test_typing_filters_and_the_arrows_choose(drive: Drive, script: Any) -> None:
    async with drive(request=Request(prompt="one")) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("O", *"SAM")
        screen = driven.app.screen
        assert [entry.name for entry in screen.shown()] == ["sample", "SAM"]
        await driven.press("down", "down")
        assert screen.cursor == 1
        assert "else a hub id" in line(driven, "summary")
        await driven.press("up", "backspace", "backspace", "backspace", "enter")
        await driven.until(lambda: len(script.seen) == 2, "the bundled model")
        assert script.seen[1].source == ""


@pytest.mark.parametrize(
    ("typed", "said"),
    [("/no/such/file", "no such file or folder"), ("~nobody-there/x", "cannot look at"), ("BAD", "is no model file")],
)
async def test_what_cannot_be_opened_is_said_and_nothing_is_lost(
    drive: Drive, walk: Profile, tmp_path: Path, typed: str, said: str
) -> None:
    (tmp_path / "file.txt").write_text("text")
    async with drive(walk) as driven:
        await driven.press("O")
        driven.app.screen.query_one("#typed").value = str(tmp_path / "file.txt") if typed == "BAD" else typed
        await driven.pilot.pause()
        await driven.press("enter")
        await driven.until(lambda: said in " ".join(driven.text().split()), said)
        await driven.press("escape")
        assert driven.state.profile is walk


async def test_a_damaged_profile_is_refused_by_name(drive: Drive, walk: Profile, tmp_path: Path) -> None:
    path = tmp_path / "broken.laminar"
    path.write_bytes(b"LAMINAR?" * 20)
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("O")
        driven.app.screen.query_one("#typed").value = str(path)
        await driven.pilot.pause()
        await driven.press("enter")
        await driven.until(lambda: "broken.laminar" in line(driven, "note") and "reading" not in line(driven, "note"))
        assert isinstance(driven.app.screen, PickerScreen)


# -- prompt ------------------------------------------------------------------------------------------------------------


def count_words(request: Request) -> PromptFacts:
    return PromptFacts(len(request.text().split()) + request.bos + 3 * request.chat, 8, True, True)


async def test_tokens_are_counted_while_one_types(drive: Drive, script: Any) -> None:
    script.facts = count_words
    async with drive(request=Request(prompt="one two")) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e")
        await driven.until(lambda: "2 of 8 tokens" in line(driven, "summary"), "the count")
        await driven.press(*" three")
        await driven.until(lambda: "3 of 8 tokens" in line(driven, "summary"), "the count of three")
        await driven.press("ctrl+g")
        await driven.until(lambda: "4 of 8 tokens" in line(driven, "summary"), "BOS counted")
        await driven.press("ctrl+t")
        await driven.until(lambda: "7 of 8 tokens" in line(driven, "summary"), "the template counted")
        await driven.press(*" a b")
        await driven.until(lambda: "too long for this model" in line(driven, "summary"), "the limit")
        await driven.press("enter")
        await driven.until(lambda: len(script.seen) == 2, "a second run")
        assert script.seen[1] == Request(prompt="one two three a b", bos=True, chat=True)


async def test_typing_without_a_pause_asks_once(drive: Drive, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(request: Request) -> PromptFacts:
        asked.append(request.text())
        return count_words(request)

    script.facts = ask
    monkeypatch.setattr("laminar_tui.ui.prompt.COUNT_AFTER", 0.3)
    async with drive(request=Request(prompt="x")) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e")
        screen = driven.app.screen
        for _ in range(20):
            screen.area.insert("y")
        await driven.until(lambda: "x" + "y" * 20 in asked, "the last text")
        assert len(asked) <= 3


async def test_a_bug_behind_a_screen_is_logged_without_the_prompt(drive: Drive, script: Any, tmp_path: Path) -> None:
    def fail(request: Request) -> PromptFacts:
        raise ZeroDivisionError(request.text())

    script.facts = fail
    log = tmp_path / "laminar.log"
    start_log(log)
    async with drive(request=Request(prompt="the eagle lands"), log_path=log) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e")
        await driven.until(lambda: log.exists() and "ZeroDivisionError" in log.read_text(), "the bug")
    stop_log()
    assert "Traceback" in log.read_text()
    assert "the eagle lands" not in log.read_text()


@pytest.mark.usefixtures("script")
async def test_before_a_model_is_loaded_the_count_is_an_estimate_and_says_so(drive: Drive) -> None:
    async with drive(request=Request(prompt="x" * 40)) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e")
        assert "about 10 tokens (estimated: no model is loaded yet)" in line(driven, "summary")


async def test_switches_say_what_the_tokenizer_lacks_or_does_by_itself(drive: Drive, script: Any) -> None:
    script.facts = lambda _request: PromptFacts(3, None, True, False, begins_with_bos=True)
    async with drive(request=Request(prompt="x"), size=(120, 24)) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e")
        await driven.until(lambda: "3 tokens" in line(driven, "summary"), "the count")
        assert "[x] BOS (the tokenizer adds it)   [ ] chat template (this tokenizer has none)" in line(driven, "title")


async def test_presets_go_round_and_repeat(drive: Drive, script: Any) -> None:
    async with drive(request=Request(prompt="x"), size=(160, 48)) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e")
        for name, make in PRESETS.items():
            await driven.press("ctrl+n")
            assert driven.app.screen.text() == make()
            assert f"preset: {name}" in line(driven, "title")
        await driven.press("enter")
        await driven.until(lambda: len(script.seen) == 2, "a second run")
    words = repeated_words().split()
    assert words[: len(words) // 2] == words[len(words) // 2 :]
    assert len(set(words)) == len(words) // 2


@pytest.mark.usefixtures("script")
async def test_a_file_is_read_and_one_that_cannot_be_is_refused(drive: Drive, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("from a\u2028file\n", encoding="utf-8")
    async with drive(request=Request(prompt="x")) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e", "ctrl+o")
        driven.app.screen.query_one(Input).value = str(tmp_path / "missing")
        await driven.press("enter")
        assert "cannot read" in line(driven, "note")
        assert driven.app.screen.text() == "x"
        await driven.press("ctrl+o")
        driven.app.screen.query_one(Input).value = str(tmp_path / "text.txt")
        await driven.press("enter")
        assert driven.app.screen.text() == "from a\u2028file"


ENDS = "\r\n \x0b \x0c \x1c \x1d \x1e \x85 \u2028 \u2029 \r"


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize("prompt", [f"one{ENDS}two\nthree", "\u2028", "a\ueff0\uf700\u2028b"])
async def test_line_ends_of_every_kind_survive_untouched_and_edited(drive: Drive, prompt: str) -> None:
    async with drive(request=Request(prompt=prompt)) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e")
        assert driven.app.screen.query_one(TextArea).document.line_count == prompt.count("\n") + 1
        assert driven.app.screen.edited().prompt == prompt
        await driven.press("x")
        assert driven.app.screen.edited().prompt == prompt + "x"


def test_shielding_is_undone_exactly() -> None:
    for text in ("", "plain\ntext", ENDS, "\uf700\uf701\u2028", "".join(map(chr, range(0xF700, 0xF8FF))) + "\u2028"):
        shown, stands_for = shield(text)
        assert unshield(shown, stands_for) == text


@pytest.mark.usefixtures("script")
async def test_esc_leaves_the_prompt_as_it_was(drive: Drive) -> None:
    async with drive(request=Request()) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e", "ctrl+n", "escape", "e")
        assert driven.app.screen.edited() == Request(), "the bundled prompt stays the bundled prompt"
