"""The hub: cache first, tries in words, the real status, a time limit, cancelled at any time. Loopback only."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_hub import COMMIT, STEP_COMMIT, Failure, StandInHub, serving

from laminar_tui.errors import CancelledError, LaminarError, ModelError, NetworkError, NotHereError
from laminar_tui.model import hub_calls
from laminar_tui.model.load import Terms, load_model
from laminar_tui.model.loaded import LoadedModel
from laminar_tui.source import find_source

ID = "someone/something"
TOLD = list[tuple[str, int, int]]


@pytest.fixture
def served(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub with the tiny model, an empty cache, and pauses that are counted instead of waited for."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "served"))
    (folder / "evil.py").write_text("raise SystemExit('code was run')")
    with serving(folder) as running:
        point_to(running.url, tmp_path / "cache", monkeypatch)
        yield running


def point_to(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    monkeypatch.setattr(hub_calls, "PAUSES", (0.01, 0.02, 0.03))
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def load(name: str = ID, timeout: float = 20.0, **options: Any) -> LoadedModel:
    return load_model(find_source(name), device="cpu", terms=Terms(timeout=timeout), **options)


def refusal(name: str = ID, **options: Any) -> LaminarError:
    with pytest.raises(LaminarError) as refused:
        load(name, **options)
    return refused.value


# -- what works ------------------------------------------------------------------------------------------------------


def test_a_model_is_fetched_once_and_then_taken_from_the_cache(served: StandInHub, tmp_path: Path) -> None:
    told: TOLD = []
    first = load(on_progress=lambda *step: told.append(step))
    assert first.tokenize("a word").ids
    fetching = [step for step in told if step[0].startswith(f"fetching {ID}: ")]
    assert fetching, "its size is shown before"
    assert fetching[0][1] < fetching[-1][1] == fetching[-1][2] > 0
    assert not list((tmp_path / "cache").rglob("*.py")), "code is not even fetched"
    n_asked = len(served.asked)
    load()
    assert len(served.asked) == n_asked, "the hub is not asked again"


@pytest.mark.parametrize(("name", "commit"), [(ID, COMMIT), (f"{ID}@step1000", STEP_COMMIT)])
def test_a_revision_is_its_own_snapshot(name: str, commit: str, served: StandInHub, tmp_path: Path) -> None:
    load(name)
    (snapshot,) = (tmp_path / "cache").glob("models--*/snapshots/*")
    assert snapshot.name == commit
    assert any(f"/resolve/{commit}/model.safetensors" in each for each in served.asked), "all from one commit"


@pytest.mark.usefixtures("served")
def test_half_a_cache_is_completed(tmp_path: Path) -> None:
    load()
    (parameters,) = (tmp_path / "cache").glob("models--*/snapshots/*/model.safetensors")
    parameters.resolve().unlink()
    parameters.unlink()
    load()
    assert parameters.is_file()


def test_what_does_not_fit_is_refused_before_its_parameters_are_fetched(served: StandInHub) -> None:
    with pytest.raises(LaminarError, match="of memory"):
        load_model(find_source(ID), device="cpu", terms=Terms(max_memory=1000))
    assert not any("model.safetensors" in each for each in served.asked)


def test_a_repo_that_holds_a_pickle_only_is_refused_before_it_is_fetched(served: StandInHub) -> None:
    (served.folder / "model.safetensors").rename(served.folder / "pytorch_model.bin")
    error = refusal()
    assert "pickle" in error.message
    assert "--allow-pickle" in error.hint
    assert not any("pytorch_model" in each for each in served.asked)


# -- what the hub answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "message", "hint"),
    [
        (Failure("/api/", 401), "HTTP 401: there is no model", "HF_TOKEN"),
        (
            Failure("/api/", 401, {"X-Error-Code": "GatedRepo"}),
            "HTTP 401: someone/something is gated",
            "licence|accept",
        ),
        (Failure("/resolve/", 403, {"X-Error-Code": "GatedRepo"}), "HTTP 403: .* is gated", "accept it .* HF_TOKEN"),
        (Failure("/api/", 403, {"X-Error-Message": "no plan"}), "HTTP 403: you may not read .*: no plan", "HF_TOKEN"),
        (Failure("/api/", 404), "HTTP 404: there is no model", "spelling"),
        (Failure("/api/", 429, {"Retry-After": "120"}), "HTTP 429: .* asks to wait 120 s", "HF_TOKEN"),
        (Failure("/api/", 503), r"HTTP 503: .* \(tried 4 times\)", "later"),
        (Failure("HEAD /someone/something/resolve", 503), r"HTTP 503: .* \(tried 4 times\)", "later"),
        (Failure("GET /someone/something/resolve", 500), r"HTTP 500: .* \(tried 4 times\)", "later"),
        (Failure("/api/", 418), "HTTP 418", ""),
    ],
)
def test_the_status_is_in_the_message_and_what_to_do_in_the_hint(
    failure: Failure, message: str, hint: str, served: StandInHub
) -> None:
    served.failures.append(failure)
    error = refusal()
    assert isinstance(error, NetworkError)
    assert re.search(message, error.message), error.message
    assert re.search(hint, error.hint), error.hint


@pytest.mark.usefixtures("served")
def test_an_unknown_model_and_an_unknown_revision_are_told_apart() -> None:
    assert "there is no model someone/else" in refusal("someone/else").message
    assert "has no such revision" in refusal(f"{ID}@step7").message


def test_an_id_that_is_none_is_refused_in_words(served: StandInHub) -> None:
    assert isinstance(refusal("some one/so?thing"), ModelError)
    assert served.asked == []


@pytest.mark.parametrize("on", ["/api/", "HEAD /someone/something/resolve", "GET /someone/something/resolve"])
@pytest.mark.parametrize("status", [429, 503])
def test_what_passes_is_tried_again(status: int, on: str, served: StandInHub) -> None:
    served.failures.append(Failure(on, status, {"Retry-After": "0"}, times=2))
    load()
    assert sum(on in each for each in served.asked) >= 3


def test_each_try_is_told(served: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_calls, "PAUSES", (0.2, 0.2, 0.2))
    served.failures.append(Failure("/api/", 503, times=2))
    told: TOLD = []
    load(on_progress=lambda *step: told.append(step))
    tries = [name for name, _, _ in told if "HTTP 503" in name]
    assert [name.split(": ")[1] for name in tries] == ["try 2 of 4 in 0.2 s", "try 3 of 4 in 0.2 s"]


def test_a_download_that_breaks_in_the_middle_is_gone_on_with(served: StandInHub) -> None:
    served.failures.append(
        Failure("GET /someone/something/resolve/" + COMMIT + "/model.safetensors", half=True, times=1)
    )
    assert load().tokenize("a word").ids
    assert sum("GET" in each and "model.safetensors" in each for each in served.asked) == 2


# -- no answer -------------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_no_unknown_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    point_to(f"http://127.0.0.1:{port}", tmp_path / "cache", monkeypatch)
    error = refusal()
    assert "cannot be reached" in error.message
    assert "refused" in error.message
    assert "tried 4 times" in error.hint


def test_offline_is_said_without_asking(served: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in refusal().message
    assert served.asked == []


def test_what_is_to_come_from_the_cache_alone_is_not_asked_for(served: StandInHub) -> None:
    with pytest.raises(NotHereError, match=re.escape(f"{ID} (main) is not on this machine")):
        load_model(find_source(ID), device="cpu", terms=Terms(cached_only=True))
    assert served.asked == []
    load()
    load_model(find_source(ID), device="cpu", terms=Terms(cached_only=True))


@pytest.mark.parametrize("on", ["/api/", "HEAD /someone", "GET /someone"])
def test_a_host_that_accepts_and_never_answers_is_given_up(on: str, served: StandInHub) -> None:
    served.failures.append(Failure(on, silent=True))
    error = refusal(timeout=0.6)
    assert isinstance(error, NetworkError)
    assert "nothing came" in error.message or "cannot be reached" in error.message
    assert "for 0.6 s" in error.message or "0.6 s" in error.hint


def test_huggingface_hub_does_not_try_again_in_silence(served: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_calls, "ANSWER_TIMEOUT", 0.2)
    served.failures.append(Failure("HEAD /someone", silent=True))
    error = refusal()
    assert "cannot be reached" in error.message
    assert sum("HEAD" in each for each in served.asked) == 4, "one request a try"


class SixthPoll:
    """Cancels when it is asked for the sixth time."""

    n_polls = 0

    def __call__(self) -> bool:
        self.n_polls += 1
        return self.n_polls > 5


@pytest.mark.parametrize(
    "failure",
    [Failure("/api/", silent=True), Failure("HEAD /someone", silent=True), Failure("GET /someone", stalls=True)],
    ids=["no answer", "no headers", "stalled"],
)
def test_it_is_cancelled_while_the_hub_is_silent(failure: Failure, served: StandInHub) -> None:
    served.failures.append(failure)
    is_cancelled = SixthPoll()
    with pytest.raises(CancelledError):
        load(is_cancelled=is_cancelled)
    assert is_cancelled.n_polls == 6, "it is over with the poll that said so: nothing is waited for"


def test_a_thread_that_was_left_behind_ends_when_bytes_come(served: StandInHub) -> None:
    """It must not go on to fetch gigabytes that nobody wants."""
    served.failures.append(Failure("GET /someone", stalls=True))
    is_cancelled = SixthPoll()
    with pytest.raises(CancelledError):
        load(is_cancelled=is_cancelled)
    served.failures.clear()
    n_asked = len(served.asked)
    served.closing.set()  # the connection breaks, and huggingface_hub would resume
    for thread in threading.enumerate():
        if thread.name == "hub":
            thread.join(5)
            assert not thread.is_alive()
    assert len(served.asked) == n_asked


# -- the program -----------------------------------------------------------------------------------------------------


def program(served: StandInHub, tmp_path: Path, *words: str) -> "subprocess.Popen[str]":
    environment = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "HF_ENDPOINT": served.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "laminar_tui", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_fetches_a_revision_and_writes_its_profile(served: StandInHub, tmp_path: Path) -> None:
    output = tmp_path / "out.laminar"
    running = program(served, tmp_path, "capture", f"{ID}@step1000", "--prompt", "hello there", "-o", str(output))
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert out == ""
    assert "needs about" in err
    assert output.is_file()


def test_ctrl_c_ends_the_command_while_the_hub_is_silent(served: StandInHub, tmp_path: Path) -> None:
    served.failures.append(Failure("/api/", silent=True))
    running = program(served, tmp_path, "capture", ID, "--prompt", "hello", "-o", str(tmp_path / "out.laminar"))
    try:
        until = time.monotonic() + 100
        while not served.asked and time.monotonic() < until:
            time.sleep(0.02)
        assert served.asked
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=45)  # the hub would be silent for 60 s
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 130, err
    assert "Traceback" not in err
