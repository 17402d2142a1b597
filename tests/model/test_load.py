"""Loading: what a name stands for, and which models are refused before anything is read from them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from laminar_tui.errors import CancelledError, LaminarError, ModelError, PromptError, UsageError
from laminar_tui.model import load as load_module
from laminar_tui.model.capture import capture
from laminar_tui.model.load import load_model
from laminar_tui.model.loaded import LoadedModel
from laminar_tui.source import Source, find_source

TinyModel = Callable[..., Any]


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's folder, to be damaged."""
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_parameters(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    parameters = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(parameters)
    save_file(parameters, path, {"format": "pt"})


def load(folder: Path, **options: Any) -> LoadedModel:
    return load_model(find_source(str(folder)), **({"device": "cpu"} | options))


# -- what a name stands for ------------------------------------------------------------------------------------------


def test_an_existing_folder_is_a_folder(tmp_path: Path) -> None:
    assert find_source(str(tmp_path)) == Source(str(tmp_path), True)
    assert find_source(str(tmp_path)).name == tmp_path.name


def test_a_folder_in_the_working_directory_comes_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "model@v1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_source("owner/name") == Source("owner/name", True)
    assert find_source("model@v1") == Source("model@v1", True)


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert find_source("~/model") == Source(str(tmp_path / "model"), True)


def test_a_gguf_file_is_its_folder_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    found = find_source(str(tmp_path / "small.gguf"))
    assert found == Source(str(tmp_path), True, gguf_file="small.gguf")
    assert found.name == "small.gguf"


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match="no model file"):
        find_source(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize("ending", ["", ".1-of-2"])
def test_of_what_an_unfinished_corpus_keeps_it_is_said_what_shows_it(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"x.laminar.progress{ending}").write_text("hello")
    with pytest.raises(UsageError, match="unfinished run on a corpus") as refused:
        find_source(str(tmp_path / f"x.laminar.progress{ending}"))
    assert refused.value.hint == f"`laminar-tui tail {tmp_path / 'x.laminar'}` shows it"


ABSENT = ["./model", "/no/such/model", "../x", "~/no/such", "a/b/c", "m.gguf", "x.laminar"]
ABSENT += ["x.laminar.partial", "x.laminar.progress"]


@pytest.mark.parametrize("name", ABSENT)
def test_what_looks_like_a_path_and_does_not_exist_is_no_hub_id(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="no such file"):
        find_source(name)


@pytest.mark.parametrize("name", ["~nobody-of-that-name/model", "x" * 5000])
def test_names_that_the_system_refuses_are_refused_in_words(name: str) -> None:
    with pytest.raises(LaminarError):
        find_source(name)


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("gpt2", None, Source("gpt2", False)),
        ("owner/name", None, Source("owner/name", False)),
        ("owner/name@step1000", None, Source("owner/name", False, "step1000")),
        ("owner/name", "main", Source("owner/name", False, "main")),
        ("owner/name@", None, Source("owner/name", False)),
        ("owner/name@refs/pr/1", None, Source("owner/name", False, "refs/pr/1")),
    ],
)
def test_the_rest_is_a_hub_id_with_or_without_a_revision(
    name: str, asked: str | None, expected: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_source(name, asked) == expected
    assert find_source(name, asked).name == expected.path


def test_a_revision_is_of_a_hub_repository_and_one(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    for local in (tmp_path, tmp_path / "small.gguf"):
        with pytest.raises(UsageError, match="only a hub repository has revisions"):
            find_source(str(local), "main")
    with pytest.raises(UsageError, match="step1000 names a revision, and --revision step2 another one"):
        find_source("owner/name@step1000", "step2")


# -- round trips -----------------------------------------------------------------------------------------------------


def test_a_saved_folder_comes_back_as_it_was(model_folder: Path, tiny_model: TinyModel) -> None:
    loaded = load(model_folder)
    original = tiny_model("llama")
    for (name, one), (_, other) in zip(loaded.model.named_parameters(), original.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    assert not loaded.model.training
    assert loaded.source.name == "tiny-llama"
    prompt = loaded.tokenize("hello there")
    assert "".join(prompt.tokens) == "hello there"
    ids = torch.tensor([prompt.ids])
    one, other = capture(loaded.model, ids), capture(original, ids)
    assert (one.counts("all").hits == other.counts("all").hits).all()


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "float16"])
def test_the_dtype_is_the_one_that_was_asked_for(dtype: str, model_folder: Path) -> None:
    expected = torch.float32 if dtype == "auto" else getattr(torch, dtype)
    assert load(model_folder, dtype=dtype).model.dtype == expected


def test_auto_is_float32_on_a_cpu_also_for_a_half_precision_checkpoint(
    tmp_path: Path, tiny_model: TinyModel, tokenizer: Any
) -> None:
    tiny_model("llama", dtype=torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path).model.dtype == torch.float32


@pytest.mark.parametrize(("option", "value"), [("dtype", "float8"), ("device", "gpu"), ("device", "cuda:99")])
def test_unknown_dtypes_and_devices_are_refused(option: str, value: str, model_folder: Path) -> None:
    with pytest.raises(UsageError, match=value) as caught:
        load(model_folder, **{option: value})
    assert ("cpu" if option == "device" else "float32") in caught.value.hint


@pytest.mark.parametrize("where", ["config.json", "both"])
@pytest.mark.parametrize("implementation", ["flash_attention_2", "evil/kernel", "sdpa"])
def test_what_the_config_says_about_attention_is_not_followed(implementation: str, where: str, folder: Path) -> None:
    names = {"_attn_implementation": implementation}
    if where == "both":
        names["attn_implementation"] = implementation
    change_json(folder / "config.json", **names)
    loaded = load(folder)
    assert loaded.model.config._attn_implementation == "eager"
    assert capture(loaded.model, [1, 2, 3]).n_read == 2


def test_code_that_the_config_names_is_not_run(folder: Path) -> None:
    change_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text("raise SystemExit('code was run')")
    assert type(load(folder).model).__name__ == "LlamaForCausalLM"


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(tmp_path)


def test_a_config_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError):
        load(folder)


def test_a_config_of_an_unknown_type_is_refused(folder: Path) -> None:
    change_json(folder / "config.json", model_type="not_a_type")
    with pytest.raises(ModelError):
        load(folder)


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_refused(missing: str, folder: Path) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelError, match="copy"):
        load(folder)


@pytest.mark.filterwarnings("ignore:.*[Bb]ert.*")
def test_bert_is_no_causal_model(tmp_path: Path, tokenizer: Any) -> None:
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=300, **sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no causal language model") as refused:
        load(tmp_path)
    assert "BertForMaskedLM" in refused.value.message


def test_a_type_that_never_continues_text_is_no_causal_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ModelError, match="its type is vit"):
        load(folder)


def test_a_missing_layer_is_refused_by_name(folder: Path) -> None:
    def remove(parameters: dict[str, torch.Tensor]) -> None:
        for name in [each for each in parameters if ".layers.1." in each]:
            del parameters[name]

    change_parameters(folder, remove)
    with pytest.raises(ModelError, match=r"lacks 9 of the model's parameters, model\.layers\.1\."):
        load(folder)


def test_a_parameter_of_another_shape_is_refused_by_name(folder: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    change_parameters(folder, lambda parameters: parameters.update({name: torch.zeros(8, 32)}))
    with pytest.raises(ModelError, match=r"self_attn\.q_proj"):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_that_are_not_finite_are_refused_by_name(value: float, folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    change_parameters(folder, lambda parameters: parameters[name].view(-1)[7:8].fill_(value))
    with pytest.raises(ModelError, match=r"not finite: model\.layers\.1\.mlp\.up_proj"):
        load(folder)


def test_large_finite_parameters_are_taken(folder: Path) -> None:
    # Their sum overflows, none of them does.
    change_parameters(folder, lambda parameters: parameters["model.norm.weight"].fill_(3e38))
    load(folder)


OF_ONE_BYTE = [name for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu") if hasattr(torch, name)]


@pytest.mark.parametrize("dtype", OF_ONE_BYTE)
def test_numbers_of_one_byte_are_looked_at_too(
    dtype: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch adds up none of them; one that is not finite is found in any piece."""
    monkeypatch.setattr(load_module, "_PIECE", 100)
    model, source = tiny_model("llama"), find_source("some/model")
    projection = model.model.layers[1].mlp.up_proj
    narrow = projection.weight.detach().abs().to(getattr(torch, dtype))
    projection.weight = torch.nn.Parameter(narrow, requires_grad=False)
    load_module._refuse_not_finite(source, model)
    narrow.view(torch.uint8).view(-1)[-1] = 0xFF  # NaN in each of these types
    with pytest.raises(ModelError, match=r"not finite: model\.layers\.1\.mlp\.up_proj"):
        load_module._refuse_not_finite(source, model)


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="an older torch has no such numbers")
def test_numbers_of_half_a_byte_are_always_finite() -> None:
    assert load_module._is_finite(torch.full((3, 4), 0xFF, dtype=torch.uint8).view(torch.float4_e2m1fn_x2))


def test_a_pickle_is_not_opened(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        load(folder)


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: b"\xff" * 64 + data, lambda _data: b""],
    ids=["half of it", "something before it", "nothing in it"],
)
def test_a_damaged_checkpoint_is_refused(damage: Callable[[bytes], bytes], folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError):
        load(folder)


def test_a_damaged_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\x03\x00\x00\x00" + b"\xff" * 100)
    with pytest.raises(ModelError, match=r"bad\.gguf"):
        load(tmp_path / "bad.gguf")


# -- progress and cancelling -----------------------------------------------------------------------------------------


def test_progress_is_told_and_ends_with_all_of_it(model_folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    load(model_folder, on_progress=lambda *step: told.append(step))
    assert told
    name, done, total = told[-1]
    assert name
    assert done == total > 0


def test_a_load_can_be_cancelled_and_leaves_the_library_as_it_was(model_folder: Path) -> None:
    level = transformers_logging.get_verbosity()
    hook = transformers_logging.set_tqdm_hook(None)
    transformers_logging.set_tqdm_hook(hook)
    with pytest.raises(CancelledError):
        load(model_folder, is_cancelled=lambda: True)
    assert transformers_logging.get_verbosity() == level
    assert transformers_logging.set_tqdm_hook(hook) is hook


def test_a_load_writes_nothing(model_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(model_folder)
    assert capfd.readouterr() == ("", "")


# -- prompts ---------------------------------------------------------------------------------------------------------


def test_a_character_of_two_tokens_is_shown_once(model_folder: Path) -> None:
    prompt = load(model_folder).tokenize("aé→b")
    assert len(prompt.ids) == 7
    assert prompt.tokens == ("a", "é", "", "→", "", "", "b")


def test_a_prompt_is_cut_after_max_tokens(model_folder: Path) -> None:
    prompt = load(model_folder).tokenize("hello", 3)
    assert prompt.tokens == ("h", "e", "l")
    assert len(prompt.ids) == 3


def test_an_empty_prompt_is_refused(model_folder: Path) -> None:
    with pytest.raises(PromptError, match="empty"):
        load(model_folder).tokenize("")


def test_a_tokenizer_that_makes_nothing_of_a_prompt_is_refused(model_folder: Path) -> None:
    class Deaf:
        is_fast = False

        def __call__(self, _text: str, **_options: Any) -> dict[str, list[int]]:
            return {"input_ids": []}

    loaded = load(model_folder)
    with pytest.raises(PromptError, match="no tokens"):
        LoadedModel(loaded.model, Deaf(), loaded.source).tokenize("hello")


def test_a_model_in_the_hubs_cache_is_loaded_without_asking_the_hub(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache as huggingface_hub lays it out; connecting to anything fails the test."""
    snapshot = tmp_path / "models--someone--something" / "snapshots" / ("0" * 40)
    shutil.copytree(model_folder, snapshot)
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    loaded = load_model(find_source("someone/something"))
    assert loaded.source.name == "someone/something"
    assert loaded.tokenize("a word").ids
