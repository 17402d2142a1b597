"""The files of a model's folder, which a stranger may have made: which are read, and which are refused.

Only the config's, the tokenizer's and the parameters' files count. They are regular files of the folder itself, no code
among them, and parameters in a format that cannot carry code.
"""

import json
import stat
from collections.abc import Sequence
from pathlib import Path

from laminar_tui.errors import ModelError

SAFE_FILES = (".safetensors", ".gguf")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PARAMETER_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
MAX_TEXT_BYTES = 2**28
"""The largest tokenizer files have tens of megabytes."""
PICKLE_HINT = "opening one can run code: take a safetensors version, or trust who made it and say so (--allow-pickle)"

_TEXT_ENDINGS = (".json", ".txt", ".jinja", ".model", ".tiktoken")


def is_text_file(name: str) -> bool:
    """Whether a file is of the config's or the tokenizer's, all of which are in the folder itself."""
    return "/" not in name and name.endswith(_TEXT_ENDINGS)


def choose_parameters(names: Sequence[str], shards: Sequence[str] | None, allow_pickle: bool) -> list[str]:
    """Which of a folder's files hold the parameters: safetensors first, a pickle only if that is allowed.

    Args:
        names: all files of the folder.
        shards: the files that an index names.
    """
    if "model.safetensors" in names:
        return ["model.safetensors"]
    endings = SAFE_FILES[:1] + (PICKLES if allow_pickle else ())
    if shards and all(name.endswith(endings) and name in names for name in shards):
        return list(shards)
    return ["pytorch_model.bin"] if allow_pickle and "pytorch_model.bin" in names else []


def shards_of(index: Path) -> list[str]:
    """The files that an index of parameters names.

    Raises:
        ModelError: if it is no such index, or names a file outside of the folder.
    """
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index.name} is no index of parameters", "see that the files are complete") from error
    for name in names:
        if name != Path(name).name:
            raise ModelError(f"{index.name} names a file that is not in the model's folder: {name[:100]}", _NOT_READ)
    return names


_NOT_READ = "a model's files are read from its own folder only"


def check_folder(folder: Path, name: str, gguf_file: str | None, *, allow_pickle: bool) -> int:
    """See that a folder's files are what they should be, before any is read; the bytes of the parameters' files.

    Raises:
        ModelError: if one is a link out of the folder, no regular file, or far too large; or if the parameters are a
            pickle only.
    """
    base = folder.resolve()
    for path in sorted(folder.iterdir()):
        is_parameters = path.name.endswith(SAFE_FILES)
        if gguf_file not in (None, path.name) or not (is_parameters or is_text_file(path.name)):
            continue
        _check_file(path, base, is_parameters)
    if gguf_file is not None:
        return (folder / gguf_file).stat().st_size
    names = [path.name for path in folder.iterdir()]
    shards = next((shards_of(folder / index) for index in PARAMETER_INDEXES if index in names), None)
    parameters = choose_parameters(names, shards, allow_pickle)
    if not parameters and any(each.endswith(PICKLES) for each in names):
        raise ModelError(f"{name} holds its parameters as a pickle only", PICKLE_HINT)
    return sum((folder / each).stat().st_size for each in parameters if (folder / each).is_file())


def _check_file(path: Path, base: Path, is_parameters: bool) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}", "see that its files are complete") from error
    if not stat.S_ISREG(found.st_mode):
        raise ModelError(f"{path.name} is no regular file", _NOT_READ)
    # Parameters are checked when they are read and may lie on another disk; a text could be any file of its reader's.
    if not is_parameters and path.is_symlink() and not _stays(path, base):
        raise ModelError(f"{path.name} is a link out of the model's folder", f"{_NOT_READ}; copy the file there")
    if not is_parameters and found.st_size > MAX_TEXT_BYTES:
        raise ModelError(f"{path.name} has {found.st_size:,} bytes", "no model's file of that name is so large")


def _stays(path: Path, base: Path) -> bool:
    """Whether a link leads into the folder, or, in the hub's cache, to the blobs of the same model."""
    first = path.parent.resolve() / path.readlink()
    if base.parent.name == "snapshots" and first.parent.resolve() == base.parent.parent / "blobs":
        return True
    return path.resolve().is_relative_to(base)
