"""The story of a sweep: a model's revisions are read one after another, each is saved, and a second run goes on.

One model is in memory at a time: the next one is loaded when the last one has been let go.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from laminar_tui.errors import UsageError
from laminar_tui.files import read_bytes, write_bytes
from laminar_tui.profile.file import SUFFIX
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep_folder import SETTINGS_FILE
from laminar_tui.run import IsCancelled, OnEvent, Request, Session, Step
from laminar_tui.source import as_path

MOST_SETTINGS_BYTES = 2**20
"""Of what the profiles of a folder have in common: without it, those of two prompts would be mixed."""


@dataclass(frozen=True)
class SweepRequest:
    """What was asked for.

    Attributes:
        request: model and prompt; its source is a hub id, or a folder whose sub-folders are the revisions.
        revisions: names of branches, tags, commits or sub-folders, each once.
        folder: where the profiles are kept, made if need be; None keeps none.
    """

    request: Request
    revisions: tuple[str, ...]
    folder: Path | None = None


def parse_revisions(text: str) -> tuple[str, ...]:
    """Split a list of revisions at its commas.

    Raises:
        UsageError: for none.
    """
    names = tuple(dict.fromkeys(name for each in text.split(",") if (name := each.strip())))
    if not names:
        raise UsageError("there are no revisions", "for example --revisions step1000,step143000,main")
    return names


def profile_path(folder: Path, revision: str) -> Path:
    """Where a revision's profile is kept: its name holds nothing that leads out of the folder."""
    return folder / (quote(revision, safe="") + SUFFIX)


def capture_sweep(asked: SweepRequest, on_event: OnEvent, is_cancelled: IsCancelled) -> Iterator[Profile]:
    """Give the profile of each revision: from the folder where it is, else read now and saved there.

    Raises:
        UsageError: for a revision that is no sub-folder, or a folder that holds the profiles of another sweep.
        ProfileFileError: if a profile in the folder is damaged.
        LaminarError: what was wrong with a model or the prompt; those before it are in the folder.
    """
    requests = [_request_for(asked.request, revision) for revision in asked.revisions]
    if asked.folder is not None:
        _open_folder(asked.folder, asked)
    session = Session(keeps_patterns=False)
    for at, (revision, request) in enumerate(zip(asked.revisions, requests, strict=True)):
        on_event(Step(f"revision {revision}", at + 1, len(requests)))
        path = None if asked.folder is None else profile_path(asked.folder, revision)
        if path is not None and path.exists():
            yield Profile.load(path)
            continue
        profile = _named(session.run(request, on_event, is_cancelled), asked.request, revision)
        if path is not None:
            profile.save(path)
        yield profile


def _request_for(request: Request, revision: str) -> Request:
    """Ask for one revision: of the hub, or a sub-folder."""
    base = as_path(request.source)
    if not request.source or base.is_file():
        raise UsageError("only a hub repository or a folder has revisions", "name one before --revisions")
    if not base.is_dir():
        return replace(request, revision=revision)
    folder = as_path(str(base / revision))
    if not folder.is_dir():
        raise UsageError(f"{request.source} has no folder {revision}", "revisions of a folder are its sub-folders")
    return replace(request, source=str(folder))


def _named(profile: Profile, request: Request, revision: str) -> Profile:
    """Call a sub-folder's profile by the folder's name and the revision, as the hub's are."""
    base = as_path(request.source)
    name = base.resolve().name if base.is_dir() else profile.origin.model
    return replace(profile, origin=replace(profile.origin, model=name, revision=revision))


def _settings(asked: SweepRequest) -> dict[str, Any]:
    request = asked.request
    base = as_path(request.source)
    return {
        "model": base.resolve().name if base.is_dir() else request.source.partition("@")[0],
        "prompt": hashlib.sha256(request.text().encode("utf-8", "surrogatepass")).hexdigest(),
        **{name: getattr(request, name) for name in ("max_tokens", "dtype", "recipe", "bos", "chat")},
    }


def _open_folder(folder: Path, asked: SweepRequest) -> None:
    """Make the folder, or see that what it holds belongs to this sweep."""
    settings = _settings(asked)
    path = folder / SETTINGS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = json.loads(read_bytes(path, MOST_SETTINGS_BYTES)) if path.exists() else None
    except (OSError, OverflowError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "its sweep.json cannot be read"
        raise UsageError(f"cannot use {folder}: {reason}", "name another folder with -o") from error
    if kept is None and not _any_kept(folder, asked.revisions):
        write_bytes(path, (json.dumps(settings, indent=1) + "\n").encode())
    elif kept != settings:
        raise UsageError(f"{folder} holds profiles of {_difference(kept, settings)}", "name another folder with -o")


def _any_kept(folder: Path, revisions: Sequence[str]) -> bool:
    return any(profile_path(folder, revision).exists() for revision in revisions)


def _difference(kept: Any, settings: dict[str, Any]) -> str:
    if not isinstance(kept, dict):
        return "another run"
    names = [name for name, value in settings.items() if kept.get(name) != value]
    return f"another sweep: other {', '.join(names).replace('_', ' ')}" if names else "another sweep"
