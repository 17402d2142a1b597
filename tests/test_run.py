"""The story of one run: events in order, a profile at the end, and the model kept for the next prompt."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laminar_tui.errors import CancelledError, LaminarError, ModelError, PromptError, UsageError
from laminar_tui.profile.again import farthest, why_another
from laminar_tui.profile.profile import Profile
from laminar_tui.run import (
    Event,
    LayerRead,
    Request,
    Session,
    Started,
    Step,
    bundled_prompt,
    read_prompt_file,
    request_of,
    run,
)

PROMPT = "a short prompt"


def never() -> bool:
    return False


def request_for(folder: Path, **changes: Any) -> Request:
    return Request(**({"source": str(folder), "prompt": PROMPT, "device": "cpu"} | changes))


def test_events_come_in_the_order_of_the_story(model_folder: Path) -> None:
    events: list[Event] = []
    profile = run(request_for(model_folder), events.append)
    (started,) = [event for event in events if isinstance(event, Started)]
    read = [event for event in events if isinstance(event, LayerRead)]
    assert started.profile.n_read == 0
    assert started.profile.n_layers == 2
    assert started.profile.origin.tokens == tuple(PROMPT)
    assert [event.index for event in read] == [0, 1]
    assert events.index(started) < events.index(read[0])
    assert all(profile.layers[event.index] is event.layer for event in read)
    steps = [event for event in events if isinstance(event, Step)]
    assert steps[-1] == Step("forward", 2, 2)
    assert "tiny-llama" in steps[1].name


def test_a_profile_is_read_again_from_its_own_tokens(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_folder.parent)
    saved = run(request_for(model_folder, max_tokens=9))
    request = request_of(saved)
    assert (request.source, request.dtype, request.revision) == (model_folder.name, "float32", None)
    again = run(replace(request, device="cpu"))
    assert (again.origin.tokens, again.origin.token_ids) == (saved.origin.tokens, saved.origin.token_ids)
    assert farthest(saved, again) == 0
    assert why_another(saved, again) == ""
    other = run(replace(request, device="cpu", token_ids=saved.origin.token_ids[::-1]))
    assert why_another(saved, other) == "other tokens"
    assert farthest(saved, other) > 1e-3


def test_roles_can_be_measured_after_a_run(model_folder: Path) -> None:
    session = Session(keeps_patterns=False)
    with pytest.raises(UsageError, match="no model is loaded"):
        session.measure_roles(run(request_for(model_folder)), lambda _event: None, never)
    profile = session.run(request_for(model_folder), lambda _event: None, never)
    events: list[Event] = []
    measured = session.measure_roles(profile, events.append, never)
    wanted = run(request_for(model_folder, roles=True)).roles
    assert measured.roles is not None
    assert wanted is not None
    for name, scores in wanted.scores.items():
        np.testing.assert_allclose(measured.roles.scores[name], scores, atol=1e-6)
    assert measured.layers is profile.layers
    steps = [event for event in events if isinstance(event, Step)]
    assert [(step.done, step.total) for step in steps] == [(done, 8) for done in range(8)]
    with pytest.raises(CancelledError):
        session.measure_roles(profile, events.append, lambda: True)
    for change in ({"model": "another"}, {"revision": "step1"}, {"recipe": "null: shuffled tokens"}):
        other = replace(profile, origin=replace(profile.origin, **change))
        with pytest.raises(UsageError, match="not the one of this profile"):
            session.measure_roles(other, events.append, never)


def test_a_null_is_not_read_again(model_folder: Path) -> None:
    null = run(request_for(model_folder, null="shuffled"))
    with pytest.raises(UsageError, match="a null is no run"):
        request_of(null)


def test_the_profile_can_be_put_together_from_the_events(
    model_folder: Path, same_profile: Callable[[Profile, Profile], None]
) -> None:
    growing: list[Profile] = []

    def grow(event: Event) -> None:
        if isinstance(event, Started):
            growing.append(event.profile)
        elif isinstance(event, LayerRead):
            growing.append(growing[-1].with_layer(event.index, event.layer))

    profile = run(request_for(model_folder), grow)
    assert [each.n_read for each in growing] == [0, 1, 2]
    same_profile(Profile(profile.origin, growing[-1].layers), profile)


def test_the_origin_names_the_source_and_not_its_path(model_folder: Path) -> None:
    profile = run(request_for(model_folder))
    assert profile.origin.model == "tiny-llama"
    assert str(model_folder) not in str(profile.origin)
    assert profile.origin.token_ids
    assert profile.n_tokens == len(PROMPT)


def test_a_prompt_is_cut(model_folder: Path) -> None:
    assert run(request_for(model_folder, max_tokens=5)).origin.tokens == tuple(PROMPT[:5])


def test_a_session_loads_a_model_once(model_folder: Path) -> None:
    session, events = Session(), []
    first = session.run(request_for(model_folder), events.append, never)
    n_first = sum("loading" in event.name for event in events if isinstance(event, Step))
    assert n_first > 0
    events.clear()
    second = session.run(request_for(model_folder, prompt="another"), events.append, never)
    assert not [event for event in events if isinstance(event, Step) and "loading" in event.name]
    assert (first.n_tokens, second.n_tokens) == (len(PROMPT), len("another"))
    events.clear()
    session.run(request_for(model_folder, dtype="bfloat16"), events.append, never)
    assert [event for event in events if isinstance(event, Step) and "loading" in event.name]


def test_a_model_in_circles_is_gone_before_the_next_one_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def __init__(self) -> None:
            self.hook = partial(print, self)  # as accelerate's, which place a model's layers

    models: list[weakref.ref[Model]] = []
    alive: list[int] = []

    def load(*_arguments: object, **_options: object) -> Model:
        alive.append(sum(each() is not None for each in models))
        model = Model()
        models.append(weakref.ref(model))
        gc.freeze()  # as the explorer may, in a rest amid the load
        return model

    monkeypatch.setattr("laminar_tui.run.load", load)
    monkeypatch.setattr("laminar_tui.run.read", lambda *_arguments: None)
    session = Session(keeps_patterns=False)
    gc.disable()  # whether it collects by itself in time is chance
    try:
        for dtype in ("float32", "float32", "bfloat16", "float16"):
            session.run(Request("model", dtype=dtype), lambda _event: None, never)
    finally:
        gc.enable()
        gc.unfreeze()
    assert alive == [0, 0, 0]


def test_a_session_survives_what_went_wrong(model_folder: Path, tmp_path: Path) -> None:
    session = Session()
    with pytest.raises(ModelError):
        session.run(request_for(tmp_path), lambda _event: None, never)
    with pytest.raises(PromptError):
        session.run(request_for(model_folder, prompt=""), lambda _event: None, never)
    assert session.run(request_for(model_folder), lambda _event: None, never).n_read == 2


def test_a_cancel_during_the_forward_keeps_the_layers_that_were_read(model_folder: Path) -> None:
    read: list[int] = []

    def on_event(event: Event) -> None:
        if isinstance(event, LayerRead):
            read.append(event.index)

    session = Session()
    with pytest.raises(CancelledError):
        session.run(request_for(model_folder), on_event, lambda: bool(read))
    assert read == [0]
    assert session.run(request_for(model_folder), on_event, never).n_read == 2


def test_a_cancel_during_the_load_is_heard(model_folder: Path) -> None:
    with pytest.raises(CancelledError):
        run(request_for(model_folder), is_cancelled=lambda: True)


def test_what_is_wrong_is_said_before_torch_is_started(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(UsageError):
        run(Request(str(tmp_path / "missing"), PROMPT), events.append)
    assert events == []


def test_the_bundled_prompt_is_used_when_there_is_none() -> None:
    assert bundled_prompt()
    assert Request().text() == bundled_prompt()
    assert Request(prompt="mine").text() == "mine"
    assert Request(prompt="").text() == "", "an empty prompt is an error of its user's, not a wish for another"


def test_prompts_come_from_files(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes("Grüße →".encode())
    assert read_prompt_file(str(path)) == "Grüße →"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("one\n", "one"),
        ("one\r\n", "one"),
        ("one\n\n", "one\n"),
        ("one\ntwo", "one\ntwo"),
        (" one \n", " one "),
        ("\n", ""),
    ],
)
def test_the_line_break_that_ends_a_file_is_no_token(written: str, read: str, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(written.encode())
    assert read_prompt_file(str(path)) == read


@pytest.mark.parametrize(
    "make", [lambda _path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff\xfe\x00")]
)
def test_a_prompt_file_that_cannot_be_read_is_refused(make: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    make(path)
    with pytest.raises(UsageError, match=r"prompt\.txt"):
        read_prompt_file(str(path))


def test_a_home_folder_that_does_not_exist_is_refused_in_words() -> None:
    with pytest.raises(LaminarError):
        read_prompt_file("~nobody-of-that-name/prompt.txt")
