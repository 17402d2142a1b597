"""The benchmarks measure what they say: the same weights on both sides, ratios within a round, memory that is held."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch

from laminar_tui.errors import MemoryNeededError
from laminar_tui.run import BUNDLED_MODEL

FOLDER = Path(__file__).parent.parent / "benchmarks"
N_TOKENS = 64
TOO_MANY = 2048
"""More than the bundled model takes."""


@pytest.fixture(scope="module", autouse=True)
def benchmarks() -> object:
    """The scripts import each other by name, as they do when they are run."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def geometry() -> object:
    """The bundled model as something to be measured."""
    from geometry import make_geometry

    return make_geometry(str(BUNDLED_MODEL), 1)


@pytest.fixture
def rounds() -> ModuleType:
    import rounds

    return rounds


def test_a_ratio_is_the_median_of_ratios_within_a_round(rounds: ModuleType) -> None:
    base = {0: 9.0, 1: 1.0, 2: 10.0, 3: 2.0}
    ours = {0: 1.0, 1: 2.0, 2: 15.0, 3: 2.0}
    measured = rounds.Measured({"base": base, "ours": ours})
    assert measured.ratio("ours", "base") == 1.5  # 2, 1.5, 1: not the ratio of the medians, which is 1


def test_a_variant_that_has_used_its_time_up_takes_no_further_turn(rounds: ModuleType) -> None:
    turns: list[str] = []

    def slow() -> None:
        turns.append("slow")
        time.sleep(0.05)

    measured = rounds.interleave({"slow": slow, "quick": lambda: turns.append("quick")}, rounds.Budget(3, 0.05))
    assert turns.count("slow") == 1
    assert turns.count("quick") == 4
    assert measured.is_once("slow")
    assert not measured.is_once("quick")


def test_the_keys_of_every_screen_are_pressed() -> None:
    from every_key import PROMPT, SCENES

    from laminar_tui.ui.compare import CompareScreen
    from laminar_tui.ui.heads import HeadsScreen
    from laminar_tui.ui.picker import PickerScreen
    from laminar_tui.ui.prompt import PromptScreen
    from laminar_tui.ui.report import ReportScreen
    from laminar_tui.ui.state import ViewName
    from laminar_tui.ui.sweep import SweepScreen

    scenes = [set(scene.keys) for scene in (*SCENES, PROMPT)]
    for screen in (CompareScreen, HeadsScreen, PickerScreen, PromptScreen, ReportScreen, SweepScreen):
        assert any(set(screen.KEYS) <= keys for keys in scenes), screen.NAME
    assert set(get_args(ViewName)) <= {scene.name for scene in SCENES}


def test_an_exponent_is_found(rounds: ModuleType) -> None:
    sizes = [128, 512, 2048]
    assert rounds.slope(sizes, [3e-9 * size**1.7 for size in sizes]) == pytest.approx(1.7)


def test_the_exercise_and_ours_are_curves_of_the_same_weights(geometry: object) -> None:
    from variants import exercise, our_curves, scipy_curve

    ids = geometry.prompt(N_TOKENS)  # type: ignore[attr-defined]
    model = geometry.model  # type: ignore[attr-defined]
    theirs, profile = exercise(model, ids), our_curves(model, ids)
    assert len(theirs) == 2 * profile.n_layers
    for at, population in enumerate(("self", "final")):
        ours = profile.density(population, estimator="gaussian")
        wide = ours.bandwidth >= 1 / 299
        assert wide.any()
        for layer in np.flatnonzero(wide):
            curve = theirs[2 * layer + at]
            # rounding to float16 moves a weight by up to 2.4e-4: 0.8 % of the peak where weights are few
            np.testing.assert_allclose(ours.values[layer], curve, atol=0.01 * curve.max())
    assert not scipy_curve(np.full(9, 0.5)).any()  # all equal: scipy refuses, and the benchmark goes on


def test_tables_have_a_row_for_every_length_and_say_what_was_skipped(geometry: object) -> None:
    from capture import capture_table, law_in_tokens, measure
    from rounds import Budget
    from variants import BASE, EAGER, OURS

    names = (BASE, OURS, EAGER)
    results = dict(measure(geometry, dict.fromkeys((32, N_TOKENS, TOO_MANY), names), Budget(1, 10)))
    table = capture_table(geometry, results, {N_TOKENS: {EAGER: "+7 MiB"}})
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| T", "| 32", f"| {N_TOKENS}"]
    assert "(+7 MiB)" in rows[2]
    assert f"T = {TOO_MANY:,}: SDPA, laminar_tui, every weight, eager: the model takes" in table
    law = law_in_tokens(geometry.first_layer(), (32, N_TOKENS), Budget(1, 10))  # type: ignore[attr-defined]
    assert f"over T = 32 … {N_TOKENS}" in law
    assert geometry.n_layers == 6  # type: ignore[attr-defined]  # the model itself was not cut


def test_a_law_of_scipy_is_exact_on_a_line(monkeypatch: pytest.MonkeyPatch, rounds: ModuleType) -> None:
    import kde

    def made_up(table: dict[str, object], budget: object) -> object:
        del budget
        return rounds.Measured({size: {1: 0.002 + 4e-6 * int(size)} for size in table})

    monkeypatch.setattr(kde, "interleave", made_up)
    law = kde.scipy_law((1000, 8000, 64000), rounds.Budget(1, 1))
    assert law.seconds(2_000_000) == pytest.approx(8.002)


def test_parts_of_a_made_pattern_are_those_of_its_populations() -> None:
    from exercise import population_sizes
    from kde import make_profile

    profile = make_profile(40)
    for population, size in population_sizes(40).items():
        assert (profile.layer(3).head_counts(population).n == size).all()


def peak_of(geometry: Path, n_tokens: int, variant: str) -> dict[str, int]:
    """What one variant takes in a process of its own: bytes at its peak, and of the counts that it keeps."""
    options = ["--geometry", str(geometry), "--tokens", str(n_tokens), "--variant", variant]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "memory.py"), *options], capture_output=True, text=True, check=True
    )
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    if not found:
        pytest.skip("this system does not let a process's peak begin anew")
    return found


def test_the_peak_of_output_attentions_holds_every_pattern() -> None:
    n_tokens, pattern_bytes = 1024, 4 * 6 * 8 * 1024**2  # 32 MiB a layer: too large for the allocator to keep
    peaks = [peak_of(BUNDLED_MODEL, n_tokens, name)["peak"] for name in ("eager + output_attentions", "SDPA")]
    more = peaks[0] - peaks[1]
    # all six layers' patterns and, while the last one is made, its scores; eager alone holds about a third of that
    assert pattern_bytes < more < 2 * pattern_bytes


def test_a_capture_takes_64_mib_and_its_counts(tmp_path: Path) -> None:
    """On 2,048 tokens, where the layer's weights are 128 MiB; the forward of so small a model is in it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 8}
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=12_000, max_position_embeddings=2048)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_MODEL / name, tmp_path / name)
    found = peak_of(tmp_path, 2048, "laminar_tui, every weight")
    assert found["counts"] > 0
    assert found["peak"] <= 64 * 2**20 + found["counts"], found


def test_on_a_gpu_a_way_without_memory_is_left_out_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import gpu

    def forward(_model: object, _ids: object, implementation: str) -> None:
        if implementation == "eager":
            raise MemoryNeededError("out of memory in the forward pass", "take less")
        time.sleep(0.001)

    monkeypatch.setattr(gpu, "run_forward", forward)
    monkeypatch.setattr(gpu, "run_capture", lambda _model, _ids, with_kernel: "kernel" if with_kernel else "fast")
    monkeypatch.setattr(gpu.device_path, "is_kernel_at_hand", lambda _device: True)
    monkeypatch.setattr(gpu, "make_model", lambda *_: SimpleNamespace(device=torch.device("cpu")))
    path = tmp_path / "figures.json"
    monkeypatch.setattr(
        sys, "argv", ["gpu.py", "--device", "cpu", "--tokens", "8", "--repeats", "2", "--json", str(path)]
    )
    gpu.main()
    (row,) = json.loads(path.read_text())["rows"]
    assert row["eager"] is None
    assert {name: each["read_by"] for name, each in row.items() if isinstance(each, dict)} == {
        "sdpa": None,
        "ours, torch": "fast",
        "ours, kernel": "kernel",
    }


def test_on_a_gpu_another_error_ends_the_run() -> None:
    import gpu

    def fail() -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        gpu.run_once(fail, torch.device("cpu"))
