"""What a name stands for: existence decides. A file, a folder, then a hub id."""

from pathlib import Path
from typing import NamedTuple

from laminar_tui.errors import UsageError

GGUF_SUFFIX = ".gguf"


def as_path(name: str) -> Path:
    """Make a path of what was typed, `~` included.

    Raises:
        UsageError: for a name that the system does not take: an unknown user, too long, a NUL.
    """
    try:
        if "\0" in name:  # which Path.exists() passes over and open() does not
            raise ValueError("a NUL in the name")
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        shown = name if len(name) <= 60 else name[:59] + "…"
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot look at {shown}: {reason}", "check the spelling") from error
    return path


class Source(NamedTuple):  # a dataclass would cost `--help`, which waits for this module, a tenth of its time
    """Where a model is: `path` is a folder, or a hub id; `gguf_file` is the name of a GGUF file in it."""

    path: str
    is_local: bool
    revision: str | None = None
    gguf_file: str | None = None

    @property
    def name(self) -> str:
        """What to call the model on the screen."""
        if not self.is_local:
            return self.path
        return self.gguf_file or Path(self.path).resolve().name


def find_source(name: str, revision: str | None = None) -> Source:
    """Decide what a name is: an existing file or folder, else a hub id, with or without `@revision`.

    Raises:
        UsageError: for a path that does not exist, a file that is no GGUF file, a revision of a file or a folder, or
            two revisions.
    """
    path = as_path(name)
    if revision and path.exists():
        raise UsageError(f"only a hub repository has revisions: {name} is on this machine", "leave the revision out")
    if path.is_dir():
        return Source(str(path), True)
    if path.is_file():
        output, ending, process = path.name.rpartition(".progress")
        if output and ending and (not process or "-of-" in process):
            shows = f"`laminar-tui tail {path.with_name(output)}` shows it"
            raise UsageError(f"{name} is what an unfinished run on a corpus has kept", shows)
        if path.suffix != GGUF_SUFFIX:
            raise UsageError(f"{name} is no model file", "give a folder, a .gguf file, a .laminar file or a hub id")
        return Source(str(path.parent), True, gguf_file=path.name)
    repo, _, at = name.partition("@")
    if _looks_like_path(repo):
        raise UsageError(f"no such file or folder: {name}", "a hub id looks like EleutherAI/pythia-2.8b")
    if revision and at:
        raise UsageError(f"{name} names a revision, and --revision {revision} another one", "leave one of them out")
    return Source(repo, False, revision=revision or at or None)


def _looks_like_path(name: str) -> bool:
    endings = (GGUF_SUFFIX, ".laminar", ".laminar.partial", ".laminar.progress", ".safetensors", ".bin")
    return name.startswith(("/", ".", "~")) or name.count("/") > 1 or name.endswith(endings) or not name
