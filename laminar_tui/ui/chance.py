"""What chance would look like for the profile that is open: drawn once each, with the model where it is still there."""

import threading
from collections.abc import Callable

from laminar_tui.profile.nulls import COMPUTED_NULLS, MODEL_NULLS
from laminar_tui.profile.profile import Profile
from laminar_tui.run import Event, Step
from laminar_tui.ui.runner import Runner

MODEL_TITLES = {title: name for name, title in MODEL_NULLS.items()}
NEED_MODEL = " and ".join(MODEL_TITLES)


class Chance:
    """The nulls of the latest profile that was asked about; those of the one before are forgotten.

    Args:
        runner: has the model, if the profile was read in this session.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._profile: Profile | None = None
        self._drawn: dict[str, Profile] = {}
        self._locks = {title: threading.Lock() for title in (*COMPUTED_NULLS, *MODEL_TITLES)}

    @property
    def is_running(self) -> bool:
        """Whether a run takes the cores."""
        return self._runner.is_running

    def titles(self, profile: Profile) -> list[str]:
        """The nulls that can be had now: those of the model only where it has read this profile."""
        drawn = self._drawn_of(profile)
        has_model = self._runner.has_read(profile)
        return [*COMPUTED_NULLS, *(title for title in MODEL_TITLES if has_model or title in drawn)]

    def why_not_all(self, profile: Profile) -> str:
        """Why the nulls of the model cannot be had; nothing where they can."""
        if all(title in self.titles(profile) for title in MODEL_TITLES):
            return ""
        if profile.origin.n_prompts > 1:
            return "others: capture --corpus FILE --null random, or shuffled"
        if self._runner.is_running:
            return f"{NEED_MODEL} when the run has ended"
        return f"{NEED_MODEL} need the model: run it here"

    def drawn(self, profile: Profile, title: str) -> Profile | None:
        """A null if it was drawn."""
        return self._drawn_of(profile).get(title)

    def of_the_model(self, profile: Profile) -> dict[str, Profile]:
        """The nulls that were drawn with the model, by their titles."""
        drawn = self._drawn_of(profile)
        return {title: drawn[title] for title in MODEL_TITLES if title in drawn}

    def draw(
        self,
        profile: Profile,
        title: str,
        on_step: Callable[[Step], object] = lambda _step: None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Profile:
        """Give a null, drawn now if it was not yet; call it in a thread.

        Raises:
            LaminarError: if it cannot be drawn, or `is_cancelled` said so.
        """
        drawn = self._drawn_of(profile)
        with self._locks[title]:  # whoever comes second waits for the first one's
            if title not in drawn:
                drawn[title] = self._make(profile, title, on_step, is_cancelled)
        return drawn[title]

    def _make(
        self, profile: Profile, title: str, on_step: Callable[[Step], object], is_cancelled: Callable[[], bool]
    ) -> Profile:
        if title in COMPUTED_NULLS:
            return COMPUTED_NULLS[title](profile)

        def listen(event: Event) -> None:
            if isinstance(event, Step):
                on_step(event)

        return self._runner.draw_null(profile, MODEL_TITLES[title], listen, is_cancelled)

    def _drawn_of(self, profile: Profile) -> dict[str, Profile]:
        if profile is not self._profile:
            self._profile, self._drawn = profile, {}
        return self._drawn
