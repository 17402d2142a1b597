"""What is kept of one run while it goes on: its layers in a journal, its story in the log."""

import time
from collections.abc import Callable
from pathlib import Path

from laminar_tui.errors import LaminarError, UntrustedWeightsError
from laminar_tui.log import LOGGER, hide
from laminar_tui.profile.journal import Journal
from laminar_tui.profile.profile import Profile
from laminar_tui.recovery import new_journal
from laminar_tui.run import Event, LayerRead, Request, Started, Step

Write = Callable[[Journal], None]


class Record:
    """Keeps what the events of one run tell.

    A journal that can no longer be written (the disk is full) is given up: the run goes on without it.

    Args:
        request: what is run.
        journal: where the layers go.
        folder: where to begin a journal once the first layer is about to be read; None for no journal.
    """

    def __init__(self, request: Request, journal: Journal | None = None, folder: Path | None = None) -> None:
        self.request = request
        self.journal = journal
        self._folder = folder
        self._stage = ""
        self._began = self._stage_began = time.monotonic()
        hide(request.text())

    def take(self, event: Event) -> None:
        """Keep what an event tells; called in the running thread."""
        if isinstance(event, Step):
            self._enter(event.name)
        elif isinstance(event, Started):
            self._begin(event.profile)
        elif isinstance(event, LayerRead):
            LOGGER.debug("layer %d read", event.index)
            self._keep(lambda journal: journal.add(event.index, event.layer))

    def end(self, profile: Profile) -> None:
        """Keep how a run went that came to its end."""
        self._enter("")
        origin = profile.origin
        LOGGER.info("read %d of %d layers by %s", profile.n_read, profile.n_layers, origin.mechanism)
        for check in origin.checks:
            LOGGER.info("check %s: %s: %s", "passed" if check.passed else "FAILED", check.name, check.found)
        LOGGER.info("done in %.1f s, forward %.1f s", time.monotonic() - self._began, origin.seconds)
        self._keep(lambda journal: journal.finish(profile))

    def fail(self, error: BaseException) -> None:
        """Keep why a run ended early. What was read stays in the journal, unless it is not to be believed."""
        self._enter("")
        if isinstance(error, LaminarError) and error.exit_code == 130:
            LOGGER.info("stopped: %s", error.message)
        elif isinstance(error, LaminarError):
            LOGGER.error("%s", error.message, exc_info=error)
        else:
            LOGGER.error("%s", "interrupted" if isinstance(error, KeyboardInterrupt) else "a bug", exc_info=error)
        if isinstance(error, UntrustedWeightsError) or (self.journal is not None and not self.journal.n_layers):
            self.remove()

    def remove(self) -> None:
        """Take the journal away: what it holds is saved, or no longer wanted."""
        journal, self.journal = self.journal, None
        if journal is not None:
            journal.remove()

    def close(self) -> None:
        """Leave the journal for the next start to find."""
        journal, self.journal = self.journal, None
        if journal is not None:
            journal.close()

    def _enter(self, stage: str) -> None:
        if stage == self._stage:
            return
        now = time.monotonic()
        if self._stage:
            LOGGER.info("%s: %.1f s", self._stage, now - self._stage_began)
        self._stage, self._stage_began = stage, now

    def _begin(self, profile: Profile) -> None:
        origin = profile.origin
        LOGGER.info(
            "model %s revision %s (%s), %d layers, %s on %s, T = %d",
            origin.model,
            origin.revision or "default",
            origin.architecture,
            profile.n_layers,
            origin.dtype,
            origin.device,
            profile.n_tokens,
        )
        LOGGER.debug("versions: %s", origin.versions)
        if self.journal is None and self._folder is not None:
            try:
                self.journal = new_journal(self._folder)
            except OSError as error:
                LOGGER.warning("this run is not kept while it goes on: %s", error)
        self._keep(lambda journal: journal.begin(profile))

    def _keep(self, write: Write) -> None:
        if self.journal is None or not self.journal.is_open:
            return
        try:
            write(self.journal)
        except OSError as error:
            LOGGER.warning("this run is no longer kept while it goes on: %s", error)
            self.journal.close()  # it takes no more, and can still be taken away
