"""The kernel finds what the tiles and the formula find, in Triton's interpreter, and its compiler takes it for a GPU.

What no test here can show, for want of a GPU: that it runs there, and how fast.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

CASES: list[dict[str, Any]] = [
    {"d_head": 64, "n_heads": (2, 2), "n_tokens": 70, "dtype": "float32"},
    {"d_head": 64, "n_heads": (2, 2), "n_tokens": 64, "dtype": "bfloat16"},
    {"d_head": 80, "n_heads": (4, 2), "n_tokens": 70, "dtype": "bfloat16"},
    {"d_head": 80, "n_heads": (2, 2), "n_tokens": 97, "dtype": "float32", "window": 23},
    {"d_head": 128, "n_heads": (3, 1), "n_tokens": 33, "dtype": "float16"},
    {"d_head": 128, "n_heads": (4, 2), "n_tokens": 61, "dtype": "bfloat16", "window": 7},
    {"d_head": 16, "n_heads": (2, 1), "n_tokens": 31, "dtype": "float16", "window": 1},
    {"d_head": 24, "n_heads": (1, 1), "n_tokens": 2, "dtype": "float32"},
    {"d_head": 64, "n_heads": (2, 2), "n_tokens": 70, "dtype": "float32", "spread": 40.0},
]
"""Sizes that are no multiple of a block (32 x 16 there), grouped heads, windows; scores that underflow."""

SCRIPT = Path(__file__).with_name("interpret_kernel.py")
FULL = [each for each in CASES if "spread" not in each]


def name_of(case: dict[str, Any]) -> str:
    return "-".join(str(each) for each in case.values())


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    """What one run of the script printed."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, SCRIPT, json.dumps(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_weight_is_counted_in_its_bin(case: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """Up to rounding: exp and log-sum-exp are right to 1e-6, so one weight in some hundred is so near to a bin's edge
    (1/2048 apart) that it may fall on either side. Whoever moved, moved by one bin: sums from the top differ by few.
    """
    one = found[CASES.index(case)]
    assert one["moved"] <= 4 + 0.01 * one["n_counted"]
    assert max(one["cumulative"], one["cumulative_of_formula"]) <= 3
    assert set(one["n_content"]) == {one["n_expected"]}, "whatever is not counted is counted as nothing"


@pytest.mark.parametrize("case", FULL, ids=name_of)
def test_what_is_measured_is_what_the_formula_gives(case: dict[str, Any], found: list[dict[str, Any]]) -> None:
    one = found[CASES.index(case)]
    assert one["difference"] == ""
    position = one["off"].pop("position")
    assert position <= 5e-7 * case["n_tokens"]  # a sum of keys up to n_tokens
    assert max(one["off"].values()) <= 5e-6
    assert one["off_received"] <= 5e-6
    assert one["log_sum"] <= 5e-6, "torch's own is used for plain causal attention; this is ours, for windows"


def test_weights_that_underflow_are_zeros(found: list[dict[str, Any]]) -> None:
    """Scores of some hundreds: their log-sum-exp is rounded to 3e-5, and so is every weight, relative to itself."""
    one = found[[("spread" in each) for each in CASES].index(True)]
    assert one["n_counted"] < one["n_expected"] / 4, "most weights must be below 2^-25"
    assert max(abs(n) for n in one["n_zeros"]) <= 2  # a weight at float32's smallest
    assert max(each for name, each in one["off"].items() if name != "position") <= 2e-4
    assert [n for other in found[: len(CASES)] for n in other["n_zeros"] if other is not one and n] == []


def test_rows_beyond_32_bits_and_dimensions_apart_are_laid_out_anew() -> None:
    from laminar_tui.model.kernel import _as_read

    def view(n_tokens: int, *strides: int) -> torch.Tensor:
        return torch.empty_strided((2, n_tokens, 64), strides, device="meta")

    near, far, turned = view(65_535, 64, 2**15, 1), view(65_536, 64, 2**15, 1), view(70, 64 * 70, 1, 70)
    assert _as_read(near) is near
    assert _as_read(far).stride() == (65_536 * 64, 64, 1)
    assert _as_read(turned).stride() == (70 * 64, 64, 1)


def test_values_are_laid_out_as_torchs_fused_attention_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from laminar_tui.model import kernel

    given = []
    monkeypatch.setattr(kernel, "_attend_fused", lambda *layer: (given.append(layer[:3]), None))
    monkeypatch.setattr(kernel, "_count", lambda *_layer: None)
    turned = torch.empty_strided((2, 70, 64), (64 * 70, 1, 70))
    kernel.find(turned, turned, turned, 1.0, None, None)
    assert [each.stride() for each in given[0]] == [(70 * 64, 64, 1)] * 3


def test_a_window_is_attended_to_without_a_mask_or_with_repeated_key_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a mask and shared key heads, torch's attention on CUDA makes a tensor of all scores."""
    from laminar_tui.model import kernel

    def layer(n_heads: int, device: str) -> torch.Tensor:
        return torch.randn(n_heads, 70, 64).to(device, torch.bfloat16)

    assert kernel.HAS_WINDOWS
    output, log_sum = kernel.attend_window(layer(4, "meta"), layer(4, "meta"), layer(4, "meta"), 0.1, 9)
    assert (output.shape, log_sum.shape) == ((4, 70, 64), (4, 70))
    asked = []
    true = torch.nn.functional.scaled_dot_product_attention

    def attend(*given: torch.Tensor, **options: Any) -> torch.Tensor:
        asked.append(([each.shape[1] for each in given], sorted(options)))
        return true(*given, **options)

    monkeypatch.setattr(kernel.F, "scaled_dot_product_attention", attend)
    monkeypatch.setattr(kernel, "sum_rows", lambda *_layer: None)
    monkeypatch.setattr(kernel, "_count", lambda _query, _key, output, *_rest: output)
    mask = torch.ones(70, 70, dtype=torch.bool).tril().triu(-8)
    query, key, value = layer(4, "cpu"), layer(2, "cpu"), layer(2, "cpu")
    found = kernel.find(query, key, value, 0.1, mask, 9)
    assert asked == [([4, 4, 4], ["attn_mask", "scale"])]
    expected = true(query[None], key[None], value[None], attn_mask=mask, scale=0.1, enable_gqa=True)[0]
    torch.testing.assert_close(found, expected)


def test_nothing_but_the_kernels_themselves_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On `meta`, where the kernels cannot run and every value that is asked for is an error."""
    from laminar_tui.model import found, kernel

    class Nothing:
        def __getitem__(self, _grid: object) -> Any:
            return lambda *_args, **_options: None

    def no_tensor(*_args: object, **_options: object) -> torch.Tensor:
        raise AssertionError("numbers of the host go to a device only after it has been waited for")

    query, key = (torch.empty(n, 70, 64, dtype=torch.bfloat16, device="meta") for n in (4, 2))
    found.gini_queries_on(70, query.device)
    monkeypatch.setattr(torch, "tensor", no_tensor)
    for name in ("_count_rows", "_sum_rows"):
        monkeypatch.setattr(kernel, name, Nothing())
    attended = torch.empty(4, 70, 64, device="meta"), torch.empty(4, 70, device="meta")
    monkeypatch.setattr(kernel, "_attend_fused", lambda *_layer: attended)
    mask = torch.ones(70, 70, dtype=torch.bool, device="meta")
    for layer in ((None, None), (mask, 9)):
        assert kernel.find(query, key, key, 0.1, *layer).whole.shape == (4, 16, 70)


def test_what_is_not_a_number_is_refused_and_counted_nowhere(found: list[dict[str, Any]]) -> None:
    """A pattern beyond the bins must not be added to another head's bins, or to memory behind them."""
    one = found[len(CASES)]
    assert "not finite" in one["refused"]
    assert one["hits"] == [64 * 63 // 2 - 63, 0]


def test_a_model_is_read_by_it_as_by_the_tap(found: list[dict[str, Any]]) -> None:
    """Once to compare it with the tiles, then once a layer; bfloat16 rounds the second layer's input."""
    one = found[len(CASES) + 1]
    assert one["calls"] == [300, 304, 40, 40]
    assert one["n"] == [True, True]
    assert one["off"][0] <= 1e-6
    assert one["off"][1] <= 1e-2


@pytest.mark.parametrize(("capability", "d_head", "has_window"), [(80, 128, True), (90, 80, False)])
def test_it_compiles_for_a_gpu(
    capability: int, d_head: int, has_window: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No GPU is needed for that. Products on tensor cores, atomic additions, shared memory that cards have."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from laminar_tui.model import kernel

    few = torch.zeros(2, 4, d_head)
    known = kernel._shape(few, few, 1.0, 9 if has_window else None) | {
        "WIDEN": False,
        "smallest": kernel.SMALLEST,
        "n_bins": kernel.N_BINS,
    }
    pointers = {"query": "bf16", "key": "bf16", "log_sum": "fp32", "rows": "fp32", "received": "fp64"}
    for function in (kernel._count_rows, kernel._sum_rows):
        kinds, constants = {}, {}
        aligned = {}
        for place, name in enumerate(function.arg_names):
            if name.endswith(("_pointer", "_head", "_row")):
                aligned[place,] = [["tt.divisibility", 16]]
            if name.endswith("_pointer"):
                kinds[name] = "*" + pointers.get(name.removesuffix("_pointer"), "i32")
            elif name.isupper() or name in ("smallest", "n_bins"):
                kinds[name], constants[name] = "constexpr", known[name]
            else:
                kinds[name] = "fp32" if name == "scaling" else "i32"
        options = {name: known[name] for name in ("num_warps", "num_stages", "enable_fp_fusion")}
        made = triton.compile(
            ASTSource(function, kinds, constants, aligned), GPUTarget("cuda", capability, 32), options
        )
        code = made.asm["ptx"]
        assert "mma" in code, "the products are made by tensor cores"
        # Before Triton 3.8 it says `atom`, whose result nobody reads, so that the assembler makes a `red` of it.
        assert bool(re.search(r"\b(red|atom)\.", code)) == (function is kernel._count_rows)
        assert made.metadata.shared <= 99 * 2**10, "what every card since 8.0 has"
        assert made.asm["cubin"]
