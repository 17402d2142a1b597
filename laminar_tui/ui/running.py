"""The explorer's run: how it begins, what it brings, how it ends; and the lines that say so."""

import time
from dataclasses import replace
from pathlib import Path

from rich.text import Text
from textual.reactive import reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from laminar_tui.errors import CancelledError, LaminarError, NotHereError
from laminar_tui.profile.again import farthest, why_another
from laminar_tui.profile.profile import Profile
from laminar_tui.render.facts import join_fitting
from laminar_tui.render.numbers import limit
from laminar_tui.render.rows import Row
from laminar_tui.render.text import visible
from laminar_tui.run import Request, Step, request_of
from laminar_tui.ui import detours, drawing
from laminar_tui.ui import state as states
from laminar_tui.ui.exact import ExactWeights
from laminar_tui.ui.messages import Answered, ProfileGrew, RunEnded
from laminar_tui.ui.runner import Runner
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.state import State
from laminar_tui.ui.widgets import Lines

STATUS_EVERY = 0.25
"""Seconds between two looks at how far the run is: 4 Hz costs 600 bytes a second."""
TWICE_WITHIN = 2.0


class RunScreen(Screen[None]):
    """A screen whose state's profile is made by a run; it has a line `#status` and a `#banner`.

    Args:
        state: where to begin.
        request: what to run at once, and again with another prompt; None for a saved profile without a model.
        terminal: what can be shown.
        log_path: where a bug's traceback is written.

    Attributes:
        runner: does the work.
        saved_path: the file that the profile was written to last; empty for none.
        is_held: whether the run waits for an answer about another one.
    """

    # Without repaint=False every new state would send the whole screen: each widget repaints what has changed.
    state: reactive[State] = reactive(State(), init=False, repaint=False)
    _exact: ExactWeights

    def __init__(self, state: State, request: Request | None, terminal: Terminal, log_path: Path | None) -> None:
        super().__init__()
        self.set_reactive(RunScreen.state, states.settle(state))
        self._request = request
        self._terminal = terminal
        self._log_path = log_path
        self.runner = Runner(self.post_message)
        self._grown: Profile | None = None
        self._disowned = 0  # runs up to this number are not looked at any more
        self._note = ""
        self._interrupted_at = 0.0
        self._saved: object = state.profile
        self.saved_path = ""
        self.is_held = False
        self._again: tuple[Request, Profile] | None = None  # what is run for a saved profile's exact weights
        self._measured: Profile | None = None  # the profile whose heads' roles are being measured
        self._missed: Profile | None = None  # the saved profile whose model is not on this machine
        self._compares_next = False  # whether the run that begins is the other side of a comparison
        self._timer: Timer | None = None

    def action_compare(self) -> None:
        """Compare with the profile that was marked, or with chance."""
        raise NotImplementedError

    def _show(self) -> None:
        """Draw everything."""
        raise NotImplementedError

    # -- its course --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._request is not None:
            self._again = None
            self._begin(self._request)

    def _begin(self, request: Request) -> None:
        self._note, self._measured = "", None
        self.remove_class("-failed")
        self.runner.start(request)
        if self._timer is not None:
            self._timer.resume()
        self._show_status()

    def on_profile_grew(self, message: ProfileGrew) -> None:
        """Draw a layer more; within a layer, the profile before stays until that layer is read anew."""
        if message.run != self.runner.number or message.run <= self._disowned or self._again is not None:
            return
        self._grown = message.profile
        stays = self.state.view in ("layer", "head") and self.state.layer_index < message.profile.n_layers
        if not stays or message.profile.layers[self.state.layer_index] is not None:
            self.state = states.settle(replace(self.state, profile=message.profile))

    def on_run_ended(self, message: RunEnded) -> None:
        """Keep what was read, and say what went wrong if something did."""
        if message.run != self.runner.number:
            return
        if self._timer is not None:
            self._timer.pause()
        again, self._again = self._again, None
        measured, self._measured = self._measured, None
        if message.run <= self._disowned:
            self._show_status()
            return
        if again is not None or measured is not None:
            if again is not None:
                self._end_again(*again, message)
            if measured is not None:
                self._end_roles(measured, message)
            self._show_status()
            return
        read = message.profile or self._grown
        self._grown = None
        if read is not None:
            self.state = states.settle(replace(self.state, profile=read))
            if self.app.screen is not self:
                detours.renew(self.app, read)
        self._exact.is_of(message.profile if self.runner.follows is None else None)
        if message.profile is not None:
            self._distrust()
            if self.runner.follows is not None:
                self._saved, self.saved_path = message.profile, str(self.runner.follows)
            if self._exact.reads_again(message.profile):
                self._note = f"exact weights: {self._exact.scope(self.state)}"
            self._compare_at_end()
        else:
            self._tell_end(message)
        self._show_status()

    def _tell_end(self, message: RunEnded) -> None:
        """Say why a run has ended before its end."""
        if isinstance(message.error, CancelledError) and self.runner.follows is not None:
            self._note = f"no longer followed; what writes {visible(self.runner.follows.name)} goes on"
        elif isinstance(message.error, CancelledError):
            is_kept = self.state.profile is not None and self.state.profile.n_read > 0
            self._note = "stopped; the layers read so far are kept" if is_kept else "stopped before a layer was read"
        elif message.error is not None:
            self._fail(message.error.message, message.error.hint)
        else:
            last = message.crash.strip().splitlines()[-1]
            self._fail(
                f"a bug in laminar_tui: {last}", f"the whole story is in {self._log_path}" if self._log_path else ""
            )

    def _compare_at_end(self) -> None:
        """Open the comparison that the run was for, unless another screen is in front."""
        if not self._compares_next:
            return
        self._compares_next = False
        if self.app.screen is self:
            self.call_after_refresh(self.action_compare)
        else:
            self._note = "the run has ended: 5 compares"

    def on_answered(self, message: Answered) -> None:
        """Show what a question has brought, or why it brought nothing."""
        if message.is_outdated:
            return
        message.deliver()
        if message.error is not None or message.crash:
            self._exact.is_of(None)
        if message.error is not None:
            self._say(f"{visible(message.error.message)}: {visible(message.error.hint)}")
        elif message.crash:
            self._say(f"a bug in laminar_tui: {visible(message.crash.strip().splitlines()[-1])}")

    def start_held(self) -> None:
        """Begin the run that has waited for an answer."""
        self.is_held = False
        if self.state.profile is None:
            self._start()

    def follow(self, path: Path) -> None:
        """Show the run of another process that captures into a file."""
        self.runner.follow(path)
        if self._timer is not None:
            self._timer.resume()

    def action_quit(self) -> None:
        """Leave; a run under way is asked to stop."""
        self.runner.cancel()
        self.app.exit()

    def interrupt(self) -> str:
        """Stop the run; asked for twice, quit. What to say of it."""
        now = time.monotonic()
        if now - self._interrupted_at < TWICE_WITHIN:
            self.action_quit()
            return ""
        self._interrupted_at = now
        if self.runner.is_running:
            self.runner.cancel()
        return "press ctrl+c once more to quit"

    def action_interrupt(self) -> None:
        """Stop the run; pressed twice, quit."""
        self._note = self.interrupt()
        self._show_status()

    def go_on_with(self, subject: Profile | Request) -> None:
        """Show another profile, or run another request."""
        saved = self.state.profile
        if isinstance(subject, Request) and self._request is None and saved is not None and subject.token_ids:
            self._read_again(subject, saved)
            return
        if isinstance(subject, Request):
            self._request = subject
            self.runner.unfollow()
            self._start()
            return
        self.runner.cancel()
        self._disowned, self._grown, self._missed = self.runner.number, None, None
        self.remove_class("-failed")
        self._request, self._saved, self.saved_path, self._note = None, subject, "", ""
        here = replace(self.state, query=-1, key=0, threshold=None, listing=False, entry=0, pins=())
        self.state = states.settle(replace(here, profile=subject))
        self._distrust()

    def action_run_again(self) -> None:
        """Run the model on the same prompt; of a saved profile, load its model for exact weights."""
        if self._request is not None:
            self._start()
        elif self.state.profile is not None and not self.runner.is_running:
            saved = self.state.profile
            try:
                request = request_of(saved)
            except LaminarError as error:
                self._say(f"{visible(error.message)}: {error.hint}")
                return
            self._read_again(replace(request, cached_only=saved is not self._missed), saved)

    def _read_again(self, request: Request, saved: Profile) -> None:
        """Run what a profile was read from, which stays on the screen: only its exact weights come."""
        self.runner.unfollow()
        self._again = request, saved
        self._begin(request)

    def _end_again(self, request: Request, saved: Profile, message: RunEnded) -> None:
        """Have exact weights of a saved profile, if the model that was run again is its own."""
        self.runner.abandon()  # what it has read is in the saved profile
        self._exact.is_of(None)
        self._missed = saved if isinstance(message.error, NotHereError) else None
        if self._missed is not None:
            hint = "r once more fetches it from the hub · O and the model's folder takes it from there"
            self._fail(f"this profile's model is not on this machine: {saved.origin.model}", hint)
        elif isinstance(message.error, CancelledError):
            self._note = "stopped: there are no exact weights but the last query's"
        elif message.profile is None:
            self._tell_end(message)
        elif why := why_another(saved, message.profile):
            self._fail(f"NOT THE SAVED MODEL: {why}", "the profile stays as it was saved, without exact weights")
        else:
            self._request = replace(request, cached_only=False)
            self._exact.is_of(saved)
            self.runner.takes_as_read(saved)
            off = limit(farthest(saved, message.profile))
            self._note = f"every query's exact weights are at hand; the final token's agree within {off}"
            self._show()

    # -- roles -------------------------------------------------------------------------------------------------------

    def measure_roles(self) -> str:
        """Begin to measure what the heads of the loaded model do; why that cannot be, empty if it has begun."""
        if self.runner.is_running:
            return "the model is running: roles can be measured when that has ended"
        if self.state.profile is not None and self.state.profile.origin.n_prompts > 1:
            return "of several prompts no model is loaded: `capture --corpus FILE --roles` measures them beside it"
        if self._request is None or self.state.profile is None:
            return "no model is loaded: r in the overview loads this profile's own; `capture --roles` measures them too"
        self._note, self._measured = "", self.state.profile
        self.runner.measure_roles(self.state.profile)
        if self._timer is not None:
            self._timer.resume()
        return ""

    def role_step(self) -> Step | None:
        """How far the measuring of roles is; None while none are measured."""
        return self.runner.step if self._measured is not None else None

    def _end_roles(self, measured: Profile, message: RunEnded) -> None:
        """Show the profile with its roles, or why there are none."""
        profile = message.profile or measured
        self._exact.goes_on_as(measured, profile)
        if message.profile is not None:
            self.state = states.settle(replace(self.state, profile=profile))
            detours.renew(self.app, profile)
            return
        self._show()
        if isinstance(message.error, CancelledError):
            self._note = "stopped: no roles were measured"
        elif message.error is not None:
            self._note = f"{visible(message.error.message)}: {visible(message.error.hint)}"
        else:
            self._tell_end(message)
        detours.tell_heads(self.app, self._note or "a bug in laminar_tui: no roles were measured")

    # -- what is said of it ------------------------------------------------------------------------------------------

    def _distrust(self) -> None:
        """Put a failed check over the picture: what it shows is not to be believed."""
        failed = self.state.profile.origin.failed_checks if self.state.profile else ()
        if failed:
            self._fail(f"NOT TO BE TRUSTED: {failed[0].name}: {failed[0].found}", "i lists all checks")

    def _fail(self, message: str, hint: str) -> None:
        lines = [visible(message), visible(hint)] if hint else [visible(message)]
        self.query_one("#banner", Static).update(Text("\n".join(lines)))
        self.add_class("-failed")

    def _say(self, note: str) -> None:
        self._note = note
        self._show_status()

    def _lines(self, name: str) -> Lines:
        return self.query_one(f"#{name}", Lines)

    def _show_status(self) -> None:
        self._lines("status").display_rows(self._draw_status)

    def _draw_status(self, width: int, height: int) -> list[Row]:
        del height
        return [self._terminal.line(" " + self._status(width - 1), width)]

    def _status(self, width: int) -> str:
        if self.runner.is_running:
            # Somebody else's run is only looked at: nothing is sent while nothing comes.
            seconds = None if self.runner.follows else self.runner.seconds
            return drawing.progress_text(self.runner.step, seconds, self._terminal, width)
        if said := self._note or self._exact.waits_for:
            return said
        facts = [drawing.profile_text(self.state, self._saved, self.saved_path)]
        if self.state.profile is not None and self.state.profile.n_read:
            facts.append(f"exact weights: {self._exact.scope(self.state)}")
        return join_fitting(facts, "  ", width)
