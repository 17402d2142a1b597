"""The file that an unfinished corpus run leaves: its sums, and what a run has to be to go on with them."""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from laminar_tui.errors import ProfileFileError
from laminar_tui.files import write_bytes
from laminar_tui.profile.counts import N_BINS
from laminar_tui.profile.merge import UNEQUAL, Integers, LayerSums, ProfileSums
from laminar_tui.profile.parts import PARTS
from laminar_tui.profile.profile import Check, Origin
from laminar_tui.sizes import format_seconds

PROGRESS_SUFFIX = ".progress"
MAGIC = b"laminar-partial 2\n"
_ANY_MAGIC = b"laminar-partial "
"""What such files of any version begin with."""
_DIGEST_BYTES = 32


@dataclass
class Progress:
    """How far a corpus run is.

    Attributes:
        n_seen: how many windows of the corpus are done with, those that other processes read included.
        digest: of the token ids of these windows, in their order: a changed corpus shows.
        settings: what makes a run what it is; one with others does not go on with this.
        sums: of the windows that this process read.
        share: of the corpus that is behind, or of the windows that were asked for; None where it was not kept.
        seconds_left: about, when this was kept; None where there was nothing to tell it from.
    """

    n_seen: int = 0
    digest: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    sums: ProfileSums = field(default_factory=ProfileSums)
    share: float | None = None
    seconds_left: float | None = None

    def words(self) -> str:
        """Say how far it is, like `12 % done, about 3 min left`; empty where that is not known."""
        if self.share is None:
            return ""
        left = "" if self.seconds_left is None else f", {format_seconds(self.seconds_left)} left"
        return f"{100 * self.share:.{0 if self.share >= 0.1 else 1}f} % done{left}"

    def see(self, ids: list[int]) -> None:
        """Take note of the next window of the corpus."""
        self.n_seen += 1
        self.digest = hashlib.sha256(self.digest.encode() + np.array(ids, np.int64).tobytes()).hexdigest()


def progress_paths(output: Path) -> list[Path]:
    """Find what the processes of an unfinished run have kept beside their output.

    Raises:
        OSError: if its folder cannot be looked at.
    """
    kept = re.compile(re.escape(output.name + PROGRESS_SUFFIX) + r"(\.\d+-of-\d+)?")
    return sorted(path for path in output.absolute().parent.iterdir() if kept.fullmatch(path.name))


def write_progress(progress: Progress, path: Path) -> None:
    """Write it beside, and rename it, so that there is a whole one at any moment.

    Raises:
        UsageError: if it cannot be written.
    """
    body = save_tensors(_pack(progress))
    write_bytes(path, MAGIC + hashlib.sha256(body).digest() + body)


def read_progress(path: Path) -> Progress:
    """Read it.

    Raises:
        ProfileFileError: if it is damaged, of another version, or no such file.
    """
    try:
        payload = path.read_bytes()
    except OSError as error:
        raise ProfileFileError(f"cannot read {path}: {error.strerror}", "check the file's permissions") from error
    if payload.startswith(_ANY_MAGIC) and not payload.startswith(MAGIC) and len(payload) > len(MAGIC):
        raise _of_another_version(path)
    digest, body = payload[len(MAGIC) : len(MAGIC) + _DIGEST_BYTES], payload[len(MAGIC) + _DIGEST_BYTES :]
    if not payload.startswith(MAGIC) or hashlib.sha256(body).digest() != digest:
        raise ProfileFileError(f"{path} is damaged", "remove it, and begin the run anew")
    try:
        return _unpack(load_tensors(body))
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise _of_another_version(path) from error


def _of_another_version(path: Path) -> ProfileFileError:
    return ProfileFileError(
        f"{path} was written by another version of laminar-tui, which counted otherwise",
        "go on with the version that began the run, or remove the file and begin anew",
    )


def _pack(progress: Progress) -> dict[str, Any]:
    sums = progress.sums
    arrays: dict[str, Any] = {}
    for index, layer in enumerate(sums.layers):
        if layer is not None:
            keys, hits = layer.settle_hits()
            named = {"keys": keys, "hits": hits, **layer.arrays()}
            arrays |= {f"{index}/{name}": np.ascontiguousarray(array) for name, array in named.items()}
    text = json.dumps(
        {
            "n_seen": progress.n_seen,
            "digest": progress.digest,
            "settings": progress.settings,
            "share": progress.share,
            "seconds_left": progress.seconds_left,
            "sums": describe(sums),
        }
    )
    return arrays | {"text": np.frombuffer(text.encode(), np.uint8)}


def _unpack(arrays: dict[str, Any]) -> Progress:
    fields = json.loads(arrays["text"].tobytes())
    sums = sums_of_nothing(fields["sums"])
    for index, layer in enumerate(sums.layers):
        if layer is not None:
            mine = {name: arrays[f"{index}/{name}"] for name in ("keys", "hits", *layer.arrays())}
            _check_hits(mine["keys"], mine["hits"], layer.n_heads)
            layer.add_hits(mine["keys"], mine["hits"])
            layer.set_arrays(mine)
    far = (None if fields.get(name) is None else float(fields[name]) for name in ("share", "seconds_left"))
    return Progress(fields["n_seen"], fields["digest"], fields["settings"], sums, *far)


def _check_hits(keys: Integers, hits: Integers, n_heads: int) -> None:
    fits = keys.dtype == hits.dtype == np.int64 and keys.shape == hits.shape and keys.ndim == 1
    if not fits or (len(keys) and not 0 <= keys.min() <= keys.max() < len(PARTS) * n_heads * N_BINS):
        raise ValueError("the hits do not fit")


def describe(sums: ProfileSums) -> dict[str, Any]:
    """Everything about sums but the sums of the layers, as JSON has it."""
    return {
        "origin": None if sums.origin is None else dataclasses.asdict(sums.origin),
        "layers": [None if layer is None else [layer.n_heads, layer.names, layer.length] for layer in sums.layers],
        "n_prompts": sums.n_prompts,
        "n_tokens": sums.n_tokens,
        "lengths": sorted(sums.lengths.items()),
        "seconds": sums.seconds,
        "mechanisms": sorted(sums.mechanisms),
        "checks": sums.checks,
    }


def sums_of_nothing(description: dict[str, Any]) -> ProfileSums:
    """Make the sums that were described, with zeros in their layers."""
    sums = ProfileSums()
    fields = description["origin"]
    if fields is not None:
        lists = {name: tuple(fields[name]) for name in ("layer_kinds", "tokens", "token_ids")}
        lists["lengths"] = tuple((length, n) for length, n in fields.get("lengths", ()))
        sums.origin = Origin(**(fields | lists | {"checks": tuple(Check(**check) for check in fields["checks"])}))
    sums.layers = [None if layer is None else LayerSums(*layer) for layer in description["layers"]]
    sums.n_prompts, sums.n_tokens = description["n_prompts"], description["n_tokens"]
    sums.lengths = Counter(dict(description.get("lengths", ())))  # not in a file of before it was kept
    sums.seconds, sums.mechanisms = description["seconds"], set(description["mechanisms"])
    sums.checks = description["checks"]
    return sums


def combine(descriptions: list[dict[str, Any]]) -> ProfileSums:
    """Make the sums that several processes have together, with zeros in their layers, from how each describes its own.

    Raises:
        ValueError: if their layers are not the same.
    """
    total = sums_of_nothing(next((each for each in descriptions if each["origin"] is not None), descriptions[0]))
    total.n_prompts, total.n_tokens, total.seconds, total.checks = 0, 0, 0.0, {}
    total.lengths = Counter()
    lengths: list[set[int]] = [set() for _ in total.layers]
    for each in descriptions:
        total.n_prompts += each["n_prompts"]
        total.n_tokens += each["n_tokens"]
        total.lengths.update(dict(each["lengths"]))
        total.seconds += each["seconds"]
        total.mechanisms |= set(each["mechanisms"])
        for name, found in each["checks"].items():
            total.add_check(name, *found)
        for layer, mine, seen in zip(total.layers, each["layers"], lengths, strict=each["origin"] is not None):
            if (mine and (mine[0], tuple(mine[1]))) != (layer and (layer.n_heads, layer.names)):
                raise ValueError("the layers differ")
            seen |= {mine[2]} - {0} if mine else set()
    total.layers = [
        layer and LayerSums(layer.n_heads, layer.names, seen.pop() if len(seen) == 1 else UNEQUAL)
        for layer, seen in zip(total.layers, lengths, strict=True)
    ]
    return total
