"""What a run will need, found out before its parameters are loaded: memory, and a rough time.

The model is built without memory for its parameters (on the meta device), so that they are counted as the family's own
code makes them, whatever the family.
"""

import copy
import time
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from laminar_tui.errors import MemoryNeededError, ModelError
from laminar_tui.model import device as tiles_of_device
from laminar_tui.model import fast
from laminar_tui.model.eager import CHUNK_WEIGHTS
from laminar_tui.model.mechanisms import FAST, HOOKS, TAP, Mechanism, find_mechanism
from laminar_tui.model.memory import free_memory
from laminar_tui.profile.counts import N_BINS
from laminar_tui.sizes import format_seconds, format_size

MAX_LAYERS = 1000
"""The deepest published models have about 200 layers; each costs milliseconds to build, even without its numbers."""
MAX_SIZE = 10**8
"""No size in a config (width, vocabulary, positions) comes near it."""

CHUNK_COPIES = 8
"""How many arrays of a chunk's size live at once while it is weighed and counted, with what the allocator holds of the
ones before: 4 to 10, from how the peak grew between chunks of 8, 16, 32 and 64 MiB (Gemma 2, 4 heads, 2,048 tokens)."""
FIXED = 32 * 2**20
"""What a first forward takes besides: threads' buffers, code that is imported on the way."""
LEAST_CHUNK = 2**14


@dataclass(frozen=True)
class Estimate:
    """What a run will need.

    Attributes:
        n_parameters, n_tokens: what it was made for.
        parameters: bytes of the parameters.
        loading: bytes that loading takes besides, for a while.
        forward: bytes of the forward pass's activations.
        reading: bytes of what reading the weights adds: a chunk of them, and the counts.
        seconds: about how long the forward takes.
        keeping: bytes of the queries and keys that are kept for questions; without room for them they are not.
        on_host: bytes of the profile's counts, where the model is on another device than the host.
    """

    n_parameters: int
    n_tokens: int
    parameters: int
    loading: int
    forward: int
    reading: int
    seconds: float
    keeping: int = 0
    on_host: int = 0

    @property
    def needed(self) -> int:
        """Bytes at the worst moment: loading is over when the forward begins."""
        return self.parameters + max(self.loading, self.forward + self.reading + self.keeping)

    @property
    def least(self) -> int:
        """The same if nothing is kept for questions."""
        return replace(self, keeping=0).needed

    def __str__(self) -> str:
        running = self.forward + self.reading
        if self.loading > running + self.keeping:
            worst = f"while loading {format_size(self.loading)}"
        else:
            worst = f"forward and reading {format_size(running)}"
            worst += f", kept for questions {format_size(self.keeping)}" if self.keeping else ""
        parts = f"parameters {format_size(self.parameters)}, {worst}"
        return f"needs about {format_size(self.needed)} ({parts}), {format_seconds(self.seconds)}"


@dataclass(frozen=True)
class Plan:
    """How a capture uses the memory that is free.

    Attributes:
        chunk_weights: as in `capture`.
        keep_bytes: how much of queries and keys may be kept for questions afterwards.
    """

    chunk_weights: int
    keep_bytes: int


def skeleton(config: Any, name: str) -> PreTrainedModel:
    """Build a model without memory for its parameters.

    Raises:
        ModelError: if the config asks for what no model has.
    """
    _refuse_absurd(config.get_text_config(), name)
    config = copy.deepcopy(config)
    config.__dict__.pop("quantization_config", None)  # counted before it is quantized
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager", trust_remote_code=False)


def _refuse_absurd(config: Any, name: str) -> None:
    n_layers = getattr(config, "num_hidden_layers", 0)
    if isinstance(n_layers, int) and n_layers > MAX_LAYERS:
        raise ModelError(f"{name} asks for {n_layers:,} layers", f"no model has more than {MAX_LAYERS:,}")
    for key in ("hidden_size", "vocab_size", "num_attention_heads"):
        value = getattr(config, key, 1)
        if isinstance(value, int) and value < 1:
            raise ModelError(f"{name} asks for {value} of {key}", "its config.json is no model's")
    for key, value in config.to_dict().items():
        is_size = isinstance(value, int) and not key.endswith(("_id", "_token_id"))
        if is_size and value > MAX_SIZE:
            raise ModelError(f"{name} asks for {value:,} of {key}", "its config.json is no model's")


def estimate(
    model: PreTrainedModel,
    n_tokens: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
    checkpoint: int = 0,
    is_gguf: bool = False,
    chunk_weights: int = CHUNK_WEIGHTS,
    keep_bytes: int = 0,
    mechanism: Mechanism | None = None,
) -> Estimate:
    """Say what a run of a model needs.

    Args:
        model: in memory, or a `skeleton`; its parameters are counted, not read.
        n_tokens: of the prompt.
        dtype, device: of the run.
        checkpoint: bytes of the parameters' files; 0 if the model is in memory.
        is_gguf: whether these are a GGUF file, which is unpacked into float32 first.
        chunk_weights: as in `capture`.
        keep_bytes: as in `patterns.KeptPatterns`: how much is kept for questions at most.
        mechanism: how the model is read; the costliest that its config lets expect when left out.

    Raises:
        ModelError: if the model has no attention.
    """
    config = model.config.get_text_config()
    n_tokens = min(n_tokens, _number(config, "max_position_embeddings", n_tokens))  # more are refused elsewhere
    n_parameters = sum(each.numel() for each in model.parameters())
    item = torch.empty(0, dtype=dtype).element_size()
    is_quantized = getattr(model.config, "quantization_config", None) is not None
    parameters = checkpoint if is_quantized and checkpoint else n_parameters * item
    loading = 0
    if is_gguf:
        loading = checkpoint + 2 * 4 * max((each.numel() for each in model.parameters()), default=0)
    elif checkpoint and abs(checkpoint - parameters) > parameters // 10:
        loading = checkpoint  # the file's pages stay in memory beside the parameters of another dtype
    mechanism = mechanism or _expected_mechanism(model, config, n_tokens)
    weighing = _weighing_bytes(mechanism, config, n_tokens, device, chunk_weights, item)
    counts = _counts_bytes(config, n_tokens)
    is_host = device.type == "cpu"
    return Estimate(
        n_parameters,
        n_tokens,
        parameters,
        loading,
        _forward_bytes(config, n_tokens, item),
        weighing + FIXED + (counts if is_host else 0),
        _operations(config, n_parameters, n_tokens) / _speed(dtype, device),
        min(keep_bytes, _kept_bytes(model, config, n_tokens, item)),
        0 if is_host else counts,
    )


def _number(config: Any, name: str, otherwise: int) -> int:
    value = getattr(config, name, None)
    if isinstance(value, list | tuple):  # some families give one number a layer
        value = max((each for each in value if isinstance(each, int)), default=None)
    return value if isinstance(value, int) and value > 0 else otherwise


def _forward_bytes(config: Any, n_tokens: int, item: int) -> int:
    """The residual stream, queries, keys, values, and a feed-forward layer's gate, input and output."""
    width = _number(config, "hidden_size", 0)
    inner = _number(config, "intermediate_size", 4 * width)
    return n_tokens * (6 * width + 3 * inner) * item


def _expected_mechanism(model: PreTrainedModel, config: Any, n_tokens: int) -> Mechanism:
    """How a model will be read, as far as its config and its modules tell before it has run.

    Soft caps and sink logits are nothing for the fast path; what else is not, `probe` finds out.
    """
    usual = find_mechanism(model)
    if usual is HOOKS or n_tokens < fast.AT_LEAST_TOKENS:
        return usual
    has_cap = any(getattr(config, name, None) for name in ("attn_logit_softcapping", "attn_logit_softcap"))
    has_sinks = any(name.endswith(("sinks", "sink")) for name, _ in model.named_parameters())
    return TAP if has_cap or has_sinks else FAST


def _weighing_bytes(
    mechanism: Mechanism, config: Any, n_tokens: int, device: torch.device, chunk_weights: int, item: int
) -> int:
    """What a layer's weights and masks take while they are looked at."""
    n_heads = _number(config, "num_attention_heads", 1)
    pattern = n_heads * n_tokens**2
    windows = (_number(config, name, 0) for name in ("sliding_window", "attention_chunk_size"))
    has_window = any(0 < window <= n_tokens for window in windows)
    if mechanism is FAST:
        # A plain causal mask is not made. One with a window is boolean: two make it, or it is looked at beside another.
        masks = 3 * n_tokens**2 if has_window else 0
        if device.type == "cpu":
            return 16 * 2**20 + masks  # tiles of the cache's size
        # Tiles grow with what is free, as chunks do.
        tile = max(tiles_of_device.FEW_WEIGHTS, min(tiles_of_device.TILE_WEIGHTS, 8 * chunk_weights))
        return min(tile, pattern) * tiles_of_device.WEIGHT_BYTES + masks
    if mechanism.asks_for_attentions:
        return 3 * 4 * pattern  # eager attention makes a layer's weights in one piece
    n_rows = max(1, min(n_tokens, chunk_weights // max(1, n_heads * n_tokens)))
    # A mask of each kind, in the model's dtype; the boolean ones that they are made of are gone before a chunk comes.
    masks = (2 if has_window else 1) * item * n_tokens**2
    return masks + max(3 * n_tokens**2, CHUNK_COPIES * 4 * n_rows * n_heads * n_tokens)


def _counts_bytes(config: Any, n_tokens: int) -> int:
    """The profile, and the counts of the layer that is being read."""
    n_layers, n_heads = _number(config, "num_hidden_layers", 1), _number(config, "num_attention_heads", 1)
    bins = min(n_tokens**2 // 2, N_BINS)
    return n_layers * n_heads * (bins * 6 + 16 * n_tokens) + 2 * 8 * n_heads * N_BINS


def _kept_bytes(model: PreTrainedModel, config: Any, n_tokens: int, item: int) -> int:
    """Queries and keys of all layers; of a model that is read by hooks there are none."""
    if find_mechanism(model) is HOOKS:
        return 0
    n_heads = _number(config, "num_attention_heads", 1)
    d_head = _number(config, "head_dim", _number(config, "hidden_size", 0) // n_heads)
    n_key_heads = _number(config, "num_key_value_heads", n_heads)
    return _number(config, "num_hidden_layers", 1) * n_tokens * (n_heads + n_key_heads) * d_head * item


def _operations(config: Any, n_parameters: int, n_tokens: int) -> float:
    """2 a parameter and token, and 4 T^2 d_model a layer for attention."""
    attention = 4.0 * n_tokens**2 * _number(config, "hidden_size", 0) * _number(config, "num_hidden_layers", 1)
    return 2.0 * n_parameters * n_tokens + attention


@cache
def _speed(dtype: torch.dtype, device: torch.device, seconds: float = 0.05) -> float:
    """Operations a second on a device: products of matrices for a twentieth of a second."""
    n = 256 if device.type == "cpu" else 2048
    one, other = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(2))
    one @ other
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        out = one @ other
        if device.type != "cpu":
            out[0, 0].item()  # waits for it
        done += 1
    return 2.0 * n**3 * done / (time.perf_counter() - started)


def plan_capture(
    name: str,
    model: PreTrainedModel,
    n_tokens: int,
    max_memory: int | None = None,
    keep_bytes: int = 0,
    mechanism: Mechanism | None = None,
) -> Plan:
    """For a model in memory: see that a prompt fits beside it, and share out what is free.

    Args:
        name: what to call the model.
        model: as for `capture`.
        n_tokens: of the prompt.
        max_memory: bytes that the device may give, the parameters included.
        keep_bytes: how much to keep for questions at most.
        mechanism: as for `estimate`.

    Raises:
        MemoryNeededError: with what the run needs and what is free.
    """
    held = _held_bytes(model)
    device = next((each for each in held if each.type != "meta"), torch.device("cpu"))
    needs = estimate(model, n_tokens, dtype=model.dtype, device=device, chunk_weights=LEAST_CHUNK, mechanism=mechanism)
    free = None
    for place, n_bytes in held.items() or {device: 0}.items():
        if place.type == "meta":
            continue
        room = free_memory(place)
        if max_memory is not None:
            room = _bounded(room, max(0, max_memory - n_bytes))
        free = _bounded(room, free)  # the least of the devices that take part
    if getattr(model, "hf_device_map", None) is None:
        _refuse(f"{name} on {n_tokens:,} tokens", needs.forward + needs.reading, free, f"on {device}", max_memory)
    if free is None:
        return Plan(CHUNK_WEIGHTS, keep_bytes)
    left = max(0, free - needs.forward - needs.reading) // 4  # the rest is for what was not thought of
    return Plan(max(LEAST_CHUNK, min(CHUNK_WEIGHTS, left // (4 * CHUNK_COPIES))), min(keep_bytes, left))


def _held_bytes(model: PreTrainedModel) -> dict[torch.device, int]:
    """Bytes of a model's parameters on each device that holds some, in the model's order."""
    held: dict[torch.device, int] = {}
    for each in model.parameters():
        held[each.device] = held.get(each.device, 0) + each.numel() * each.element_size()
    return held


def refuse_too_large(
    name: str,
    needs: Estimate,
    device: torch.device,
    *,
    max_memory: int | None = None,
    device_map: str | dict[str, int | str] | None = None,
    n_beside: int = 1,
) -> None:
    """Refuse a run that does not fit, before anything is allocated for it.

    Args:
        n_beside: how many processes of this machine do the same; they share the host's memory.

    Raises:
        MemoryNeededError: with what it needs and what is free.
    """
    host = torch.device("cpu")
    if device_map is not None:
        places = [torch.device("cuda", index) for index in range(torch.cuda.device_count())] + [host]
        free = [_bounded(free_memory(place), max_memory) for place in places]
        total = None if None in free else sum(each for each in free if each is not None)
        _refuse(name, needs.least, total, "on all devices together", max_memory)
        return
    needed = replace(needs, loading=0).least if device.type != "cpu" else needs.least
    on_host = _shared(free_memory(host), n_beside)
    free_there = on_host if device.type == "cpu" else free_memory(device)
    _refuse(name, needed, _bounded(free_there, max_memory), f"on {device}", max_memory)
    if device.type != "cpu":
        # The parameters are read into the host's memory first, and the counts come to it.
        _refuse(name, max(needs.parameters + needs.loading, needs.on_host), on_host, "on the host", None)


def _shared(free: int | None, n_processes: int) -> int | None:
    return None if free is None else free // n_processes


def _bounded(free: int | None, max_memory: int | None) -> int | None:
    return free if max_memory is None else max_memory if free is None else min(free, max_memory)


def _refuse(name: str, needed: int, free: int | None, place: str, max_memory: int | None) -> None:
    if free is None or needed <= free:
        return
    is_bound = max_memory is not None and free <= max_memory
    bound = f" (--max-memory {format_size(max_memory)})" if is_bound and max_memory is not None else ""
    raise MemoryNeededError(
        f"{name} needs about {format_size(needed)} of memory, and {format_size(free)} are free {place}{bound}",
        "take --dtype bfloat16, cut the prompt with --max-tokens, or spread it with --device-map auto",
    )


def max_memory_of_devices(max_memory: int) -> dict[int | str, int]:
    """A bound for each device, as accelerate takes it."""
    devices: dict[int | str, int] = dict.fromkeys(range(torch.cuda.device_count()), max_memory)
    return {**devices, "cpu": max_memory}
