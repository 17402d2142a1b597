"""A user's settings: which keys do what, and what a picture begins with. They are read at the start, never written.

What stands on the command line goes before them.
"""

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laminar_tui.errors import UsageError
from laminar_tui.source import as_path

MOST_BYTES = 2**16
"""No such file is longer."""
DEFAULTS = {
    "theme": "dark",
    "color_map": "viridis",
    "population": "final",
    "scale": "log",
    "estimator": "reflected",
}
"""What a picture begins with where nothing else is said."""


@dataclass(frozen=True)
class Settings:
    """What a file of settings says.

    Attributes:
        path: of the file; None where there is none.
        keys: the keys that stand for something, with commas between, by the name of what they do; as they were typed.
        picture: values by their names in `DEFAULTS`.
    """

    path: Path | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    picture: Mapping[str, str] = field(default_factory=dict)

    def choose(self, name: str, typed: str | None = None) -> str:
        """What holds for one of `DEFAULTS`: what was typed, else the file's value, else the program's own."""
        return typed or self.picture.get(name) or DEFAULTS[name]


def settings_path() -> Path:
    """Where the settings are looked for: `laminar-tui/config.toml` in XDG_CONFIG_HOME."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(folder) if Path(folder).is_absolute() else Path.home() / ".config") / "laminar-tui" / "config.toml"


def read_settings(named: str | None) -> Settings:
    """Read the file that was named, or the one in its usual place; there may be none there.

    Raises:
        UsageError: if it cannot be read, or says what means nothing.
    """
    path = as_path(named) if named else settings_path()
    if not named and not path.exists():
        return Settings()
    table = _parse(path, _read(path))
    keys = table.pop("keys", {})
    if not isinstance(keys, dict) or not all(isinstance(value, str) for value in keys.values()):
        raise UsageError(f"{path}: [keys] is a table of names and keys", 'write it like population = "b" or "b,ctrl+b"')
    for name, value in table.items():
        if name not in DEFAULTS:
            raise UsageError(f"{path}: there is no setting '{name}'", f"choose from: {', '.join(DEFAULTS)}, [keys]")
        _check(path, name, value)
    return Settings(path, keys, table)


def _read(path: Path) -> str:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            raise UsageError(f"{path} is no file of settings", f"give a regular file of at most {MOST_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name another one with --config") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text", "convert it, for example with iconv") from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    import tomllib  # only where there is something to read

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no TOML: {error}", 'a line is like theme = "light"') from error


def _check(path: Path, name: str, value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{path}: {name} is no text", f'write it like {name} = "{DEFAULTS[name]}"')
    try:
        _CHECKS[name](value)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", error.hint) from error


def _check_population(name: str) -> None:
    from laminar_tui.profile.parts import population_parts

    population_parts(name, "with")


def _check_estimator(name: str) -> None:
    from laminar_tui.profile.density import find_estimator

    find_estimator(name)


def _check_color_map(name: str) -> None:
    from laminar_tui.render.palette import check_color_map

    check_color_map(name)


def _check_scale(name: str) -> None:
    from laminar_tui.render.palette import SCALES

    if name not in SCALES:
        raise UsageError(f"there is no scale '{name}'", f"choose one of: {', '.join(SCALES)}")


def _check_theme(name: str) -> None:
    if name not in ("dark", "light"):
        raise UsageError(f"there is no theme '{name}'", "choose one of: dark, light")


_CHECKS: dict[str, Callable[[str], None]] = {
    "theme": _check_theme,
    "color_map": _check_color_map,
    "population": _check_population,
    "scale": _check_scale,
    "estimator": _check_estimator,
}
