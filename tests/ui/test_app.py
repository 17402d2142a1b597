"""A walk through the app on a saved profile: what each key, click and dialog does, and what the screen says."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, TextArea

from laminar_tui.profile.profile import Check, Profile
from laminar_tui.run import Request
from laminar_tui.ui.dialogs import FileDialog, TextDialog
from laminar_tui.ui.explorer import Terminal
from laminar_tui.ui.prompt import PromptScreen
from laminar_tui.ui.state import State
from laminar_tui.ui.widgets import HeatmapView

SIZES = [(80, 24), (160, 48)]
Drive = Callable[..., Any]


def place(state: State) -> tuple[str, int, int]:
    return state.view, state.layer_index, state.head_index


def controls(text: str) -> list[str]:
    """Characters that a terminal would act on, or that nobody could see."""
    return [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


# -- walking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_keys_walk_from_all_layers_to_a_head_and_back(drive: Drive, walk: Profile, size: tuple[int, int]) -> None:
    async with drive(walk, size=size) as driven:
        assert driven.row("where").startswith(" laminar ")
        assert "layer 0" in driven.row("summary")
        await driven.press("l", "right")
        assert "layer 2" in driven.row("summary")
        await driven.press("enter")
        assert "laminar › layer 2 " in driven.row("where")
        await driven.press("G")
        assert "head 3" in driven.row("summary")
        await driven.press("enter")
        assert "laminar › layer 2 › head 3" in driven.row("where")
        assert "final token looks at:" in driven.text()
        await driven.press("escape", "backspace")
        assert place(driven.state) == ("overview", 2, 3)
        assert driven.row("where").startswith(" laminar  ")


async def test_a_layer_without_attention_is_passed_over_and_not_opened(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("l", "enter")
        assert place(driven.state) == ("overview", 1, 0)
        assert "not measured" in driven.row("summary")
        await driven.press("h", "enter", "right_square_bracket")
        assert place(driven.state) == ("layer", 2, 0)


async def test_views_are_opened_by_number(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        for key, view in (("2", "layer"), ("3", "head"), ("4", "lines"), ("1", "overview")):
            await driven.press(key)
            assert driven.state.view == view
            assert driven.app.explorer.query_one(HeatmapView).display == (view in ("overview", "layer"))


async def test_the_crosshair_moves_row_by_row_and_its_band_is_counted(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        rows = driven.app.explorer.query_one(HeatmapView).rows
        seen = [driven.row("summary")]
        for _ in range(rows - 1):
            await driven.press("k")
            seen.append(driven.row("summary"))
        assert len(set(seen)) == rows
        await driven.press("k")
        assert driven.row("summary") == seen[-1]
        counted = [int(line.split("layer 0")[1].split(" of ")[0].strip().replace(",", "")) for line in seen]
        assert sum(counted) == walk.layer_counts("final", "with").n[0]


# -- what one looks at -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("p", "each token → itself"),
        ("P", "each token → itself and previous tokens"),
        ("s", "sink left out"),
        ("d", "scipy's KDE"),
        ("a", "log"),
        ("z", "sqrt colours"),
        ("Z", "per column"),
    ],
)
async def test_the_title_says_what_a_key_changed(drive: Drive, walk: Profile, key: str, said: str) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        before = driven.row("title")
        assert said.lower() not in before.replace("log colours", "").lower()
        await driven.press(key)
        assert said.lower() in driven.row("title").replace("log colours", "").lower()
        assert driven.row("title") != before


@pytest.mark.parametrize("key", ["p", "s", "d", "a", "z", "Z"])
async def test_at_80_columns_the_title_still_says_population_sink_and_estimator(
    drive: Drive, walk: Profile, key: str
) -> None:
    async with drive(walk) as driven:
        await driven.press(key)
        for fact in driven.state.look.facts():
            assert fact in driven.row("title")


async def test_colours_and_curves_change_the_screen(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        heat = driven.app.explorer.query_one(HeatmapView)

        def colours() -> list[object]:
            return [segment.style for y in range(heat.size.height) for segment in heat.render_line(y)]

        seen = [colours()]
        for key in ("c", "C"):
            await driven.press(key)
            assert colours() not in seen
            seen.append(colours())
        before = driven.text()
        await driven.press("u")
        assert driven.text() != before
        assert driven.state.mode == "quadrant"


async def test_the_theme_goes_from_dark_to_light_and_back(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        dark = driven.app.explorer.background_colors[1]
        await driven.press("t")
        assert driven.app.explorer.background_colors[1].brightness > 0.5 > dark.brightness
        await driven.press("t")
        assert driven.app.explorer.background_colors[1] == dark


# -- the mouse -------------------------------------------------------------------------------------------------------


async def test_a_click_goes_to_a_cell_and_a_double_click_opens_it(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        heat = driven.app.explorer.query_one(HeatmapView)
        layout = heat._drawing.layout
        x = next(x for x in range(heat.size.width) if layout.column_at(x, 0) == 3)
        await driven.pilot.click(heat, offset=(x, 0))
        await driven.pilot.pause()
        assert place(driven.state) == ("overview", 3, 0)
        assert driven.state.height > 1 - 1 / layout.rows
        await driven.pilot.double_click(heat, offset=(x, 2))
        await driven.until(lambda: place(driven.state) == ("layer", 3, 0), "the layer is open")


async def test_clicks_beside_the_picture_do_nothing(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        before = driven.state
        heat = driven.app.explorer.query_one(HeatmapView)
        for offset in ((0, 0), (heat.size.width - 1, 1)):
            await driven.pilot.click(heat, offset=offset)
        assert driven.state == before


async def test_the_wheel_goes_along_the_columns(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        heat = driven.app.explorer.query_one(HeatmapView)
        await driven.pilot._post_mouse_events([_scroll("down")], widget=heat, offset=(10, 5))
        await driven.until(lambda: driven.state.layer_index == 1, "one layer on")
        await driven.pilot._post_mouse_events([_scroll("up")], widget=heat, offset=(10, 5))
        await driven.until(lambda: driven.state.layer_index == 0, "and back")


def _scroll(direction: str) -> type:
    from textual import events

    return {"down": events.MouseScrollDown, "up": events.MouseScrollUp}[direction]


# -- dialogs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "words"), [("question_mark", "How to read"), ("i", "Checked before"), ("f1", "Keys")])
@pytest.mark.parametrize("closing", ["escape", "q", "enter", "question_mark"])
async def test_texts_open_and_close(drive: Drive, walk: Profile, key: str, words: str, closing: str) -> None:
    async with drive(walk, size=(100, 60)) as driven:
        before = driven.text()
        await driven.press(key)
        assert isinstance(driven.app.screen, TextDialog)
        assert words in driven.text()
        await driven.press(closing)
        assert driven.app.screen is driven.app.explorer
        assert driven.text() == before


async def test_keys_typed_in_one_go_scroll_as_often(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("question_mark")
        for _ in range(3):
            driven.app.screen.action_scroll(1)
        await driven.pilot.pause()
        assert driven.app.screen.query_one("#box").scroll_y == 3


async def test_the_line_of_keys_is_of_what_is_typed(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        before = driven.row("keys")
        await driven.press("slash")
        assert driven.row("keys").split() == ["Enter", "Go", "there", "Esc", "Back"]
        await driven.press("escape")
        assert driven.row("keys") == before


async def test_weights_of_tokens_on_themselves_have_no_sink_to_leave_out(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        assert "Sink" in driven.row("keys")
        await driven.press("p", "s")
        assert driven.state.look.population == "self"
        assert driven.state.look.sink == "with"
        assert "Sink" not in driven.row("keys")
        assert "has no sink" in driven.row("status")
        await driven.press("4", "s")
        assert driven.state.look.sink == "without", "the final token's curves are there too"


async def test_a_long_help_can_be_read_to_its_end(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("question_mark")
        assert "every action by name" not in driven.text()
        first = driven.text()
        await driven.press("j", "j")
        await driven.until(lambda: driven.text() != first, "it goes down by lines")
        for end, start in (("G", "g"), ("end", "home")):
            await driven.press(end)
            await driven.until(lambda: "every action by name" in driven.text(), "the last line is on the screen")
            await driven.press(start)
            await driven.until(lambda: driven.text() == first, "the first line is on the screen")
        await driven.press("space")
        await driven.until(lambda: "How to read this picture" not in driven.text(), "a page on")


async def test_the_palette_offers_the_actions_and_runs_them(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("ctrl+p")
        await driven.pilot.press(*"log10")
        await driven.until(lambda: "weight axis linear or log10" in driven.text(), "the action is offered")
        await driven.press("enter")
        await driven.press("enter")
        await driven.until(lambda: driven.state.look.method.is_log, "the action has been run")


async def test_a_saved_profile_says_why_no_prompt_can_be_edited(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("e")
        assert driven.app.screen is driven.app.explorer
        assert "no model is loaded: r loads this profile's own, O another one" in driven.row("status")
        await driven.press("l")
        assert "no model is loaded" not in driven.row("status")


async def test_the_prompt_is_edited_in_place(drive: Drive, script: Any) -> None:
    async with drive(request=Request(prompt="one")) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e")
        assert isinstance(driven.app.screen, PromptScreen)
        assert driven.app.screen.query_one(TextArea).text == "one"
        await driven.press("!", "ctrl+j", "2", "enter")
        await driven.until(lambda: len(script.seen) == 2, "a second run")
        assert script.seen[1].prompt == "one!\n2"
        await driven.press("e", "x", "escape")
        assert driven.app.screen is driven.app.explorer
        await driven.press("e")
        assert driven.app.screen.query_one(TextArea).text == "one!\n2"


async def test_an_empty_prompt_is_not_run(drive: Drive, script: Any) -> None:
    async with drive(request=Request(prompt=" ")) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e", "enter")
        assert "the prompt is empty" in driven.text()
        assert len(script.seen) == 1


# -- writing ---------------------------------------------------------------------------------------------------------


async def test_a_profile_is_written_and_loads_equal(
    drive: Drive, walk: Profile, tmp_path: Path, same_profile: Callable[[Profile, Profile], None]
) -> None:
    target = tmp_path / "walk.laminar"
    async with drive(walk) as driven:
        await driven.press("w")
        assert isinstance(driven.app.screen, FileDialog)
        assert driven.app.screen.query_one(Input).value == "model.laminar"
        driven.app.screen.query_one(Input).value = str(target)
        await driven.press("enter")
        await driven.until(target.exists, "the file is there")
        assert "saved as" in driven.row("status")
        assert driven.app.explorer.saved_path == str(target)
    same_profile(Profile.load(target), walk)


async def test_a_file_that_exists_is_replaced_by_a_second_enter_only(
    drive: Drive, walk: Profile, tmp_path: Path
) -> None:
    target = tmp_path / "old.laminar"
    target.write_bytes(b"old")
    async with drive(walk) as driven:
        await driven.press("w")
        driven.app.screen.query_one(Input).value = str(target)
        await driven.press("enter")
        assert "this file exists" in driven.text()
        assert target.read_bytes() == b"old"
        await driven.press("enter")
        await driven.until(lambda: target.read_bytes() != b"old", "the file is another")
        assert driven.app.screen is driven.app.explorer


async def test_esc_writes_nothing(drive: Drive, walk: Profile, tmp_path: Path) -> None:
    async with drive(walk) as driven:
        await driven.press("w")
        driven.app.screen.query_one(Input).value = str(tmp_path / "no.laminar")
        await driven.press("escape")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "answer"), [("no/such/x.laminar", "there is no folder"), (".", "this is a folder"), ("", "type a name")]
)
async def test_a_name_that_cannot_be_written_is_answered(
    drive: Drive, walk: Profile, tmp_path: Path, name: str, answer: str
) -> None:
    async with drive(walk) as driven:
        await driven.press("w")
        driven.app.screen.query_one(Input).value = str(tmp_path / name) if name else ""
        await driven.press("enter")
        assert answer in driven.text()


async def test_a_write_that_fails_shows_what_and_why_and_the_app_goes_on(
    drive: Drive, walk: Profile, tmp_path: Path
) -> None:
    async with drive(walk) as driven:
        await driven.press("w")
        driven.app.screen.query_one(Input).value = str(tmp_path / "no-folder" / "x.laminar")
        await driven.press("enter", "enter")
        await driven.until(lambda: driven.app.explorer.has_class("-failed"), "the banner is there")
        assert "cannot write" in driven.text()
        assert "No such file or directory" in driven.text()
        assert "saved as" not in driven.row("status")
        await driven.press("escape", "l")
        assert not driven.app.explorer.has_class("-failed")
        assert driven.state.layer_index == 1


async def test_nothing_read_is_nothing_to_write(drive: Drive) -> None:
    async with drive() as driven:
        await driven.press("w")
        assert "there is nothing to write yet" in driven.row("status")


# -- what must not happen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(59, 24), (80, 15), (59, 15), (1, 1), (20, 3)])
async def test_a_terminal_too_small_says_so_and_comes_back(drive: Drive, walk: Profile, size: tuple[int, int]) -> None:
    async with drive(walk) as driven:
        before = driven.text()
        await driven.pilot.resize_terminal(*size)
        await driven.press("l", "h", "enter", "escape")
        if size[0] > 30:
            assert "laminar needs 60 × 16 cells" in driven.text()
            assert f"this terminal has {size[0]} × {size[1]}" in driven.text()
        await driven.pilot.resize_terminal(80, 24)
        await driven.until(lambda: driven.text() == before, "the screen is as before")


@pytest.mark.parametrize("keys", [["k", "k"], ["2", "k"], ["3"], ["4"]], ids=["overview", "layer", "head", "lines"])
@pytest.mark.parametrize("size", [(80, 34), (120, 24), (160, 48), (60, 16)])
async def test_a_resized_screen_is_that_of_a_terminal_of_this_size(
    drive: Drive, walk: Profile, size: tuple[int, int], keys: list[str]
) -> None:
    async with drive(walk) as driven:
        await driven.press(*keys)
        state = driven.state
    async with drive(walk, size=size) as driven:
        driven.app.explorer.state = state
        await driven.pilot.pause()
        expected = driven.text()
    async with drive(walk) as driven:
        driven.app.explorer.state = state
        await driven.pilot.pause()
        await driven.pilot.resize_terminal(*size)
        await driven.until(lambda: driven.text() == expected, f"the same as\n{expected}")


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("size", SIZES)
async def test_hostile_names_and_tokens_are_drawn_harmless(
    drive: Drive, hostile: Profile, size: tuple[int, int], ascii_only: bool
) -> None:
    async with drive(hostile, size=size, terminal=Terminal(ascii_only=ascii_only)) as driven:
        for keys in (["l"], ["1"], ["2"], ["3"], ["4"], ["i"], ["escape", "w"]):
            await driven.press(*keys)
            assert controls(driven.text()) == []
            assert all(cells == size[0] for cells in _widths(driven))
            if ascii_only and keys[0] in "1234l":
                assert driven.text().isascii()
        assert driven.app.return_code in (None, 0)


def _widths(driven: Any) -> list[int]:
    return [strip.cell_length for strip in driven.app.screen._compositor.render_strips()]


async def test_blanks_of_tokens_are_written_alike_in_the_line_and_in_the_prompt(drive: Drive, walk: Profile) -> None:
    async with drive(walk, terminal=Terminal(ascii_only=True)) as driven:
        await driven.press("3")
        heading = next(line for line in driven.text().splitlines() if "looks at:" in line)
        assert heading.split("looks at:")[1].strip().startswith("_token")


async def test_a_hostile_prompt_is_edited_harmless_and_unchanged(drive: Drive, script: Any, hostile: Profile) -> None:
    prompt = f"one {hostile.origin.model} two\tthree"
    async with drive(request=Request(prompt=prompt)) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run has ended")
        await driven.press("e")
        assert controls(driven.text()) == []
        assert "[bold]x[/]" in driven.text()
        await driven.press("enter")
        await driven.until(lambda: len(script.seen) == 2, "a second run")
        assert script.seen[1].prompt == prompt


async def test_a_failed_check_stands_over_the_picture(drive: Drive, walk: Profile) -> None:
    failed = replace(walk, origin=replace(walk.origin, checks=(Check("rows sum to 1", False, "off by \x1b[31m0.2"),)))
    async with drive(failed) as driven:
        assert "NOT TO BE TRUSTED: rows sum to 1: off by ␛[31m0.2" in driven.text()


async def test_a_profile_without_any_attention_can_be_walked(drive: Drive, walk: Profile) -> None:
    origin = replace(walk.origin, layer_kinds=("recurrent",) * 3)
    async with drive(replace(walk, layers=(None,) * 3, origin=origin)) as driven:
        await driven.press("l", "enter", "2", "3", "4", "1", "p", "a", "k", "G")
        assert driven.state.view == "overview"
        assert "not measured" in driven.row("summary")
