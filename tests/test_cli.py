"""The command line: exit codes, at most three lines about what went wrong, and nothing but results on stdout."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, assert_refused

from laminar_tui import __version__
from laminar_tui.cli import COMMANDS, main
from laminar_tui.commands.spelling import refuse_misspelt
from laminar_tui.model.cache import CachedModel
from laminar_tui.model.check import LayerCheck, Verdict
from laminar_tui.profile.file import parse_profile
from laminar_tui.profile.profile import Check, Profile

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def saved(small_profile: Profile, tmp_path: Path) -> Path:
    """A saved profile."""
    path = tmp_path / "run.laminar"
    small_profile.save(path)
    return path


# -- wrong sources ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["show", "capture"])
@pytest.mark.parametrize("name", ["missing.laminar", "./missing", "missing.gguf", "~nobody-of-that-name/x", "x" * 5000])
def test_what_does_not_exist(verb: str, name: str, command: Run, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    output = ["-o", tmp_path / "out.laminar"] if verb == "capture" else []
    assert_refused(command(verb, name, *output), 2)
    assert not (tmp_path / "out.laminar").exists()


@pytest.mark.parametrize("verb", ["show", "capture"])
def test_a_folder_without_a_model(verb: str, command: Run, tmp_path: Path) -> None:
    output = ["-o", tmp_path / "out.laminar"] if verb == "capture" else []
    assert_refused(command(verb, tmp_path, "--prompt", "a", *output), 3, "config.json")


def test_a_model_that_is_no_causal_one(command: Run, model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "bert"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": config["vocab_size"]})
    )
    assert_refused(command("capture", folder, "--prompt", "a", "--json"), 3, "no causal language model")


def test_a_damaged_checkpoint(command: Run, model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "cut"))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert_refused(command("capture", folder, "--prompt", "a", "--json"), 3)


def test_a_hub_id_that_is_not_in_the_cache(tmp_path: Path) -> None:
    # HF_HUB_OFFLINE is read when the hub's library is imported, hence a process of its own.
    done = run_program("capture", "nobody/no-such-model", "--prompt", "a", "--json", HF_HOME=str(tmp_path))
    assert_refused(done, 3, "nobody/no-such-model")


# -- wrong prompts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt", ""], "empty"),
        (["--prompt", "x" * 65], "65 tokens"),
        (["--prompt-file", "no-such-file.txt"], "no-such-file.txt"),
    ],
)
def test_a_prompt_that_cannot_be_taken(words: list[str], said: str, command: Run, model_folder: Path) -> None:
    assert_refused(command("capture", model_folder, "--json", *words), 2, said)
    assert_refused(command("show", model_folder, *words), 2, said)


def test_a_prompt_that_is_too_long_can_be_cut(command: Run, model_folder: Path) -> None:
    code, out, _ = command("capture", model_folder, "--prompt", "x" * 65, "--max-tokens", 64, "-q", "-o", "-")
    assert code == 0
    assert parse_profile(out.encode("utf-8", "surrogateescape")).n_tokens == 64


# -- wrong profiles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[: len(data) // 2],
        lambda _data: b"",
        lambda _data: b"no profile at all",
    ],
    ids=["cut", "one bit", "half", "empty", "other"],
)
def test_a_damaged_profile(damage: Callable[[bytes], bytes], command: Run, saved: Path, tmp_path: Path) -> None:
    saved.write_bytes(damage(saved.read_bytes()))
    assert_refused(command("show", saved), 4, "run.laminar")
    assert_refused(command("export", saved, "--to", "json", "-o", tmp_path / "out.json"), 4, "run.laminar")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    "words", [["show", "--json"], ["show"], ["export", "--to", "csv", "-o", "-"], ["compare"]], ids=" ".join
)
def test_a_profile_that_is_not_to_be_trusted_is_told_by_every_command(
    words: list[str], command: Run, small_profile: Profile, saved: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bad.laminar"
    failed = (Check("causal", False, "looks ahead"),)
    replace(small_profile, origin=replace(small_profile.origin, checks=failed)).save(path)
    sources = [saved, path] if words == ["compare"] else [path]
    code, out, err = command(words[0], *sources, *words[1:])
    assert code == 3
    assert out
    assert "NOT TO BE TRUSTED: causal: looks ahead" in err


# -- wrong words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("--population", "final"),
        ("--sink", "without"),
        ("--estimator", "reflected"),
        ("--view", "overview"),
        ("--color", "truecolor"),
        ("--color-map", "viridis"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(option: str, known: str, command: Run, saved: Path) -> None:
    assert_refused(command("show", saved, option, "nonsense"), 2, "nonsense", known)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layer", 4], "no layer 4"),
        (["--layer", -1], "no layer -1"),
        (["--layer", 0, "--head", 3], "no head 3"),
        (["--layer", 2, "--head", 2], "no head 2"),
        (["--layer", 0, "--head", -1], "no head -1"),
        (["--layer", 1], "layer 1"),
        (["--head", 1], "--layer"),
    ],
)
def test_a_place_that_is_not_in_the_model(words: list[Any], said: str, command: Run, saved: Path) -> None:
    assert_refused(command("show", saved, *words), 2, said)


@pytest.mark.parametrize("option", ["--dtype", "--device"])
def test_an_unknown_dtype_or_device(option: str, command: Run, model_folder: Path) -> None:
    assert_refused(command("capture", model_folder, "--prompt", "a", "--json", option, "nonsense"), 2, "nonsense")


@pytest.mark.parametrize(
    ("words", "meant"),
    [(["repot", "x.laminar"], "report"), (["captrue"], "capture"), (["sho", "--layer", "3"], "show")],
)
def test_a_misspelt_command_is_recognized(words: list[str], meant: str, command: Run) -> None:
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert f"'{words[0]}'" in err
    assert f"laminar-tui {meant}?" in err


@pytest.mark.parametrize("word", ["gpt2", "./repot", "someone/repot", "repot@main", "there", "x" * 5000])
def test_what_may_be_a_model_is_not_taken_for_a_command(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse_misspelt(word, COMMANDS)
    (tmp_path / "repot").mkdir()
    refuse_misspelt("repot", COMMANDS)


def test_a_cached_model_is_not_taken_for_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = CachedModel("repot", "main", 1, Path("nowhere"), True)
    monkeypatch.setattr("laminar_tui.model.cache.cached_models", lambda: [cached])
    refuse_misspelt("repot", COMMANDS)


@pytest.mark.parametrize("words", [["--max-tokens", "0"], ["--prompt", "a", "--prompt-file", "b"], ["--nonsense"]])
def test_options_that_make_no_sense(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["capture", *words])
    assert left.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_profile_and_its_summary_do_not_share_standard_output(command: Run, model_folder: Path) -> None:
    assert_refused(command("capture", model_folder, "--prompt", "a", "-o", "-", "--json"), 2, "--json")


@pytest.mark.parametrize("verb", [["show"], ["report"], ["sweep"], []], ids=str)
@pytest.mark.parametrize(
    "words", [["--prompt", "other"], ["--bos"], ["--max-tokens", "5"], ["--recipe", "content"], ["--allow-pickle"]]
)
def test_what_only_a_run_could_heed_is_refused_beside_a_profile(
    verb: list[str], words: list[str], command: Run, saved: Path
) -> None:
    assert_refused(command(*verb, saved, *words), 2, f"{words[0]} is about a run")


def test_what_a_run_would_do_anyway_is_not_refused_beside_a_profile(command: Run, saved: Path) -> None:
    assert command("show", saved, "--dtype", "auto", "--recipe", "true")[0] == 0


@pytest.mark.parametrize("verb", [["show"], []], ids=str)
def test_the_bundled_model_has_no_revisions(verb: list[str], command: Run) -> None:
    assert_refused(command(*verb, "--revision", "main"), 2, "only a hub repository has revisions")


def test_a_sweep_of_profiles_saves_nothing(command: Run, saved: Path, tmp_path: Path) -> None:
    assert_refused(command("sweep", saved, saved, "-o", tmp_path / "kept"), 2, "--revisions")


def test_a_capture_that_would_go_nowhere_is_refused(command: Run, model_folder: Path, tmp_path: Path) -> None:
    assert_refused(command("capture", model_folder), 2, "-o")
    assert_refused(command("capture", model_folder, "-o", tmp_path / "no" / "x.laminar"), 2, "no folder")


@pytest.mark.parametrize("verb", ["show", "capture"])
def test_text_from_outside_is_harmless_in_an_error(verb: str, command: Run) -> None:
    _, out, err = command(verb, "./\x1b]52;c;aGk=\x07\x1b[2J\u202ename", "--json")
    assert not set("\x1b\x07\u202e") & set(out + err)


# -- capture ---------------------------------------------------------------------------------------------------------


def test_capture_writes_a_profile_and_nothing_on_stdout(command: Run, model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.laminar"
    code, out, err = command("capture", model_folder, "--prompt", "hello there", "-o", path)
    assert (code, out) == (0, "")
    assert f"wrote {path}" in err
    profile = Profile.load(path)
    assert (profile.n_read, profile.n_tokens, profile.origin.model) == (2, 11, "tiny-llama")


def test_capture_to_stdout_is_the_profile_and_nothing_else(command: Run, model_folder: Path) -> None:
    code, out, _ = command("capture", model_folder, "--prompt", "hello", "-o", "-")
    assert code == 0
    assert parse_profile(out.encode("utf-8", "surrogateescape")).n_read == 2


def test_capture_as_json_is_json_and_nothing_else(command: Run, model_folder: Path) -> None:
    code, out, _ = command("capture", model_folder, "--prompt", "hello", "--json")
    assert code == 0
    json.loads(out)


def test_a_home_folder_that_no_shell_has_put_in_is_found(
    command: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command("capture", model_folder, "--prompt", "hello", "-q", "--output=~/x.laminar")[0] == 0
    assert command("export", "~/x.laminar", "--to", "csv", "-o", "~/x.csv")[0] == 0
    assert {"x.laminar", "x.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_a_quiet_capture_says_nothing(command: Run, model_folder: Path, tmp_path: Path) -> None:
    assert command("capture", model_folder, "--prompt", "hello", "-q", "-o", tmp_path / "x.laminar") == (0, "", "")


def test_capture_reads_its_prompt_from_a_file_or_standard_input(
    command: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    (tmp_path / "prompt.txt").write_text("from a file\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe\n"))
    for words, text in (
        (["--prompt-file", tmp_path / "prompt.txt"], "from a file"),
        (["--prompt", "-"], "from a pipe"),
        (["--prompt", "as it stands\n"], "as it stands\n"),
    ):
        assert command("capture", model_folder, *words, "-q", "-o", tmp_path / "x.laminar")[0] == 0
        assert "".join(Profile.load(tmp_path / "x.laminar").origin.tokens) == text


def test_a_target_that_is_no_regular_file_is_left_alone(command: Run, model_folder: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link.laminar"
    target.write_text("precious")
    link.symlink_to(target)
    code, out, err = command("capture", model_folder, "--prompt", "a", "-o", link)
    assert (code, out) == (2, "")
    assert "no regular file" in err
    assert target.read_text() == "precious"


# -- check -------------------------------------------------------------------------------------------------------------


def test_a_check_that_has_nothing_to_compare_is_json_all_the_same(
    command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inf = float("inf")
    verdict = Verdict((Check("as many patterns", False, "1"),), (LayerCheck(0, inf, inf, {}),), float("nan"))
    monkeypatch.setattr("laminar_tui.run.check", lambda *_: verdict)
    code, out, _ = command("check", "--json", "-q")
    document = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (code, document["passed"], document["layers"][0]["max_difference"]) == (3, False, None)


# -- show ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["overview", "layer", "head", "lines"])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 12), (61, 17)])
@pytest.mark.parametrize("color", ["truecolor", "16"])
def test_a_picture_has_the_size_that_was_asked_for(
    view: str, width: int, height: int, color: str, command: Run, saved: Path
) -> None:
    from rich.cells import cell_len

    code, out, err = command("show", saved, "--view", view, "--width", width, "--height", height, "--color", color)
    assert (code, err) == (0, "")
    rows = ESCAPE.sub("", out).split("\n")
    assert rows.pop() == "", "the last row ends with a newline"
    assert "\x1b" not in "".join(rows)
    assert len(rows) == height
    assert {cell_len(row) for row in rows} == {width}


@pytest.mark.parametrize("words", [["--color", "none"], ["--no-color"], ["--color", "none", "--ascii"]])
def test_without_colours_there_is_no_escape_sequence(words: Sequence[str], command: Run, saved: Path) -> None:
    code, out, _ = command("show", saved, *words)
    assert code == 0
    assert "\x1b" not in out
    assert "--ascii" not in words or out.isascii()


def test_a_pipe_gets_no_colours_by_itself(command: Run, saved: Path) -> None:
    assert "\x1b" not in command("show", saved)[1]


@pytest.mark.parametrize("estimator", ["reflected", "gaussian", "histogram", "log"])
@pytest.mark.parametrize("population", ["final", "self", "past", "all"])
@pytest.mark.parametrize("sink", ["with", "without", "only"])
def test_every_combination_is_drawn(estimator: str, population: str, sink: str, command: Run, saved: Path) -> None:
    words = ["--estimator", estimator, "--population", population, "--sink", sink, "--width", "50", "--height", "12"]
    code, out, err = command("show", saved, *words)
    assert (code, err) == (0, "")
    assert out.count("\n") == 12


def test_a_profile_without_any_layer_is_shown_or_refused_in_words(
    command: Run, small_profile: Profile, tmp_path: Path
) -> None:
    path = tmp_path / "empty.laminar"
    Profile(small_profile.origin, (None,) * 4).save(path)
    for view in ("overview", "layer", "head", "lines"):
        code, out, err = command("show", path, "--view", view)
        assert code in (0, 2)
        assert (code == 0) == (out != "") == (err == "")


def test_show_as_json_is_json(command: Run, saved: Path) -> None:
    code, out, _ = command("show", saved, "--json")
    assert code == 0
    json.loads(out)


def test_show_as_json_is_of_every_layer(command: Run, saved: Path) -> None:
    assert_refused(command("show", saved, "--json", "--layer", "1"), 2, "--json prints every layer")


def test_the_sample_is_not_opened_beside_something_else(command: Run, saved: Path) -> None:
    assert_refused(command(saved, "--sample"), 2, "--sample is a profile of its own")


@pytest.mark.parametrize("verb", ["show", "report"])
def test_the_sample_is_shown_and_reported(command: Run, verb: str, saved: Path) -> None:
    code, out, _ = command(verb, "--sample", "--json")
    assert code == 0
    assert "SmolLM2" in out
    assert_refused(command(verb, saved, "--sample"), 2, "--sample is a profile of its own")


def test_show_runs_a_model_too(command: Run, model_folder: Path) -> None:
    code, out, _ = command("show", model_folder, "--prompt", "hello there", "--height", "12")
    assert code == 0
    assert out.count("\n") == 12


# -- the program as a process ----------------------------------------------------------------------------------------


def run_program(*words: str, **environment: str) -> tuple[int, str, str]:
    import os

    done = subprocess.run(
        [sys.executable, "-m", "laminar_tui", *words],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_version() -> None:
    assert run_program("--version") == (0, f"laminar-tui {__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*([name] if name else []), "--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    parser = COMMANDS[name][0]()
    assert all(option in out for action in parser._actions for option in action.option_strings)
    if not name:
        assert all(command in out for command in COMMANDS)


def test_the_explorer_needs_a_terminal_and_says_what_works_without(saved: Path) -> None:
    assert_refused(run_program(str(saved)), 2, "show")


def test_a_reader_that_goes_away_is_no_error(saved: Path) -> None:
    late = "import sys, time; from laminar_tui.cli import main; time.sleep(0.3); sys.exit(main())"
    program = subprocess.Popen(
        [sys.executable, "-c", late, "show", str(saved), "--height", "4000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    err = program.stderr.read()
    program.stderr.close()
    program.wait(60)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_a_capture_whose_story_nobody_reads_is_written(model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.laminar"
    program = subprocess.Popen(
        [sys.executable, "-m", "laminar_tui", "capture", str(model_folder), "--prompt", "hello", "-o", str(path)],
        stderr=subprocess.PIPE,
    )
    assert program.stderr is not None
    program.stderr.close()
    assert program.wait(120) == 0
    assert Profile.load(path).n_read == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(closed: str, saved: Path) -> None:
    program = f"{sys.executable} -m laminar_tui show {saved} --json {closed}"
    done = subprocess.run(program, shell=True, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("{") == (">&-" not in closed.split())


def test_a_prompt_from_closed_standard_input_is_empty(model_folder: Path) -> None:
    program = f"{sys.executable} -m laminar_tui capture {model_folder} --prompt - --json <&-"
    done = subprocess.run(program, shell=True, capture_output=True, text=True, timeout=120, check=False)
    assert_refused((done.returncode, done.stdout, done.stderr), 2, "empty")


def test_what_a_stream_cannot_hold_is_escaped(saved: Path) -> None:
    code, out, err = run_program("show", str(saved), PYTHONIOENCODING="ascii")
    assert (code, err) == (0, "")
    assert out.isascii()
    assert "\\u" in out


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("npz", ["--layer", "0"]),
        ("json", ["--population", "past"]),
        ("csv", ["--sink", "only"]),
        ("csv", ["--n-grid", "10"]),
        ("npz", ["--color-map", "gray"]),
        ("svg", ["--n-grid", "10"]),
    ],
)
def test_what_an_export_does_not_read_is_refused(
    to: str, words: list[str], command: Run, saved: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    assert_refused(
        command("export", saved, "--to", to, "-o", path, *words), 2, f"{words[0]} is nothing that {to} reads"
    )
    assert not path.exists()


def test_a_figure_has_the_colours_that_were_asked_for(command: Run, saved: Path) -> None:
    words = ["export", saved, "--to", "svg", "-o", "-"]
    assert command(*words, "--color-map", "gray")[1] != command(*words)[1] == command(*words, "--color-map", "magma")[1]
    assert_refused(command(*words, "--color-map", "rainbow"), 2, "rainbow", "viridis")
