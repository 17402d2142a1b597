"""A run in the app, with a session that is no model: it fills, is told about, is stopped, fails, and is replaced."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate import Gate, n_read

from laminar_tui.errors import NotHereError, PromptError
from laminar_tui.log import start_log, stop_log
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.roles import Roles
from laminar_tui.run import Request
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.compare import CompareScreen
from laminar_tui.ui.prompt import PromptScreen
from laminar_tui.ui.state import State

Drive = Callable[..., Any]


async def test_the_line_of_keys_offers_what_works_before_a_layer_is_read(drive: Drive, script: Any) -> None:
    gate = script.pace = Gate()
    async with drive(request=Request(), size=(160, 48)) as driven:
        await driven.until(lambda: n_read(driven) == 0, "the picture is there, empty")
        assert driven.row("keys").split() == ["O", "Open", "e", "Prompt", "`", "Log", "?", "Help", "q", "Quit"]
        gate.open()
        await driven.until(lambda: n_read(driven) == 1, "one layer")
        assert "Enter Open" in driven.row("keys")
        assert "p Population" in driven.row("keys")


# -- the model of a saved profile --------------------------------------------------------------------------------------


async def test_r_gives_a_saved_profile_its_exact_weights(
    drive: Drive, script: Any, walk: Profile, dense: list[Any]
) -> None:
    roles = Roles({"sink": np.zeros((5, 5))}, {"sink": 0.3})
    saved = replace(walk, roles=roles)
    gate = script.pace = Gate()
    async with drive(saved, size=(160, 48)) as driven:
        await driven.press("3", "r")
        await driven.until(lambda: "forward" in driven.row("status"), "the model is run")
        assert driven.state.profile is saved, "the profile stays on the screen"
        gate.open(5)
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the run has ended")
        await driven.until(lambda: "agree within 0" in driven.row("status"), "it says so")
        origin = saved.origin
        assert script.seen == [
            Request(
                origin.model,
                "".join(origin.tokens),
                revision=origin.revision,
                dtype=origin.dtype,
                tokens=origin.tokens,
                token_ids=origin.token_ids,
                cached_only=True,
            )
        ]
        assert driven.state.profile is saved
        assert driven.app.explorer.runner.has_read(saved), "chance can be drawn with the model"
        await driven.press("comma", "comma")
        row = dense[0][0, 9]
        await driven.until(
            lambda: f"({int(row.argmax())}) {float(row.max()):.3g}" in driven.text(), "query 9's weights"
        )
        await driven.press("e")
        assert isinstance(driven.app.screen, PromptScreen)
        await driven.press("X", "enter")
        gate.open(5)
        await driven.until(lambda: len(script.seen) == 2, "another prompt")
        assert script.seen[1] == Request(
            origin.model, "".join(origin.tokens) + "X", revision=origin.revision, dtype=origin.dtype
        )


@pytest.mark.parametrize("change", ["parameters", "weights", "tokens"])
async def test_another_model_gives_no_exact_weights_and_is_told(
    drive: Drive, script: Any, walk: Profile, change: str
) -> None:
    origin, layer = walk.origin, walk.layer(0)
    assert layer.final_weights is not None
    moved = np.roll(layer.final_weights, 1, axis=1)
    script.profile, said = {
        "parameters": (replace(walk, origin=replace(origin, n_parameters=7)), "parameters: 7 here"),
        "weights": (
            replace(walk, layers=(replace(layer, final_weights=moved), *walk.layers[1:])),
            "the final token's weights are off by up to",
        ),
        "tokens": (replace(walk, origin=replace(origin, token_ids=(1,) * 12)), "other tokens"),
    }[change]
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("3", "r")
        await driven.until(lambda: f"NOT THE SAVED MODEL: {said}" in driven.text(), "it says why")
        assert driven.state.profile is walk
        await driven.press("comma")
        assert driven.state.query == -1
        assert driven.app.explorer._request is None


async def test_a_model_that_is_not_here_is_fetched_only_on_a_second_r(drive: Drive, script: Any, walk: Profile) -> None:
    def refuse(_index: int, _is_cancelled: Callable[[], bool]) -> None:
        raise NotHereError("tiny/model (step1000) is not on this machine")

    script.pace = refuse
    async with drive(walk, size=(160, 48)) as driven:
        await driven.press("r")
        await driven.until(
            lambda: "this profile's model is not on this machine: tiny/model" in driven.text(), "it says"
        )
        assert "r once more fetches it from the hub" in driven.text()
        await driven.press("r")
        await driven.until(lambda: len(script.seen) == 2, "a second run")
        assert [each.cached_only for each in script.seen] == [True, False]


async def test_a_profile_of_several_prompts_has_no_run_that_could_be_repeated(drive: Drive, walk: Profile) -> None:
    corpus = replace(walk, origin=replace(walk.origin, tokens=(), token_ids=(), n_prompts=3))
    async with drive(corpus) as driven:
        await driven.press("r")
        assert "of several prompts no tokens are kept" in driven.row("status")
        assert not driven.app.explorer.runner.is_running


async def test_the_folder_of_a_saved_profiles_model_gives_its_exact_weights_too(
    drive: Drive, script: Any, walk: Profile, tmp_path: Path
) -> None:
    own = replace(walk, origin=replace(walk.origin, model="own-model", revision=""))
    script.profile = own
    for name in ("own-model", "another"):
        (tmp_path / name).mkdir()
    async with drive(own, size=(160, 48)) as driven:
        for at, name in enumerate(("own-model", "another")):
            await driven.press("O")
            driven.app.screen.query_one("#typed").value = str(tmp_path / name)
            await driven.pilot.pause()
            await driven.press("enter")
            await driven.until(lambda at=at: len(script.seen) == at + 1, "a run")
            await driven.until(lambda: not driven.app.explorer.runner.is_running, "its end")
            if name == "own-model":
                assert script.seen[0].token_ids == own.origin.token_ids
                await driven.until(lambda: "agree within 0" in driven.row("status"), "it says so")
                assert driven.state.profile is own
        assert script.seen[1] == Request(str(tmp_path / "another"), "".join(own.origin.tokens), dtype=own.origin.dtype)


async def test_nothing_at_all_offers_no_prompt_either(drive: Drive) -> None:
    async with drive() as driven:
        assert driven.row("keys").split() == ["O", "Open", "`", "Log", "?", "Help", "q", "Quit"]
        for key in ("O", "grave_accent", "question_mark"):
            await driven.press(key)
            assert driven.app.screen is not driven.app.explorer, "what is offered works"
            await driven.press("escape")


async def test_the_picture_fills_layer_by_layer_and_the_status_says_how_far(drive: Drive, script: Any) -> None:
    gate = script.pace = Gate()
    async with drive(request=Request()) as driven:
        await driven.until(lambda: n_read(driven) == 0, "the picture is there, empty")
        assert driven.text().count("╱") > 100
        hatched = driven.text().count("╱")
        gate.open()
        await driven.until(lambda: n_read(driven) == 1, "one layer")
        await driven.until(lambda: driven.text().count("╱") < hatched, "less of it is hatched")
        await driven.until(lambda: "layer 1 of 5" in driven.row("status"), "the status tells the step")
        assert driven.row("status").startswith(" forward  ━━━╌╌╌╌╌╌╌╌╌╌╌╌╌  layer 1 of 5  ")
        first = driven.row("status")
        await driven.until(lambda: driven.row("status") != first, "the seconds go on")
        gate.open(2)
        await driven.until(lambda: n_read(driven) == 2, "a layer without attention adds nothing")
        gate.open(2)
        await driven.until(lambda: "4 of 5 layers" in driven.row("status"), "the run has ended")
        assert "not saved (w writes)" in driven.row("status")
        assert not driven.app.explorer.runner.is_running


async def test_one_can_walk_while_the_run_goes_on(drive: Drive, script: Any) -> None:
    gate = script.pace = Gate()
    async with drive(request=Request()) as driven:
        gate.open(3)
        await driven.until(lambda: n_read(driven) == 2, "three layers are through")
        await driven.press("l", "l", "enter", "l")
        assert (driven.state.view, driven.state.layer_index, driven.state.head_index) == ("layer", 2, 1)
        gate.open(2)
        await driven.until(lambda: n_read(driven) == 4, "the rest")
        assert (driven.state.view, driven.state.layer_index, driven.state.head_index) == ("layer", 2, 1)


async def test_esc_stops_the_run_keeps_what_was_read_and_goes_nowhere(drive: Drive, script: Any) -> None:
    gate = script.pace = Gate()
    async with drive(request=Request()) as driven:
        gate.open(3)
        await driven.until(lambda: n_read(driven) == 2, "three layers are through")
        await driven.press("2", "escape")
        await driven.until(lambda: "stopped" in driven.row("status"), "the status says so")
        assert driven.state.view == "layer"
        assert n_read(driven) == 2
        assert not driven.app.explorer.has_class("-failed")
        await driven.press("escape")
        assert driven.state.view == "overview"


async def test_ctrl_c_stops_the_run_and_does_not_quit_at_once(drive: Drive, script: Any) -> None:
    script.pace = Gate()
    async with drive(request=Request()) as driven:
        await driven.until(lambda: n_read(driven) == 0, "the run has begun")
        await driven.press("ctrl+c")
        await driven.until(lambda: "stopped" in driven.row("status"), "the run has stopped")
        assert driven.app.is_running
        await driven.press("ctrl+c")
        await driven.until(lambda: not driven.app.is_running, "it quits")


async def test_ctrl_c_on_another_screen_stops_the_run_and_does_not_quit_at_once(drive: Drive, script: Any) -> None:
    gate = script.pace = Gate()
    async with drive(request=Request()) as driven:
        gate.open(1)
        await driven.until(lambda: n_read(driven) == 1, "a layer is read")
        await driven.press("6", "ctrl+c")
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the run has stopped")
        assert driven.app.is_running
        assert "press ctrl+c once more to quit" in driven.text()
        await driven.press("ctrl+c")
        await driven.until(lambda: not driven.app.is_running, "it quits")


async def test_a_run_that_is_stopped_at_once_keeps_nothing_and_says_so(drive: Drive, script: Any) -> None:
    script.pace = Gate()
    async with drive(request=Request()) as driven:
        await driven.until(lambda: n_read(driven) == 0, "the run has begun")
        await driven.press("escape")
        await driven.until(lambda: "stopped before a layer was read" in driven.row("status"), "it says so")


async def test_an_error_shows_what_happened_and_what_to_do(drive: Drive, script: Any) -> None:
    def fail(_index: int, _is_cancelled: Callable[[], bool]) -> None:
        raise PromptError("the prompt has 9 tokens, \x1b[31mmore than 8", "shorten it with --max-tokens 8")

    script.pace = fail
    async with drive(request=Request(prompt="x")) as driven:
        await driven.until(lambda: driven.app.explorer.has_class("-failed"), "the banner is there")
        assert "the prompt has 9 tokens, ␛[31mmore than 8" in driven.text()
        assert "shorten it with --max-tokens 8" in driven.text()
        script.pace = lambda _index, _is_cancelled: None
        await driven.press("r")
        await driven.until(lambda: n_read(driven) == 4, "run again, it goes through")
        assert not driven.app.explorer.has_class("-failed")


async def test_a_bug_shows_itself_and_is_logged(drive: Drive, script: Any, tmp_path: Path) -> None:
    def fail(_index: int, _is_cancelled: Callable[[], bool]) -> None:
        raise ZeroDivisionError("[bold]no[/] \x1b]0;x\x07")

    script.pace = fail
    log = tmp_path / "laminar.log"
    start_log(log)
    async with drive(request=Request(), log_path=log, size=(160, 48)) as driven:
        await driven.until(lambda: driven.app.explorer.has_class("-failed"), "the banner is there")
        assert "a bug in laminar_tui: ZeroDivisionError: [bold]no[/] ␛]0;x␇" in driven.text()
        assert "the whole story is in" in driven.text()
        assert "nothing to show" not in driven.row("status")
        await driven.press("escape", "l")
        assert driven.state.layer_index == 1
    stop_log()
    assert "Traceback" in log.read_text()
    assert "ZeroDivisionError" in log.read_text()


async def test_a_second_prompt_cancels_the_first_and_its_late_messages_are_ignored(drive: Drive, script: Any) -> None:
    late = threading.Event()
    first = replace(script.profile, origin=replace(script.profile.origin, model="first"))
    second = replace(script.profile, origin=replace(script.profile.origin, model="second"))

    def linger(_index: int, is_cancelled: Callable[[], bool]) -> None:
        while not is_cancelled():
            time.sleep(0.005)
        late.wait(5)  # as a forward pass goes on until its next layer

    script.pace, script.profile = linger, first
    async with drive(request=Request(prompt="one")) as driven:
        await driven.until(lambda: n_read(driven) == 0, "the first run has begun")
        await driven.press("e", "2")
        script.profile = second
        await driven.press("enter")
        runner = driven.app.explorer.runner
        await driven.until(lambda: runner.number == 2, "the second run has been asked for")
        assert len(script.seen) == 1, "two runs at once may not fit into memory"
        assert runner.step.name == "starting"
        script.pace = lambda _index, _is_cancelled: None
        late.set()
        await driven.until(lambda: n_read(driven) == 4, "the second run went through")
        assert [request.prompt for request in script.seen] == ["one", "one2"]
        assert driven.state.profile.origin.model == "second"
        assert "stopped" not in driven.row("status")
        assert "4 of 5 layers" in driven.row("status")


async def test_messages_of_an_earlier_run_change_nothing(drive: Drive, script: Any) -> None:
    from laminar_tui.ui.messages import ProfileGrew, RunEnded

    async with drive(request=Request()) as driven:
        await driven.until(lambda: n_read(driven) == 4, "the run went through")
        before, text = driven.state, driven.text()
        old = replace(script.profile, origin=replace(script.profile.origin, model="old"))
        for message in (ProfileGrew(0, old), RunEnded(0, old), RunEnded(0, crash="boom")):
            driven.app.explorer.post_message(message)
        await driven.pilot.pause()
        assert driven.state == before
        assert driven.text() == text


@pytest.mark.usefixtures("script")
async def test_the_status_does_not_stay_at_running_when_the_thread_outlives_its_last_message(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laminar_tui.ui.runner import Runner

    stay = threading.Event()
    run = Runner._run

    def slow_to_end(*arguments: Any) -> None:
        run(*arguments)
        stay.wait(5)

    monkeypatch.setattr(Runner, "_run", slow_to_end)
    async with drive(request=Request()) as driven:
        await driven.until(lambda: n_read(driven) == 4, "the run went through")
        await driven.until(lambda: "4 of 5 layers" in driven.row("status"), "the status says that it ended")
        assert driven.app.explorer.runner.has_thread
        stay.set()


async def test_quitting_during_a_run_returns_at_once(drive: Drive, script: Any) -> None:
    busy = threading.Event()
    script.pace = lambda _index, _is_cancelled: busy.wait(5)  # as deaf as a forward pass
    async with drive(request=Request()) as driven:
        await driven.until(lambda: n_read(driven) == 0, "the run has begun")
        began = time.monotonic()
        await driven.press("q")
        await driven.until(lambda: not driven.app.is_running, "the app has gone")
        assert time.monotonic() - began < 1
        assert driven.app.explorer.runner.has_thread
        busy.set()


async def test_run_again_within_a_layer_stays_there(drive: Drive, script: Any) -> None:
    async with drive(request=Request()) as driven:
        await driven.until(lambda: "4 of 5 layers" in driven.row("status"), "the first run has ended")
        before = driven.state.profile
        await driven.press("l", "l", "enter")
        assert (driven.state.view, driven.state.layer_index) == ("layer", 2)
        gate = script.pace = Gate()
        await driven.press("r")
        gate.open()
        await driven.until(lambda: "layer 1 of 5" in driven.row("status"), "the second run goes on")
        assert driven.state.view == "layer"
        assert driven.state.profile is before, "what was read before is shown until the layer is read again"
        gate.open(2)
        await driven.until(lambda: driven.state.profile is not before, "the layer was read again")
        assert (driven.state.view, n_read(driven)) == ("layer", 2)
        gate.open(2)
        await driven.until(lambda: "4 of 5 layers" in driven.row("status"), "the run has ended")
        assert driven.state.view == "layer"


# -- the other side of a comparison ------------------------------------------------------------------------------------


async def test_a_run_for_a_comparison_opens_it_when_it_has_ended(script: Any, walk: Profile) -> None:
    gate = script.pace = Gate()
    app = LaminarApp(State(), Request())
    app.explorer.reference = replace(walk, origin=replace(walk.origin, revision="main"))
    async with app.run_test(size=(120, 40)) as pilot:
        explorer = app.explorer
        for _ in range(500):
            await pilot.pause(0.01)
            if explorer.state.profile is not None:
                break
        gate.open(4)
        await pilot.pause(0.2)
        assert app.screen is explorer, "not before the run has ended"
        gate.open(20)
        for _ in range(500):
            await pilot.pause(0.01)
            if isinstance(app.screen, CompareScreen):
                break
        assert isinstance(app.screen, CompareScreen)
        assert app.screen.compared.sides == (explorer.reference, explorer.state.profile)
        await pilot.press("escape")
        await pilot.pause()
        gate.open(20)
        await pilot.press("r")
        for _ in range(300):
            await pilot.pause(0.01)
            if not explorer.runner.is_running:
                break
        await pilot.pause(0.1)
        assert app.screen is explorer, "once"


async def test_a_comparison_does_not_come_over_another_screen(script: Any, walk: Profile) -> None:
    gate = script.pace = Gate()
    app = LaminarApp(State(), Request())
    app.explorer.reference = replace(walk, origin=replace(walk.origin, revision="main"))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("question_mark")
        gate.open(20)
        for _ in range(500):
            await pilot.pause(0.01)
            if not app.explorer.runner.is_running and app.explorer.state.profile is not None:
                break
        await pilot.pause(0.1)
        assert not isinstance(app.screen, CompareScreen)
        await pilot.press("escape")
        await pilot.pause()
        assert "5 compares" in app.explorer.query_one("#status").render_line(0).text
