"""Every family of transformers' causal-LM table that a tiny config can build is there to be tested, the traps first."""

import logging
from dataclasses import dataclass, field

import pytest
import torch
from families import CannotBuildError, build_family, family_names, quiet
from transformers.utils import logging as transformers_logging

N_BUILT = 184
"""Of 189 with transformers 5.23; other versions have other families, so three may be missing."""

TRAPS = [
    *("gpt_neox", "gpt2", "llama", "mistral", "gemma2", "gpt_oss", "deepseek_v3"),
    *("opt", "falcon", "bloom", "mpt", "gptj", "jamba", "zamba"),
    *("llama4_text", "doge", "granite_swa", "minimax", "diffllama", "mamba", "codegen"),
    *("cpmant", "gpt_neo", "gpt_neox_japanese", "openai-gpt", "xglm", "xlm", "qwen3_next"),
    *("granitemoehybrid", "phimoe", "hrm_text", "deepseek_v4", "zamba2", "granitemoe_swa"),
]
"""Families in which a way of reading attention was seen to go wrong."""

NO_ATTENTION = {"falcon_mamba", "mamba", "mamba2", "rwkv", "xlstm"}
"""The others show at least one pattern [query, key] per head."""


@dataclass
class Sweep:
    """What became of every family: the largest weight of its last row, averaged over layers and heads, or why not."""

    peaks: dict[str, float | None] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


def run_family(name: str, ids: torch.Tensor) -> float | None:
    model = build_family(name)
    with quiet(), torch.no_grad():
        output = model(ids, use_cache=False, output_attentions=True)
    assert output.logits.shape[:2] == ids.shape, output.logits.shape
    assert output.logits.isfinite().all(), "logits that are not finite"
    attentions = getattr(output, "attentions", None) or ()
    peaks = [weights[0, :, -1].max(dim=-1).values.mean() for weights in attentions if weights is not None]
    return float(torch.stack(peaks).mean()) if peaks else None


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    """All families, built and run over 12 tokens."""
    ids = torch.randint(3, 61, (1, 12), generator=torch.Generator().manual_seed(0))
    sweep = Sweep()
    for name in family_names():
        try:
            sweep.peaks[name] = run_family(name, ids)
        except CannotBuildError as error:
            sweep.reasons.append(str(error))
        except Exception as error:  # whatever a forward raises is the reason that is listed
            sweep.reasons.append(f"{name}: built, but does not run: {type(error).__name__}: {error}")
    return sweep


def test_nearly_every_family_is_built_and_runs(sweep: Sweep) -> None:
    assert len(sweep.peaks) >= N_BUILT - 3, "\n".join([f"{len(sweep.peaks)} families, without:", *sweep.reasons])


@pytest.mark.parametrize("name", TRAPS)
def test_the_family_is_built_and_runs(sweep: Sweep, name: str) -> None:
    assert name in sweep.peaks, [reason for reason in sweep.reasons if reason.startswith(f"{name}:")]


def test_attention_is_far_from_uniform(sweep: Sweep) -> None:
    """Uniform rows of 12 keys peak at 0.083, and in them no error of scale, cap, sink or bias could be seen."""
    without = {name for name, peak in sweep.peaks.items() if peak is None}
    assert without <= NO_ATTENTION, without
    flat = {name: peak for name, peak in sweep.peaks.items() if peak is not None and peak < 0.15}
    assert not flat, flat


def test_the_same_seed_gives_the_same_parameters_and_no_other_draw_moves() -> None:
    state = torch.get_rng_state()
    first, again, other = (build_family("llama", seed=seed).get_input_embeddings().weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_parameters_are_rounded_where_transformers_rounds_them() -> None:
    model = build_family("deepseek_v4", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16, torch.float32}
    assert torch.equal(model.lm_head.weight, build_family("deepseek_v4").lm_head.weight.to(torch.bfloat16)), (
        "not the same parameters, rounded"
    )


def test_building_is_silent_and_leaves_the_verbosity(capfd: pytest.CaptureFixture[str]) -> None:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.INFO)
    try:
        build_family("zamba2")
        assert transformers_logging.get_verbosity() == logging.INFO
    finally:
        transformers_logging.set_verbosity(verbosity)
    assert capfd.readouterr() == ("", "")


def test_a_family_that_cannot_be_built_says_why_in_one_line() -> None:
    with pytest.raises(CannotBuildError, match=r"^musicgen: .*decoder") as caught:
        build_family("musicgen")
    assert "\n" not in str(caught.value)
