"""A sweep that was saved: a folder of profiles of one model, read one after another as a screen asks for them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from laminar_tui.errors import UsageError
from laminar_tui.profile.file import SUFFIX, read_profile
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep import Place, Sweep, make_sweep, name_profiles, read_step, step_of

SETTINGS_FILE = "sweep.json"
"""What `laminar-tui sweep -o FOLDER` writes beside the profiles."""
FEWEST = 2
"""Profiles that make a sweep of a folder without one."""
MOST_KEPT_BYTES = 2**30
"""Of files whose profiles stay in memory; the others are read again each time."""


def holds_sweep(folder: Path) -> bool:
    """Tell a folder of profiles from a model's."""
    try:
        if not folder.is_dir() or (folder / "config.json").exists():
            return False
        return len(find_profiles(folder)) >= (1 if (folder / SETTINGS_FILE).is_file() else FEWEST)
    except OSError:
        return False


def find_profiles(folder: Path) -> list[Path]:
    """List the profiles in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and path.is_file())


class SavedSweep:
    """Saved profiles of one model at several revisions.

    Args:
        paths: of the profiles.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise UsageError("there is no profile of a sweep", "laminar-tui sweep MODEL --revisions R,R -o FOLDER")
        self.paths = tuple(paths)
        self._kept: dict[int, Profile] = {}
        self._lock = threading.Lock()
        sizes = [path.stat().st_size for path in paths]
        self.keeps_all = sum(sizes) <= MOST_KEPT_BYTES

    @classmethod
    def of_folder(cls, folder: Path) -> "SavedSweep":
        """Find a folder's profiles.

        Raises:
            UsageError: if there are none, or the folder cannot be read.
        """
        try:
            return cls(find_profiles(folder))
        except OSError as error:
            raise UsageError(f"cannot read {folder}: {error.strerror}", "check the folder's permissions") from error

    def profile(self, at: int) -> Profile:
        """Give the profile of a file.

        Raises:
            ProfileFileError: if it is damaged.
            UsageError: if it is gone.
        """
        with self._lock:
            if at in self._kept:
                return self._kept[at]
            found = read_profile(self.paths[at])
            if self.keeps_all:
                self._kept[at] = found
            return found

    def last(self) -> Profile:
        """Give the profile of the file that stands last in training, as far as the files' names say.

        Raises:
            LaminarError: as `profile`.
        """
        steps = [step_of(path.stem) for path in self.paths]
        known = [at for at, step in enumerate(steps) if step is not None]
        return self.profile(max(known, key=lambda at: steps[at] or 0) if known else len(self.paths) - 1)

    def read(self, place: Place, is_wanted: Callable[[], bool]) -> tuple[Sweep, tuple[int, ...]] | None:
        """Read what a sweep shows of a place out of each profile.

        Args:
            place: what of the model is looked at.
            is_wanted: asked before each profile; False ends it.

        Returns:
            The sweep, and for each of its steps the number of its file; None if it is not wanted any more.

        Raises:
            ProfileFileError: if a profile is damaged.
            UsageError: if they are not of one architecture, or there is no such place.
        """
        steps = []
        for at, path in enumerate(self.paths):
            if not is_wanted():
                return None
            steps.append(read_step(self.profile(at), path.stem, place))
        names = name_profiles([step.origin for step in steps], [step.name for step in steps])
        steps = [replace(step, name=name) for step, name in zip(steps, names, strict=True)]
        sweep = make_sweep(steps, place)
        places = {id(step): at for at, step in enumerate(steps)}
        return sweep, tuple(places[id(step)] for step in sweep.steps)
