"""`report` and `compare` on the command line: what goes to stdout, what is refused, and nothing heavy for a file."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Run, assert_refused, heavy_after

from laminar_tui.log import stop_log
from laminar_tui.profile.profile import Profile
from laminar_tui.run import SAMPLE_PROFILE


@pytest.fixture
def saved(small_profile: Profile, tmp_path: Path) -> Path:
    path = tmp_path / "run.laminar"
    small_profile.save(path)
    return path


def test_a_report_on_the_sample_says_what_the_satellites_are(command: Run) -> None:
    code, out, err = command("report", SAMPLE_PROFILE)
    assert (code, err) == (0, "")
    assert "* Layer 18: the 6 weights above 0.6 are all key 0 ('Photos')." in out
    code, out, _ = command("report", SAMPLE_PROFILE, "--json")
    assert code == 0
    document = json.loads(out)
    layer = [each for each in document["layer_satellites"] if each["first_layer"] == 18]
    assert next(each["keys"] for each in layer if each["threshold"] == 0.6) == {"0": 6}


def test_a_report_goes_into_a_file(command: Run, saved: Path, tmp_path: Path) -> None:
    code, out, _ = command("report", saved, "-o", tmp_path / "report.md")
    assert (code, out) == (0, "")
    assert (tmp_path / "report.md").read_text() == command("report", saved)[1]
    assert_refused(command("report", saved, "-o", tmp_path / "missing" / "report.md"), 2, "no folder")


def test_a_report_takes_nulls_from_files(command: Run, small_profile: Profile, saved: Path, tmp_path: Path) -> None:
    null = tmp_path / "null.laminar"
    replace(small_profile, origin=replace(small_profile.origin, recipe="null: random parameters")).save(null)
    code, out, _ = command("report", saved, "--null", null)
    assert code == 0
    assert "* Against random parameters (null.laminar): " in out


def test_nulls_of_one_name_are_told_apart_and_spoil_no_table(
    command: Run, small_profile: Profile, saved: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / folder / "a|b.laminar" for folder in ("one", "other")]
    for path in paths:
        path.parent.mkdir()
        replace(small_profile, origin=replace(small_profile.origin, recipe="null: random parameters")).save(path)
    words = [word for path in paths for word in ("--null", path)]
    nulls = {each["null"] for each in json.loads(command("report", saved, *words, "--json")[1])["chance"]}
    assert {"random parameters (a|b.laminar)", "random parameters (a|b.laminar) 2"} <= nulls
    rows = [line for line in command("report", saved, *words)[1].splitlines() if line.startswith("| random parameters")]
    assert rows
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {10}


def test_a_profile_that_is_no_null_is_refused_as_one(command: Run, saved: Path) -> None:
    assert_refused(command("report", saved, "--null", saved), 2, "is no null")


def test_a_null_is_known_before_the_model_is_run(
    command: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laminar_tui.run.Session.run", lambda *_: pytest.fail("the model is run"))
    words = ["--prompt", "a", "--null", "random", "--null", "other"]
    assert_refused(command("report", model_folder, *words), 2, "no null 'other'")


def test_a_model_is_run_with_its_nulls_and_roles(command: Run, model_folder: Path) -> None:
    words = ["report", model_folder, "--prompt", "some words", "--null", "random", "--null", "shuffled", "--roles"]
    code, out, err = command(*words, "--device", "cpu", "--json", "-q")
    assert (code, err) == (0, "")
    document = json.loads(out)
    nulls = {each["null"] for each in document["chance"]}
    assert nulls == {"uniform attention", "independent scores", "random parameters", "shuffled tokens"}
    assert any(each.startswith("Induction: ") for each in document["chapters"]["Roles"])


def test_a_report_keeps_no_queries_and_keys_and_logs_its_runs_without_the_prompt(
    command: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laminar_tui.model.patterns import KeptPatterns

    monkeypatch.setattr(KeptPatterns, "keep", lambda *_: pytest.fail("kept for questions that nobody asks"))
    log, words = tmp_path / "here.log", ["--prompt", "some words", "--null", "shuffled", "--device", "cpu", "-q"]
    code, _, err = command("report", model_folder, *words, "--log-file", log)
    stop_log()
    assert (code, err) == (0, "")
    assert log.read_text().count("done in ") == 2
    assert "some words" not in log.read_text()


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (["--null", "random"], "needs the model"),
        (["--roles"], "roles need the model"),
        (["--format", "pdf"], "no format 'pdf'"),
        (["--null", "missing.laminar"], "missing.laminar"),
    ],
)
def test_what_a_report_cannot_do(words: list[str], about: str, command: Run, saved: Path) -> None:
    assert_refused(command("report", saved, *words), 2, about)


def test_an_unknown_null_of_a_model_is_refused(command: Run, model_folder: Path) -> None:
    words = ["--prompt", "a", "--null", "other", "--device", "cpu"]
    assert_refused(command("report", model_folder, *words), 2, "no null 'other'")


def test_a_capture_of_a_null_says_so(command: Run, model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "null.laminar"
    code, _, _ = command(
        "capture", model_folder, "--prompt", "abc", "--device", "cpu", "--null", "shuffled", "-q", "-o", path
    )
    assert code == 0
    assert Profile.load(path).origin.recipe == "null: shuffled tokens"
    code, out, _ = command("show", path, "--width", "70")
    assert code == 0
    assert "NULL: shuffled tokens" in out
    assert "not the model's weights" not in out


def test_a_comparison_says_what_changed(command: Run, small_profile: Profile, saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.laminar"
    layers = (small_profile.layers[3], *small_profile.layers[1:])
    replace(small_profile, layers=layers, origin=replace(small_profile.origin, dtype="float16")).save(other)
    code, out, err = command("compare", saved, other, "--population", "past")
    assert (code, err) == (0, "")
    assert "The same: model, tokens, recipe; different: dtype." in out
    assert "The largest change is in layer 0" in out
    code, out, _ = command("compare", saved, other, "--format", "json")
    assert json.loads(out)["wasserstein"][1] is None


@pytest.mark.parametrize(
    ("words", "about"),
    [(["--format", "pdf"], "no format"), (["--population", "x"], "no population"), (["--sink", "x"], "no sink choice")],
)
def test_what_a_comparison_cannot_do(words: list[str], about: str, command: Run, saved: Path) -> None:
    assert_refused(command("compare", saved, saved, *words), 2, about)


def test_no_profile_is_bad_for_both(command: Run, tmp_path: Path, saved: Path) -> None:
    bad = tmp_path / "bad.laminar"
    bad.write_bytes(b"nothing")
    assert_refused(command("report", bad), 4, "bad.laminar")
    assert_refused(command("compare", saved, bad), 4, "bad.laminar")


def test_escape_sequences_of_a_profile_reach_no_terminal(command: Run, small_profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "odd.laminar"
    evil = replace(small_profile.origin, model="\x1b]52;c;x\x07\u202e", dtype="\x9b31m", recipe="\x1b[2J")
    replace(small_profile, origin=evil).save(path)
    for words in (
        ["report", path],
        ["report", path, "--json"],
        ["compare", path, path],
        ["compare", path, path, "--json"],
    ):
        code, out, err = command(*words)
        assert code == 0
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out + err)


@pytest.mark.parametrize("words", [["report"], ["compare", str(SAMPLE_PROFILE)]])
def test_files_need_no_torch(words: list[str]) -> None:
    arguments = [*words, str(SAMPLE_PROFILE)]
    assert heavy_after(f"from laminar_tui.cli import main; assert main({arguments!r}) == 0") == []
