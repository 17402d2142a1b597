"""What a run needs, said before it: against what it took."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from laminar_tui.errors import MemoryNeededError, ModelError
from laminar_tui.model import estimate as estimate_module
from laminar_tui.model.capture import capture
from laminar_tui.model.device import TILE_WEIGHTS, WEIGHT_BYTES
from laminar_tui.model.eager import CHUNK_WEIGHTS
from laminar_tui.model.estimate import LEAST_CHUNK, Estimate, Plan, estimate, plan_capture, refuse_too_large, skeleton
from laminar_tui.model.mechanisms import TAP
from laminar_tui.model.patterns import KEEP_BYTES, KeptPatterns
from laminar_tui.run import BUNDLED_MODEL

TinyModel = Callable[..., Any]
CPU = torch.device("cpu")
FACTOR = 1.5
"""How far the estimate may be from the measured peak. The interpreter with torch, about 460 MB, is in neither."""

MEASURE = """
import json, re, sys
from pathlib import Path
from laminar_tui.model.capture import capture
from laminar_tui.model.load import Terms, load_model
from laminar_tui.run import BUNDLED_MODEL
from laminar_tui.source import find_source
import torch

def peak():
    # The peak that getrusage tells is the parent's, if that was higher before it started this process.
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

source, n_tokens, dtype = sys.argv[1], int(sys.argv[2]), sys.argv[3]
bundled = load_model(find_source(str(BUNDLED_MODEL)))  # all that is imported on the way
capture(bundled.model, list(range(16)))
del bundled
before, needs = peak(), []
loaded = load_model(
    find_source(source), dtype=dtype, device="cpu", terms=Terms("a" * n_tokens * 20, n_tokens), on_estimate=needs.append
)
ids = torch.arange(n_tokens) % loaded.model.config.vocab_size
mechanism = capture(loaded.model, ids).origin.mechanism
print(json.dumps([needs[0].needed, peak() - before, needs[0].n_tokens, mechanism]))
"""


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")


def measured(source: Path, n_tokens: int, dtype: str = "auto") -> tuple[int, int, int, str]:
    """Run a capture in a process of its own: bytes estimated, bytes taken, tokens it was estimated for, mechanism."""
    words = [sys.executable, "-c", MEASURE, str(source), str(n_tokens), dtype]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return tuple(json.loads(done.stdout.splitlines()[-1]))  # type: ignore[return-value]


def make_neox(folder: Path, dtype: torch.dtype) -> Path:
    """A random GPT-NeoX of 75 million parameters, with the bundled tokenizer."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        hidden_size=1024, num_hidden_layers=4, num_attention_heads=16, intermediate_size=4096, vocab_size=12_000
    )
    GPTNeoXForCausalLM(config).to(dtype).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_MODEL / name, folder / name)
    return folder


@needs_proc
def test_the_estimate_is_near_the_peak_of_a_model_of_hundreds_of_megabytes(tmp_path: Path) -> None:
    estimated, taken, tokens, mechanism = measured(make_neox(tmp_path, torch.bfloat16), 512)
    assert (tokens, mechanism) == (512, "fast")
    assert taken / FACTOR <= estimated <= taken * FACTOR, f"{estimated:,} estimated, {taken:,} taken"


@needs_proc
@pytest.mark.smollm2
def test_the_estimate_is_near_the_peak_of_a_gguf_file(smollm2_path: Path) -> None:
    estimated, taken, _, _ = measured(smollm2_path, 100)
    assert taken / FACTOR <= estimated <= taken * FACTOR, f"{estimated:,} estimated, {taken:,} taken"


def make_gemma2(folder: Path) -> Path:
    """A random Gemma 2 of two layers, whose soft cap only the tap reads, and one of whose layers has a window."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Gemma2Config(**sizes, num_key_value_heads=2, head_dim=32, vocab_size=12_000, sliding_window=1024)
    Gemma2ForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_MODEL / name, folder / name)
    return folder


@needs_proc
def test_the_estimate_is_near_the_peak_of_a_long_prompt_that_the_tap_reads(tmp_path: Path) -> None:
    estimated, taken, tokens, mechanism = measured(make_gemma2(tmp_path), 4096)
    assert (tokens, mechanism) == (4096, "tap")
    assert taken / FACTOR <= estimated <= taken * FACTOR, f"{estimated:,} estimated, {taken:,} taken"


# -- counted without loading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "llama", "mistral", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_are_counted_without_memory_for_them(family: str, dtype: torch.dtype, tiny_model: TinyModel) -> None:
    model = tiny_model(family)
    bare = skeleton(model.config, family)
    assert all(each.device.type == "meta" for each in bare.parameters())
    needs = estimate(bare, 10, dtype=dtype, device=CPU)
    assert needs.n_parameters == sum(each.numel() for each in model.parameters())
    assert needs.parameters == needs.n_parameters * (4 if dtype == torch.float32 else 2)


def test_what_has_no_attention_is_refused_before_it_is_loaded(tiny_model: TinyModel) -> None:
    bare = skeleton(tiny_model("mamba").config, "mamba")
    with pytest.raises(ModelError, match="no softmax attention"):
        estimate(bare, 10, dtype=torch.float32, device=CPU)


def test_time_follows_the_operations(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 x parameters x T and 4 x T^2 x d_model a layer, at a million operations a second."""
    monkeypatch.setattr(estimate_module, "_speed", lambda *_: 1e6)
    model = tiny_model("llama", max_position_embeddings=1000)
    n_parameters = sum(each.numel() for each in model.parameters())
    needs = estimate(model, 500, dtype=torch.float32, device=CPU)
    assert needs.seconds == pytest.approx((2 * n_parameters * 500 + 4 * 500**2 * 32 * 2) / 1e6)


def test_more_tokens_need_more(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", max_position_embeddings=100_000)
    needs = [estimate(model, n, dtype=torch.float32, device=CPU).needed for n in (10, 100, 1000, 10_000)]
    assert needs == sorted(set(needs))


def test_only_masks_that_are_made_are_counted(tiny_model: TinyModel) -> None:
    """Squares of the number of tokens, float32: none, 3 of bytes for a window, and for the tap two masks besides."""
    n = 30_000

    def reading(family: str, mechanism: Any = None, device: torch.device = CPU, **changes: Any) -> int:
        model = tiny_model(family, max_position_embeddings=n, **changes)
        return estimate(model, n, dtype=torch.float32, device=device, mechanism=mechanism).reading

    assert reading("llama") < n**2 / 5
    assert 3 * n**2 < reading("mistral") < 3.5 * n**2
    assert 11 * n**2 < reading("gemma2") < 11.5 * n**2
    assert 7 * n**2 < reading("llama", TAP) < 7.5 * n**2


def test_on_a_gpu_a_tile_is_counted_and_the_counts_are_on_the_host(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate_module, "_speed", lambda *_: 1e6)
    n = 30_000
    model = tiny_model("llama", max_position_embeddings=n)
    on_gpu = estimate(model, n, dtype=torch.float32, device=torch.device("cuda"))
    on_host = estimate(model, n, dtype=torch.float32, device=CPU)
    assert on_gpu.reading == TILE_WEIGHTS * WEIGHT_BYTES + estimate_module.FIXED
    assert on_host.on_host == 0
    assert on_host.reading == on_gpu.on_host + 16 * 2**20 + estimate_module.FIXED


# -- refused ---------------------------------------------------------------------------------------------------------

NEEDS = Estimate(10, 10, 600, 500, 200, 100, 1.0)


def test_loading_and_running_are_not_at_the_same_time() -> None:
    assert NEEDS.needed == 1100


def test_what_is_said_to_be_needed_adds_up() -> None:
    """Loading is named where it is the worst moment, the forward pass where that is."""
    assert str(NEEDS).startswith("needs about 1.1 kB (parameters 600 bytes, while loading 500 bytes), ")
    forward = replace(NEEDS, keeping=300)
    assert str(forward).startswith(
        "needs about 1.2 kB (parameters 600 bytes, forward and reading 300 bytes, kept for questions 300 bytes), "
    )


@pytest.mark.parametrize(("free", "fits"), [(1100, True), (1099, False), (None, True)])
def test_what_is_above_the_free_memory_is_refused_with_both_figures(
    free: int | None, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate_module, "free_memory", lambda _device: free)
    if fits:
        refuse_too_large("m", NEEDS, CPU)
        return
    with pytest.raises(MemoryNeededError, match=r"needs about 1\.1 kB .* 1\.1 kB are free on cpu") as refused:
        refuse_too_large("m", NEEDS, CPU)
    assert all(option in refused.value.hint for option in ("--dtype", "--max-tokens", "--device-map"))


def test_max_memory_is_a_bound_below_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "free_memory", lambda _device: 10**9)
    refuse_too_large("m", NEEDS, CPU, max_memory=1100)
    with pytest.raises(MemoryNeededError, match=r"--max-memory 1\.1 kB"):
        refuse_too_large("m", NEEDS, CPU, max_memory=1099)


def test_the_host_is_asked_too_when_the_model_goes_to_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "free_memory", lambda device: 500 if device.type == "cpu" else 10**9)
    with pytest.raises(MemoryNeededError, match="on the host"):
        refuse_too_large("m", NEEDS, torch.device("cuda"))


def test_the_counts_are_asked_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "free_memory", lambda device: 2000 if device.type == "cpu" else 10**9)
    refuse_too_large("m", replace(NEEDS, on_host=2000), torch.device("cuda"))
    with pytest.raises(MemoryNeededError, match="on the host"):
        refuse_too_large("m", replace(NEEDS, on_host=2001), torch.device("cuda"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_processes_of_one_machine_share_its_memory(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "free_memory", lambda _device: 2200)
    refuse_too_large("m", NEEDS, torch.device(device), n_beside=2)
    with pytest.raises(MemoryNeededError):
        refuse_too_large("m", NEEDS, torch.device(device), n_beside=3)


def test_a_bound_for_each_device_is_held_against_what_that_device_has(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model of 3 GB on two devices, which may give 4 GB each, one has 2 GB left and one 3 GB."""
    held = {torch.device("cuda", 0): 2 * 10**9, torch.device("cuda", 1): 10**9}
    monkeypatch.setattr(estimate_module, "_held_bytes", lambda _model: held)
    monkeypatch.setattr(estimate_module, "_speed", lambda *_: 1e6)
    monkeypatch.setattr(estimate_module, "free_memory", lambda _device: 10**10)
    model = tiny_model("llama")
    kept = plan_capture("m", model, 24, 4 * 10**9, 10**10).keep_bytes
    assert 0.9 * 10**9 / 2 < kept <= 10**9 / 2, "a quarter of the 2 GB, less what the run needs"


@pytest.mark.parametrize("free", [None, 10**12])
def test_the_chunk_is_as_large_as_it_is_worth_where_there_is_room(
    free: int | None, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate_module, "free_memory", lambda _device: free)
    assert plan_capture("m", tiny_model("llama"), 24, keep_bytes=77) == Plan(CHUNK_WEIGHTS, 77)


def test_the_chunk_is_chosen_from_what_is_free(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    needs = estimate(model, 24, dtype=torch.float32, device=CPU, chunk_weights=LEAST_CHUNK)
    base = needs.forward + needs.reading
    chunks = []
    for more in (0, 2**24, 2**26, 2**40):
        monkeypatch.setattr(estimate_module, "free_memory", lambda _device, more=more: base + more)
        chunks.append(plan_capture("m", model, 24).chunk_weights)
    assert chunks[0] == LEAST_CHUNK < chunks[1] < chunks[2] < chunks[3] == CHUNK_WEIGHTS
    assert chunks[2] * 4 * estimate_module.CHUNK_COPIES <= 2**26 // 4
    monkeypatch.setattr(estimate_module, "free_memory", lambda _device: base - 1)
    with pytest.raises(MemoryNeededError, match="on 24 tokens"):
        plan_capture("m", model, 24)


# -- what is kept for questions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "llama", "mistral", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_for_questions_is_counted_as_it_is_kept(
    family: str, dtype: torch.dtype, tiny_model: TinyModel
) -> None:
    n_tokens = 40
    model = tiny_model(family, dtype=dtype)
    keep = KeptPatterns()
    capture(model, list(range(n_tokens)), keep=keep)
    needs = estimate(model, n_tokens, dtype=dtype, device=CPU, keep_bytes=KEEP_BYTES)
    masks = 2 * (4 * n_tokens**2 + 512)  # shared by the layers of a kind, of which there may be two; and their padding
    assert needs.keeping <= keep.n_bytes <= needs.keeping + masks


def test_no_more_is_counted_than_is_kept_at_most_and_nothing_where_nothing_is_kept(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    some = estimate(model, 40, dtype=torch.float32, device=CPU, keep_bytes=1000)
    none = estimate(model, 40, dtype=torch.float32, device=CPU)
    assert (some.keeping, none.keeping) == (1000, 0)
    assert some.needed == none.needed + 1000
    assert "kept for questions 1.0 kB" in str(some)
    assert "questions" not in str(none)


def test_what_is_kept_gives_way_and_is_no_reason_to_refuse(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate_module, "free_memory", lambda _device: 1100)
    refuse_too_large("m", Estimate(10, 10, 600, 0, 200, 100, 1.0, keeping=10**6), CPU)
    model = tiny_model("llama")
    needs = estimate(model, 24, dtype=torch.float32, device=CPU, chunk_weights=LEAST_CHUNK)
    monkeypatch.setattr(estimate_module, "free_memory", lambda _device: needs.forward + needs.reading + 4000)
    assert plan_capture("m", model, 24, keep_bytes=KEEP_BYTES).keep_bytes == 1000, "a quarter of what is left"


def test_a_session_keeps_what_there_is_room_for(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from laminar_tui.run import Request, Session

    monkeypatch.setattr("laminar_tui.model.estimate.plan_capture", lambda *_: Plan(CHUNK_WEIGHTS, 0))
    session, said = Session(), []
    session.run(Request(str(model_folder), "one two three four five"), said.append, lambda: False)
    assert any("kept for questions" in getattr(event, "name", "") for event in said)
    assert isinstance(session.patterns, KeptPatterns)
    assert (session.patterns.keep_bytes, session.patterns.kept_layers) == (0, ())
    assert session.patterns.rows(1, 0, 3, 4).shape[0] == 1, "and the answer comes from another forward"
