"""The log: bounded, for its owner, harmless, without the prompt; nothing that goes wrong with it stops a run."""

import logging
import os
import threading
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laminar_tui import log
from laminar_tui.cli import main
from laminar_tui.errors import PromptError, UntrustedWeightsError, UsageError
from laminar_tui.log import LOGGER, hide, last_lines, lead_into_log, start_log, start_log_for, stop_log
from laminar_tui.profile.journal import Journal
from laminar_tui.profile.profile import Check, Profile
from laminar_tui.record import Record
from laminar_tui.run import LayerRead, Request, Started, Step

SECRET = "the eagle lands at noon"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where the log of this test is; it ends with the test."""
    yield tmp_path / "here.log"
    stop_log()


def test_it_is_in_the_state_folder_and_only_its_owner_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    start_log()
    assert not (tmp_path / "state").exists(), "nothing is made before the first line"
    LOGGER.info("hello")
    stop_log()
    found = tmp_path / "state" / "laminar_tui" / "laminar.log"
    assert "hello" in found.read_text()
    assert found.stat().st_mode & 0o777 == 0o600
    assert found.parent.stat().st_mode & 0o777 == 0o700


def test_it_is_bounded_and_what_leads_to_it_follows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_BYTES", 5_000)
    start_log(path)
    stray = os.open(os.devnull, os.O_WRONLY)
    try:
        assert lead_into_log(stray)
        os.write(stray, b"written by a library\n")
        assert "written by a library" in path.read_text()
        for number in range(400):
            LOGGER.info("line %d of some length, so that it is full soon", number)
        os.write(stray, b"written after it was full\n")
    finally:
        os.close(stray)
    assert "written after it was full" in path.read_text()
    assert "line 399" in path.read_text()
    files = list(path.parent.iterdir())
    assert len(files) == 1 + log.N_OLD
    assert sum(each.stat().st_size for each in files) < 5_100 * (1 + log.N_OLD)
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}


@pytest.mark.parametrize("make", [lambda path: path.symlink_to(path.parent / "target"), os.mkfifo, Path.mkdir])
def test_it_is_written_to_no_link_and_no_device(make: Callable[[Path], None], path: Path) -> None:
    make(path)
    with pytest.raises(UsageError, match="cannot write the log"):
        start_log(path)
    assert not (path.parent / "target").exists()


def test_a_state_folder_that_cannot_be_made_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    start_log()
    LOGGER.error("nobody hears it")
    assert not lead_into_log(99)
    assert last_lines() == []
    stop_log()


def test_its_lines_are_harmless_also_those_that_others_wrote(path: Path) -> None:
    start_log(path)
    LOGGER.info("model %s", "\x1b]52;c;aGk=\x07\u202eevil")
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        LOGGER.exception("failed")
    assert not set(path.read_bytes()) & {0x1B, 0x07}
    with path.open("ab") as file:
        file.write(b"\x1b[31mstray\xff\n")
    lines = last_lines()
    assert lines[-1] == "␛[31mstray�"
    assert not any(character < " " for line in lines for character in line)


def test_the_last_lines_are_few_of_many(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SHOWN_BYTES", 1_000)
    start_log(path)
    for number in range(200):
        LOGGER.info("line %d", number)
    lines = last_lines()
    assert lines[-1].endswith("line 199")
    assert 5 < len(lines) < 20
    assert all("INFO" in line for line in lines), "the first one is not half of a line"


def test_libraries_and_threads_and_warnings_are_heard(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in log.LIBRARIES:  # other tests have silenced some
        caplog.set_level(logging.WARNING, name)
    start_log(path)
    logging.getLogger("transformers").warning("from transformers")
    logging.getLogger("huggingface_hub.file_download").warning("from the hub")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            warnings.warn("a warning", stacklevel=1)
        finally:
            logging.captureWarnings(False)
    text = path.read_text()
    for words in ("from transformers", "from the hub", "a bug in a thread", "ZeroDivisionError", "a warning"):
        assert words in text


def options(**changes: Any) -> Namespace:
    plain = {"log_file": None, "verbose": False, "log_prompt": False, "source": "some/model", "prompt": SECRET}
    return Namespace(**(plain | changes))


@pytest.mark.parametrize("is_wanted", [False, True])
def test_the_prompt_is_in_it_only_when_asked_for(is_wanted: bool, path: Path) -> None:
    start_log_for(options(log_file=str(path), log_prompt=is_wanted), "capture")
    hide(f"{SECRET}\nand more of it")
    LOGGER.error("cannot tokenize %r", SECRET)
    LOGGER.error("and more of it")
    text = path.read_text()
    assert "capture" in text
    assert "some/model" in text
    assert (SECRET in text) == is_wanted
    assert ("and more of it" in text) == is_wanted
    assert ("<prompt>" in text) != is_wanted


def run_events(record: Record, profile: Profile) -> None:
    record.take(Step("loading some/model"))
    record.take(Started(replace(profile, layers=(None,) * profile.n_layers)))
    record.take(Step("forward", 0, profile.n_layers))
    for index, layer in enumerate(profile.layers):
        if layer is not None:
            record.take(LayerRead(index, layer))


def test_a_run_tells_its_story(path: Path, small_profile: Profile) -> None:
    start_log(path)
    record = Record(Request(prompt=SECRET))
    run_events(record, small_profile)
    bad = Check("weights are finite", False, "3 are not")
    record.end(replace(small_profile, origin=replace(small_profile.origin, checks=(*small_profile.origin.checks, bad))))
    text = path.read_text()
    for words in (
        "tiny/model revision step1000 (llama), 4 layers, float32 on cpu, T = 12",
        "loading some/model: 0.0 s",
        "forward: 0.0 s",
        "check passed: rows sum to 1",
        "check FAILED: weights are finite: 3 are not",
    ):
        assert words in text, text
    assert SECRET not in text


def test_an_error_is_told_with_its_traceback(path: Path) -> None:
    start_log(path)
    try:
        raise PromptError("too long", "shorten it")
    except PromptError as error:
        Record(Request(prompt=SECRET)).fail(error)
    assert "ERROR" in path.read_text()
    assert "Traceback" in path.read_text()
    assert "PromptError: too long\nshorten it\n" in path.read_text()


# -- the journal of a record ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "is_kept"), [(KeyboardInterrupt(), True), (ValueError(), True), (UntrustedWeightsError("no"), False)]
)
def test_what_was_read_is_kept_unless_it_is_not_to_be_believed(
    error: BaseException, is_kept: bool, small_profile: Profile, tmp_path: Path
) -> None:
    record = Record(Request(prompt=SECRET), folder=tmp_path)
    run_events(record, small_profile)
    record.fail(error)
    record.close()
    assert len(list(tmp_path.iterdir())) == is_kept


def test_a_run_that_fails_before_its_first_layer_leaves_nothing(small_profile: Profile, tmp_path: Path) -> None:
    record = Record(Request(prompt=SECRET), folder=tmp_path)
    record.take(Started(replace(small_profile, layers=(None,) * 4)))
    record.fail(KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_journal_and_not_the_run(
    path: Path, small_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_log(path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "add", full)
    record = Record(Request(prompt=SECRET), folder=tmp_path)
    run_events(record, small_profile)
    record.end(small_profile)
    assert path.read_text().count("no longer kept") == 1
    record.remove()
    assert [each.name for each in tmp_path.iterdir()] == [path.name], "what was given up can still be taken away"
    missing = Record(Request(prompt=SECRET), folder=tmp_path / "missing")
    run_events(missing, small_profile)
    assert "not kept while it goes on" in path.read_text()


def test_the_command_line_writes_a_log_without_the_prompt(path: Path, small_profile: Profile, tmp_path: Path) -> None:
    small_profile.save(tmp_path / "run.laminar")
    # Beside a profile a prompt is refused, which the log is begun before.
    assert main(["show", str(tmp_path / "run.laminar"), "--log-file", str(path), "--prompt", SECRET]) == 2
    assert "show" in path.read_text()
    assert SECRET not in path.read_text()
    assert main(["show", str(tmp_path / "run.laminar"), "--log-file", str(tmp_path)]) == 2
