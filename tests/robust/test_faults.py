"""Faults put in on purpose, one after another: a save that fails leaves the old file, a run that fails says so.

Each is something that happens: a full disk, a folder that cannot be written to, memory that is not enough, a library
that prints, a model that makes NaN. Special files are pipes, sockets and links in a folder of the test's own.
"""

import builtins
import errno
import io
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import Run, names_below

from laminar_tui.errors import CancelledError, LaminarError, UntrustedWeightsError, UsageError
from laminar_tui.export import export_profile
from laminar_tui.model.capture import capture
from laminar_tui.model.load import load_model
from laminar_tui.model.loaded import LoadedModel
from laminar_tui.profile.profile import Profile
from laminar_tui.run import Request, Session
from laminar_tui.source import find_source

OLD = b"the old file"
Model = Callable[..., Any]

# -- every step of a save --------------------------------------------------------------------------------------------

STEPS = ("open", "write", "flush", "fsync", "close", "replace", "open the folder", "fsync the folder")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINTR)
AFTER_RENAME = ("open the folder", "fsync the folder")
"""Steps that come when the new file is in its place: it stays, whole, and is not said to have failed."""


class Faulty:
    """A file whose write, flush or close fails; half of what is written arrives before."""

    def __init__(self, file: Any, step: str, error: OSError) -> None:
        self._file, self._step, self._error = file, step, error

    def _do(self, step: str, do: Callable[[], Any]) -> Any:
        if step == self._step:
            raise self._error
        return do()

    def write(self, payload: bytes) -> Any:
        if self._step == "write":
            self._file.write(payload[: len(payload) // 2])
        return self._do("write", lambda: self._file.write(payload))

    def flush(self) -> Any:
        return self._do("flush", self._file.flush)

    def close(self) -> Any:
        self._file.close()
        return self._do("close", lambda: None)

    def __enter__(self) -> "Faulty":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def break_step(patch: pytest.MonkeyPatch, step: str, number: int) -> None:
    """Let one step of every save fail, however it is done: with paths or with descriptors."""
    error = OSError(number, os.strerror(number))
    is_folder: dict[int, bool] = {}
    real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "rename")}
    real_open = io.open

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    def open_file(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set("wxa+") & set(mode):
            return real_open(file, mode, *args, **kwargs)
        if step == "open":
            raise error
        return Faulty(real_open(file, mode, *args, **kwargs), step, error)

    def open_descriptor(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        folder = os.path.isdir(path)  # noqa: PTH112
        if step == ("open the folder" if folder else "open"):
            raise error
        descriptor = int(real["open"](path, flags, *args, **kwargs))
        is_folder[descriptor] = folder
        return descriptor

    def fsync(descriptor: int) -> None:
        if step == ("fsync the folder" if is_folder.get(descriptor) else "fsync"):
            raise error
        real["fsync"](descriptor)

    for module in (builtins, io, pathlib.io):  # type: ignore[attr-defined]
        patch.setattr(module, "open", open_file)
    patch.setattr(os, "open", open_descriptor)
    patch.setattr(os, "fsync", fsync)
    if step == "replace":
        patch.setattr(os, "replace", fail)
        patch.setattr(os, "rename", fail)


def save_profile(profile: Profile, path: Path) -> None:
    profile.save(path)


def save_table(profile: Profile, path: Path) -> None:
    export_profile(profile, "csv", path)


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("existed", [True, False], ids=["replacing", "new"])
@pytest.mark.parametrize("save", [save_profile, save_table])
def test_a_step_of_a_save_fails(
    step: str, number: int, existed: bool, save: Callable[..., None], small_profile: Profile, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    save(small_profile, path)
    new = path.read_bytes()
    path.unlink()
    if existed:
        path.write_bytes(OLD)
    with pytest.MonkeyPatch.context() as patch:
        break_step(patch, step, number)
        said = None
        try:
            save(small_profile, path)
        except UsageError as error:
            said = error.message
    failed = said is not None
    assert said is None or (str(path) in said and os.strerror(number) in said)
    arrived = path.exists() and path.read_bytes() == new
    assert failed != arrived, "what is said to have failed has, and the other way round"
    assert arrived == (step in AFTER_RENAME)
    if existed and not arrived:
        assert path.read_bytes() == OLD
    assert names_below(tmp_path) <= {"file"}, "no debris"


@pytest.mark.parametrize("what", [KeyboardInterrupt, MemoryError, SystemExit])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_is_interrupted(
    step: str, what: type[BaseException], small_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def interrupt(*_: object) -> None:
        raise what

    with monkeypatch.context() as patch:
        patch.setattr(os, step, interrupt)
        with pytest.raises(what):
            small_profile.save(path)
    assert path.read_bytes() == OLD
    assert names_below(tmp_path) == {"file"}


def test_a_disk_that_fills_up(small_profile: Profile, tmp_path: Path) -> None:
    """By the limit on the size of files: what the kernel really does when there is no room."""
    small_profile.save(tmp_path / "whole")
    path = tmp_path / "file"
    path.write_bytes(OLD)
    before, room = resource.getrlimit(resource.RLIMIT_FSIZE), (tmp_path / "whole").stat().st_size // 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(UsageError, match="File too large"):
            small_profile.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == OLD
    assert names_below(tmp_path) == {"file", "whole"}


def test_a_disk_that_fills_up_under_a_pipe_of_the_shell(small_profile: Profile, tmp_path: Path) -> None:
    """`show FILE > picture` on a full disk says so, and is no success."""
    small_profile.save(tmp_path / "p.laminar")
    program = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1));"
    program += "from laminar_tui.cli import main; sys.exit(main(sys.argv[1:]))"
    for words in (["show"], ["export", "--to", "csv", "-o", "-"]):
        with (tmp_path / "picture").open("wb") as picture:
            words = [words[0], str(tmp_path / "p.laminar"), *words[1:]]
            done = subprocess.run(
                [sys.executable, "-c", program, *words],
                stdout=picture,
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
                # Unbuffered, Python itself loses the rest of a short write without a word.
                env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            )
        assert done.returncode == 2, done
        assert b"Traceback" not in done.stderr
        assert b"File too large" in done.stderr


def test_a_folder_that_cannot_be_written_to(
    small_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere, so that the answer of the system is put in for root."""
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "file").write_bytes(OLD)
    folder.chmod(0o555)
    with monkeypatch.context() as patch:
        if os.geteuid() == 0:
            break_step(patch, "open", errno.EACCES)
        with pytest.raises(UsageError, match="Permission denied"):
            small_profile.save(folder / "file")
    assert (folder / "file").read_bytes() == OLD
    folder.chmod(0o755)
    assert names_below(folder) == {"file"}


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)  # a path of its own is often too long for a socket


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a fifo": lambda path: os.mkfifo(path),
    "a socket": _socket,
    "a link to a file": lambda path: (path.with_name("target").write_bytes(OLD), path.symlink_to("target")),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", SPECIAL)
def test_a_target_that_is_no_regular_file(
    what: str, small_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
    SPECIAL[what](path)
    before, kind = names_below(tmp_path), path.lstat().st_mode
    with pytest.raises(UsageError, match="no regular file"):
        small_profile.save(path)
    assert (names_below(tmp_path), path.lstat().st_mode) == (before, kind)
    assert "target" not in before or (tmp_path / "target").read_bytes() == OLD


def test_a_link_laid_where_the_file_beside_will_be_is_not_followed(small_profile: Profile, tmp_path: Path) -> None:
    """In a folder that others may write to, the name of the file beside must be of no use to them."""
    precious, path = tmp_path / "precious", tmp_path / "file"
    precious.write_bytes(OLD)
    small_profile.save(path)
    for name in (f".file.{os.getpid()}.part", "file.part", ".file.part"):
        (tmp_path / name).symlink_to(precious)
    small_profile.save(path)
    assert precious.read_bytes() == OLD


# -- every layer of a run --------------------------------------------------------------------------------------------

RAISED: dict[str, tuple[BaseException, type[BaseException]]] = {
    "RuntimeError": (RuntimeError("shape '[1]' is invalid \x1b[2J"), LaminarError),
    "IndexError": (IndexError("index out of range in self"), LaminarError),
    "KeyboardInterrupt": (KeyboardInterrupt(), KeyboardInterrupt),
    "MemoryError": (MemoryError(), LaminarError),
    "OutOfMemoryError": (torch.OutOfMemoryError("CUDA out of memory"), LaminarError),
}
LAYERS = (0, 1, 2)


@contextmanager
def failing(model: Any, layer: int, error: BaseException) -> Iterator[None]:
    """Let the MLP of one layer raise, from the fourth forward on: the first three only look at the model."""

    def fail(*_: object) -> None:
        raise error

    handle = model.model.layers[layer].mlp.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("what", RAISED)
def test_a_layer_raises_and_the_model_is_as_it_was(what: str, layer: int, tiny_model: Model) -> None:
    model = tiny_model("llama", num_hidden_layers=3)
    ids = torch.arange(1, 21)
    whole = capture(model, ids)
    before = (model.config._attn_implementation, model.training, len(model._forward_hooks))
    read: list[int] = []
    error, answer = RAISED[what]
    with failing(model, layer, error), pytest.raises(answer):
        capture(model, ids, on_layer=lambda index, _layer: read.append(index))
    assert read == list(range(layer + 1)), "the layers before, and the attention of this one"
    assert (model.config._attn_implementation, model.training, len(model._forward_hooks)) == before
    again = capture(model, ids)
    assert again.layers[2] is not None
    assert whole.layers[2] is not None
    assert (again.layers[2].statistics["entropy"] == whole.layers[2].statistics["entropy"]).all()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_layer_makes_what_is_no_number(value: float, layer: int, tiny_model: Model) -> None:
    model = tiny_model("llama", num_hidden_layers=3)
    ids = torch.arange(1, 21)
    capture(model, ids)  # what is found out once about a model

    def spoil(_module: object, _args: object, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[0, 7, 3] = value
        return output

    handle = model.model.layers[layer].self_attn.q_proj.register_forward_hook(spoil)
    try:
        with pytest.raises(UntrustedWeightsError):
            capture(model, ids)
    finally:
        handle.remove()
    capture(model, ids)


@pytest.mark.parametrize("layer", LAYERS[:-1])
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_it_is_cancelled_in_a_layer_and_reads_no_other(family: str, layer: int, tiny_model: Model) -> None:
    model = tiny_model(family, num_hidden_layers=3)
    ids = torch.arange(1, 21)
    capture(model, ids)
    read: list[int] = []
    with pytest.raises(CancelledError):
        capture(
            model,
            ids,
            on_layer=lambda index, _layer: read.append(index),
            is_cancelled=lambda: len(read) > layer,
        )
    assert read == list(range(layer + 1))
    assert capture(model, ids).n_read == 3


def test_a_listener_that_raises_leaves_the_model_as_it_was(tiny_model: Model) -> None:
    model = tiny_model("llama")
    ids = torch.arange(1, 21)

    def fail(_index: int, _layer: object) -> None:
        raise ZeroDivisionError("a bug of the caller's")

    with pytest.raises(ZeroDivisionError):
        capture(model, ids, on_layer=fail)
    assert capture(model, ids).n_read == 2


# -- what surrounds a run --------------------------------------------------------------------------------------------


class Broken:
    """A tokenizer that fails."""

    is_fast = True

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, *_: object, **__: object) -> None:
        raise self._error


@pytest.mark.parametrize(
    "error",
    [Exception("from its own code"), TypeError("\x1b[2J"), OverflowError("int too big")],
    ids=lambda e: type(e).__name__,
)
def test_a_tokenizer_raises(error: Exception, model_folder: Path) -> None:
    loaded = load_model(find_source(str(model_folder)))
    with pytest.raises(LaminarError, match="token"):
        LoadedModel(loaded.model, Broken(error), loaded.source).tokenize("text")


@pytest.fixture
def noisy_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prints something in every forward that is read, from Python and from C."""
    from laminar_tui.model import mechanisms as module

    forward = module.forward

    def noisy(*args: Any, **kwargs: Any) -> Any:
        print("a library was here")
        os.write(1, b"and so was its C code\n")
        return forward(*args, **kwargs)

    monkeypatch.setattr(module, "forward", noisy)


@pytest.mark.usefixtures("noisy_libraries")
def test_what_libraries_print_during_a_run_does_not_reach_standard_output(command: Run, model_folder: Path) -> None:
    """Standard output is the profile: a byte of a library's would spoil it."""
    from laminar_tui.profile.file import parse_profile

    code, out, _ = command("capture", model_folder, "--prompt", "hello", "-q", "-o", "-")
    assert code == 0
    assert parse_profile(out).n_read == 2


@pytest.mark.usefixtures("noisy_libraries")
@pytest.mark.parametrize("word", ["check", "report"])
def test_nor_does_it_spoil_the_json_of_a_command_that_runs_a_model(word: str, command: Run, model_folder: Path) -> None:
    code, out, err = command(word, model_folder, "--prompt", "hello", "-q", "--json")
    assert code == 0
    assert b"a library was here" in err
    assert json.loads(out)


def test_a_session_outlives_every_failure(model_folder: Path) -> None:
    session, seen = Session(), []
    events = seen.append
    bad = [
        Request(str(model_folder / "nothing"), "a"),
        Request(str(model_folder), ""),
        Request(str(model_folder), "a" * 65),
        Request(str(model_folder), "a", dtype="float8"),
        Request(str(model_folder), "a", recipe="pie"),
    ]
    for request in bad:
        with pytest.raises(LaminarError):
            session.run(request, events, lambda: False)
    with pytest.raises(CancelledError):
        session.run(Request(str(model_folder), "a" * 20), events, lambda: True)
    assert session.run(Request(str(model_folder), "a" * 20), events, lambda: False).n_read == 2


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), SystemExit(3)], ids=lambda e: type(e).__name__
)
def test_whatever_ends_a_run_in_the_app_is_told(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that vanishes would leave the screen at `forward` for ever."""
    from laminar_tui.ui.messages import RunEnded, RunMessage
    from laminar_tui.ui.runner import Runner

    def fail(*_: object) -> Profile:
        raise error

    monkeypatch.setattr(Session, "run", fail)
    monkeypatch.setattr(threading, "excepthook", lambda _args: None)
    told: list[RunMessage] = []
    runner = Runner(told.append)
    runner.start(Request())
    assert runner._thread is not None
    runner._thread.join(10)
    assert not runner.is_running
    assert isinstance(told[-1], RunEnded)
    assert type(error).__name__ in told[-1].crash
