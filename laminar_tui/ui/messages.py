"""What the run tells the screen: frozen, and each with the whole state, so that a later one may replace an earlier."""

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
