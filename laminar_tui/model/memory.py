"""How much memory a device has left, and what running out of it looks like."""

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

NEED_LESS = (
    "take fewer tokens (--max-tokens), bfloat16 (--dtype), another device (--device) or several (--device-map auto)"
)
"""What to do where it ran out."""

_SAID_BY_THE_HOST = ("can't allocate memory", "not enough memory", "cannot allocate memory", "out of memory")
"""Torch has a class of error for a GPU that is full; for a host it is a plain RuntimeError with one of these."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no more memory, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID_BY_THE_HOST)


def release_unused(device: torch.device) -> None:
    """Give back what no tensor holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


class Holes:
    """What the C allocator holds without need, because what a layer leaves behind lies between larger free blocks.

    The process would grow by some 13 MB with every layer of 2,048 tokens, and by gigabytes within one of 8,192 that
    the tap reads in pieces. Giving it all back each time would cost a page fault for every 4 KB of what comes next; so
    it is done when as much as `AT_MOST` has come together.
    """

    AT_MOST = 48 * 2**20

    def __init__(self) -> None:
        self._resident: int | None = None

    def give_back(self) -> None:
        """Look at what the process holds, and give back what is free if that has grown too much."""
        resident = resident_memory()
        if resident is None or _malloc_trim is None:
            return
        if self._resident is None:
            self._resident = resident
        elif resident > self._resident + self.AT_MOST:
            _malloc_trim(0)
            self._resident = max(self._resident, resident_memory() or 0)


def resident_memory() -> int | None:
    """How many bytes of memory the process occupies; None if that cannot be found out."""
    try:  # asked for every piece of a layer: a file object takes ten times longer
        file = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return None
    try:
        pages = int(os.read(file, 256).split()[1])
    except (OSError, IndexError, ValueError):
        return None
    finally:
        os.close(file)
    return pages * os.sysconf("SC_PAGE_SIZE")


def _find_malloc_trim() -> Callable[[int], int] | None:
    """The GNU C library's function that gives free memory back; None with any other."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return found


_malloc_trim = _find_malloc_trim()


def free_memory(device: torch.device) -> int | None:
    """How many bytes can still be allocated on a device; None if that cannot be found out.

    On the host it is the least of what the system has left and what the limits on this process's groups leave.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    if device.type != "cpu":
        return None
    return min(_free_on_host(Path("/")), default=None)


def _free_on_host(root: Path) -> Iterator[int]:
    available = _field(root / "proc/meminfo", "MemAvailable")
    if available is not None:
        yield available * 1024
    elif hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield from _free_in_groups(root)


def _free_in_groups(root: Path) -> Iterator[int]:
    """What the memory limits of this process's groups leave: those of the group and of each one above it.

    Within a container the path may name a place on the host, which is not there: then the mount's root is the group.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        is_new = controllers == ""
        mounts = ("sys/fs/cgroup", "sys/fs/cgroup/unified") if is_new else ("sys/fs/cgroup/memory",)
        names = ("memory.max", "memory.current") if is_new else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        for mount in mounts:
            group = Path(path.strip("/"))
            for folder in (group, *group.parents):
                free = _free_in_group(root / mount / folder, *names)
                if free is not None:
                    yield free


def _free_in_group(folder: Path, limit_name: str, usage_name: str) -> int | None:
    """The limit less what is used; pages of files count as used there, and can be dropped."""
    limit, usage = _number(folder / limit_name), _number(folder / usage_name)
    if limit is None or usage is None or limit >= 2**62:
        return None
    droppable = _field(folder / "memory.stat", "inactive_file") or 0
    return max(0, limit - max(0, usage - droppable))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or `max`
        return None


def _field(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.replace(":", " ").split()
        if words[:1] == [name]:
            return int(words[1])
    return None
