"""What can be opened without typing its name: what comes with the program, recent profiles, models in the hub's cache.

The recent profiles are a list of paths in the user's state folder, and nothing else; a damaged list is an empty one.
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from laminar_tui.errors import UsageError
from laminar_tui.files import state_folder, state_path, write_bytes
from laminar_tui.profile.sweep_folder import find_profiles, holds_sweep
from laminar_tui.run import BUNDLED_MODEL, BUNDLED_NAME, SAMPLE_PROFILE

Kind = Literal["profile", "model", "sweep"]
RECENT_NAME = "recent.json"
MAX_RECENT = 20
MAX_LIST_BYTES = 200_000
"""Of the list of recent profiles: twenty of the longest paths are 82 KB."""
MAX_CONFIG_BYTES = 2_000_000
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads")


@dataclass(frozen=True)
class Entry:
    """Something to open.

    Attributes:
        section: what it is listed under.
        name: as it is shown; text from outside.
        kind: a saved profile, a model, or a folder with the profiles of a sweep.
        source: the path or hub id that opens it; empty for the bundled model.
        size: in bytes; None where it is not known.
        shape: layers and heads; None where they are not known.
        note: what is special about it.
    """

    section: str
    name: str
    kind: Kind
    source: str
    size: int | None = None
    shape: tuple[int, int] | None = None
    note: str = ""


def own_entries() -> list[Entry]:
    """What comes with the program."""
    section = "with the program"
    size = sum(file.stat().st_size for file in BUNDLED_MODEL.glob("*") if file.is_file())
    entries = [Entry(section, BUNDLED_NAME, "model", "", size, read_shape(BUNDLED_MODEL), "a small model")]
    if SAMPLE_PROFILE.is_file():
        size = SAMPLE_PROFILE.stat().st_size
        entries.append(Entry(section, "sample", "profile", str(SAMPLE_PROFILE), size, None, "a saved profile"))
    return entries


def recent_entries() -> list[Entry]:
    """The profiles and sweeps that were opened or written last and are still there, the newest first."""
    entries = []
    for path in read_recent():
        with suppress(OSError):
            if path.is_file():
                entries.append(Entry("recent profiles", str(path), "profile", str(path), path.stat().st_size))
            elif holds_sweep(path):
                files = find_profiles(path)
                size = sum(file.stat().st_size for file in files)
                entries.append(
                    Entry("recent profiles", str(path), "sweep", str(path), size, None, f"{len(files)} steps")
                )
    return entries


def cached_entries() -> list[Entry]:
    """The models in the hub's cache; reads the disk, which may take seconds."""
    from laminar_tui.model.cache import cached_models

    entries = []
    for model in cached_models():
        main = model.revision == "main"
        source = model.repo_id if main else f"{model.repo_id}@{model.revision}"
        note = "" if model.has_weights else "no parameters in the cache"
        entries.append(Entry("in the hub's cache", source, "model", source, model.size, read_shape(model.folder), note))
    return entries


def read_shape(folder: Path) -> tuple[int, int] | None:
    """Read the numbers of layers and heads from a model's config.json; None where it does not say."""
    try:
        path = folder / "config.json"
        if path.stat().st_size > MAX_CONFIG_BYTES:
            return None
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict):
        return None
    inner = config.get("text_config")
    for each in (config, inner if isinstance(inner, dict) else {}):
        layers, heads = _first_int(each, _LAYERS), _first_int(each, _HEADS)
        if layers and heads:
            return layers, heads
    return None


def _first_int(config: dict[str, Any], names: Iterable[str]) -> int | None:
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int) and 0 < value < 100_000), None)


# -- recent profiles ---------------------------------------------------------------------------------------------------


def recent_path() -> Path:
    """Where the list is kept."""
    return state_path(RECENT_NAME)


def read_recent() -> list[Path]:
    """Read the list; empty where there is none, or it is damaged."""
    try:
        path = recent_path()
        if path.stat().st_size > MAX_LIST_BYTES:
            return []
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(listed, list):
        return []
    return [Path(each) for each in listed if isinstance(each, str) and each and "\0" not in each][:MAX_RECENT]


def remember(path: str | Path) -> None:
    """Put a profile's path first in the list; where that cannot be written, nothing is remembered."""
    with suppress(OSError, UsageError, RuntimeError):
        kept = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - a link stays the name it was given
        listed = [kept, *(each for each in read_recent() if each != kept)][:MAX_RECENT]
        text = json.dumps([os.fspath(each) for each in listed], indent=1)
        write_bytes(state_folder() / RECENT_NAME, text.encode("utf-8", "backslashreplace"))
