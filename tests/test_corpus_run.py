"""A run on many prompts: one profile, kept on the way, and the same bytes however it came about."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors

import laminar_tui.model.capture as capture_module
from laminar_tui.cli import main
from laminar_tui.corpus_run import CorpusRequest, Process, capture_corpus, needs_words
from laminar_tui.errors import CancelledError, PeerError, PromptError, UsageError
from laminar_tui.model.estimate import Estimate, Plan
from laminar_tui.model.nulls import NULLS
from laminar_tui.profile.corpus_progress import read_progress, write_progress
from laminar_tui.profile.merge import merge
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.report import make_report
from laminar_tui.run import BUNDLED_MODEL, Event, Request, Step, run

SameProfile = Callable[[Profile, Profile], None]
TEXT = "The tide rose, and the boats in the harbour rose with it; nobody was there to see. " * 8
WINDOW = 16


def quiet(_event: Event) -> None:
    """Says nothing."""


def test_the_time_is_said_for_a_window_and_for_all_of_them(request_for: Callable[..., CorpusRequest]) -> None:
    events: list[Event] = []
    capture_corpus(request_for(), events.append, never)
    said = [event.name for event in events if isinstance(event, Step) and event.name.startswith("needs about")]
    assert len(said) == 1
    assert f" a window of up to {WINDOW} tokens; all windows: less than a second" in said[0]


def test_the_time_of_all_windows_follows_from_the_corpus_and_the_limit() -> None:
    """2,000 tokens of four bytes are 20 windows of 100 tokens, 3 seconds each."""
    needs = Estimate(10, 100, 600, 500, 200, 100, 3.0)
    assert needs_words(needs, 8000, None).endswith("about 3 s a window of up to 100 tokens; all windows: about 60 s")
    assert needs_words(needs, 8000, 5).endswith("all windows: about 15 s")
    assert needs_words(needs, 8000, 500).endswith("all windows: about 60 s")
    assert needs_words(needs, 12, None).endswith("all windows: about 3 s")


def never() -> bool:
    return False


@pytest.fixture
def request_for(model_folder: Path, tmp_path: Path) -> Callable[..., CorpusRequest]:
    """Asks for a corpus of two texts on the tiny model, cut into windows of 16 tokens."""
    (tmp_path / "corpus.jsonl").write_text("\n".join(json.dumps({"text": each}) for each in (TEXT[:150], TEXT[77:318])))

    def make(output: str = "out.laminar", **changes: Any) -> CorpusRequest:
        model = Request(source=str(model_folder), device="cpu", max_tokens=WINDOW)
        request = CorpusRequest(model, str(tmp_path / "corpus.jsonl"), tmp_path / output)
        return replace(request, **changes)

    return make


def assert_same_run(one: Path, other: Path) -> None:
    """Two files are the same but for the times."""
    a, b = (load_tensors(path.read_bytes()) for path in (one, other))
    assert a.keys() == b.keys()
    assert len(a) > 50
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name
    origins = [replace(Profile.load(path).origin, created="", seconds=0.0) for path in (one, other)]
    assert origins[0] == origins[1]


def test_a_corpus_is_the_sum_of_its_windows(
    request_for: Callable[..., CorpusRequest], model_folder: Path, same_profile: SameProfile
) -> None:
    steps: list[str] = []
    found = capture_corpus(
        request_for(), lambda event: steps.append(event.name) if isinstance(event, Step) else None, never
    )
    texts = (TEXT[:150], TEXT[77:318])
    windows = [text[first : first + WINDOW] for text in texts for first in range(0, len(text), WINDOW)]
    alone = [run(Request(str(model_folder), window, device="cpu")) for window in windows]
    expected = merge(alone)
    assert found is not None
    assert sum("loading tiny-llama" in step for step in steps) == 1
    assert (found.origin.n_prompts, found.total_tokens) == (len(windows), 150 + 241)
    assert found.origin.corpus == "corpus.jsonl"
    # A prompt of its own is checked on its own tokens, so the checks' texts are not compared.
    same_profile(found, Profile(found.origin, expected.layers))
    same_profile(Profile.load(request_for().output), found)
    assert not list(request_for().output.parent.glob("*progress*"))


@pytest.mark.parametrize(
    ("limit", "left"),
    [(None, ("about 10 min left", "about 11 min left", "about 12 min left")), (5, "about 2 min left")],
)
def test_how_much_of_the_corpus_is_behind_is_said_without_a_limit_too(
    request_for: Callable[..., CorpusRequest], limit: int | None, left: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laminar_tui import corpus_run

    now = [0.0]
    monkeypatch.setattr(corpus_run.time, "monotonic", lambda: now[0])
    events: list[Step] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Step) and event.name.startswith("reading"):
            events.append(event)
            now[0] += 60  # a minute a window

    capture_corpus(request_for(limit=limit), on_event, never)
    shares = [float(event.more.split(" %")[0]) for event in events]
    assert shares == sorted(shares)
    n = limit or 26
    assert shares[-1] == pytest.approx(100, abs=0 if limit else 1)  # of 391 bytes and what JSON has around them
    assert shares[n // 2] == pytest.approx(100 * (n // 2 + 1) / n, abs=3)
    assert events[n // 2].more.endswith(left)


def test_the_first_window_with_its_warm_up_tells_nothing_about_the_time_left(
    request_for: Callable[..., CorpusRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    from laminar_tui import corpus_run

    now = [0.0]
    monkeypatch.setattr(corpus_run.time, "monotonic", lambda: now[0])
    read, said = corpus_run._Reading._read, []

    def read_slowly(self: Any, ids: list[int], number: int) -> Profile:
        now[0] += 600 if not said else 2
        return read(self, ids, number)

    def on_event(event: Event) -> None:
        if isinstance(event, Step) and event.name.startswith("reading"):
            said.append((event.name, event.done, event.more))

    monkeypatch.setattr(corpus_run._Reading, "_read", read_slowly)
    request = request_for(limit=6)
    with pytest.raises(CancelledError):
        capture_corpus(request, on_event, lambda: len(said) == 3)
    name = "reading the corpus, window"
    assert said == [
        (name, 1, "17 % done"),
        (name, 2, "33 % done, about 8 s left"),
        (name, 3, "50 % done, about 6 s left"),
    ]
    said.clear()
    capture_corpus(replace(request, resume=True), on_event, never)
    assert [more for *_, more in said] == [
        "67 % done",
        "83 % done, about 2 s left",
        "100 % done, less than a second left",
    ]


def test_a_kept_run_tells_how_far_it_is(request_for: Callable[..., CorpusRequest], tmp_path: Path) -> None:
    stop_after(13, request_for())
    kept = read_progress(tmp_path / "out.laminar.progress")
    assert kept.share == pytest.approx(0.5, abs=0.05)
    assert kept.words().startswith(f"{100 * (kept.share or 0):.0f} % done, ")
    assert kept.words().endswith(" left")
    events: list[Event] = []
    capture_corpus(request_for(resume=True), events.append, never)
    first = next(each for each in events if isinstance(each, Step) and each.name.startswith("reading"))
    assert 50 <= float(first.more.split(" %")[0]) < 60


def test_windows_are_limited(request_for: Callable[..., CorpusRequest]) -> None:
    found = capture_corpus(request_for(limit=3), quiet, never)
    assert found is not None
    assert (found.origin.n_prompts, found.n_tokens, found.layer(0).key_shares is not None) == (3, WINDOW, True)


def test_what_is_found_out_about_a_model_is_found_out_once(
    request_for: Callable[..., CorpusRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every window is too short for it, so that processes with other windows do not find other things."""
    from laminar_tui.model import probe

    looked: list[tuple[int, ...]] = []
    check_outputs = probe._check_outputs

    def count(model: Any, mechanism: Any, ids: Any) -> Any:
        looked.append(tuple(ids.shape))
        return check_outputs(model, mechanism, ids)

    monkeypatch.setattr(probe, "_check_outputs", count)
    request = request_for(limit=5)
    capture_corpus(replace(request, run=replace(request.run, max_tokens=6)), quiet, never)
    assert looked == [(1, probe.PROBE_TOKENS)]


@pytest.mark.parametrize("n", [1, 7])
def test_a_cancelled_run_goes_on_and_gives_the_same_bytes(request_for: Callable[..., CorpusRequest], n: int) -> None:
    capture_corpus(request_for("whole.laminar"), quiet, never)
    seen: list[int] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Step) and event.name.startswith("reading"):
            seen.append(event.done)

    with pytest.raises(CancelledError) as stopped:
        capture_corpus(request_for(), on_event, lambda: len(seen) >= n)
    partial = request_for().output.with_name("out.laminar.progress")
    assert len(seen) == n
    assert not request_for().output.exists()
    assert f"{n} windows are kept in {partial}; go on with --resume" in stopped.value.hint
    with pytest.raises(UsageError, match="holds an interrupted run"):
        capture_corpus(request_for(), quiet, never)
    capture_corpus(request_for(resume=True), on_event, never)
    assert seen[-1] == 26
    assert len(seen) == 26, "no window is read twice"
    assert_same_run(request_for("whole.laminar").output, request_for().output)
    assert not partial.exists()


def stop_after(n: int, request: CorpusRequest) -> None:
    seen: list[Event] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Step) and event.name.startswith("reading"):
            seen.append(event)

    with pytest.raises(CancelledError):
        capture_corpus(request, on_event, lambda: len(seen) >= n)


def test_a_run_goes_on_only_with_the_same_corpus_and_options(
    request_for: Callable[..., CorpusRequest], tmp_path: Path
) -> None:
    stop_after(5, request_for())
    kept = (tmp_path / "out.laminar.progress").read_bytes()
    resumed = request_for(resume=True)
    for change, said in (
        ({"max_tokens": 8}, "window"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"recipe": "content"}, "recipe"),
    ):
        with pytest.raises(UsageError, match=f"another {said}"):
            capture_corpus(replace(resumed, run=replace(resumed.run, **change)), quiet, never)
    with pytest.raises(UsageError, match=r"5 windows are kept in .* now there are only 3") as short:
        capture_corpus(replace(resumed, limit=3), quiet, never)
    assert "go on with --resume" not in short.value.hint
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("tide", "time"))
    with pytest.raises(UsageError, match="is not what") as other:
        capture_corpus(resumed, quiet, never)
    assert "go on with --resume" not in other.value.hint
    assert (tmp_path / "out.laminar.progress").read_bytes() == kept


def test_a_tokenizer_that_fails_amid_a_corpus_loses_no_window(
    request_for: Callable[..., CorpusRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenize = PreTrainedTokenizerFast.__call__

    def fail(self: Any, text: str, **options: Any) -> Any:
        if text == TEXT[77:318]:
            raise RuntimeError("a hole in the vocabulary")
        return tokenize(self, text, **options)

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", fail)
    with pytest.raises(PromptError, match=r"corpus\.jsonl, line 2: .*a hole in the vocabulary") as failed:
        capture_corpus(request_for(), quiet, never)
    n_windows = -(-150 // WINDOW)
    assert f"{n_windows} windows are kept in " in failed.value.hint
    monkeypatch.undo()
    capture_corpus(request_for(resume=True), quiet, never)
    capture_corpus(request_for("whole.laminar"), quiet, never)
    assert_same_run(tmp_path / "out.laminar", tmp_path / "whole.laminar")


@pytest.mark.parametrize("null", ["random", "shuffled"])
def test_a_null_is_run_on_each_window_and_gives_the_same_bytes_after_a_pause(
    request_for: Callable[..., CorpusRequest], null: str
) -> None:
    def asked(output: str, **changes: Any) -> CorpusRequest:
        request = request_for(output, limit=5, **changes)
        return replace(request, run=replace(request.run, null=null))

    plain, found = (capture_corpus(each, quiet, never) for each in (request_for(limit=5), asked("null.laminar")))
    assert plain is not None
    assert found is not None
    assert found.origin.recipe == f"null: {NULLS[null].title}"
    assert found.lengths == plain.lengths
    for population in ("final", "past"):
        ours, theirs = (each.layer(0).layer_counts(population) for each in (found, plain))
        assert ours.n == theirs.n
        assert not np.array_equal(ours.hits, theirs.hits)
    assert "its null" in {each.null for each in make_report(plain, {"its null": found}).chance}
    stop_after(2, asked("again.laminar"))
    with pytest.raises(UsageError, match=f"another null: {null}, now none\n"):
        capture_corpus(request_for("again.laminar", limit=5, resume=True), quiet, never)
    capture_corpus(asked("again.laminar", resume=True), quiet, never)
    assert_same_run(asked("null.laminar").output, asked("again.laminar").output)


def test_the_tokens_of_each_window_are_shuffled_in_an_order_of_its_own(
    request_for: Callable[..., CorpusRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    from laminar_tui.model import capture as reading

    read: list[list[int]] = []
    capture = reading.capture

    def listen(model: Any, ids: list[int], **options: Any) -> Profile:
        read.append(list(ids))
        return capture(model, ids, **options)

    monkeypatch.setattr(reading, "capture", listen)
    request = request_for(limit=3)
    capture_corpus(request, quiet, never)
    capture_corpus(replace(request, run=replace(request.run, null="shuffled")), quiet, never)
    plain, moved = read[:3], read[3:]
    assert [sorted(ids) for ids in moved] == [sorted(ids) for ids in plain]
    assert [ids[0] for ids in moved] == [ids[0] for ids in plain]
    orders = [np.argsort(NULLS["shuffled"].order(WINDOW, number)).tolist() for number in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert [[ids[at] for at in order] for ids, order in zip(moved, orders, strict=True)] == plain


def test_roles_are_measured_once_beside_a_corpus(request_for: Callable[..., CorpusRequest]) -> None:
    request = request_for(limit=2)
    events: list[Event] = []
    found = capture_corpus(replace(request, run=replace(request.run, roles=True)), events.append, never)
    assert found is not None
    assert found.roles is not None
    assert sum("measuring roles" in event.name and event.done == 0 for event in events if isinstance(event, Step)) == 1
    assert Profile.load(request.output).roles is not None


def test_every_window_begins_with_the_bos_token_where_it_is_asked_for(
    request_for: Callable[..., CorpusRequest], model_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "with-bos"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": "!"}))
    asked = request_for(limit=2)
    asked = replace(asked, run=replace(asked.run, source=str(folder), bos=True))
    found = capture_corpus(asked, quiet, never)
    windows = [TEXT[: WINDOW - 1], TEXT[WINDOW - 1 : 2 * (WINDOW - 1)]]
    expected = merge([run(Request(str(folder), window, device="cpu", bos=True)) for window in windows])
    assert found is not None
    assert found.layer(0).parts["sink"].n.tolist() == expected.layer(0).parts["sink"].n.tolist()
    assert found.statistics["sink_share"].tolist() == expected.statistics["sink_share"].tolist()
    plain = capture_corpus(replace(asked, run=replace(asked.run, bos=False)), quiet, never)
    assert plain is not None
    assert found.statistics["sink_share"].tolist() != plain.statistics["sink_share"].tolist()


def test_a_run_kept_before_bos_was_read_goes_on_without_it(
    request_for: Callable[..., CorpusRequest], tmp_path: Path
) -> None:
    stop_after(5, request_for())
    partial = tmp_path / "out.laminar.progress"
    progress = read_progress(partial)
    del progress.settings["bos"]
    write_progress(progress, partial)
    resumed = request_for(resume=True)
    with pytest.raises(UsageError, match="another bos: False, now True"):
        capture_corpus(replace(resumed, run=replace(resumed.run, bos=True)), quiet, never)
    assert capture_corpus(resumed, quiet, never) is not None


def test_what_was_read_before_an_error_is_kept(request_for: Callable[..., CorpusRequest], tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    good = corpus.read_text()
    corpus.write_text(good + "\n{bad}\n")
    with pytest.raises(UsageError, match="line 3") as refused:
        capture_corpus(request_for(), quiet, never)
    assert "26 windows are kept" in refused.value.hint
    corpus.write_text(good)
    capture_corpus(request_for(resume=True), quiet, never)
    capture_corpus(request_for("whole.laminar"), quiet, never)
    assert_same_run(tmp_path / "whole.laminar", tmp_path / "out.laminar")


def test_an_output_that_cannot_be_written_loses_nothing(
    request_for: Callable[..., CorpusRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise UsageError("cannot write: no space left", "choose another place")

    with monkeypatch.context() as patched:
        patched.setattr(Profile, "save", full)
        with pytest.raises(UsageError, match="no space") as refused:
            capture_corpus(request_for(), quiet, never)
    assert "--resume" in refused.value.hint
    read: list[Event] = []
    assert capture_corpus(request_for(resume=True), read.append, never) is not None
    assert not [event for event in read if isinstance(event, Step) and event.name.startswith("reading")]


def test_a_text_of_nothing_is_refused(request_for: Callable[..., CorpusRequest], tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(Exception, match="there is no text"):
        capture_corpus(request_for(), quiet, never)


# -- the command line and real signals -------------------------------------------------------------------------------


def command(model_folder: Path, corpus: Path, output: Path, *more: str) -> list[str]:
    words = ["capture", str(model_folder), "--device", "cpu", "--corpus", str(corpus), "-o", str(output)]
    return [*words, "--max-tokens", str(WINDOW), *more]


def environment(**changes: str) -> dict[str, str]:
    """One thread, as in this process: other threads cut products in other places."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GLOO_SOCKET_IFNAME": "lo"} | changes


@pytest.fixture
def long_corpus(tmp_path: Path) -> Path:
    """Of some hundred windows, so that a run on it can be stopped in its midst."""
    path = tmp_path / "long.txt"
    path.write_text(TEXT * 3)
    return path


def test_a_killed_run_goes_on_and_gives_the_same_bytes(model_folder: Path, long_corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.laminar"
    partial = tmp_path / "out.laminar.progress"
    program = subprocess.Popen(
        [sys.executable, "-m", "laminar_tui", *command(model_folder, long_corpus, output, "--save-every", "0", "-q")],
        env=environment(),
    )
    try:
        written: set[int] = set()
        while len(written) < 3:
            assert program.poll() is None, "it ended before it was killed"
            with suppress(FileNotFoundError):
                written.add(partial.stat().st_mtime_ns)
            time.sleep(0.005)
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    assert program.returncode == -signal.SIGKILL
    assert not output.exists()
    assert main(command(model_folder, long_corpus, output, "--resume", "-q")) == 0
    whole = tmp_path / "whole.laminar"
    assert main(command(model_folder, long_corpus, whole, "-q")) == 0
    assert_same_run(whole, output)


def test_a_finished_run_is_not_begun_anew_by_resume(
    model_folder: Path,
    long_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from laminar_tui import corpus_run

    output = tmp_path / "out.laminar"
    assert main(command(model_folder, long_corpus, output, "--limit", "3", "-q")) == 0
    written = output.read_bytes()
    other = tmp_path / "other.txt"
    other.write_text(TEXT)
    monkeypatch.setattr(corpus_run, "load", lambda *_words, **_options: pytest.fail("a model was loaded"))
    again = ["--limit", "3", "--resume"]
    assert main(command(model_folder, long_corpus, output, *again)) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"{output} is complete: nothing to go on with (3 prompts, 48 tokens)\n")
    assert main(command(model_folder, long_corpus, output, *again, "--json", "-q")) == 0
    said = capsys.readouterr()
    assert (json.loads(said.out)["origin"]["n_tokens"], said.err) == (48, "")
    for words, named in (
        (command(model_folder, long_corpus, output, *again, "--recipe", "content"), "recipe: true, now content"),
        (command(model_folder, long_corpus, output, *again, "--null", "random"), "recipe: true, now null: random"),
        (command(model_folder, other, output, *again), "corpus: long.txt, now other.txt"),
        (command(model_folder, long_corpus, output, "--resume", "--limit", "2"), "limit: 3, now 2"),
        (command(model_folder, long_corpus, output, *again, "--max-tokens", "8"), "window: 16, now 8"),
        (["capture", *command(model_folder, long_corpus, output, *again)[2:]], "model: tiny-llama, now laminar-small"),
    ):
        assert main(words) == 2
        assert f"{output} was made with another {named}" in capsys.readouterr().err
    assert output.read_bytes() == written


def test_ctrl_c_keeps_what_was_read_and_says_how_to_go_on(
    model_folder: Path,
    long_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from laminar_tui.profile.corpus_progress import Progress

    see = Progress.see

    def see_and_interrupt(progress: Progress, ids: list[int]) -> None:
        see(progress, ids)
        if progress.n_seen == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "see", see_and_interrupt)
    before = signal.getsignal(signal.SIGINT)
    output = tmp_path / "out.laminar"
    assert main(command(model_folder, long_corpus, output)) == 130
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == ["laminar-tui: interrupted", f"  4 windows are kept in {output}.progress; go on with --resume"]
    assert signal.getsignal(signal.SIGINT) is before
    assert Path(f"{output}.progress").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--prompt", "x"], "two runs"),
        (["-o", "-"], "nowhere to put"),
        (["--max-tokens", "0"], "not positive"),
        (["--field", "body", "--corpus", "corpus.jsonl"], "corpus.jsonl, line 1: there is no field 'body'"),
        (["--corpus", "missing"], "no such file or folder: missing"),
        (["--corpus", ""], "no such file or folder"),
        (["--null", "no-such"], "there is no null 'no-such'"),
        (["--null", "random", "--recipe", "content"], "a null has no recipe"),
        (["--chat"], "--chat is not read on a corpus"),
    ],
)
def test_wrong_use_is_refused(
    more: list[str],
    said: str,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpus.jsonl").write_text('{"text": "x"}\n')
    words = command(model_folder, Path("corpus.jsonl"), Path("out.laminar"), *more)
    try:
        code = main(words)
    except SystemExit as left:
        code = int(left.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if "laminar" in path.name] == []


def test_the_name_of_what_was_written_is_told_harmlessly(
    model_folder: Path, long_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "\x1b[31mred.laminar"
    assert main(command(model_folder, long_corpus, output, "--limit", "2")) == 0
    said = capsys.readouterr().err
    assert "␛[31mred.laminar: 2 prompts, 32 tokens" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("option", [["--resume"], ["--limit", "3"], ["--field", "text"]])
def test_what_belongs_to_a_corpus_is_refused_without_one(
    option: list[str], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["capture", str(model_folder), "--json", *option]) == 2
    assert f"{option[0]} is about a corpus" in capsys.readouterr().err


# -- several processes -----------------------------------------------------------------------------------------------


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_two_processes_give_the_bytes_of_one(tmp_path: Path) -> None:
    """The bundled model under torchrun: five windows, one of them short and one long enough for the fast path."""
    corpus = tmp_path / "corpus.jsonl"
    lengths = (90, 20, 700, 90, 3)
    corpus.write_text("\n".join(json.dumps({"text": (TEXT * 3)[n : n + length]}) for n, length in enumerate(lengths)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    words = ["capture", "--corpus", str(corpus), "--device", "cpu", "--max-tokens", "200"]
    done = subprocess.run(
        [*launch, "--master-port", str(free_port()), "-m", "laminar_tui", *words, "-o", str(tmp_path / "two.laminar")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrote") == 1, "one process tells"
    assert main([*words, "-q", "-o", str(tmp_path / "one.laminar")]) == 0
    assert Profile.load(tmp_path / "one.laminar").origin.mechanism == "fast + tap"
    assert_same_run(tmp_path / "one.laminar", tmp_path / "two.laminar")
    assert not list(tmp_path.glob("*progress*"))


@pytest.fixture
def wide_model(tmp_path: Path) -> Path:
    """A random Llama whose products are large enough that a second thread cuts them in other places."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8}
    folder = tmp_path / "wide"
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=12_000)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_MODEL / name, folder / name)
    return folder


def test_with_as_many_threads_two_processes_give_the_bytes_of_one(wide_model: Path, tmp_path: Path) -> None:
    """Nobody says OMP_NUM_THREADS: torchrun gives its processes one thread each, a lone process takes all cores."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps({"text": TEXT + end}) for end in "ab"))
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    free = {name: value for name, value in environment().items() if name != "OMP_NUM_THREADS"}
    words = ["capture", str(wide_model), "--corpus", str(corpus), "--device", "cpu", "--max-tokens", "200", "-q"]
    for name, before in (("one", []), ("two", [*launch, "--master-port", str(free_port())])):
        output = ["--threads", "2", "-o", str(tmp_path / f"{name}.laminar")]
        done = subprocess.run(
            [sys.executable, *before, "-m", "laminar_tui", *words, *output],
            env=free,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "one.laminar", tmp_path / "two.laminar")


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_as_before")
def test_a_resumed_run_has_the_threads_that_it_had(request_for: Callable[..., CorpusRequest]) -> None:
    import torch

    stop_after(2, request_for(threads=2))
    torch.set_num_threads(1)
    with pytest.raises(UsageError, match="another threads: 2, now 1"):
        capture_corpus(request_for(threads=1, resume=True), quiet, never)
    assert capture_corpus(request_for(resume=True), quiet, never) is not None
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"device_map": "auto"}, "would take all devices"), ({"device": "cuda:99"}, "cannot use the device 'cuda:99'")],
)
def test_what_no_process_can_do_is_refused_before_they_meet(
    changes: dict[str, str],
    said: str,
    request_for: Callable[..., CorpusRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    request = request_for()
    with pytest.raises(UsageError, match=said):
        capture_corpus(replace(request, run=replace(request.run, **changes)), quiet, never)


def test_a_corpus_is_read_in_pieces_for_which_there_is_room(
    request_for: Callable[..., CorpusRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int | None]] = []
    seen: set[int | None] = set()
    true_capture = capture_module.capture

    def plan(_name: str, _model: Any, n_tokens: int, max_memory: int | None, **_: Any) -> Plan:
        asked.append((n_tokens, max_memory))
        return Plan(12_345, 0)

    def capture(*args: Any, **options: Any) -> Profile:
        seen.add(options["chunk_weights"])
        return true_capture(*args, **options)

    monkeypatch.setattr("laminar_tui.model.estimate.plan_capture", plan)
    monkeypatch.setattr(capture_module, "capture", capture)
    request = request_for()
    capture_corpus(replace(request, run=replace(request.run, max_memory=10**9)), quiet, never)
    assert (asked, seen) == ([(WINDOW, 10**9)], {12_345}), "asked once, for the longest window"


def test_a_process_that_fails_is_heard_by_the_other(model_folder: Path, long_corpus: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(long_corpus.read_bytes()[:400] + b"\xff")
    port = str(free_port())
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", "laminar_tui", *command(model_folder, corpus, tmp_path / "out.laminar", "-q")],
            env=environment(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, corpus in enumerate((long_corpus, bad))
    ]
    try:
        said = [program.communicate(timeout=200)[1] for program in programs]
    finally:
        for program in programs:
            program.kill()
    assert programs[1].returncode == 2
    assert "bad.txt, line 1: this is no UTF-8" in said[1]
    assert programs[0].returncode == 130
    assert "process 1 of 2" in said[0] or "lost one another" in said[0]
    assert "--resume" in said[0]
    assert not (tmp_path / "out.laminar").exists()


@pytest.fixture
def peers() -> Any:
    """Process 0 of two, with a store in memory in which the other one writes nothing by itself."""
    import torch
    from torch.distributed import HashStore

    from laminar_tui.model.parallel import Peers

    store = HashStore()
    for rank in range(2):
        store.set(f"at/{rank}", "0")
    return Peers(0, 2, torch.device("cpu"), 0.3, store), store


def test_a_process_that_gets_no_further_is_given_up(peers: Any) -> None:
    with pytest.raises(PeerError, match="gets no further"):
        peers[0].wait_for_all(never)


def test_a_wait_can_be_cancelled(peers: Any) -> None:
    with pytest.raises(CancelledError):
        peers[0].wait_for_all(lambda: True)


def test_a_process_that_failed_is_named(peers: Any) -> None:
    peers[1].set("failed", "process 1 of 2: out of memory")
    for ask in (lambda: peers[0].tell(3), lambda: peers[0].wait_for_all(never)):
        with pytest.raises(PeerError, match="process 1 of 2: out of memory"):
            ask()


def test_processes_that_are_done_are_not_waited_for(peers: Any) -> None:
    peers[1].set("done/1", "")
    peers[0].wait_for_all(never)


@pytest.mark.parametrize("size", ["x", "0", "2"])
def test_an_environment_that_makes_no_sense_is_refused(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(UsageError):
        Process.from_environment()


@pytest.mark.parametrize(
    ("asked", "has_gpu", "size", "expected"),
    [
        (None, True, 2, "cuda:1"),
        ("cuda", True, 2, "cuda:1"),
        (None, False, 2, None),
        ("cpu", True, 2, "cpu"),
        ("cuda:0", True, 2, "cuda:0"),
        (None, True, 1, None),
    ],
)
def test_each_process_has_the_gpu_of_its_number(
    asked: str | None, has_gpu: bool, size: int, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from laminar_tui.model.parallel import own_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert own_device(asked, 1, size) == expected
