"""From the explorer to a screen of its own, and back with what was chosen there.

Each screen is imported when it is opened, so that the first frame does not wait for it.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from textual.app import App

from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep import Place
from laminar_tui.profile.sweep_folder import SavedSweep
from laminar_tui.run import Request
from laminar_tui.ui.state import ViewName, settle

if TYPE_CHECKING:
    from laminar_tui.ui.detour import Detour
    from laminar_tui.ui.explorer import Explorer
    from laminar_tui.ui.scene import Terminal

Result = TypeVar("Result")


class Origin(NamedTuple):
    """Where one was before a head was opened: a screen, and the explorer's view behind it."""

    screen: str
    view: ViewName


NOTHING_YET = "nothing is read yet"


@cache
def load_screens() -> None:
    """Import the screens in a thread, once, so that the key that opens one does not wait for that either."""
    names = [f"laminar_tui.ui.{name}" for name in ("heads", "compare", "report", "picker")]
    threading.Thread(target=lambda: [import_module(name) for name in names], name="screens", daemon=True).start()


def open_heads(explorer: "Explorer", terminal: "Terminal", request: Request | None) -> None:
    """Open the matrix of heads; the head that is chosen there is shown by itself."""
    from laminar_tui.profile.measures import list_measures
    from laminar_tui.ui.heads import HeadsScreen, RolesRun

    profile = explorer.state.profile
    if profile is None or not profile.n_read:
        explorer._say(NOTHING_YET)
        return
    if not list_measures(profile):
        explorer._say("on so short a prompt no number of a head is defined")
        return
    awaits_roles = request is not None and request.roles and explorer.runner.is_running
    roles = RolesRun(explorer.measure_roles, explorer.role_step, explorer.runner.cancel)
    screen = HeadsScreen(explorer.state, profile, terminal, explorer.measure, awaits_roles=awaits_roles, roles=roles)

    def leave(place: tuple[int, int] | None) -> None:
        explorer.measure = screen.measures[screen.at].name
        _go_to(explorer, place, back_to="heads")

    _push(explorer, screen, leave)


def _push(explorer: "Explorer", screen: "Detour[Result]", then: Callable[[Result | None], None]) -> None:
    """Show a screen; what is chosen there is for `then`, and then it goes on to another screen if that was wanted."""

    def leave(result: Result | None) -> None:
        then(result)
        if screen.next_screen:
            explorer.call_later(show, explorer, screen.next_screen)

    explorer.app.push_screen(screen, leave)


def show(explorer: "Explorer", name: str) -> None:
    """Go to one of the explorer's screens by its name."""
    if name == "overview":
        explorer.action_view("overview")
    else:
        getattr(explorer, f"action_{name}")()


def renew(app: App[None], profile: Profile) -> None:
    """Give the screens that are open what the run that has ended has read."""
    from laminar_tui.ui.detour import Detour

    for screen in app.screen_stack:
        if isinstance(screen, Detour):
            screen.renew(profile)


def tell_heads(app: App[None], note: str) -> None:
    """Say in an open matrix of heads why there are no roles."""
    from laminar_tui.ui.heads import HeadsScreen

    for screen in app.screen_stack:
        if isinstance(screen, HeadsScreen):
            screen.say(note)


def _go_to(explorer: "Explorer", place: tuple[int, int] | None, back_to: str) -> None:
    """Show a head by itself; Esc there goes back to the screen of that name."""
    if place is not None:
        origin = Origin(back_to, explorer.state.view)
        explorer.state = settle(replace(explorer.state, view="head", layer_index=place[0], head_index=place[1]))
        explorer.came_from = origin


def go_back(explorer: "Explorer", origin: Origin) -> None:
    """Go back to the screen on which a head was chosen, with the view behind it that was there."""
    explorer.came_from = None
    explorer.state = settle(replace(explorer.state, view=origin.view))
    show(explorer, origin.screen)


def mark(explorer: "Explorer") -> None:
    """Mark the present profile as A."""
    profile = explorer.state.profile
    if profile is None or not profile.n_read:
        explorer._say(NOTHING_YET)
        return
    explorer.reference = profile
    explorer._say("marked as A · 5 compares, after another prompt (e) or profile (O)")


def open_compare(explorer: "Explorer", terminal: "Terminal") -> None:
    """Compare the present profile with the marked one; with chance where none, or this one itself, is marked."""
    from laminar_tui.ui.compare import CompareScreen

    profile = explorer.state.profile
    if profile is None or not profile.n_read:
        explorer._say(NOTHING_YET)
        return
    marked = explorer.reference if explorer.reference is not profile else None
    screen = CompareScreen(explorer.state, terminal, profile, marked, explorer.chance)
    _push(explorer, screen, partial(_go_to, explorer, back_to="compare"))


def open_report(explorer: "Explorer", terminal: "Terminal") -> None:
    """Open the report on the present profile."""
    from laminar_tui.ui.report import ReportScreen

    profile = explorer.state.profile
    if profile is None or not profile.n_read:
        explorer._say(NOTHING_YET)
        return
    nulls = explorer.chance.of_the_model(profile)
    _push(explorer, ReportScreen(explorer.state, terminal, profile, explorer.report, nulls), lambda _nothing: None)


def edit_prompt(explorer: "Explorer", terminal: "Terminal", request: Request) -> None:
    """Open the editor of the prompt; what comes of it is run."""
    from laminar_tui.ui.prompt import PromptScreen

    screen = PromptScreen(explorer.state, terminal, request, explorer.runner.prompt_facts)
    explorer.app.push_screen(screen, partial(_go_on, explorer))


def open_picker(explorer: "Explorer", terminal: "Terminal", request: Request | None) -> None:
    """Open the list of what can be opened; what is chosen is shown, or run."""
    from laminar_tui.ui.picker import PickerScreen

    explorer.app.push_screen(PickerScreen(explorer.state, terminal, request), partial(_go_on, explorer))


def open_sweep(explorer: "Explorer", terminal: "Terminal") -> None:
    """Open the sweep that was given or chosen; the step that is opened there is shown."""
    from laminar_tui.ui.sweep import SweepScreen

    if explorer.sweep is None:
        explorer._say(
            "no sweep is open: laminar-tui FOLDER, or O and the folder that `laminar-tui sweep -o` has written"
        )
        return
    state = explorer.state
    layer = state.layer_index if state.view in ("layer", "head", "map") and state.has_layer else None
    place = Place(layer, state.head_index if layer is not None and state.view != "layer" else None)
    _push(explorer, SweepScreen(state, terminal, explorer.sweep, place), partial(_open_step, explorer))


def _open_step(explorer: "Explorer", step: tuple[Profile, Place] | None) -> None:
    if step is None:
        return
    profile, place = step
    explorer.go_on_with(profile)
    if place.layer is not None:
        view: ViewName = "layer" if place.head is None else "head"
        head = place.head or 0
        explorer.state = settle(replace(explorer.state, view=view, layer_index=place.layer, head_index=head))


def _go_on(explorer: "Explorer", subject: Profile | Request | SavedSweep | None) -> None:
    if isinstance(subject, SavedSweep):
        explorer.sweep = subject
        explorer.action_sweep()
    elif subject is not None:
        explorer.go_on_with(subject)
