"""Models that accelerate spreads over devices: hooks move the parameters, and the counts stay what they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
import transformers

from laminar_tui.errors import ModelError
from laminar_tui.model.capture import capture
from laminar_tui.model.check import check_model
from laminar_tui.model.forward import input_device
from laminar_tui.model.load import load_model
from laminar_tui.model.nulls import with_random_parameters
from laminar_tui.model.roles import measure_roles
from laminar_tui.profile.profile import Profile
from laminar_tui.source import find_source

IDS = [(7 * n) % 255 for n in range(60)]
TinyModel = Callable[..., Any]
SameProfile = Callable[[Profile, Profile], None]
pytestmark = pytest.mark.filterwarnings("ignore")  # accelerate's, about where parameters are


def layers_of(profile: Profile, origin: Any) -> Profile:
    """The profile under another origin: times differ, and so does where the parameters are."""
    return Profile(origin, profile.layers)


def hooked_model(seed: int) -> Any:
    """A family that does not go through the attention interface."""
    torch.manual_seed(seed)
    config = transformers.GPTJConfig(
        vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4, initializer_range=0.3
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("where", ["host", "disk"])
@pytest.mark.parametrize("family", ["gpt_neox", "gemma2", "gptj"])
def test_an_offloaded_model_gives_the_same_counts(
    family: str, where: str, tiny_model: TinyModel, tmp_path: Path, same_profile: SameProfile
) -> None:
    model = hooked_model(0) if family == "gptj" else tiny_model(family)
    plain = capture(model, IDS)
    if where == "host":
        accelerate.cpu_offload(model, torch.device("cpu"))
    else:
        accelerate.disk_offload(model, str(tmp_path), torch.device("cpu"))
    assert model.device.type == "meta"
    assert input_device(model).type == "cpu"
    found = capture(model, IDS)
    assert found.origin.mechanism == plain.origin.mechanism
    assert not found.origin.failed_checks
    same_profile(layers_of(found, plain.origin), plain)


def test_the_roles_of_an_offloaded_model_are_measured(tiny_model: TinyModel) -> None:
    model = tiny_model("gpt_neox")
    plain = measure_roles(model, period=8, n_sequences=2)
    accelerate.cpu_offload(model, torch.device("cpu"))
    found = measure_roles(model, period=8, n_sequences=2)
    for name, scores in plain.scores.items():
        np.testing.assert_array_equal(found.scores[name], scores)


def test_a_null_of_random_parameters_wants_a_model_on_one_device(tiny_model: TinyModel) -> None:
    model = tiny_model("gpt_neox")
    with_random_parameters(model)
    accelerate.cpu_offload(model, torch.device("cpu"))
    with pytest.raises(ModelError, match="gpt_neox is spread over devices"):
        with_random_parameters(model)


MAPS: dict[str, Any] = {
    "auto": "auto",
    "a layer on disk": {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"},
    "all on disk": {"model.embed_tokens": "disk", "model.layers.0": "disk", "model.layers.1": "disk"},
}


@pytest.mark.parametrize("name", MAPS)
def test_a_model_is_loaded_over_several_places(
    name: str, model_folder: Path, same_profile: SameProfile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = capture(load_model(find_source(str(model_folder)), device="cpu").model, IDS)
    places = MAPS[name]
    if isinstance(places, dict):
        places = places | {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "disk"}
    loaded = load_model(find_source(str(model_folder)), device="cpu", device_map=places)
    found = capture(loaded.model, IDS)
    assert found.origin.device == {"auto": "cpu", "a layer on disk": "cpu, disk", "all on disk": "disk, cpu"}[name]
    same_profile(layers_of(found, plain.origin), plain)
    assert check_model(loaded.model, IDS[:20]).passed


def test_parameters_on_disk_are_looked_at_too(
    tiny_model: TinyModel, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = torch.nan
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj"):
        load_model(find_source(str(tmp_path / "model")), device_map={"": "disk"})
