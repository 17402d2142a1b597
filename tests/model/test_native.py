"""The compiled tile: built once, for its owner only, and used only where it does what the tensor operations do."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from laminar_tui.model import compiled, native
from laminar_tui.model.tally import LayerTally
from laminar_tui.model.tiles import Inputs
from laminar_tui.profile.counts import N_BINS

pytestmark = pytest.mark.skipif(native.find_compiler() is None, reason="no C compiler here")


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache folder of the test's own, and a process that has not looked yet."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv(native.SWITCH, raising=False)
    for found in (native.attend_function, compiled.checked_attend):
        found.cache_clear()
    yield
    for found in (native.attend_function, compiled.checked_attend):
        found.cache_clear()


def built(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*"))[1:]


def test_it_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.attend_function() is not None
    (library,) = built(tmp_path)
    assert library.stat().st_mode & 0o077 == 0
    assert library.parent.stat().st_mode & 0o077 == 0
    native.attend_function.cache_clear()
    run = subprocess.run

    def only_version(command: list[str], **more: object) -> subprocess.CompletedProcess[bytes]:
        assert command[-1] == "--version"
        return run(command, **more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(subprocess, "run", only_version)
    assert native.attend_function() is not None
    assert built(tmp_path) == [library]


def test_another_processor_or_compiler_has_a_library_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.attend_function() is not None
    monkeypatch.setattr(native, "_processor", lambda: b"another one")
    native.attend_function.cache_clear()
    assert native.attend_function() is not None
    assert len(built(tmp_path)) == 2


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false", "true", "cc -no-such-flag"])
def test_without_a_working_compiler_there_is_none(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`true` ends well and writes nothing."""
    monkeypatch.setenv("CC", compiler)
    assert native.attend_function() is None
    assert compiled.checked_attend() is None
    assert not built(tmp_path), "no debris"


def test_it_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.SWITCH, "1")
    assert native.attend_function() is None
    assert not (tmp_path / "cache").exists()


def test_what_others_could_have_written_is_not_run(tmp_path: Path) -> None:
    assert native.attend_function() is not None
    (library,) = built(tmp_path)
    for path, mode in ((library, 0o770), (library.parent, 0o777)):
        before = path.stat().st_mode
        path.chmod(mode)
        native.attend_function.cache_clear()
        assert native.attend_function() is None
        path.chmod(before)
    target = tmp_path / "elsewhere.so"
    shutil.move(library, target)
    library.symlink_to(target)
    native.attend_function.cache_clear()
    assert native.attend_function() is None


def test_a_damaged_library_is_not_run() -> None:
    compiler = native.find_compiler()
    assert compiler is not None
    library = native._build(compiler)
    library.write_bytes(library.read_bytes()[:100])
    assert native.attend_function() is None


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("k < q; k++", "k < q - (q > 200); k++"),
        ("0xfff + ((bits >> 13) & 1)", "0"),
        ("received[k] += w", "received[k] = w"),
        ("hits[SET + bins[i + 1]]++", "hits[bins[i]]++"),
        ("row[k] = seen[k] ?", "row[k] = seen[0] || 1 ?"),
        ("layer->places[q] >= 0", "layer->places[q] > 0"),
        ("head / layer->group * layer->value_step[0]", "head / 4 * layer->value_step[0]"),
        ("n += both[i] != 0", "n += both[i] > 1"),
        ("rest > REST_AT_LEAST", "rest > 0.5"),
        ("rows[q].n_seen - rows[q].sees_first", "q"),
        ("off * off : 0.0f", "off : 0.0f"),
        ("entropy / log(row->n_seen)", "entropy / log((double)q)"),
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
    assert native.attend_function() is not None
    assert compiled.checked_attend() is None


def test_without_the_products_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of torch whose library has another name, or does not show its BLAS."""

    def hidden() -> int:
        raise AttributeError("sgemm_")

    monkeypatch.setattr(native, "_find_sgemm", hidden)
    assert native.attend_function() is None


def test_every_half_is_rounded_as_the_framework_rounds() -> None:
    """Weights at, and next to, the middle between two float16: the bin is the one of the nearer, or even, number."""
    attend = native.attend_function()
    assert attend is not None
    halves = torch.arange(1, N_BINS, dtype=torch.int16).view(torch.float16).float()
    middle = (halves[1:] + halves[:-1]) / 2
    around = torch.cat([halves, middle, *(torch.nextafter(middle, torch.tensor(to)) for to in (0.0, 1.0))])
    # Each beside a sink that takes what is left of 1; products with 1 are exact, so that all queries have these scores.
    n = 10
    weights = torch.zeros(len(around), n)
    weights[:, 0], weights[:, 1] = 1 - around.clamp(max=0.999), around.clamp(max=0.999)
    expected = torch.zeros(N_BINS, dtype=torch.int64)
    total = np.zeros(N_BINS, np.int64)
    for row in weights[::97]:
        keys = row.log().clamp(min=-1e30).view(1, n, 1)
        keep = torch.zeros(1, n, n)
        tally = LayerTally(1, n, torch.device("cpu"))
        reading = compiled.CompiledReading(attend, Inputs(torch.ones(1, n, 1), keys, keys, 1.0, None, keep))
        reading.read(slice(0, 1), lambda: None)
        reading.hand_over(tally)
        total += tally.finish().parts["content"].unpack().hits[0]
        content = torch.cat([each[1:q] for q, each in enumerate(keep[0])])
        expected += torch.bincount(content.half().view(torch.int16).long(), minlength=N_BINS)
    np.testing.assert_array_equal(total, expected.numpy())
