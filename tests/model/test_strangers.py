"""Models that strangers made: no code is run, no other file is read, nothing is allocated that a lie asks for."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from laminar_tui.errors import MemoryNeededError, ModelError
from laminar_tui.model import load as load_module
from laminar_tui.model.capture import capture
from laminar_tui.model.load import Terms, load_model
from laminar_tui.model.loaded import LoadedModel
from laminar_tui.source import find_source


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's folder with code in it that must not run."""
    copy = Path(shutil.copytree(model_folder, tmp_path / "copy"))
    (copy / "evil.py").write_text("raise SystemExit('code was run')")
    (copy / "custom_generate").mkdir()
    (copy / "custom_generate" / "generate.py").write_text("raise SystemExit('code was run')")
    return copy


def change_json(path: Path, **changes: Any) -> None:
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | changes))


def load(folder: Path, **terms: Any) -> LoadedModel:
    return load_model(find_source(str(folder)), device="cpu", terms=Terms(**terms))


@pytest.fixture
def loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test as soon as parameters would be loaded."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("parameters were to be loaded")

    monkeypatch.setattr(load_module.AutoModelForCausalLM, "from_pretrained", refuse)


# -- code ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config", "AutoTokenizer": "evil.T"}},
        {"_attn_implementation": "evil/kernel", "attn_implementation": "evil/kernel"},
        {"_experts_implementation": "evil/kernel"},
        {"use_kernels": True, "kernel_config": {"kernel_mapping": {"RMSNorm": "evil/kernel:RMSNorm"}}},
        {"custom_generate": "evil/generate", "custom_pipelines": {"x": {"impl": "evil.Pipeline"}}},
        {"trust_remote_code": True},
    ],
    ids=["auto_map", "attention", "experts", "kernels", "generation", "trust"],
)
def test_settings_that_ask_for_code_are_not_followed(settings: dict[str, Any], folder: Path) -> None:
    change_json(folder / "config.json", **settings)
    if "custom_generate" in settings:
        change_json(folder / "generation_config.json", **settings)
    loaded = load(folder)
    assert type(loaded.model).__module__.startswith("transformers.")
    assert loaded.model.config._attn_implementation == "eager"
    assert not getattr(loaded.model, "use_kernels", False)
    assert capture(loaded.model, [1, 2, 3]).n_read == 2
    assert not any(name.startswith("transformers_modules") for name in sys.modules)


def test_a_model_type_that_needs_code_is_refused(folder: Path) -> None:
    change_json(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(ModelError, match="needs code of its own") as refused:
        load(folder)
    assert "never run" in refused.value.hint


def test_a_tokenizer_that_needs_code_is_refused(folder: Path) -> None:
    change_json(
        folder / "tokenizer_config.json",
        tokenizer_class="EvilTokenizer",
        auto_map={"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]},
    )
    with pytest.raises(ModelError, match="needs code of its own"):
        load(folder)


@pytest.mark.usefixtures("loads_nothing")
@pytest.mark.parametrize(
    "settings", [{"quant_method": "evil/quantizer"}, {"quant_method": None}, {"modules": "evil.Q"}, "evil", {}]
)
def test_quantization_that_transformers_does_not_bring_is_refused(settings: Any, folder: Path) -> None:
    change_json(folder / "config.json", quantization_config=settings)
    with pytest.raises(ModelError, match="copy"):
        load(folder)


def test_hub_kernels_are_switched_off_in_the_program() -> None:
    program = (
        "from laminar_tui.cli import main; main(['show', '/no/such']); import os; print(os.environ['USE_HUB_KERNELS'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "USE_HUB_KERNELS"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "NO"


# -- pickles ---------------------------------------------------------------------------------------------------------


def as_pickle(folder: Path, content: object = None) -> None:
    torch.save(content or load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.usefixtures("loads_nothing")
def test_a_pickle_is_refused_with_the_flag_that_would_open_it(folder: Path) -> None:
    as_pickle(folder)
    with pytest.raises(ModelError, match="pickle") as refused:
        load(folder)
    assert "--allow-pickle" in refused.value.hint


def test_a_pickle_is_opened_with_the_flag(folder: Path, model_folder: Path) -> None:
    as_pickle(folder)
    opened, original = load(folder, allow_pickle=True), load(model_folder)
    for one, other in zip(opened.model.parameters(), original.model.parameters(), strict=True):
        assert torch.equal(one, other)


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("code-was-run",)


def test_even_with_the_flag_a_pickle_that_runs_code_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    as_pickle(folder, {"model.norm.weight": Evil()})
    with pytest.raises(ModelError):
        load(folder, allow_pickle=True)
    assert not (tmp_path / "code-was-run").exists()


def test_safetensors_come_before_a_pickle_even_with_the_flag(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"no pickle")
    load(folder, allow_pickle=True)


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "tokenizer_config.json"])
def test_a_link_out_of_the_folder_is_not_followed(name: str, folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / name, tmp_path / "secret")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=f"{name} is a link out of the model's folder"):
        load(folder)


def test_a_link_within_the_folder_and_parameters_on_another_disk_are_fine(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "real.json")
    (folder / "tokenizer.json").symlink_to("real.json")
    shutil.move(folder / "model.safetensors", tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_fifo_does_not_hang_the_program(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match="no regular file"):
        load(folder)


def test_an_endless_device_is_not_read(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("/dev/zero")
    with pytest.raises(ModelError, match="no regular file"):
        load(folder)


def test_a_text_of_gigabytes_is_not_read(folder: Path) -> None:
    with (folder / "tokenizer.json").open("wb") as sparse:
        sparse.truncate(2**40)
    with pytest.raises(ModelError, match="1,099,511,627,776 bytes"):
        load(folder)


@pytest.mark.usefixtures("loads_nothing")
@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_an_index_does_not_lead_out_of_the_folder(shard: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))
    with pytest.raises(ModelError, match="not in the model's folder"):
        load(folder)


@pytest.mark.usefixtures("loads_nothing")
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', "[" * 100_000])
def test_an_index_that_is_none_is_refused(text: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError):
        load(folder)


# -- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("loads_nothing")
@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 100_000, "intermediate_size": 2_500_000, "num_hidden_layers": 2},
        {"vocab_size": 100_000_000, "hidden_size": 10_000},
        {"num_hidden_layers": 400, "hidden_size": 16384, "intermediate_size": 65_536},
    ],
)
def test_a_config_that_asks_for_a_trillion_parameters_is_refused_before_allocation(
    sizes: dict[str, int], folder: Path
) -> None:
    change_json(folder / "config.json", **sizes)
    with pytest.raises(MemoryNeededError, match=r"TB of memory, and .* are free"):
        load(folder)


@pytest.mark.usefixtures("loads_nothing")
@pytest.mark.parametrize(
    "sizes",
    [{"num_hidden_layers": 10**9}, {"hidden_size": 10**12}, {"vocab_size": 10**18}, {"intermediate_size": 2**63}],
)
def test_a_size_that_no_model_has_is_refused_by_name(sizes: dict[str, int], folder: Path) -> None:
    change_json(folder / "config.json", **sizes)
    with pytest.raises(ModelError, match=r"asks for|layers"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", -5),
        ("hidden_size", "many"),
        ("num_attention_heads", 0),
        ("num_hidden_layers", None),
        ("rope_parameters", "nonsense"),
        ("layer_types", ["nonsense"] * 5),
        ("vocab_size", 0),
        ("hidden_act", "nonsense"),
    ],
)
def test_nonsense_in_a_config_is_refused_in_words(name: str, value: Any, folder: Path) -> None:
    change_json(folder / "config.json", **{name: value})
    with pytest.raises(ModelError):
        load(folder)
