"""The compiled tile: built once, for its owner only, and used only where it does what the tensor operations do."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from laminar_tui.model import native, tiles
from laminar_tui.profile.counts import N_BINS

pytestmark = pytest.mark.skipif(native.find_compiler() is None, reason="no C compiler here")


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache folder of the test's own, and a process that has not looked yet."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv(native.SWITCH, raising=False)
    for found in (native.library, tiles.checked_library):
        found.cache_clear()
    yield
    for found in (native.library, tiles.checked_library):
        found.cache_clear()


def built(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*"))[1:]


def test_it_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.library() is not None
    (library,) = built(tmp_path)
    assert library.stat().st_mode & 0o077 == 0
    assert library.parent.stat().st_mode & 0o077 == 0
    native.library.cache_clear()
    run = subprocess.run

    def only_version(command: list[str], **more: object) -> subprocess.CompletedProcess[bytes]:
        assert command[-1] == "--version"
        return run(command, **more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(subprocess, "run", only_version)
    assert native.library() is not None
    assert built(tmp_path) == [library]


def test_another_processor_or_compiler_has_a_library_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.library() is not None
    monkeypatch.setattr(native, "_processor", lambda: b"another one")
    native.library.cache_clear()
    assert native.library() is not None
    assert len(built(tmp_path)) == 2


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false", "true", "cc -no-such-flag"])
def test_without_a_working_compiler_there_is_none(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`true` ends well and writes nothing."""
    monkeypatch.setenv("CC", compiler)
    assert native.library() is None
    assert tiles.checked_library() is None
    assert not built(tmp_path), "no debris"


def test_it_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.SWITCH, "1")
    assert native.library() is None
    assert not (tmp_path / "cache").exists()


def test_what_others_could_have_written_is_not_run(tmp_path: Path) -> None:
    assert native.library() is not None
    (library,) = built(tmp_path)
    for path, mode in ((library, 0o770), (library.parent, 0o777)):
        before = path.stat().st_mode
        path.chmod(mode)
        native.library.cache_clear()
        assert native.library() is None
        path.chmod(before)
    target = tmp_path / "elsewhere.so"
    shutil.move(library, target)
    library.symlink_to(target)
    native.library.cache_clear()
    assert native.library() is None


def test_a_damaged_library_is_not_run() -> None:
    compiler = native.find_compiler()
    assert compiler is not None
    library = native._build(compiler)
    library.write_bytes(library.read_bytes()[:100])
    assert native.library() is None


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("k < q; k++", "k < q - (q > 200); k++"),
        ("0xfff + ((bits >> 13) & 1)", "0"),
        ("received[k] += w", "received[k] = w"),
        ("hits[N_BINS + bins[i + 1]]++", "hits[bins[i]]++"),
        ("row[k] = seen[k] ?", "row[k] = seen[0] || 1 ?"),
        ("places[q] >= 0", "places[q] > 0"),
    ],
)
def test_one_that_counts_wrongly_is_not_used(
    right: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(native.__file__).with_name("tile.c").read_text()
    assert right in source
    package = tmp_path / "package"
    package.mkdir()
    (package / "tile.c").write_text(source.replace(right, wrong))
    monkeypatch.setattr("importlib.resources.files", lambda _package: package)
    assert native.library() is not None
    assert tiles.checked_library() is None


def test_every_half_is_rounded_as_the_framework_rounds() -> None:
    """Weights at, and next to, the middle between two float16: the bin is the one of the nearer, or even, number."""
    library = native.library()
    assert library is not None
    halves = torch.arange(1, N_BINS, dtype=torch.int16).view(torch.float16).float()
    middle = (halves[1:] + halves[:-1]) / 2
    around = torch.cat([halves, middle, *(torch.nextafter(middle, torch.tensor(to)) for to in (0.0, 1.0))])
    # Each among 7 others that take up what is left of 1, in rows of 10 keys with a sink and the query itself.
    n = 10
    weights = torch.zeros(len(around), n)
    weights[:, 0], weights[:, 1] = 1 - around.clamp(max=0.999), around.clamp(max=0.999)
    expected = torch.zeros(N_BINS, dtype=torch.int64)
    bench = tiles.NativeBench(library, 1, 1, n)
    total = torch.zeros(1, N_BINS, dtype=torch.int64)
    for row in weights[::97]:
        (tile,) = bench.tiles
        tile.scores.copy_(row.log().expand(1, n, n))
        bench.clear()
        bench.weigh(tile, None)
        bench.count_into(total)
        content = torch.cat([each[1:q] for q, each in enumerate(tile.weights[0])])
        expected += torch.bincount(content.half().view(torch.int16).long(), minlength=N_BINS)
    assert torch.equal(total[0], expected)
