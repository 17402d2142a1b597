"""The sweep's screen by its keys: steps, layers, heads, numbers, and the way into a step's profile and back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.widgets import Input

from laminar_tui.catalog import recent_entries, remember
from laminar_tui.commands.explore import make_parser
from laminar_tui.errors import ProfileFileError
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep_folder import SavedSweep
from laminar_tui.ui import start
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.explorer import Terminal
from laminar_tui.ui.picker import PickerScreen
from laminar_tui.ui.state import State
from laminar_tui.ui.sweep import SweepScreen

STEPS = ("step0", "step512", "step4000", "step143000", "main")
SIZES = [(80, 24), (160, 48), (240, 70)]


@pytest.fixture(scope="module")
def folder(patterns: Callable[..., Any], make_profile: Callable[..., Profile], tmp_path_factory: Any) -> Path:
    """Five steps of two layers with attention (4 and 3 heads) and one without; the patterns grow sharper."""
    found = tmp_path_factory.mktemp("sweep")
    for at, name in enumerate(STEPS):
        made = make_profile([patterns(1, 4, 12, 0.5 + at), None, patterns(2, 3, 12, 0.5 + 2 * at)])
        origin = replace(made.origin, revision=name, model="tiny/\x1b[31mmodel")
        replace(made, origin=origin).save(found / f"{name}.laminar")
    return found


@pytest.fixture
def saved(folder: Path) -> SavedSweep:
    return SavedSweep.of_folder(folder)


async def test_the_line_and_the_table_of_the_steps_are_copied(
    saved: SavedSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(LaminarApp, "copy_to_clipboard", lambda _app, text: copied.append(text))
    async with Opened(saved) as opened:
        screen = opened.app.screen
        await opened.pilot.press("y")
        assert copied[-1].startswith("main  n ")
        await opened.pilot.press("Y")
        rows = [row.split("\t") for row in copied[-1].splitlines()]
        assert [row[0] for row in rows] == ["step", *STEPS]
        assert rows[0][1:] == ["n", *(measure.name for measure in screen.measures)]
        measure = screen.measures[0]
        assert [float(row[2]) for row in rows[1:]] == pytest.approx(measure.values.tolist(), rel=1e-5)


class Opened:
    """The app on a sweep, in the pilot's hands."""

    def __init__(self, saved: SavedSweep, **options: Any) -> None:
        self.app = LaminarApp(State(saved.last()), None, options.pop("terminal", Terminal()))
        self.app.explorer.sweep = saved
        self.size = options.pop("size", (160, 48))

    async def __aenter__(self) -> "Opened":
        self._context = self.app.run_test(size=self.size)
        self.pilot = await self._context.__aenter__()
        await self.until(lambda: isinstance(self.app.screen, SweepScreen) and self.app.screen.sweep is not None)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._context.__aexit__(*error)

    @property
    def screen(self) -> SweepScreen:
        assert isinstance(self.app.screen, SweepScreen)
        return self.app.screen

    async def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(1000):
            if holds():
                await self.pilot.pause()
                return
            await self.pilot.pause(0.01)
        raise AssertionError(self.text())

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until what they ask for is read."""
        await self.pilot.press(*keys)
        if isinstance(self.app.screen, SweepScreen):
            screen = self.app.screen
            await self.until(lambda: screen.place == (screen.wanted or screen.place))

    def text(self) -> str:
        return "\n".join(strip.text for strip in self.app.screen._compositor.render_strips())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "terminal", [Terminal(), Terminal("none"), Terminal("none", True)], ids=["color", "none", "ascii"]
)
async def test_it_opens_on_the_last_step_with_picture_curve_and_numbers(
    saved: SavedSweep, size: tuple[int, int], terminal: Terminal
) -> None:
    async with Opened(saved, size=size, terminal=terminal) as driven:
        text = driven.text()
        rows = text.splitlines()
        assert "[main]" in text
        assert "sink share (%): mean weight on the first token" in text
        assert "5 steps" in text
        assert "all layers" in rows[0]
        assert "\x1b" not in text
        assert all(len(row) == size[0] for row in rows)
        # The curve stands under the picture: both have the same ruler.
        rulers = [row for row in rows if "[main]" in row]
        assert len(rulers) == 2
        assert rulers[0][:60] == rulers[1][:60]
        if terminal.ascii_only:
            assert text.isascii()
        assert ("JS bits" in text) == (size[0] >= 100)


async def test_the_keys_go_along_the_steps(saved: SavedSweep) -> None:
    async with Opened(saved) as driven:
        await driven.press("g")
        assert "[0]" in driven.text()
        assert "step0 " in driven.text()
        await driven.press("l", "right", "h")
        assert "[512]" in driven.text()
        await driven.press("G", "l")
        assert "[main]" in driven.text()
        await driven.press("H", "H")
        assert "[0]" in driven.text()


async def test_layers_and_heads_are_chosen_round_the_ends(saved: SavedSweep) -> None:
    async with Opened(saved) as driven:
        await driven.press("}")
        assert "choose a layer first" in driven.text()
        seen = []
        for _ in range(3):
            await driven.press("j")
            seen.append(driven.screen.place.layer)
        assert seen == [0, 2, None], "the layer without attention is passed over"
        await driven.press("k", "}", "}")
        assert "layer 2, head 1" in driven.text().splitlines()[0]
        await driven.press("{", "{", "{")
        assert driven.screen.place.head == 2, "before the first is all, before that the last"
        await driven.press("k")
        assert (driven.screen.place.layer, driven.screen.place.head) == (0, 2)
        await driven.press("}", "j")
        assert (driven.screen.place.layer, driven.screen.place.head) == (2, None), "head 3 is not in a layer of 3"


async def test_what_is_shown_is_what_the_profile_says(saved: SavedSweep, folder: Path) -> None:
    async with Opened(saved) as driven:
        await driven.press("j", "j", "}", "g", "l")
        profile = Profile.load(folder / "step512.laminar")
        share = float(profile.layer(2).statistics["sink_share"][0])
        shown = f"{100 * share:.1f} %"
        row = next(row for row in driven.text().splitlines() if row.strip().startswith("step512"))
        assert f"sink share {shown}" in row
        assert f"n {int(profile.layer(2).head_counts('final')[0].n)}" in row
        await driven.press("p")
        row = next(row for row in driven.text().splitlines() if row.strip().startswith("step512"))
        assert f"n {int(profile.layer(2).head_counts('self')[0].n)}" in row
        await driven.press("P", "s")
        row = next(row for row in driven.text().splitlines() if row.strip().startswith("step512"))
        assert f"n {int(profile.layer(2).head_counts('final', 'without')[0].n)}" in row


async def test_another_number_is_chosen(saved: SavedSweep) -> None:
    async with Opened(saved) as driven:
        first = driven.screen.measures[driven.screen.at].name
        assert first == "sink_share"
        await driven.press("full_stop")
        second = driven.screen.measures[driven.screen.at]
        assert second.name != first
        assert second.title in driven.text()
        await driven.press("j")
        assert driven.screen.measures[driven.screen.at].name == second.name, "it stays with another layer"
        await driven.press("comma", "v")
        await driven.pilot.press("down", "enter")
        await driven.pilot.pause()
        assert driven.screen.measures[driven.screen.at].name == second.name


async def test_the_curve_goes_through_the_steps_values(saved: SavedSweep) -> None:
    """In ASCII the highest and the lowest star stand over the columns of the greatest and the least value."""
    async with Opened(saved, terminal=Terminal("none", True), size=(80, 24)) as driven:
        values = driven.screen.measures[driven.screen.at].values
        rows = driven.text().splitlines()
        first = next(at for at, row in enumerate(rows) if "sink share (%)" in row) + 1
        plot = [row[8:] for row in rows[first : first + 6]]
        layout = driven.screen._drawing.value.layout  # type: ignore[union-attr]
        top = next(row for row in plot if "*" in row)
        column = int(np.argmax(values))
        middle = column * layout.cell_width + layout.cell_width // 2
        assert "*" in top[middle - 1 : middle + 2], rows


async def test_enter_opens_the_step_and_8_goes_back(saved: SavedSweep) -> None:
    async with Opened(saved) as driven:
        await driven.press("j", "j", "}", "}", "g", "l", "l")
        await driven.pilot.press("enter")
        explorer = driven.app.explorer
        await driven.until(lambda: driven.app.screen is explorer)
        state = explorer.state
        assert state.profile is not None
        assert state.profile.origin.revision == "step4000"
        assert (state.view, state.layer_index, state.head_index) == ("head", 2, 1)
        await driven.pilot.press("8")
        await driven.until(lambda: isinstance(driven.app.screen, SweepScreen) and driven.screen.sweep is not None)
        assert (driven.screen.place.layer, driven.screen.place.head) == (2, 1), "where one has been"
        await driven.pilot.press("escape")
        await driven.until(lambda: driven.app.screen is explorer)
        assert explorer.state.profile is state.profile


async def test_a_sweep_without_the_layer_that_one_was_at_begins_with_all(saved: SavedSweep) -> None:
    from laminar_tui.profile.sweep import Place

    async with Opened(saved) as opened:
        screen = SweepScreen(opened.app.explorer.state, Terminal(), saved, Place(7, 2))
        opened.app.push_screen(screen)
        await opened.until(lambda: screen.sweep is not None)
        assert screen.place.layer is None
        await opened.pilot.press("j")
        await opened.until(lambda: screen.place.layer == 0)


async def test_without_a_sweep_the_key_says_how_to_come_by_one(drive: Any, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("8")
        assert "no sweep is open" in driven.text()


async def test_a_damaged_profile_is_a_note(saved: SavedSweep, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "step0.laminar").write_bytes(b"nothing")
    broken = SavedSweep.of_folder(tmp_path)
    app = LaminarApp(State(saved.last()), None)
    app.explorer.sweep = broken
    async with app.run_test(size=(120, 40)) as pilot:
        for _ in range(500):
            await pilot.pause(0.01)
            text = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
            if "step0.laminar" in text:
                break
        assert "no laminar profile" in text
        await pilot.press("j", "l", "enter", "v", "?")
        assert app.is_running


async def test_the_picker_lists_and_opens_a_sweep(
    drive: Any, walk: Profile, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laminar_tui.model.cache.cached_models", list)
    remember(folder)
    assert [(entry.kind, entry.note) for entry in recent_entries() if entry.source == str(folder)] == [
        ("sweep", "5 steps")
    ]
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("O")
        await driven.until(lambda: isinstance(driven.app.screen, PickerScreen))
        driven.app.screen.query_one(Input).value = str(folder)
        await driven.pilot.pause()
        assert "opens the sweep in" in driven.text()
        await driven.press("enter")
        await driven.until(lambda: isinstance(driven.app.screen, SweepScreen) and driven.app.screen.sweep is not None)
        assert "5 steps" in driven.text()


def test_a_folder_on_the_command_line_is_a_sweep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(start, "_prepare_environment", lambda _options: "truecolor")
    monkeypatch.setattr(start, "_make_app", lambda *arguments: opened.append(arguments) or (None, None))
    monkeypatch.setattr(start, "_run", lambda *_arguments: 0)
    assert start.start_app(make_parser().parse_args([str(folder)])) == 0
    _, _, _, request, profile, _, reference, sweep = opened[0]
    assert (request, reference) == (None, None)
    assert profile.origin.revision == "step143000"
    assert len(sweep.paths) == 5


def test_a_sweep_whose_last_step_is_damaged_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("step1.laminar", "step2.laminar"):
        (tmp_path / name).write_bytes(b"nothing")
    monkeypatch.setattr(start, "_prepare_environment", lambda _options: "truecolor")
    with pytest.raises(ProfileFileError, match=r"step2\.laminar"):
        start.start_app(make_parser().parse_args([str(tmp_path)]))
