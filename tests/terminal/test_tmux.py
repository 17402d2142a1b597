"""The whole story in tmux: start, stop, watch it fill, walk to a head, change what is seen, another prompt, quit."""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from emulator import SLOW, clean_environment, program

pytestmark = [
    pytest.mark.terminal,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]

WORDS = "the cat sat on the mat and the dog sat on the cat"


class Tmux:
    """A shell in a tmux server of its own."""

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self._socket = str(folder / "tmux")
        self._environment = clean_environment(folder, TERM="xterm-256color", TMUX_TMPDIR=str(folder))
        width, height = size
        self._call("-f", os.devnull, "new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(folder), "sh")
        # Without a wait after it, Escape and the next key are read as alt and that key.
        self._call("set-option", "-s", "escape-time", "0")

    def _call(self, *words: str) -> str:
        command = ["tmux", "-u", "-S", self._socket, *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=SLOW, check=True)
        return done.stdout

    def type(self, text: str) -> None:
        """Send characters."""
        self._call("send-keys", "-l", text)

    def key(self, *names: str) -> None:
        """Send keys by tmux's names."""
        self._call("send-keys", *names)

    @property
    def text(self) -> str:
        """What is on the screen."""
        return self._call("capture-pane", "-p")

    def until(self, holds: str | Callable[[str], bool]) -> str:
        """Wait for a text on the screen, or for a condition of it, and give the screen."""
        end = time.monotonic() + SLOW
        while True:
            text = self.text
            if holds in text if isinstance(holds, str) else holds(text):
                return text
            assert time.monotonic() < end, f"never: {holds}\n{text}"
            time.sleep(0.05)

    def settled(self) -> str:
        """Wait until the screen has been the same for a while, and give it."""
        before, same = self.text, 0
        while same < 8:
            time.sleep(0.05)
            now = self.text
            same = same + 1 if now == before else 0
            before = now
        return before

    def close(self) -> None:
        """End the server and all in it."""
        self._call("kill-server")


@pytest.fixture(params=[(80, 24), (160, 48)], ids=["80x24", "160x48"])
def tmux(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Tmux]:
    folder = tmp_path_factory.mktemp("t")  # short: a socket's path has a limit
    shell = Tmux(folder, request.param)
    shell.until(is_waiting)
    yield shell
    shell.close()


def is_waiting(text: str) -> bool:
    """Whether the shell waits for a command."""
    return text.rstrip().endswith(("$", "#"))


def n_read(text: str) -> int:
    """How many layers the status says have been read; -1 if it says nothing."""
    found = re.search(r"(\d+) of \d+ layers", text)
    return int(found[1]) if found else -1


def test_the_whole_story(tmux: Tmux, model: Path) -> None:
    tmux.type(f"{shlex.join(program(str(model), '--prompt', WORDS))}; echo code=$?")
    tmux.key("Enter")

    tmux.until("starting torch")
    tmux.key("Escape")
    tmux.until("stopped")
    tmux.type("r")
    tmux.until(lambda text: n_read(text) > 0 and "checks passed" in text)
    empty = tmux.text.count("╱")
    assert empty < 60, "no layer is hatched any more"

    n_layers = n_read(tmux.text)
    layer = min(2, n_layers - 1)
    tmux.type("l" * layer)
    tmux.until(f" layer {layer} ")
    tmux.key("Enter")
    tmux.until(f"laminar › layer {layer} ")
    tmux.type("lll")
    tmux.until(" head 3 ")
    tmux.key("Enter")
    head = tmux.until(f"layer {layer} › head 3")
    assert "final token looks at:" in head
    assert re.search("[\u2801-\u28ff]", head), "its curve is drawn"
    assert "cat" in head

    tmux.type("p")
    tmux.until("each token → itself")
    tmux.type("p")
    tmux.until("each token → previous tokens")
    with_sink = tmux.until("with sink")
    tmux.type("s")
    without_sink = tmux.until("sink left out")
    assert without_sink != with_sink

    tmux.type("e")
    tmux.until(WORDS)
    tmux.type(" again")
    tmux.key("Enter")
    tmux.until(lambda text: "checks passed" in text and "Enter runs" not in text)
    tmux.type("3")
    tmux.until(lambda text: "·again" in text)

    tmux.key("Escape")
    tmux.until(lambda text: "› head" not in text)
    tmux.type("q")
    last = tmux.until(lambda text: re.search(r"^code=\d", text, re.M) is not None)
    assert "code=0" in last
    tmux.until(is_waiting)
    assert "Quit" not in last, "the alternate screen is gone"


def test_ctrl_z_goes_to_the_shell_and_fg_comes_back(tmux: Tmux, big_profile: Path) -> None:
    tmux.type("bash --norc")
    tmux.key("Enter")
    tmux.until(lambda text: text.count("\n") > 0 and len(text.split("bash --norc")) > 1 and is_waiting(text))
    tmux.type(shlex.join(program(str(big_profile))))
    tmux.key("Enter")
    tmux.until("density, layer 0")
    before = tmux.settled()
    tmux.key("C-z")
    tmux.until("Stopped")
    tmux.type("fg")
    tmux.key("Enter")
    tmux.until(lambda text: text == before)
    tmux.type("l")
    tmux.until(" layer 1 ")
    tmux.type("q")
    tmux.until(lambda text: "Quit" not in text)


def test_in_at_most_ten_keys_the_satellites_are_named(tmux: Tmux) -> None:
    """On the sample, a small language model on a paragraph: which tokens are layer 18's weights above 0.6?"""
    tmux.type(f"{shlex.join(program('--sample'))}; echo code=$?")
    tmux.key("Enter")
    tmux.until("density, layer 0")
    keys = ["/", "1", "8", ">", ".", "6", "Enter", "Tab"]
    assert len(keys) <= 10
    for key in keys:
        tmux.key(key)
    said = tmux.until(lambda text: "layer 18: all 6 weights above" in text)
    assert "0.6 are key 0 'Photos', the first token" in without_gaps(said)
    listed = re.findall(r"^.*?[ ►](\d) +117 \. +0 .*(0\.\d{4}|>\.9999)", said, re.M)
    assert [head for head, _ in listed] == ["8", "7", "6", "5", "1", "0"]

    tmux.key("j", "Enter")
    tmux.until(lambda text: "layer 18 › head 7" in text and "final token looks at:  Photos (0)" in text)
    tmux.key("Escape")
    tmux.until(lambda text: "› head" not in text)
    tmux.type("q")
    tmux.until(lambda text: re.search(r"^code=0", text, re.M) is not None)


def without_gaps(screen: str) -> str:
    """The right part of a screen as one text: what is beside the picture, its lines joined."""
    beside = [re.split(r"  ▀?[ \d.e-]*  +(?=\S)|^ ", line)[-1] for line in screen.splitlines()]
    return re.sub(r"\s+", " ", " ".join(beside))


def test_after_a_run_any_query_can_be_looked_at(tmux: Tmux, model: Path) -> None:
    tmux.type(f"{shlex.join(program(str(model), '--prompt', WORDS))}; echo code=$?")
    tmux.key("Enter")
    tmux.until(lambda text: "checks passed" in text)
    tmux.type("3,,,")
    tmux.until(lambda text: re.search(r"query \d+ '\S+' looks at:", text) is not None)
    tmux.type("m")
    tmux.until("weight of every key")
    tmux.until(lambda text: re.search(r"weight (\d\.\d{4}|\d(\.\d)?e-\d+|>\.9999)  rank \d+ of", text) is not None)
    tmux.type("q")
    tmux.until(lambda text: re.search(r"^code=0", text, re.M) is not None)
