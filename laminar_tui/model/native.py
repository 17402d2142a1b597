"""The fast path's tiles in C, built on this machine by its own compiler and called without the interpreter's lock.

`tile.c` does in one walk along a row what takes some forty tensor operations, and has its products made by the BLAS
that torch brings along; `compiled` calls it. It is built once, in a moment, for the processor it runs on, and kept in
the cache folder; without a compiler or a BLAS the fast path goes on with tensor operations.
"""

import ctypes
import hashlib
import logging
import os
import platform
import secrets
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib import resources
from pathlib import Path

import platformdirs
import torch

from laminar_tui.files import APP_NAME

SWITCH = "LAMINAR_NO_NATIVE"
"""The environment variable that, when it is 1, leaves the compiler alone."""
BUILD_SECONDS = 60.0
"""How long a compiler may take; it takes a quarter of a second."""
FLAGS = ("-std=c11", "-O3", "-fPIC", "-shared", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math")
FASTEST = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ())
"""Further flags, the first set that the compiler takes."""

_log = logging.getLogger(__name__)


Attend = Callable[..., int]
"""`laminar_attend` of tile.c, its first argument given."""


@cache
def attend_function() -> Attend | None:
    """Give the function of tile.c; None where it is switched off, or something that it needs is missing."""
    if os.environ.get(SWITCH) == "1" or sys.platform == "win32":
        return None
    compiler = find_compiler()
    if compiler is None:
        _log.info("no C compiler: the tiles are read by tensor operations")
        return None
    try:
        return partial(_load(_build(compiler)), _find_sgemm())
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as error:
        _log.info("the compiled tile is not used: %s", error)
        return None


def _find_sgemm() -> int:
    """Find the BLAS that torch multiplies with, which has a name of its own in every build but this one function.

    Raises:
        OSError, AttributeError: if torch's library, or the function in it, is not where it is on Linux and macOS.
    """
    name = "libtorch_cpu.dylib" if sys.platform == "darwin" else "libtorch_cpu.so"
    found = ctypes.CDLL(str(Path(torch.__file__).with_name("lib") / name)).sgemm_
    return ctypes.cast(found, ctypes.c_void_p).value or 0


def find_compiler() -> list[str] | None:
    """Find the C compiler, `CC` or cc, as the start of a command; None where there is none."""
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    found = shutil.which(command[0])
    return None if found is None else [found, *command[1:]]


def _build(compiler: list[str]) -> Path:
    """Build the library, or find the one that was built for this source, compiler and processor.

    Raises:
        OSError, subprocess.SubprocessError: if it cannot be built.
    """
    source = resources.files(__package__).joinpath("tile.c").read_bytes()
    version = subprocess.run([*compiler, "--version"], capture_output=True, timeout=BUILD_SECONDS, check=True).stdout
    # A home folder may be shared by machines with different processors.
    made_of = [source, *map(str.encode, (*compiler, *FLAGS, repr(FASTEST))), version, _processor()]
    folder = _own_folder()
    digest = hashlib.sha256(b"\0".join(made_of)).hexdigest()
    library = folder / f"tile-{digest[:24]}.so"
    if library.exists():
        return library
    beside = folder / f".{secrets.token_hex(8)}.so"
    try:
        for more in FASTEST:
            command = [*compiler, *FLAGS, *more, "-x", "c", "-", "-lm", "-o", str(beside)]
            done = subprocess.run(command, input=source, capture_output=True, timeout=BUILD_SECONDS, check=False)
            if done.returncode == 0:
                _settle(beside)
                beside.replace(library)
                return library
    finally:
        beside.unlink(missing_ok=True)
    done.check_returncode()
    raise AssertionError


def _settle(path: Path) -> None:
    """Wait until a file is whole on the disk, and let only its owner change it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    path.chmod(0o700)


def _processor() -> bytes:
    """What distinguishes this processor from one that does not know its instructions."""
    with suppress(OSError), Path("/proc/cpuinfo").open("rb") as lines:
        wanted = (b"model name", b"flags", b"Features", b"CPU part")
        return b"".join(sorted({line for line in lines if line.startswith(wanted)}))
    return f"{platform.machine()} {platform.processor()} {platform.release()}".encode()


def _own_folder() -> Path:
    """Give the folder for what was built.

    Raises:
        OSError: if it cannot be made, or others may write to it: what is in it will be run.
    """
    folder = platformdirs.user_cache_path(APP_NAME)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_own(folder)
    return folder


def _check_own(path: Path) -> None:
    found = path.lstat()
    if found.st_uid != os.getuid() or stat.S_ISLNK(found.st_mode) or found.st_mode & 0o022:
        raise PermissionError(f"{path} is a link, of another user, or open to others")


def _load(path: Path) -> Callable[..., int]:
    """Load the library's function.

    Raises:
        OSError: if it cannot be loaded, or could have been put there by somebody else.
    """
    _check_own(path)
    attend = ctypes.CDLL(str(path)).laminar_attend
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    attend.argtypes = [pointer, pointer, pointer, size, size, size, size]
    attend.restype = ctypes.c_int
    function: Callable[..., int] = attend
    return function
