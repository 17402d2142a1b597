"""From the shell and back: how it starts, what it answers to, and that the terminal is as it was afterwards."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from emulator import assert_given_back, clean_environment, program

pytestmark = pytest.mark.terminal

Emulate = Callable[..., Any]


def opened(emulate: Emulate, path: Path, **options: Any) -> Any:
    emulator = emulate(str(path), **options)
    emulator.until("layer 0 ")
    emulator.until(lambda: "drawing the curves" not in emulator.text)
    emulator.quiet()
    return emulator


@pytest.mark.parametrize("key", ["q", "\x11"], ids=["q", "ctrl+q"])
def test_quitting_gives_the_terminal_back(emulate: Emulate, big_profile: Path, key: str) -> None:
    emulator = opened(emulate, big_profile)
    assert b"\x1b[?1049h" in emulator.received
    emulator.type(key)
    assert emulator.exit_code() == 0
    assert_given_back(emulator.received)
    assert emulator.received.rsplit(b"\x1b[?1049l")[-1].count(b"\n") == 0, "nothing is said after it"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_give_the_terminal_back_and_are_told_by_the_exit_code(
    emulate: Emulate, big_profile: Path, number: int, code: int
) -> None:
    emulator = opened(emulate, big_profile)
    emulator.signal(number)
    assert emulator.exit_code() == code
    assert_given_back(emulator.received)


def test_a_terminal_that_is_closed_ends_it(emulate: Emulate, big_profile: Path) -> None:
    emulator = opened(emulate, big_profile)
    emulator.hang_up()
    assert emulator._wait_for_end(time.monotonic() + 10) == 129


def test_ctrl_c_quits_when_pressed_twice_only(emulate: Emulate, big_profile: Path) -> None:
    emulator = opened(emulate, big_profile)
    emulator.type("\x03")
    emulator.until("press ctrl+c once more to quit")
    emulator.type("l")
    emulator.until("layer 1 ")
    emulator.type("\x03\x03")
    assert emulator.exit_code() == 0
    assert_given_back(emulator.received)


def test_suspended_it_gives_the_terminal_back_and_continued_it_paints_again(
    emulate: Emulate, big_profile: Path
) -> None:
    emulator = opened(emulate, big_profile)
    before = emulator.text
    emulator.type("\x1a")
    emulator.until(emulator.is_stopped)
    emulator.quiet()
    assert_given_back(emulator.received)
    at = len(emulator.received)
    emulator.signal(signal.SIGCONT)
    emulator.until(lambda: b"\x1b[?1049h" in emulator.received[at:])
    emulator.until(lambda: emulator.text == before)
    emulator.quiet()
    assert len(emulator.received) - at > 3_000, "all of it is painted anew"
    emulator.type("l")
    emulator.until("layer 1 ")
    emulator.type("q")
    assert emulator.exit_code() == 0


def test_a_storm_of_sizes_is_survived(emulate: Emulate, big_profile: Path) -> None:
    emulator = opened(emulate, big_profile)
    before = emulator.text
    for size in [(200, 60), (1, 1), (60, 16), (59, 15), (3, 40), (200, 1), (400, 120), (1, 1)] * 3:
        emulator.resize(*size)
        time.sleep(0.02)
    emulator.resize(80, 24)
    emulator.until(lambda: emulator.text == before)
    emulator.type("q")
    assert emulator.exit_code() == 0


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
def test_what_is_typed_in_one_go_is_typed_whole(emulate: Emulate, big_profile: Path, size: tuple[int, int]) -> None:
    emulator = opened(emulate, big_profile, size=size)
    emulator.type("/18>.6\r")
    emulator.until("layer 18 ")
    emulator.until("weights above 0.6")
    emulator.type("q")
    assert emulator.exit_code() == 0


# -- the start -------------------------------------------------------------------------------------------------------


def modules_at_exit(folder: Path) -> dict[str, str]:
    """An environment in which Python writes the names of its modules into `folder/modules` when it ends."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import atexit, pathlib, sys\n"
        f"write = pathlib.Path({str(folder / 'modules')!r}).write_text\n"
        "atexit.register(lambda: write(chr(10).join(sorted(sys.modules))))\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


def test_a_saved_profile_is_walked_without_torch(emulate: Emulate, big_profile: Path, tmp_path: Path) -> None:
    emulator = opened(emulate, big_profile, **modules_at_exit(tmp_path))
    for key, shows in (("a", "log"), ("2", "head 0"), ("3", "final token looks at"), ("4", "curve"), ("i", "Checked")):
        emulator.type(key)
        emulator.until(shows)
    emulator.type("q")
    emulator.quiet()
    emulator.type("q")
    assert emulator.exit_code() == 0
    modules = set((tmp_path / "modules").read_text().split())
    assert "textual" in modules
    assert not modules & {"torch", "transformers", "scipy.stats", "huggingface_hub", "matplotlib"}


def test_the_first_frame_does_not_wait_for_torch(emulate: Emulate, model: Path) -> None:
    emulator = emulate(str(model), "--prompt", "one two three")
    emulator.until("starting torch")
    assert "q Quit" in emulator.text


def test_without_a_terminal_it_names_the_command_that_needs_none(big_profile: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        program(str(big_profile)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        env=clean_environment(tmp_path),
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "laminar-tui show" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("term", ["dumb", None])
def test_on_a_dumb_terminal_it_does_not_start(emulate: Emulate, big_profile: Path, term: str | None) -> None:
    emulator = emulate(str(big_profile), TERM=term)
    assert emulator.exit_code() == 2
    assert b"laminar-tui show" in emulator.received
    assert b"\x1b" not in emulator.received


def test_with_its_output_in_a_pipe_it_still_draws_on_the_terminal(
    emulate: Emulate, big_profile: Path, tmp_path: Path
) -> None:
    line = f"{shlex.join(program(str(big_profile)))} > {shlex.quote(str(tmp_path / 'out'))}"
    emulator = emulate(command=["/bin/sh", "-c", line])
    emulator.until("layer 0 ")
    emulator.type("q")
    assert emulator.exit_code() == 0
    assert (tmp_path / "out").read_bytes() == b""


def test_a_piped_prompt_is_read_and_the_keys_come_from_the_terminal(emulate: Emulate, model: Path) -> None:
    line = f"printf 'one two three four' | {shlex.join(program(str(model), '--prompt', '-'))}"
    emulator = emulate(command=["/bin/sh", "-c", line])
    emulator.until("checks passed")
    emulator.type("e")
    emulator.until("one two three four")
    emulator.type("\x1b")
    emulator.until(lambda: "one two three four" not in emulator.text)
    emulator.type("q")
    assert emulator.exit_code() == 0
    assert_given_back(emulator.received)


def test_quitting_does_not_wait_for_an_import_that_takes_a_minute(
    emulate: Emulate, model: Path, tmp_path: Path
) -> None:
    """benchmarks/process.py says how soon it is; here it is either at once or far too late."""
    path = modules_at_exit(tmp_path)["PYTHONPATH"]
    (tmp_path / "site" / "torch.py").write_text("import time\ntime.sleep(60)\n")
    emulator = emulate(str(model), "--prompt", "one two three", PYTHONPATH=path)
    emulator.until("starting torch")
    emulator.type("q")
    assert emulator.exit_code(timeout=20) == 0
    assert_given_back(emulator.received)


def test_what_was_written_is_said_in_the_shell(emulate: Emulate, big_profile: Path, tmp_path: Path) -> None:
    emulator = opened(emulate, big_profile)
    emulator.type("w")
    emulator.until("Enter writes")
    emulator.type("\r")
    emulator.until("saved as model.laminar")
    emulator.type("q")
    assert emulator.exit_code() == 0
    assert emulator.received.endswith(b"wrote model.laminar\r\n")
    assert (tmp_path / "model.laminar").stat().st_size == big_profile.stat().st_size


def test_an_unknown_file_is_answered_before_the_screen_is_taken(emulate: Emulate, tmp_path: Path) -> None:
    emulator = emulate(str(tmp_path / "no.laminar"))
    assert emulator.exit_code() in (2, 4)
    assert b"no.laminar" in emulator.received
    assert b"\x1b[?1049h" not in emulator.received


# -- colours -------------------------------------------------------------------------------------------------------


COLOURED = re.compile(rb"\x1b\[[0-9;]*\b(3[0-7]|4[0-7]|9[0-7]|10[0-7]|[34]8;[25];[0-9;]+)\b[0-9;]*m")


def test_no_color_draws_with_glyphs(emulate: Emulate, big_profile: Path) -> None:
    emulator = opened(emulate, big_profile, NO_COLOR="1")
    assert re.search("[░▒▓█]{2}", emulator.text)


def test_an_empty_no_color_is_not_set(emulate: Emulate, big_profile: Path) -> None:
    emulator = opened(emulate, big_profile, NO_COLOR="")
    colours = re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", emulator.received)
    assert any(len(set(colour)) == 3 for colour in colours), "not even greys"


@pytest.mark.parametrize(
    ("options", "pattern"), [(["--color", "256"], rb"[34]8;2;"), (["--color", "16"], rb"[34]8;[25];")]
)
def test_no_more_colours_are_sent_than_were_asked_for(
    emulate: Emulate, big_profile: Path, options: list[str], pattern: bytes
) -> None:
    emulator = emulate(str(big_profile), *options)
    emulator.until("layer 0 ")
    emulator.quiet()
    assert COLOURED.search(emulator.received)
    assert not re.search(pattern, emulator.received)


def test_ascii_is_ascii(emulate: Emulate, big_profile: Path) -> None:
    emulator = emulate(str(big_profile), "--ascii", LANG="C")
    emulator.until("layer 0 ")
    for key, shows in (("2", "head 0"), ("3", "final token looks at"), ("4", "curve"), ("1", "layer 0 ")):
        emulator.type(key)
        emulator.until(shows)
        emulator.quiet()
        assert emulator.text.isascii(), re.findall(r"[^\x00-\x7f]", emulator.text)
