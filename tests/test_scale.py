"""Pythia-2.8B's geometry through the whole chain: exact numbers of weights, bounded memory, a picture at the end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from laminar_tui.profile.profile import Profile

pytestmark = pytest.mark.scale

ROOT = Path(__file__).parent.parent
BENCHMARK = ROOT / "benchmarks" / "pythia_geometry.py"
N_LAYERS = N_HEADS = 32
N_TOKENS = 128
NEEDED_GB = 9.0
"""5.6 GB of parameters, torch itself, one layer in float32, and room for what else the machine does."""
PEAK_GB = 12.0
SECONDS = 1200
"""Ten times what it takes on two cores."""


def available_gb() -> float:
    """The memory that can be had without swapping; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024 / 1e9


def run(*words: str) -> str:
    """Run Python in a process of its own, so that its memory is given back, and give its standard output."""
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def profile_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the benchmark writes its profile."""
    return tmp_path_factory.mktemp("scale") / "pythia.laminar"


@pytest.fixture(scope="module")
def figures(profile_path: Path) -> dict[str, Any]:
    """What the benchmark prints about itself, below its picture."""
    if available_gb() < NEEDED_GB:
        pytest.skip(f"needs {NEEDED_GB:.0f} GB of memory, {available_gb():.1f} GB are available")
    printed = run(str(BENCHMARK), "--tokens", str(N_TOKENS), "--output", str(profile_path))
    parsed: dict[str, Any] = json.loads(printed[printed.rindex("\n{\n") :])
    return parsed


def test_every_weight_that_the_mask_allows_is_counted_once(figures: dict[str, Any]) -> None:
    assert (figures["n_layers"], figures["n_heads"], figures["n_tokens"]) == (N_LAYERS, N_HEADS, N_TOKENS)
    n_self = n_sink = N_TOKENS - 1  # queries 1 to T - 1: one weight on itself, one on the first token
    n_content = (N_TOKENS - 1) * (N_TOKENS - 2) // 2  # query q sees q - 1 tokens between the first one and itself
    n_allowed = N_TOKENS * (N_TOKENS + 1) // 2
    assert n_self + n_sink + n_content == n_allowed - 1 == 8255  # but for the first token's weight on itself
    assert figures["n_weights"] == N_LAYERS * N_HEADS * (n_self + n_sink + n_content)


def test_memory_is_the_parameters_and_little_more(figures: dict[str, Any]) -> None:
    assert figures["peak_gb"] < PEAK_GB
    assert figures["peak_gb_model"] > 5.0, "the model has Pythia-2.8B's number of parameters"


def test_all_checks_passed(figures: dict[str, Any], profile_path: Path) -> None:
    profile = Profile.load(profile_path)
    assert len(profile.origin.checks) == len(figures["checks"]) > 0
    assert [check.name for check in profile.origin.checks if not check.passed] == []
    assert (profile.n_layers, profile.n_read, profile.n_heads) == (N_LAYERS, N_LAYERS, N_HEADS)


@pytest.mark.usefixtures("figures")
def test_the_written_profile_is_shown_with_all_its_layers(profile_path: Path) -> None:
    shown = run("-m", "laminar_tui", "show", str(profile_path), "--width", "200", "--color", "none", "--ascii")
    assert f"  {N_LAYERS}L " in shown
    assert f" {N_HEADS}H  " in shown
    ruler = next(line for line in shown.splitlines() if line.split()[:2] == ["0", "1"])
    assert [int(word) for word in ruler.split() if word.isdigit()][:N_LAYERS] == list(range(N_LAYERS))
