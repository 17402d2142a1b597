"""A hundred thousand damaged profile files: each is refused by name, or is the same profile. Memory stays flat.

Most of them are damaged as disks and copies do it; the others carry a digest that fits, so that the parser behind
the digest has to be right as well.
"""

import copy
import dataclasses
import gc
import hashlib
import json
import math
import random
import resource
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from laminar_tui.errors import ProfileFileError
from laminar_tui.export import EXPORTS, ExportOptions
from laminar_tui.profile.file import FORMAT, parse_profile, profile_bytes
from laminar_tui.profile.parts import PARTS, POPULATIONS
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Look
from laminar_tui.render.palette import make_ramp
from laminar_tui.render.views import VIEWS, Page, Place

N_DAMAGED, N_FORGED = 86_000, 14_000
DRAWN_EVERY = 40
"""A forged file that is accepted is drawn now and then: that takes many times as long as to read it."""
MOST_GROWTH = 8 * 2**20
"""Bytes of resident memory that 76,000 readings may add: a leak of 200 bytes in each would be 15 MB."""

Tensors = dict[str, NDArray[Any]]
SameProfile = Callable[[Profile, Profile], None]


@pytest.fixture(scope="module")
def tiny(patterns: Callable[..., Any], make_profile: Callable[..., Profile]) -> Profile:
    """Two layers of two heads and one, and one without attention between them, on three tokens: a file of 6 KB."""
    return make_profile([patterns(1, 2, 3), None, patterns(2, 1, 3)])


def resident() -> int:
    """Bytes of this process in memory now."""
    gc.collect()
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


# -- damage ----------------------------------------------------------------------------------------------------------


def flip(chance: random.Random, payload: bytes) -> bytes:
    at, changed = chance.randrange(len(payload)), bytearray(payload)
    changed[at] ^= 1 << chance.randrange(8)
    return bytes(changed)


def overwrite(chance: random.Random, payload: bytes) -> bytes:
    at, length = chance.randrange(len(payload)), chance.choice([1, 2, 8, 100])
    return payload[:at] + chance.randbytes(length) + payload[at + length :]


def cut(chance: random.Random, payload: bytes) -> bytes:
    return payload[: chance.randrange(len(payload))]


def lose(chance: random.Random, payload: bytes) -> bytes:
    at = chance.randrange(len(payload))
    return payload[:at] + payload[at + chance.choice([1, 8, 512]) :]


def insert(chance: random.Random, payload: bytes) -> bytes:
    at = chance.randrange(len(payload) + 1)
    return payload[:at] + chance.choice([b"\0", b" ", b"\xff" * 8, chance.randbytes(9)]) + payload[at:]


def repeat(chance: random.Random, payload: bytes) -> bytes:
    at = chance.randrange(len(payload))
    return payload[:at] + payload[max(0, at - 64) :]


def swap(chance: random.Random, payload: bytes) -> bytes:
    one, other = sorted(chance.sample(range(0, len(payload), 8), 2))
    a, b = payload[one : one + 8], payload[other : other + 8]
    return payload[:one] + b + payload[one + 8 : other] + a + payload[other + 8 :]


def resize_header(chance: random.Random, payload: bytes) -> bytes:
    sizes = [
        0,
        1,
        len(payload),
        2**31,
        2**63,
        2**64 - 1,
        int.from_bytes(payload[:8], "little") + chance.choice([-8, 8]),
    ]
    return struct.pack("<Q", chance.choice(sizes)) + payload[8:]


def edit_table(chance: random.Random, payload: bytes) -> bytes:
    """Change what safetensors' own table says of one tensor, with the header's length mended."""
    size = int.from_bytes(payload[:8], "little")
    table = json.loads(payload[8 : 8 + size])
    name = chance.choice(list(table))
    field = chance.choice(["dtype", "shape", "data_offsets"])
    value = chance.choice(
        ["F64", "I8", "U16", "BOOL", "BF16", [1], [0], [10**12], [2**62, 4], [0, 0], [8, 0], [], -1, None]
    )
    table[name] = {**table[name], field: value} if isinstance(table[name], dict) else value
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + payload[8 + size :]


DAMAGES = [flip, flip, overwrite, cut, lose, insert, repeat, swap, resize_header, edit_table]


def test_a_damaged_file_is_refused_or_the_same_and_costs_no_memory(tiny: Profile, same_profile: SameProfile) -> None:
    payload, chance = profile_bytes(tiny), random.Random(20260101)
    refused = before = 0
    for number in range(N_DAMAGED):
        if number == 10_000:
            before = resident()
        damaged = chance.choice(DAMAGES)(chance, payload)
        try:
            read = parse_profile(damaged)
        except ProfileFileError:
            refused += 1
        else:
            same_profile(read, tiny)
    assert refused > 0.98 * N_DAMAGED
    assert resident() - before < MOST_GROWTH


# -- forgery ---------------------------------------------------------------------------------------------------------


VALUES: list[Any] = [None, True, -1, 0, 3, 10**6, 2**70, -(2**63), 0.5, 1e308, math.inf, math.nan, "", "x", "7"]
VALUES += ["\x1b]52;c;eA==\x07[bold]", "\ud800", "\u202e" * 50, "y" * 5000, [], [None], [[[]]], ["a", 1], {}, {"a": []}]


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of a tree with every key or index in it."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [place for key in keys for place in ((tree, key), *places(tree[key]))]


def forge_header(chance: random.Random, header: dict[str, Any], _tensors: Tensors) -> None:
    """Change, take away, double or add something anywhere in the header."""
    within, key = chance.choice(places(header))
    what = chance.choice(["change", "change", "change", "lose", "double", "add"])
    if what == "change":
        within[key] = copy.deepcopy(chance.choice(VALUES))
    elif what == "lose":
        del within[key]
    elif isinstance(within, list):
        within.insert(key, within[key] if what == "double" else copy.deepcopy(chance.choice(VALUES)))
    else:
        within["not known"] = copy.deepcopy(chance.choice(VALUES))


def forge_tensor(chance: random.Random, _header: dict[str, Any], tensors: Tensors) -> None:
    """Give one tensor other numbers, another type, another shape, or none."""
    name = chance.choice(list(tensors))
    tensor = tensors[name]
    what = chance.choice(["bytes", "extreme", "type", "shape", "lose", "reverse", "replace"])
    if what == "bytes":
        changed = bytearray(tensor.tobytes())
        for _ in range(min(len(changed), 2)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        tensors[name] = np.frombuffer(bytes(changed), tensor.dtype).reshape(tensor.shape)
    elif what == "extreme":
        is_whole = tensor.dtype.kind in "iu"
        ends = [np.iinfo(tensor.dtype).max, np.iinfo(tensor.dtype).min] if is_whole else [np.nan, np.inf, -1.0, 1e300]
        with np.errstate(over="ignore"):
            tensors[name] = np.full_like(tensor, chance.choice(ends))
    elif what == "type":
        types = [np.int8, np.uint8, np.uint16, np.int32, np.int64, np.uint64, np.float16, np.float32, np.float64, bool]
        with np.errstate(all="ignore"):
            tensors[name] = tensor.astype(chance.choice(types))
    elif what == "shape":
        shapes = [tensor[:-1], tensor[None], tensor.reshape(-1), np.concatenate([tensor, tensor]), np.zeros((0, 3))]
        tensors[name] = np.ascontiguousarray(chance.choice([*shapes, np.array(1.0)]))
    elif what == "lose":
        del tensors[name]
    elif what == "reverse":
        tensors[name] = np.ascontiguousarray(tensor[::-1])
    else:
        tensors[name] = np.ascontiguousarray(tensors[chance.choice(list(tensors))])


def forged(header: dict[str, Any], tensors: Tensors) -> bytes:
    """A file with a digest that fits: SHA-256 of the header and of every tensor's name, type, shape and bytes."""
    text = json.dumps(header, separators=(",", ":"))
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype.str} {tensor.shape}\n".encode() + tensor.tobytes())
    return save_tensors(tensors, {FORMAT: json.dumps({"sha256": digest.hexdigest(), "header": text})})


def assert_whole(profile: Profile, *, is_thorough: bool) -> None:
    """Everything has the type that the rest of the program relies on, and numbers are such as counting gives."""
    origin = profile.origin
    for field in dataclasses.fields(origin):
        value = getattr(origin, field.name)
        if field.type in ("str", str):
            assert type(value) is str, field.name
    assert type(origin.n_parameters) is int
    assert math.isfinite(origin.seconds)
    assert all(type(word) is str for pair in origin.versions.items() for word in pair)
    assert all(type(word) is str for word in (*origin.tokens, *origin.layer_kinds))
    assert len(origin.layer_kinds) == profile.n_layers
    assert len(origin.token_ids) == len(origin.tokens)
    for layer in profile.layers:
        if layer is None:
            continue
        for part in PARTS:
            packed = layer.parts[part]
            for sums in (packed.total, packed.total_sq, packed.zeros):
                assert sums.shape == (layer.n_heads,)
                assert np.isfinite(sums).all()
                assert sums.min() >= 0
            if is_thorough:
                counts = packed.unpack()
                assert counts.n.min() >= 0
                assert layer.pool(part).n == counts.n.sum(), "heads one by one and together are the same weights"
        for values in layer.statistics.values():
            assert (values.dtype, values.shape) == (np.float64, (layer.n_heads,))
        for rows in (layer.final_weights, layer.key_shares):
            assert rows is None or (rows.dtype, rows.shape) == (np.float32, (layer.n_heads, profile.n_tokens))


def show_something(profile: Profile, number: int) -> None:
    """Draw one view, or write one format, by turns: what is accepted can be shown."""
    page = Page(80, 24, make_ramp("viridis", "none"))
    read = [index for index, layer in enumerate(profile.layers) if layer is not None]
    ways = [(view, population) for view in VIEWS for population in POPULATIONS]
    view, population = ways[number % len(ways)]
    if read or view == "overview":
        VIEWS[view](profile, Look(population), Place(*((read[0], 0) if read else (None, None))), page)
    if read and number % 5 == 0:
        EXPORTS[("json", "csv", "svg")[number % 3]].function(profile, ExportOptions(n_grid=10))


def test_a_forged_file_is_refused_or_whole(tiny: Profile) -> None:
    payload, chance = profile_bytes(tiny), random.Random(20260102)
    tensors = load_tensors(payload)
    size = int.from_bytes(payload[:8], "little")
    header = json.loads(json.loads(json.loads(payload[8 : 8 + size])["__metadata__"][FORMAT])["header"])
    assert forged(header, tensors) == payload, "the forger writes what the program writes"
    accepted = before = 0
    for number in range(N_FORGED):
        if number == 3_000:
            before = resident()
        other, changed = copy.deepcopy(header), dict(tensors)
        (forge_header if number % 2 else forge_tensor)(chance, other, changed)
        try:
            read = parse_profile(forged(other, changed))
        except ProfileFileError:
            continue
        accepted += 1
        assert_whole(read, is_thorough=accepted % 10 == 0)  # dense bins take time
        if accepted % DRAWN_EVERY == 0:
            show_something(read, accepted // DRAWN_EVERY)
    assert 0.05 * N_FORGED < accepted < 0.8 * N_FORGED, "else one of the two sides was not tried"
    assert resident() - before < 3 * MOST_GROWTH  # drawing fills caches of characters
