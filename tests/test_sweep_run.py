"""`laminar-tui sweep`: profiles and folders of checkpoints; each is read once, kept, and one model at a time."""

import gc
import json
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, assert_refused, heavy_after

from laminar_tui import run as run_module
from laminar_tui.profile.profile import Profile
from laminar_tui.run import SAMPLE_PROFILE, Request
from laminar_tui.sweep_run import SweepRequest, capture_sweep, profile_path


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[..., Any], tokenizer: Any) -> Path:
    """A folder of three checkpoints of one architecture, with other parameters each."""
    folder = tmp_path_factory.mktemp("training") / "tiny"
    for seed, name in enumerate(("step1000", "main", "step20")):
        tiny_model("llama", seed=seed).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.txt"
    path.write_text("some words to read")
    return path


def test_each_revision_is_read_once_kept_and_read_as_a_capture_reads_it(
    command: Run, checkpoints: Path, prompt_file: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    words = ["sweep", checkpoints, "--prompt-file", prompt_file, "--device", "cpu", "--json", "-q", "-o", kept]
    code, _, err = command(*words, "--revisions", "step1000,main")
    assert (code, err) == (0, "")
    before = (kept / "main.laminar").stat().st_mtime_ns
    code, out, _ = command(*words, "--revisions", "main,step20,step1000")
    document = json.loads(out)
    assert [row["name"] for row in document["steps"]] == ["step20", "step1000", "main"]
    assert {row["model"] for row in document["steps"]} == {"tiny"}
    assert document["notes"] == []
    assert (kept / "main.laminar").stat().st_mtime_ns == before
    alone = tmp_path / "alone.laminar"
    assert (
        command("capture", checkpoints / "step20", "--prompt-file", prompt_file, "--device", "cpu", "-o", alone)[0] == 0
    )
    found, wanted = Profile.load(kept / "step20.laminar"), Profile.load(alone)
    assert (found.origin.model, found.origin.revision) == ("tiny", "step20")
    assert (found.counts("past").hits == wanted.counts("past").hits).all()
    assert (found.counts("past").hits != Profile.load(kept / "main.laminar").counts("past").hits).any()
    # What is in the folder is shown without the model.
    code, shown, _ = command("sweep", *sorted(kept.glob("*.laminar")), "--json")
    assert json.loads(shown) == document
    code, shown, _ = command("sweep", kept, "--json")
    assert json.loads(shown) == document, "the folder stands for its profiles"


def test_a_sweep_that_breaks_off_goes_on_where_it_was(
    command: Run, checkpoints: Path, prompt_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, read = tmp_path / "kept", run_module.read
    loaded: list[str] = []

    def interrupted(model: Any, request: Request, *rest: Any) -> Profile:
        loaded.append(Path(request.source).name)
        if len(loaded) == 2:
            raise KeyboardInterrupt
        return read(model, request, *rest)

    monkeypatch.setattr(run_module, "read", interrupted)
    words = [
        "sweep",
        checkpoints,
        "--revisions",
        "step20,step1000,main",
        "--prompt-file",
        prompt_file,
        "--device",
        "cpu",
    ]
    assert command(*words, "-q", "-o", kept)[:2] == (130, "")
    code, out, _ = command(*words, "-q", "-o", kept, "--color", "none")
    assert code == 0
    assert loaded == ["step20", "step1000", "step1000", "main"]
    assert "tiny  all layers  by training step" in out


def test_one_model_is_in_memory_at_a_time(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []
    load = run_module.load

    def watched(*words: Any, **options: Any) -> Any:
        gc.collect()
        assert [each for each in alive if each() is not None] == []
        loaded = load(*words, **options)
        alive.append(weakref.ref(loaded.model))
        return loaded

    monkeypatch.setattr(run_module, "load", watched)
    asked = SweepRequest(Request(str(checkpoints), "abc", device="cpu"), ("main", "step20", "step1000"))
    profiles = list(capture_sweep(asked, lambda _event: None, lambda: False))
    assert [profile.origin.revision for profile in profiles] == ["main", "step20", "step1000"]
    assert len(alive) == 3


@pytest.mark.parametrize("words", [["--prompt", "other"], ["--prompt", "abc", "--max-tokens", "2"]])
def test_profiles_of_two_prompts_are_not_mixed(
    command: Run, checkpoints: Path, tmp_path: Path, words: list[str]
) -> None:
    first = ["sweep", checkpoints, "--revisions", "main", "--device", "cpu", "-q", "-o", tmp_path / "kept"]
    assert command(*first, "--prompt", "abc")[0] == 0
    assert_refused(command(*first, *words), 2, "holds profiles of another sweep", "another folder")
    (tmp_path / "kept" / "sweep.json").unlink()
    assert_refused(command(*first, "--prompt", "abc"), 2, "holds profiles of another run")


def test_a_revision_leads_out_of_no_folder(tmp_path: Path) -> None:
    for name in ("..", "../x", "/etc/x", "refs/pr/1", "a\0b", "."):
        path = profile_path(tmp_path, name)
        assert path.parent == tmp_path
        assert path.name not in (".", "..")


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (["--head", "1"], "--head needs a --layer"),
        (["--layer", "99"], "no layer 99"),
        (["--population", "x"], "no population"),
        (["--estimator", "x"], "no estimator"),
        (["--revisions", "main"], "of one model"),
    ],
)
def test_what_a_sweep_cannot_do(command: Run, words: list[str], about: str) -> None:
    assert_refused(command("sweep", SAMPLE_PROFILE, *words), 2, about)


def test_what_a_sweep_of_a_model_cannot_do(command: Run, checkpoints: Path, tmp_path: Path) -> None:
    assert_refused(command("sweep", checkpoints), 2, "is no profile")
    (folder := tmp_path / "sw").mkdir()
    shutil.copy(SAMPLE_PROFILE, folder / "only.laminar")
    assert_refused(command("sweep", folder), 2, "sw holds one profile; a sweep needs two or more")
    assert_refused(command("sweep", checkpoints, "--revisions", "main,step7", "-q"), 2, "has no folder step7")
    assert_refused(command("sweep", checkpoints, "--revisions", " , "), 2, "no revisions")
    assert_refused(command("sweep", checkpoints, "--revisions", "main", "--revision", "main"), 2, "two things")
    assert_refused(command("sweep", checkpoints, checkpoints, "--revisions", "main"), 2, "of one model")
    file = tmp_path / "file"
    file.write_text("")
    assert_refused(command("sweep", checkpoints, "--revisions", "main", "-o", file, "-q"), 2, "cannot use")
    shutil.copy(SAMPLE_PROFILE, tmp_path / "bad.laminar")
    with (tmp_path / "bad.laminar").open("r+b") as bad:
        bad.truncate(5000)
    assert_refused(command("sweep", SAMPLE_PROFILE, tmp_path / "bad.laminar"), 4, "bad.laminar")


def test_a_failed_check_is_told_and_names_are_harmless(command: Run, small_profile: Profile, tmp_path: Path) -> None:
    path, check = tmp_path / "bad.laminar", replace(small_profile.origin.checks[0], passed=False)
    origin = replace(small_profile.origin, checks=(check,), model="\x1b]52;c;x\x07", revision="\x1b[2J\u202e")
    replace(small_profile, origin=origin).save(path)
    for words in ([], ["--json"]):
        code, out, err = command("sweep", path, path, *words, "--color", "none")
        assert code == 3
        assert "NOT TO BE TRUSTED" in err
        assert not {"\x1b", "\x07", "\u202e"} & set(out + err)


def test_saved_profiles_need_no_torch() -> None:
    arguments = ["sweep", str(SAMPLE_PROFILE), str(SAMPLE_PROFILE), "--layer", "18"]
    assert heavy_after(f"from laminar_tui.cli import main; assert main({arguments!r}) == 0") == []
