"""The profile file: a safetensors file (no pickle) with a JSON header and a SHA-256 over both.

safetensors alone accepts a damaged payload, so the digest covers the header and every tensor's name, type, shape and
bytes. Sizes are checked against the file before anything is allocated.
"""

import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from laminar_tui.errors import ProfileFileError, UsageError
from laminar_tui.files import open_regular, read_bytes, write_bytes
from laminar_tui.profile.bootstrap import GROUPED_PARTS, N_GROUPS, SLICE_STARTS, Groups
from laminar_tui.profile.counts import N_BINS, PackedCounts, sum_rows
from laminar_tui.profile.parts import PARTS
from laminar_tui.profile.profile import Check, LayerProfile, Origin, Profile
from laminar_tui.profile.roles import ROLES, Roles
from laminar_tui.profile.spread import Spread

FORMAT = "laminar-profile"
VERSION = 1
SUFFIX = ".laminar"
JOURNAL_NAME = b"laminar-journal"
JOURNAL_MAGIC = JOURNAL_NAME + b"1"
"""What a capture's journal (`profile.journal`) begins with: such a file can be opened like a profile. The name is that
of any version."""

MAX_FILE_BYTES = 4 * 2**30
MAX_HEADER_BYTES = 64 * 2**20
MAX_LAYERS = 4096
MAX_HEADS = 4096
MAX_CELLS = 2**20
"""Layers times the heads of the widest one, as tables of heads are made: 64 times those of the largest models."""
MAX_TOKENS = 2**24
"""Of a prompt whose length alone is known: nulls and sinks make a row of them."""
MOST_WEIGHTS = 2**53
"""Of one part in all layers: below this, float64 holds every number of weights exactly."""

_PER_TOKEN = ("final_weights", "key_shares", "value_norms")
"""float32 [heads, n_tokens], each there or not; a file of an earlier version has no norms."""
_PER_HEAD = ("zeros", "total", "total_sq")
_ROLE_FIELDS = ("thresholds", "period", "n_sequences", "seed")
_SPREAD = {"n": np.int64, "mean": np.float64, "std": np.float64}
"""[heads and a row for the layer, one layer behind the other; names], the names in the header."""
Tensors = dict[str, NDArray[Any]]


def looks_like_profile(path: Path) -> bool:
    """Tell a profile from a model by its name or by its first bytes."""
    if not path.is_file():
        return False
    if path.suffix == SUFFIX:
        return True
    start = _first_bytes(path)
    return f'"{FORMAT}"'.encode() in start or start.startswith(JOURNAL_NAME)  # the first: after `{"__metadata__":{`


def _first_bytes(path: Path) -> bytes:
    """The beginning of a file; nothing of one that cannot be read."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            return file.read(64)
    except OSError:
        return b""


# -- writing ---------------------------------------------------------------------------------------------------------


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile so that a failure at any moment leaves the old file whole.

    Raises:
        UsageError: if the path is no regular file, or it cannot be written.
    """
    write_bytes(path, profile_bytes(profile))


def profile_bytes(profile: Profile) -> bytes:
    """Give the bytes of a profile's file."""
    tensors = _pack_tensors(profile)
    header = _pack_header(profile)
    # One entry, since safetensors writes several in any order: the same profile gives the same bytes.
    entry = json.dumps({"sha256": _digest(header, tensors), "header": header})
    return save_tensors(tensors, {FORMAT: entry})


def _pack_header(profile: Profile) -> str:
    heads = [layer.n_heads if layer else 0 for layer in profile.layers]
    header = {"version": VERSION, "n_heads": heads, "origin": dataclasses.asdict(profile.origin)}
    if profile.roles is not None:
        header["roles"] = {name: getattr(profile.roles, name) for name in _ROLE_FIELDS}
    spread = next((layer.spread for layer in profile.layers if layer is not None), None)
    if spread is not None:
        header["spread"] = spread.names
    if any(layer is not None and layer.groups is not None for layer in profile.layers):
        header["groups"] = {"n": N_GROUPS, "slices": SLICE_STARTS.tolist()}
    return json.dumps(header, ensure_ascii=True, separators=(",", ":"))


def _pack_tensors(profile: Profile) -> Tensors:
    """Lay the layers that were read behind one another, one row a head."""
    read = [layer for layer in profile.layers if layer is not None]
    tensors: Tensors = {}
    if not read:
        return tensors
    for part in PARTS:
        packed = [layer.parts[part] for layer in read]
        sizes = np.concatenate([np.diff(each.starts) for each in packed])
        tensors[f"{part}/sizes"] = _smallest(sizes)
        tensors[f"{part}/bins"] = np.concatenate([each.bins for each in packed])
        tensors[f"{part}/hits"] = _smallest(np.concatenate([each.hits for each in packed]))
        for name in _PER_HEAD:
            tensors[f"{part}/{name}"] = np.concatenate([getattr(each, name) for each in packed])
    for name in read[0].statistics:
        tensors[f"stat/{name}"] = np.concatenate([layer.statistics[name] for layer in read])
    for name in _PER_TOKEN:
        rows = [getattr(layer, name) for layer in read]
        if all(row is not None for row in rows):
            tensors[name] = np.concatenate(rows)
    for name, scores in profile.roles.scores.items() if profile.roles else ():
        rows = [row[: layer.n_heads] for row, layer in zip(scores, profile.layers, strict=True) if layer is not None]
        tensors[f"role/{name}"] = np.concatenate(rows)
    groups = [layer.groups for layer in read]
    for at, part in enumerate(GROUPED_PARTS) if all(groups) else ():
        rows = [each.counts[:, :, at] for each in groups if each is not None]
        tensors[f"groups/{part}"] = _smallest(np.concatenate(rows))
    spreads = [layer.spread for layer in read]
    for name in _SPREAD if all(spreads) else ():
        tensors[f"spread/{name}"] = np.ascontiguousarray(np.concatenate([getattr(each, name).T for each in spreads]))
    return tensors


def _smallest(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _digest(header: str, tensors: Tensors) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


# -- reading ---------------------------------------------------------------------------------------------------------


def read_profile(path: Path) -> Profile:
    """Read a profile's file and believe nothing in it before the digest fits.

    Raises:
        UsageError: if there is no such file or it cannot be read.
        ProfileFileError: if it is damaged, of an unknown version, or no profile.
    """
    try:
        if not path.is_file():
            raise UsageError(f"no such file: {path}", "give the path of a .laminar file")
        if _first_bytes(path).startswith(JOURNAL_NAME):
            from laminar_tui.profile.journal import read_journal

            return read_journal(path)
        payload = read_bytes(path, MAX_FILE_BYTES)
    except OverflowError as error:
        raise ProfileFileError(
            f"{path.name} is too large for a profile: {error.args[0]:,} bytes, {MAX_FILE_BYTES:,} at most",
            "profiles are written by `laminar-tui capture`",
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "check the file's permissions") from error
    try:
        return parse_profile(payload)
    except ProfileFileError as error:
        raise ProfileFileError(f"{path.name}: {error.message}", error.hint) from None


def parse_profile(payload: bytes) -> Profile:
    """Make a profile from the bytes of its file.

    Raises:
        ProfileFileError: if they are damaged, of an unknown version, or no profile.
    """
    header, digest = _read_metadata(payload)
    try:
        tensors: Tensors = load_tensors(payload)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _damaged(str(error)) from error
    try:
        fits = _digest(header, tensors) == digest
    except UnicodeEncodeError:  # half of a surrogate pair
        fits = False
    if not fits:
        raise _damaged("its contents do not fit its SHA-256")
    try:
        return _unpack(json.loads(header), tensors)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error


def _damaged(why: str) -> ProfileFileError:
    return ProfileFileError(f"the profile is damaged: {why}", "capture it again, or copy it again from its source")


def _read_metadata(payload: bytes) -> tuple[str, str]:
    """Read header text and digest, with every size checked before it is used."""
    no_profile = ProfileFileError("this is no laminar profile", "profiles are written by `laminar-tui capture`")
    if len(payload) < 8:
        raise no_profile
    size = int.from_bytes(payload[:8], "little")
    if size > min(len(payload) - 8, MAX_HEADER_BYTES):
        raise no_profile
    try:
        fields = json.loads(payload[8 : 8 + size])
        entry = json.loads(fields["__metadata__"][FORMAT])
        header, digest = str(entry["header"]), str(entry["sha256"])
        version = json.loads(header)["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise no_profile from None
    if version != VERSION:
        raise ProfileFileError(
            f"the profile has format version {version!r}, this program reads {VERSION}",
            "use the version of laminar-tui that wrote it, or capture it again",
        )
    return header, digest


def _unpack(header: dict[str, Any], tensors: Tensors) -> Profile:
    heads = [int(n) for n in header["n_heads"]]
    if len(heads) > MAX_LAYERS or any(not 0 <= n <= MAX_HEADS for n in heads):
        raise ValueError(f"{len(heads)} layers with up to {max(heads)} heads")
    if len(heads) * max(heads, default=0) > MAX_CELLS:
        raise ValueError(f"{len(heads)} layers with up to {max(heads)} heads are more than {MAX_CELLS:,} places")
    origin = _unpack_origin(header["origin"])
    if len(origin.layer_kinds) != len(heads):
        raise ValueError("the layers' kinds do not fit their number")
    first_rows = np.concatenate([[0], np.cumsum(heads)])
    rows = {part: _find_rows(tensors, part, int(first_rows[-1])) for part in PARTS} if any(heads) else {}
    layers = [
        _unpack_layer(tensors, rows, int(first), int(first) + n, len(origin.tokens) or origin.prompt_length)
        if n
        else None
        for first, n in zip(first_rows, heads, strict=False)
    ]
    layers = _with_spread(layers, header.get("spread"), tensors)
    layers = _with_groups(layers, header.get("groups"), tensors)
    return Profile(origin, tuple(layers), _unpack_roles(header.get("roles"), tensors, heads))


def _unpack_roles(fields: dict[str, Any] | None, tensors: Tensors, heads: list[int]) -> Roles | None:
    """Read the roles, which an older file does not have."""
    if fields is None:
        return None
    place = np.arange(max(heads, default=0)) < np.array(heads)[:, None]
    scores = {}
    for name in ROLES:
        if f"role/{name}" not in tensors:
            continue
        tensor = tensors[f"role/{name}"]
        if tensor.shape != (sum(heads),) or tensor.dtype != np.float64:
            raise ValueError("the roles do not fit the heads")
        table = np.full(place.shape, np.nan)
        table[place] = tensor
        scores[name] = table
    thresholds = {str(name): float(threshold) for name, threshold in fields["thresholds"].items()}
    return Roles(scores, thresholds, *(int(fields[name]) for name in ("period", "n_sequences", "seed")))


def _with_spread(
    layers: list[LayerProfile | None], names: list[str] | None, tensors: Tensors
) -> list[LayerProfile | None]:
    """Read the spread, which the profile of one prompt does not have."""
    if names is None or "spread/n" not in tensors:
        return layers
    last_rows = np.cumsum([0 if layer is None else layer.n_heads + 1 for layer in layers])
    arrays = {name: tensors[f"spread/{name}"] for name in _SPREAD}
    for name, array in arrays.items():
        if array.shape != (last_rows[-1], len(names)) or array.dtype != _SPREAD[name]:
            raise ValueError("the spread does not fit the heads")
    named = tuple(str(name) for name in names)
    return [
        layer
        and dataclasses.replace(
            layer,
            spread=Spread(named, *(np.ascontiguousarray(a[end - layer.n_heads - 1 : end].T) for a in arrays.values())),
        )
        for layer, end in zip(layers, last_rows, strict=True)
    ]


def _with_groups(
    layers: list[LayerProfile | None], fields: dict[str, Any] | None, tensors: Tensors
) -> list[LayerProfile | None]:
    """Read the counts by groups of prompts, which one prompt and an older file do not have; other slices are let be."""
    if fields is None or fields != {"n": N_GROUPS, "slices": SLICE_STARTS.tolist()}:
        return layers
    last_rows = np.cumsum([0 if layer is None else layer.n_heads for layer in layers])
    arrays = [tensors[f"groups/{part}"] for part in GROUPED_PARTS]
    shape = int(last_rows[-1]), N_GROUPS, len(SLICE_STARTS)
    for part, array in zip(GROUPED_PARTS, arrays, strict=True):
        if array.shape != shape or array.dtype.kind != "u":
            raise ValueError("the groups do not fit the heads")
        n = np.concatenate([layer.parts[part].n for layer in layers if layer is not None])
        if not np.array_equal(array.sum(axis=(1, 2), dtype=np.float64), n):
            raise ValueError(f"the groups do not hold the weights of part {part}")
    return [
        layer
        and dataclasses.replace(
            layer, groups=Groups(np.stack([array[end - layer.n_heads : end] for array in arrays], axis=2))
        )
        for layer, end in zip(layers, last_rows, strict=True)
    ]


def _unpack_origin(fields: dict[str, Any]) -> Origin:
    """Read the origin; a key that this version does not know is a later version's business."""
    known = {field.name for field in dataclasses.fields(Origin)}
    kept = {name: value for name, value in fields.items() if name in known}
    for name in ("layer_kinds", "tokens"):
        kept[name] = tuple(str(each) for each in kept[name])
    kept["token_ids"] = tuple(int(each) for each in kept["token_ids"])
    kept["lengths"] = tuple((int(length), int(n)) for length, n in kept.get("lengths", ()))
    kept["checks"] = tuple(
        Check(str(check["name"]), bool(check["passed"]), str(check["found"])) for check in kept.get("checks", ())
    )
    origin = Origin(**kept)
    _check_origin(origin)
    return origin


def _check_origin(origin: Origin) -> None:
    """See that every field has its declared type: a digest that fits only says that nothing changed on the way."""
    texts = [getattr(origin, field.name) for field in dataclasses.fields(Origin) if field.type in (str, "str")]
    texts += [*origin.versions.keys(), *origin.versions.values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a word of the origin is no text")
    numbers = [getattr(origin, field.name) for field in dataclasses.fields(Origin) if field.type in (int, "int")]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise ValueError("a number of the origin is no whole number")
    if not isinstance(origin.seconds, int | float) or not math.isfinite(origin.seconds):
        raise ValueError("the seconds are no number")
    if len(origin.token_ids) != len(origin.tokens):
        raise ValueError("the tokens do not fit their ids")
    if origin.lengths:
        _check_lengths(origin)
    if origin.prompt_length > MAX_TOKENS or (origin.tokens and origin.prompt_length not in (0, len(origin.tokens))):
        raise ValueError(f"a prompt of {origin.prompt_length:,} tokens, of which {len(origin.tokens):,} are there")


def _check_lengths(origin: Origin) -> None:
    """See that the prompts' lengths ascend, and are those of as many prompts and tokens as were read."""
    lengths, hits = zip(*origin.lengths, strict=True)
    if not 0 < lengths[0] <= lengths[-1] <= MAX_TOKENS or sorted(set(lengths)) != list(lengths) or min(hits) < 1:
        raise ValueError("the lengths of the prompts make no sense")
    if (sum(hits), sum(length * n for length, n in origin.lengths)) != (origin.n_prompts, origin.n_tokens):
        raise ValueError("the lengths of the prompts are not those of its prompts and tokens")


def _find_rows(tensors: Tensors, part: str, n_rows: int) -> NDArray[np.int64]:
    """Find where each head's entries begin, [n_rows + 1], and see that they are counts."""
    sizes = tensors[f"{part}/sizes"].astype(np.int64)
    if sizes.max(initial=0) > N_BINS:  # the sums of such sizes may run over, and fit in the end
        raise ValueError(f"part {part} holds more bins than there are")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    bins, hits = tensors[f"{part}/bins"], tensors[f"{part}/hits"]
    if len(sizes) != n_rows or sizes.min(initial=0) < 0 or starts[-1] != len(bins) or len(bins) != len(hits):
        raise ValueError(f"the sizes of part {part} do not fit")
    if bins.dtype != np.uint16 or hits.dtype.kind != "u" or bins.max(initial=0) >= N_BINS:
        raise ValueError(f"part {part} holds bins that do not exist")
    if not hits.sum(dtype=np.float64) < MOST_WEIGHTS or hits.min(initial=1) < 1:
        raise ValueError(f"part {part} holds an impossible number of weights")
    falls = np.flatnonzero(bins[1:] <= bins[:-1]) + 1
    if not np.isin(falls, starts).all():
        raise ValueError(f"part {part} holds a bin twice")
    _check_sums(part, {name: tensors[f"{part}/{name}"] for name in _PER_HEAD}, sum_rows(hits, starts))
    return starts


def _unpack_layer(
    tensors: Tensors, rows: dict[str, NDArray[np.int64]], first: int, last: int, n_tokens: int
) -> LayerProfile:
    parts = {}
    for part in PARTS:
        begin, end = rows[part][first], rows[part][last]
        hits = tensors[f"{part}/hits"][begin:end]
        parts[part] = PackedCounts(
            rows[part][first : last + 1] - begin,
            tensors[f"{part}/bins"][begin:end],
            hits.astype(np.uint64 if hits.dtype == np.uint64 else np.uint32),
            **{name: tensors[f"{part}/{name}"][first:last] for name in _PER_HEAD},
        )
    statistics = {
        name.removeprefix("stat/"): tensor[first:last] for name, tensor in tensors.items() if name.startswith("stat/")
    }
    per_token = {name: tensors[name][first:last] if name in tensors else None for name in _PER_TOKEN}
    shape = (last - first, n_tokens)
    if any(row is not None and (row.shape != shape or row.dtype != np.float32) for row in per_token.values()):
        raise ValueError("the final weights do not fit the tokens")
    if any(values.shape != shape[:1] or values.dtype != np.float64 for values in statistics.values()):
        raise ValueError("the numbers do not fit the heads")
    norms = per_token["value_norms"]
    if norms is not None and not ((norms >= 0) & (norms < np.inf)).all():  # False for NaN
        raise ValueError("a value norm is not valid")
    return LayerProfile(parts, statistics, per_token["final_weights"], per_token["key_shares"], value_norms=norms)


def _check_sums(part: str, per_head: Tensors, n: NDArray[np.int64]) -> None:
    """See that each sum is one number a head, and possible for `n` weights of at most 1."""
    for name, values in per_head.items():
        if values.shape != n.shape or values.dtype != (np.int64 if name == "zeros" else np.float64):
            raise ValueError(f"the sums of part {part} do not fit")
        if not ((values >= 0) & (values <= 1.001 * n)).all():  # False for NaN
            raise ValueError(f"the sums of part {part} are not those of its weights")
