"""The full check: what it compares, and that it fails where it should."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import build_family

import laminar_tui
from laminar_tui.cli import main
from laminar_tui.errors import UsageError
from laminar_tui.model import check as check_module
from laminar_tui.model import recipes
from laminar_tui.model.check import check_model, total_variation
from laminar_tui.model.recipes import RECIPES
from laminar_tui.profile.profile import Check, Profile
from laminar_tui.run import BUNDLED_MODEL

IDS = torch.arange(3, 21)


def test_total_variation_of_known_patterns() -> None:
    one = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    other = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert total_variation(one, one) == 0
    assert total_variation(one, other) == pytest.approx(0.5)
    assert total_variation(one[:, :1, :1], other[:, :1, :1]) == 0


def test_a_right_reading_passes_layer_by_layer_and_leaves_the_model_alone() -> None:
    model = build_family("gpt_neox")
    before = model.config._attn_implementation
    verdict = check_model(model, IDS)
    assert verdict.passed
    assert [layer.layer for layer in verdict.layers] == list(range(model.config.num_hidden_layers))
    assert model.config._attn_implementation == before


def test_patterns_that_are_not_as_many_as_the_eager_runs_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = check_module.eager_patterns
    monkeypatch.setattr(check_module, "eager_patterns", lambda *args: truth(*args)[:1])
    verdict = check_model(build_family("llama"), IDS)
    assert "as many patterns as the eager run" in [check.name for check in verdict.checks if not check.passed]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_passes_with_its_own_tolerance(dtype: torch.dtype) -> None:
    verdict = check_model(build_family("gpt_neox", dtype=dtype), IDS)
    assert verdict.passed, verdict.checks
    assert all(layer.controls["literal"] > 0.3 for layer in verdict.layers)


@pytest.mark.parametrize("recipe", RECIPES)
def test_of_a_control_only_the_rows_of_a_piece_are_made(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pattern of all heads in float32 is what pieces are there to avoid."""
    made: list[tuple[int, ...]] = []
    scores = recipes._scores

    def look(*args: Any) -> torch.Tensor:
        found = scores(*args)
        made.append(tuple(found.shape))
        return found

    model = build_family("gpt_neox")
    whole = laminar_tui.capture(model, IDS, recipe=recipe)
    monkeypatch.setattr(recipes, "_scores", look)
    in_pieces = laminar_tui.capture(model, IDS, recipe=recipe, chunk_weights=5 * 4 * len(IDS))
    assert [shape[2] for shape in made] == [5, 5, 5, 3] * model.config.num_hidden_layers
    assert (in_pieces.counts("all").n == whole.counts("all").n).all()
    np.testing.assert_allclose(in_pieces.counts("all").total_sq, whole.counts("all").total_sq, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_control_is_captured_under_its_name(recipe: str) -> None:
    model = build_family("gpt_neox")
    control, true = laminar_tui.capture(model, IDS, recipe=recipe), laminar_tui.capture(model, IDS)
    assert control.origin.recipe == recipe
    assert (control.counts("all").n == true.counts("all").n).all()
    assert (control.counts("all").hits != true.counts("all").hits).any()


def test_a_control_is_refused_for_another_family_and_an_unknown_name() -> None:
    with pytest.raises(UsageError, match="not defined for llama"):
        laminar_tui.capture(build_family("llama"), IDS, recipe="literal")
    with pytest.raises(UsageError, match="no recipe 'nonsense'"):
        laminar_tui.capture(build_family("gpt_neox"), IDS, recipe="nonsense")


def test_the_command_prints_a_table_and_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-q", "--max-tokens", "24"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["layer", "max", "difference", "total", "variation", "literal", "content"]
    assert out.rstrip().endswith("passed")
    assert not re.search(r"\de[+-]\d\d", out), "no number as a computer writes it"
    assert "the same to the last digit" in out


def test_the_command_exits_with_3_where_the_weights_are_not_the_models(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = check_module.eager_patterns
    monkeypatch.setattr(check_module, "eager_patterns", lambda *args: [each.flip(0) for each in own(*args)])
    assert main(["check", "-q", "--json", "--max-tokens", "24"]) == 3
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_a_capture_with_a_failed_check_is_written_and_exits_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Check("the model's output is what it is without the reading", False, "off by 4.0e-01 of it")
    monkeypatch.setattr("laminar_tui.model.probe._check_outputs", lambda *_: failed)
    path = tmp_path / "run.laminar"
    assert main(["capture", str(BUNDLED_MODEL), "-q", "--max-tokens", "12", "-o", str(path)]) == 3
    assert "NOT TO BE TRUSTED" in capsys.readouterr().err
    assert Profile.load(path).origin.failed_checks == (failed,)


def test_the_bundled_models_induction_heads_are_seen_by_the_true_weights_only() -> None:
    """Random tokens with period P: an induction head looks from q to q - P + 1 in the second half."""
    from transformers import AutoModelForCausalLM

    from laminar_tui.model.check import Keeper, read_recipe
    from laminar_tui.model.forward import evaluating, forward
    from laminar_tui.model.tap import tapped

    model = AutoModelForCausalLM.from_pretrained(BUNDLED_MODEL, dtype=torch.float32)
    period = 32
    half = torch.randint(300, 2000, (period,), generator=torch.Generator().manual_seed(0))
    ids = torch.cat([torch.zeros(1, dtype=torch.long), half, half])[None]

    def scores(patterns: list[torch.Tensor]) -> torch.Tensor:
        queries = torch.arange(1 + period, 1 + 2 * period)
        return torch.stack([pattern[:, queries, queries - period + 1].mean(dim=-1) for pattern in patterns])

    keeper = Keeper()
    with evaluating(model), tapped(model, keeper):
        forward(model, ids, None)
    true, literal = scores(keeper.patterns), scores(read_recipe(model, ids, RECIPES["literal"]))
    best = divmod(int(true.argmax()), true.shape[1])
    assert true[best] > 0.4
    assert best[0] == 1, "the card says that the induction heads are in layer 1"
    assert literal[best] < 0.1
    assert divmod(int(literal.argmax()), true.shape[1]) != best
