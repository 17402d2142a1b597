"""What can be opened without typing its name: recent profiles survive damage, the cache is read from its files."""

import json
import shutil
from pathlib import Path

import pytest

from laminar_tui import catalog
from laminar_tui.catalog import (
    MAX_RECENT,
    cached_entries,
    own_entries,
    read_recent,
    read_shape,
    recent_entries,
    recent_path,
    remember,
)
from laminar_tui.files import state_folder as make_state_folder
from laminar_tui.profile.profile import Profile


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_the_newest_is_first_and_none_is_listed_twice(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "a"):
        remember(tmp_path / f"{name}.laminar")
    assert [path.name for path in read_recent()] == ["a.laminar", "c.laminar", "b.laminar"]
    assert json.loads(recent_path().read_text()) == [str(path) for path in read_recent()], "paths and nothing else"


def test_only_their_owner_sees_what_is_kept(state_folder: Path, tmp_path: Path) -> None:
    assert read_recent() == []
    assert not state_folder.exists(), "to look makes nothing"
    remember(tmp_path / "a.laminar")
    assert recent_path().parent.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(state_folder)
    for folder in (make_state_folder("runs"), make_state_folder()):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_list_is_bounded(tmp_path: Path) -> None:
    for number in range(MAX_RECENT + 5):
        remember(tmp_path / f"{number}.laminar")
    assert len(read_recent()) == MAX_RECENT
    assert read_recent()[0].name == f"{MAX_RECENT + 4}.laminar"


def test_a_relative_path_and_a_home_are_kept_as_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    remember("here.laminar")
    remember("~/there.laminar")
    assert read_recent() == [tmp_path / "there.laminar", tmp_path / "here.laminar"]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"{}",
        b"3",
        b'"text"',
        b'[1, null, {"a": 2}, ""]',
        b'["/a\\u0000b"]',
        b"[" * 100_000,
        b'["' + b"x" * 300_000 + b'"]',
    ],
    ids=["empty", "cut", "no text", "object", "number", "string", "no paths", "nul", "deep", "huge"],
)
def test_a_damaged_list_is_an_empty_one_and_is_replaced(tmp_path: Path, damage: bytes) -> None:
    recent_path().parent.mkdir(parents=True)
    recent_path().write_bytes(damage)
    assert read_recent() == recent_entries() == []
    remember(tmp_path / "new.laminar")
    assert read_recent() == [tmp_path / "new.laminar"]


def test_where_nothing_can_be_written_nothing_is_remembered_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder belongs")
    remember(tmp_path / "new.laminar")
    assert read_recent() == []


def test_profiles_that_are_gone_are_not_offered(tmp_path: Path, small_profile: Profile) -> None:
    small_profile.save(tmp_path / "here.laminar")
    remember(tmp_path / "here.laminar")
    remember(tmp_path / "gone.laminar")
    (entry,) = recent_entries()
    assert (entry.kind, entry.source) == ("profile", str(tmp_path / "here.laminar"))
    assert entry.size == (tmp_path / "here.laminar").stat().st_size


def test_what_comes_with_the_program_is_always_there() -> None:
    model, sample = own_entries()
    assert (model.kind, model.source, model.shape) == ("model", "", (6, 8))
    assert sample.kind == "profile"
    assert Path(sample.source).is_file()


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ('{"num_hidden_layers": 32, "num_attention_heads": 16}', (32, 16)),
        ('{"n_layer": 12, "n_head": 12}', (12, 12)),
        ('{"text_config": {"num_hidden_layers": 4, "num_attention_heads": 2}}', (4, 2)),
        ('{"num_hidden_layers": 32}', None),
        ('{"num_hidden_layers": "32", "num_attention_heads": -1}', None),
        ('{"text_config": [1]}', None),
        ("[]", None),
        ("{", None),
        ("[" * 100_000, None),
    ],
)
def test_layers_and_heads_are_read_from_the_config(tmp_path: Path, config: str, shape: tuple[int, int] | None) -> None:
    assert read_shape(tmp_path) is None
    (tmp_path / "config.json").write_text(config)
    assert read_shape(tmp_path) == shape


def test_a_cache_is_listed_with_sizes_and_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, files in (
        ("models--owner--whole", {"config.json": '{"n_layer": 3, "n_head": 2}', "model.safetensors": "x" * 1000}),
        ("models--owner--part", {"config.json": "{}"}),
        ("datasets--owner--texts", {"data.txt": "x"}),
    ):
        commit = "0" * 40
        folder = tmp_path / name
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(commit)
        (folder / "blobs").mkdir()
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for file, text in files.items():
            (folder / "blobs" / file).write_text(text)
            (snapshot / file).symlink_to(folder / "blobs" / file)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    entries = {entry.name: entry for entry in cached_entries()}
    assert entries.keys() == {"owner/whole", "owner/part"}
    whole = entries["owner/whole"]
    assert (whole.source, whole.shape, whole.note) == ("owner/whole", (3, 2), "")
    assert whole.size is not None
    assert 1000 <= whole.size < 1100
    assert entries["owner/part"].note == "no parameters in the cache"


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert catalog.cached_entries() == []
