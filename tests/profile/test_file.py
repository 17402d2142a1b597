"""The profile file: what is written comes back, what is damaged is refused, and a failure leaves the old file."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged import Tensors, fields_of, header_of, rebuilt
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from laminar_tui.errors import ProfileFileError, UsageError
from laminar_tui.profile import file as profile_file
from laminar_tui.profile.counts import Counts, PackedCounts
from laminar_tui.profile.file import looks_like_profile, parse_profile, profile_bytes, read_profile
from laminar_tui.profile.merge import merge_layers
from laminar_tui.profile.parts import PARTS
from laminar_tui.profile.profile import LayerProfile, Profile

SameProfile = Callable[[Profile, Profile], None]
MUTATIONS = 2000


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


# -- round trips -----------------------------------------------------------------------------------------------------


def test_what_is_saved_comes_back_bit_for_bit(
    small_profile: Profile, same_profile: SameProfile, tmp_path: Path
) -> None:
    path = tmp_path / "run.laminar"
    small_profile.save(path)
    same_profile(Profile.load(path), small_profile)
    assert names_in(tmp_path) == ["run.laminar"]


def test_a_profile_without_any_layer_comes_back(small_profile: Profile, same_profile: SameProfile) -> None:
    empty = Profile(small_profile.origin, (None,) * 4)
    same_profile(parse_profile(profile_bytes(empty)), empty)


def test_a_profile_of_several_prompts_comes_back(small_profile: Profile, same_profile: SameProfile) -> None:
    merged = merge_layers([small_profile.layer(0), small_profile.layer(3)])
    profile = Profile(small_profile.origin, (merged, None, None, merged))
    same_profile(parse_profile(profile_bytes(profile)), profile)


def test_the_same_profile_gives_the_same_bytes(small_profile: Profile) -> None:
    assert len({profile_bytes(small_profile) for _ in range(8)}) == 1


def test_what_came_back_measures_the_same(small_profile: Profile) -> None:
    loaded = parse_profile(profile_bytes(small_profile))
    for by in ("layer", "head"):
        one, other = (each.density("past", "without", by, n_grid=40).values for each in (small_profile, loaded))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("most", [255, 256, 65536, 2**32 - 1, 2**32 + 5])
def test_the_number_of_hits_survives_whatever_its_size(
    most: int, small_profile: Profile, same_profile: SameProfile
) -> None:
    counts = Counts.empty((2,))
    counts.hits[1, 100] = most
    part = PackedCounts.pack(counts)
    layer = LayerProfile(dict.fromkeys(small_profile.layer(0).parts, part), {})
    profile = Profile(small_profile.origin, (layer, None, None, None))
    loaded = parse_profile(profile_bytes(profile))
    same_profile(loaded, profile)


def test_text_that_could_harm_comes_back_as_it_was(small_profile: Profile) -> None:
    tokens = parse_profile(profile_bytes(small_profile)).origin.tokens
    assert tokens[0] == " token0é→\x1b"


def test_a_profile_is_known_by_its_name_or_its_first_bytes(small_profile: Profile, tmp_path: Path) -> None:
    named, unnamed, other = tmp_path / "a.laminar", tmp_path / "b.bin", tmp_path / "c.bin"
    named.write_bytes(b"")
    unnamed.write_bytes(profile_bytes(small_profile))
    other.write_bytes(save_tensors({"a": np.zeros(3)}))
    assert looks_like_profile(named)
    assert looks_like_profile(unnamed)
    assert not looks_like_profile(other)
    assert not looks_like_profile(tmp_path)
    assert not looks_like_profile(tmp_path / "missing.laminar")


def test_a_profile_is_known_by_its_first_bytes_however_long_its_prompt(small_profile: Profile, tmp_path: Path) -> None:
    words = tuple(f"word{n}" for n in range(1000))
    long = Profile(replace(small_profile.origin, tokens=words, token_ids=tuple(range(1000))), (None,) * 4)
    path = tmp_path / "long.bin"
    for _ in range(12):  # safetensors writes several metadata entries in any order
        path.write_bytes(profile_bytes(long))
        assert looks_like_profile(path)


# -- damage ----------------------------------------------------------------------------------------------------------


def mutated(payload: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits, overwrite, insert, delete or cut, at one to three places."""
    data = bytearray(payload)
    header_end = 8 + int.from_bytes(payload[:8], "little")
    for _ in range(int(rng.integers(1, 4))):
        # Half of the damage in the header, where it could mislead; the payload is 90 % of the bytes.
        at = int(rng.integers(0, header_end if rng.random() < 0.5 else max(len(data), 1)))
        at = min(at, max(len(data) - 1, 0))
        some = rng.bytes(int(rng.integers(1, 9)))
        match int(rng.integers(0, 5)):
            case 0 if data:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at : at + len(some)] = some
            case 2:
                data[at:at] = some
            case 3:
                del data[at : at + len(some)]
            case _:
                del data[at:]
    return bytes(data)


def test_damage_is_refused_or_changes_nothing(small_profile: Profile, same_profile: SameProfile) -> None:
    profile = Profile(small_profile.origin, (None, None, small_profile.layer(2), None))
    payload = profile_bytes(profile)
    rng = np.random.default_rng(20)
    refused = 0
    for _ in range(MUTATIONS):
        try:
            loaded = parse_profile(mutated(payload, rng))
        except ProfileFileError:
            refused += 1
        else:
            same_profile(loaded, profile)
    assert refused > 0.9 * MUTATIONS, "most damage is no longer what was written"


def test_every_truncation_of_a_file_is_refused(small_profile: Profile) -> None:
    payload = profile_bytes(small_profile)
    for size in [*range(64), *range(64, len(payload), 997), len(payload) - 1]:
        with pytest.raises(ProfileFileError):
            parse_profile(payload[:size])


def test_one_changed_bit_of_the_payload_is_refused_by_the_digest(small_profile: Profile) -> None:
    payload = bytearray(profile_bytes(small_profile))
    payload[-1] ^= 1
    with pytest.raises(ProfileFileError, match="SHA-256"):
        parse_profile(bytes(payload))


def test_a_changed_prompt_is_refused_by_the_digest(small_profile: Profile) -> None:
    payload = profile_bytes(small_profile)
    assert payload.count(b"tiny/model") == 1
    with pytest.raises(ProfileFileError, match="SHA-256"):
        parse_profile(payload.replace(b"tiny/model", b"best/model"))


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"\x00" * 8, b"GGUF" * 40, b"\x02\x00\x00\x00\x00\x00\x00\x00[]", b"PK\x03\x04" * 30]
)
def test_other_files_are_no_profiles(payload: bytes) -> None:
    with pytest.raises(ProfileFileError, match="no laminar profile"):
        parse_profile(payload)


def test_another_safetensors_file_is_no_profile() -> None:
    with pytest.raises(ProfileFileError, match="no laminar profile"):
        parse_profile(save_tensors({"a": np.zeros(3)}, {"format": "pt"}))


@pytest.mark.parametrize("size", [2**63 - 1, 2**40, 10**6])
def test_a_header_larger_than_the_file_is_refused(size: int) -> None:
    with pytest.raises(ProfileFileError):
        parse_profile(size.to_bytes(8, "little") + b"{}" * 10)


def test_a_header_larger_than_any_is_refused_although_the_file_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_file, "MAX_HEADER_BYTES", 100)
    monkeypatch.setattr(profile_file.json, "loads", lambda _text: pytest.fail("it was read"))
    with pytest.raises(ProfileFileError):
        parse_profile((200).to_bytes(8, "little") + b" " * 400)


def test_a_tensor_larger_than_the_file_is_refused_before_it_is_made(small_profile: Profile) -> None:
    payload = profile_bytes(small_profile)
    fields = fields_of(payload)
    fields["content/total"] = {"dtype": "F64", "shape": [10**11], "data_offsets": [0, 8 * 10**11]}
    header = json.dumps(fields).encode()
    with pytest.raises(ProfileFileError):
        parse_profile(len(header).to_bytes(8, "little") + header + b"\x00" * 100)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, [1]])
def test_another_version_is_refused_and_named(version: Any, small_profile: Profile) -> None:
    payload = rebuilt(small_profile, lambda header: header.update(version=version))
    with pytest.raises(ProfileFileError, match="version") as refused:
        parse_profile(payload)
    assert repr(version) in refused.value.message


def test_what_a_later_version_adds_is_passed_over(small_profile: Profile, same_profile: SameProfile) -> None:
    def change(header: dict[str, Any]) -> None:
        header["weather"] = "fine"
        header["origin"]["temperature"] = 0.7

    same_profile(parse_profile(rebuilt(small_profile, change)), small_profile)


def test_a_statistic_of_a_later_version_is_passed_over(small_profile: Profile) -> None:
    loaded = parse_profile(rebuilt(small_profile, change_tensors=lambda each: each.update({"stat/new": np.zeros(8)})))
    np.testing.assert_array_equal(loaded.statistics["entropy"], small_profile.statistics["entropy"])


WRONG_HEADERS: dict[str, Callable[[dict[str, Any]], None]] = {
    "too many heads": lambda header: header.update(n_heads=[3, 0, 2, 10**6]),
    "negative heads": lambda header: header.update(n_heads=[3, 0, 2, -3]),
    "more heads than rows": lambda header: header.update(n_heads=[3, 0, 2, 4]),
    "fewer heads than rows": lambda header: header.update(n_heads=[3, 0, 2, 2]),
    "too many layers": lambda header: header.update(n_heads=[0] * 5000),
    "another number of tokens than there are": lambda header: header["origin"].update(prompt_length=2**20),
    "a layer too few": lambda header: header.update(n_heads=[3, 2, 3]),
    "infinite heads": lambda header: header.update(n_heads=[3, 0, 2, float("inf")]),
    "undefined heads": lambda header: header.update(n_heads=[3, 0, 2, float("nan")]),
    "heads in words": lambda header: header.update(n_heads=["three", 0, 2, 3]),
    "no heads": lambda header: header.pop("n_heads"),
    "no origin": lambda header: header.pop("origin"),
    "origin in words": lambda header: header.update(origin="here"),
    "no model": lambda header: header["origin"].pop("model"),
    "a token too few": lambda header: header["origin"]["tokens"].pop(),
    "infinite token": lambda header: header["origin"].update(token_ids=[float("inf")] * 12),
    "checks in words": lambda header: header["origin"].update(checks=["fine"]),
}


@pytest.mark.parametrize("what", WRONG_HEADERS)
def test_a_wrong_header_with_a_fitting_digest_is_refused(what: str, small_profile: Profile) -> None:
    with pytest.raises(ProfileFileError):
        parse_profile(rebuilt(small_profile, WRONG_HEADERS[what]))


def test_layers_and_heads_together_are_bounded(small_profile: Profile) -> None:
    """A few rows in the file, and tables of gigabytes for who reads it: each number by itself is one that may be."""
    layers = (small_profile.layers[0], *(None,) * 1000)
    origin = replace(small_profile.origin, layer_kinds=("attention",) * 1001)
    small = profile_bytes(replace(small_profile, origin=origin, layers=layers))
    assert parse_profile(small).n_layers == 1001
    wide = replace(small_profile.layer(0), parts=dict.fromkeys(PARTS, PackedCounts.pack(Counts.empty((1100,)))))
    wide = replace(wide, statistics={}, final_weights=None, key_shares=None, value_norms=None)
    with pytest.raises(ProfileFileError, match="1001 layers with up to 1100 heads"):
        parse_profile(profile_bytes(replace(small_profile, origin=origin, layers=(wide, *layers[1:]))))


@pytest.mark.parametrize(("length", "is_read"), [(2**24, True), (2**24 + 1, False), (2**60, False)])
def test_a_length_without_tokens_is_bounded(length: int, is_read: bool, small_profile: Profile) -> None:
    def tell_length(header: dict[str, Any]) -> None:
        header["origin"].update(tokens=[], token_ids=[], prompt_length=length)

    def drop_rows(tensors: Tensors) -> None:
        for name in ("final_weights", "key_shares", "value_norms"):
            tensors.pop(name, None)

    payload = rebuilt(small_profile, tell_length, change_tensors=drop_rows)
    if is_read:
        assert parse_profile(payload).n_tokens == length
    else:
        with pytest.raises(ProfileFileError, match=f"{length:,} tokens"):
            parse_profile(payload)


def test_a_length_that_holds_for_several_prompts_is_read(small_profile: Profile) -> None:
    def tell_length(header: dict[str, Any]) -> None:
        header["origin"].update(prompt_length=len(header["origin"]["tokens"]))

    assert parse_profile(rebuilt(small_profile, tell_length)).n_tokens == small_profile.n_tokens


WRONG_TENSORS: dict[str, Callable[[Tensors], Any]] = {
    "a part is missing": lambda each: each.pop("sink/bins"),
    "a bin that does not exist": lambda each: each["content/bins"].fill(15361),
    "bins of another type": lambda each: each.update({"content/bins": each["content/bins"].astype(np.int64)}),
    "hits with a sign": lambda each: each.update({"content/hits": each["content/hits"].astype(np.int32)}),
    "a size too few": lambda each: each.update({"content/sizes": each["content/sizes"][:-1]}),
    "sizes that do not add up": lambda each: each["content/sizes"].__iadd__(1),
    "sums too few": lambda each: each.update({"self/total": each["self/total"][:-1]}),
    "final weights of other tokens": lambda each: each.update(final_weights=each["final_weights"][:, 1:].copy()),
    "value norms of other tokens": lambda each: each.update(value_norms=each["final_weights"][:, 1:].copy()),
    "a negative value norm": lambda each: each.update(value_norms=-each["final_weights"]),
    "an undefined value norm": lambda each: each.update(value_norms=each["final_weights"] * np.float32("nan")),
    "an infinite value norm": lambda each: each.update(value_norms=each["final_weights"] + np.float32("inf")),
    "a number without heads": lambda each: each.update({"stat/entropy": np.array(1.0)}),
    "sums without heads": lambda each: each.update({"self/total": np.array(1.0)}),
    "sizes whose sum runs over": lambda each: each.update(
        {"content/sizes": each["content/sizes"].astype(np.uint64) + np.array([2**61] * 8, dtype=np.uint64)}
    ),
    "sizes below zero": lambda each: each.update(
        {"content/sizes": each["content/sizes"].astype(np.int64) + np.array([-999, 999] + [0] * 6)}
    ),
}


@pytest.mark.parametrize("what", WRONG_TENSORS)
def test_wrong_tensors_with_a_fitting_digest_are_refused(what: str, small_profile: Profile) -> None:
    with pytest.raises(ProfileFileError):
        parse_profile(rebuilt(small_profile, change_tensors=WRONG_TENSORS[what]))


def test_a_header_that_is_no_text_is_refused(small_profile: Profile) -> None:
    payload = profile_bytes(small_profile)
    entry = json.dumps({"sha256": "0" * 64, "header": header_of(payload).replace("tiny/model", "\ud800")})
    with pytest.raises(ProfileFileError):
        parse_profile(save_tensors(load_tensors(payload), {profile_file.FORMAT: entry}))


@pytest.mark.parametrize("entry", ["", "[]", "null", "7", "{}", '{"header": 3, "sha256": 4}', "[" * 100_000])
def test_metadata_that_are_none_are_refused(entry: str) -> None:
    with pytest.raises(ProfileFileError):
        parse_profile(save_tensors({"a": np.zeros(3)}, {profile_file.FORMAT: entry}))


# -- reading and writing files ---------------------------------------------------------------------------------------


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.laminar"):
        read_profile(tmp_path / "nowhere.laminar")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_profile(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.laminar"
    path.write_bytes(b"not a profile")
    with pytest.raises(ProfileFileError, match=r"bad\.laminar"):
        read_profile(path)


class DiskFullError(OSError):
    """What every step of a write can end with."""

    def __init__(self) -> None:
        super().__init__(28, "No space left on device")


def _full(*_: Any, **__: Any) -> Any:
    raise DiskFullError


def _fail_write(monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = Path.open

    def open_full(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        stream = real_open(self, mode, *args, **kwargs)
        if "x" not in mode:  # what the program writes to is always a new file
            return stream

        class Full:
            def __enter__(self) -> "Full":
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

            def write(self, payload: bytes) -> int:
                stream.write(payload[: len(payload) // 2])
                raise DiskFullError

            def __getattr__(self, name: str) -> Any:
                return getattr(stream, name)

        return Full()

    monkeypatch.setattr(Path, "open", open_full)


FAILURES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "open": lambda monkeypatch: monkeypatch.setattr(Path, "open", _full),
    "write": _fail_write,
    "fsync": lambda monkeypatch: monkeypatch.setattr(os, "fsync", _full),
    "rename": lambda monkeypatch: (
        monkeypatch.setattr(Path, "replace", _full),
        monkeypatch.setattr(os, "replace", _full),
        monkeypatch.setattr(os, "rename", _full),
    ),
}


@pytest.mark.parametrize("step", FAILURES)
@pytest.mark.parametrize("existed", [True, False])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    step: str, existed: bool, small_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.laminar"
    if existed:
        path.write_bytes(b"the old file")
    with monkeypatch.context() as patched:
        FAILURES[step](patched)
        with pytest.raises(UsageError, match="No space left") as refused:
            small_profile.save(path)
    assert str(path) in refused.value.message
    assert names_in(tmp_path) == (["run.laminar"] if existed else [])
    if existed:
        assert path.read_bytes() == b"the old file"


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    small_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.laminar"
    path.write_bytes(b"the old file")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            small_profile.save(path)
    assert names_in(tmp_path) == ["run.laminar"]
    assert path.read_bytes() == b"the old file"


def test_an_existing_profile_is_replaced(small_profile: Profile, same_profile: SameProfile, tmp_path: Path) -> None:
    path = tmp_path / "run.laminar"
    path.write_bytes(b"x" * 10**6)
    small_profile.save(path)
    same_profile(Profile.load(path), small_profile)


def test_a_folder_that_does_not_exist_is_refused(small_profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        small_profile.save(tmp_path / "no" / "run.laminar")


def test_a_fifo_is_not_replaced(small_profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "fifo.laminar"
    os.mkfifo(path)
    with pytest.raises(UsageError, match="no regular file"):
        small_profile.save(path)
    assert path.is_fifo()
    assert names_in(tmp_path) == ["fifo.laminar"]


def test_a_fifo_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "fifo.laminar"
    os.mkfifo(path)
    with pytest.raises(UsageError):  # opening it would wait for a writer for ever
        read_profile(path)
    assert not looks_like_profile(path)


@pytest.mark.parametrize("target_exists", [True, False])
def test_a_symlink_is_not_replaced(target_exists: bool, small_profile: Profile, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link.laminar"
    if target_exists:
        target.write_bytes(b"precious")
    link.symlink_to(target)
    with pytest.raises(UsageError, match="no regular file"):
        small_profile.save(link)
    assert link.is_symlink()
    assert target.exists() == target_exists
    assert not target_exists or target.read_bytes() == b"precious"


def test_a_folder_is_not_replaced(small_profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no regular file"):
        small_profile.save(tmp_path)


def test_a_symlink_to_a_profile_is_read(small_profile: Profile, same_profile: SameProfile, tmp_path: Path) -> None:
    small_profile.save(tmp_path / "run.laminar")
    (tmp_path / "link").symlink_to("run.laminar")
    same_profile(read_profile(tmp_path / "link"), small_profile)


def test_a_file_larger_than_any_profile_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge.laminar"
    with path.open("wb") as file:
        file.truncate(profile_file.MAX_FILE_BYTES + 1)  # takes no room on the disk
    monkeypatch.setattr(profile_file, "parse_profile", lambda _payload: pytest.fail("it was read"))
    with pytest.raises(ProfileFileError, match=r"huge\.laminar is too large") as refused:
        read_profile(path)
    assert "4,294,967,297 bytes" in refused.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser can read everything")
def test_a_file_that_cannot_be_read_is_refused_in_words(small_profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "run.bin"
    small_profile.save(path)
    path.chmod(0)
    assert not looks_like_profile(path)
    with pytest.raises(UsageError, match="cannot read"):
        read_profile(path)


def test_an_existing_file_keeps_its_permissions_and_a_new_one_gets_the_usual_ones(
    small_profile: Profile, tmp_path: Path
) -> None:
    before = os.umask(0o027)
    try:
        for name, mode in (("private", 0o600), ("open", 0o666)):
            (tmp_path / name).write_bytes(b"")
            (tmp_path / name).chmod(mode)
            small_profile.save(tmp_path / name)
            assert (tmp_path / name).stat().st_mode & 0o777 == mode
        small_profile.save(tmp_path / "new")
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_what_is_written_beside_has_a_name_that_nobody_can_guess_and_is_for_its_owner(
    small_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    replace_path = Path.replace

    def look(self: Path, target: Path) -> Path:
        seen.append((self.name, self.stat().st_size))
        return replace_path(self, target)

    monkeypatch.setattr(Path, "replace", look)
    long = tmp_path / ("x" * 250)
    for _ in range(3):
        small_profile.save(long)  # its name leaves no room for a longer one beside it
    assert len({name for name, _ in seen}) == 3
    assert all(size > 0 for _, size in seen)
    monkeypatch.setattr("laminar_tui.files.secrets.token_hex", lambda _n: "guessed")
    (tmp_path / ".laminar-guessed.part").symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError, match="File exists"):
        small_profile.save(tmp_path / "run.laminar")
    assert names_in(tmp_path).count("victim") == 0
    assert (tmp_path / ".laminar-guessed.part").is_symlink(), "what is not ours is not taken away"
