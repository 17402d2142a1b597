"""The keys that put something out: the profile, exports, screenshots, the clipboard."""

import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from laminar_tui.catalog import remember
from laminar_tui.errors import LaminarError
from laminar_tui.files import write_bytes
from laminar_tui.log import LOGGER
from laminar_tui.profile.file import SUFFIX
from laminar_tui.profile.profile import Profile
from laminar_tui.render.text import visible
from laminar_tui.source import as_path
from laminar_tui.ui import drawing
from laminar_tui.ui.dialogs import FileDialog
from laminar_tui.ui.messages import Wrote
from laminar_tui.ui.running import RunScreen
from laminar_tui.ui.scene import Scene
from laminar_tui.ui.writing import copy, copy_table, export_by_name, file_stem, problem_with, table


class FileActions(RunScreen):
    """What the explorer is built on: it writes and copies what the explorer shows."""

    _scene: Scene

    def action_write(self) -> None:
        """Write the profile to a file whose name is asked for."""
        if (profile := self._something_to_write()) is not None:
            name = file_stem(profile) + SUFFIX
            self.app.push_screen(
                FileDialog("write the profile to", name, problem_with()), partial(self._write, profile)
            )

    def _something_to_write(self) -> Profile | None:
        profile = self.state.profile
        if profile is None or not profile.n_read:
            self._say("there is nothing to write yet")
            return None
        return profile

    def _write(self, profile: Profile, name: str | None) -> None:
        if name is None:
            return
        try:
            profile.save(as_path(name))
        except LaminarError as error:
            self._fail(error.message, error.hint)
            return
        self._saved, self.saved_path = profile, name
        self.runner.forget(profile)
        remember(as_path(name))
        self._say("")

    def action_export(self) -> None:
        """Write the profile in another format, which the ending of the name says."""
        if (profile := self._something_to_write()) is None:
            return
        state = self.state
        suffixes = (".npz", ".json", ".csv", ".svg", ".png")

        def export(name: str | None) -> None:
            if name is not None:
                self._in_background(name, partial(export_by_name, state, name))

        title = "export to (.npz .json .csv: everything; .svg .png: a figure)"
        self.app.push_screen(FileDialog(title, file_stem(profile) + ".csv", problem_with(suffixes)), export)

    def action_screenshot(self) -> None:
        """Write the screen as SVG, or its figure as PNG."""
        if (profile := self._something_to_write()) is None:
            return
        drawn = self.app.export_screenshot(title="laminar")  # before the dialog is over it
        state = self.state

        def write(name: str | None) -> None:
            if name is None:
                return
            if Path(name).suffix.lower() == ".svg":
                path = as_path(name)
                self._in_background(name, lambda: write_bytes(path, drawn.encode("utf-8", "replace")))
            else:
                self._in_background(name, partial(export_by_name, state, name))

        title = "screenshot to (.svg: this screen; .png: a figure)"
        dialog = FileDialog(title, file_stem(profile) + "-screen.svg", problem_with((".svg", ".png")))
        self.app.push_screen(dialog, write)

    def _in_background(self, name: str, write: Callable[[], None]) -> None:
        """Write in a thread of its own, since an export takes seconds; a daemon, so that it never holds `quit`."""

        def work() -> None:
            try:
                write()
                message = Wrote(name)
            except LaminarError as error:
                message = Wrote(name, error)
            except Exception:  # a bug: the thread would vanish with it, so it is shown and logged
                message = Wrote(name, crash=traceback.format_exc())
            self.post_message(message)

        self._say(f"writing {visible(name)}")
        threading.Thread(target=work, name="writing", daemon=True).start()

    def on_wrote(self, message: Wrote) -> None:
        """Say that a file was written, or why not."""
        if message.error is not None:
            self._fail(message.error.message, message.error.hint)
            self._say("")
        elif message.crash:
            LOGGER.error("%s", message.crash)
            self._fail(f"a bug in laminar_tui: {message.crash.strip().splitlines()[-1]}", "")
        else:
            self._say(f"wrote {visible(message.name)}")

    def action_copy(self) -> None:
        """Copy the line of numbers, or the sentence about the entries."""
        text = drawing.copied_text(self._scene)
        if text:
            self._say(copy(self.app, text, "copied the line"))

    def action_copy_table(self) -> None:
        """Copy the table behind the screen, with tabs between its columns."""
        self._say(copy_table(self.app, table(self._scene)))
