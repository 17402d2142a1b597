"""What the run tells the screen: frozen, and each with the whole state, so that a later one may replace an earlier."""

from collections.abc import Callable

from textual.message import Message

from laminar_tui.errors import LaminarError
from laminar_tui.profile.profile import Profile


class RunMessage(Message):
    """Something from run number `run`; those of an earlier run are no longer of interest."""

    def __init__(self, run: int) -> None:
        super().__init__()
        self.run = run


class ProfileGrew(RunMessage):
    """More of the profile is there: the one with no layer read, then one more layer each time."""

    def __init__(self, run: int, profile: Profile) -> None:
        super().__init__(run)
        self.profile = profile

    def can_replace(self, message: Message) -> bool:
        """A later profile holds all of an earlier one."""
        return isinstance(message, ProfileGrew) and message.run == self.run


class RunEnded(RunMessage):
    """The run is over.

    Attributes:
        profile: the whole profile; None if it ended early.
        error: what the user can do something about; None for none.
        crash: a bug's traceback; empty for none.
    """

    def __init__(
        self, run: int, profile: Profile | None = None, error: LaminarError | None = None, crash: str = ""
    ) -> None:
        super().__init__(run)
        self.profile = profile
        self.error = error
        self.crash = crash


class Answered(RunMessage):
    """A question for exact weights was answered; the screen calls `deliver`.

    Attributes:
        error: what the user can do something about; None for none.
        crash: a bug's traceback; empty for none.
    """

    def __init__(
        self,
        run: int,
        error: LaminarError | None = None,
        crash: str = "",
        *,
        then: Callable[[], object],
        is_outdated: Callable[[], bool],
    ) -> None:
        super().__init__(run)
        self.error = error
        self.crash = crash
        self._then = then
        self._is_outdated = is_outdated

    @property
    def is_outdated(self) -> bool:
        """Whether a newer question of this kind was asked, or another run was begun."""
        return self._is_outdated()

    @property
    def is_answer(self) -> bool:
        """Whether there is an answer, and not an error."""
        return self.error is None and not self.crash

    def deliver(self) -> None:
        """Give the answer to who asked, unless it is an error or outdated."""
        if self.is_answer and not self.is_outdated:
            self._then()


class Wrote(Message):
    """A file was written, or was not.

    Attributes:
        name: of the file.
        error: what the user can do something about; None for none.
        crash: a bug's traceback; empty for none.
    """

    def __init__(self, name: str, error: LaminarError | None = None, crash: str = "") -> None:
        super().__init__()
        self.name = name
        self.error = error
        self.crash = crash
