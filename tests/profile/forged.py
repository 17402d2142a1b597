"""Profile files as nobody of ours writes them, with a digest that fits."""

import json
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from laminar_tui.profile import file as profile_file
from laminar_tui.profile.file import profile_bytes
from laminar_tui.profile.profile import Profile

Tensors = dict[str, NDArray[Any]]


def fields_of(payload: bytes) -> dict[str, Any]:
    size = int.from_bytes(payload[:8], "little")
    return json.loads(payload[8 : 8 + size])


def header_of(payload: bytes) -> str:
    return json.loads(fields_of(payload)["__metadata__"][profile_file.FORMAT])["header"]


def signed(text: str, tensors: Tensors) -> bytes:
    entry = json.dumps({"sha256": profile_file._digest(text, tensors), "header": text})
    return save_tensors(tensors, {profile_file.FORMAT: entry})


def rebuilt(
    profile: Profile,
    change_header: Callable[[dict[str, Any]], None] = lambda _header: None,
    change_tensors: Callable[[Tensors], None] = lambda _tensors: None,
) -> bytes:
    """A file with a digest that fits: what a later version, or somebody with bad intentions, would write."""
    payload = profile_bytes(profile)
    header = json.loads(header_of(payload))
    tensors = load_tensors(payload)
    change_header(header)
    change_tensors(tensors)
    return signed(json.dumps(header), tensors)
