"""Several processes that read one corpus: each every N-th window, on its own device; their integers add up at the end.

They find one another as `torchrun` tells them. Between the windows they say through the group's key-value store how far
they are and whether they failed, so that none waits for one that will not come.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from laminar_tui.errors import CancelledError, PeerError
from laminar_tui.profile.corpus_progress import Progress, combine, describe
from laminar_tui.profile.counts import N_BINS
from laminar_tui.profile.merge import LayerSums, ProfileSums
from laminar_tui.profile.parts import PARTS

PATIENCE = 1800.0
"""Seconds without a window from a process after which the others give it up."""
_HINT = "the windows that were read are kept: start the processes again with --resume"


def use_threads(n_threads: int) -> None:
    """Compute with so many threads: products of matrices are cut in other places with another number, and round so."""
    torch.set_num_threads(n_threads)


def count_threads(device: torch.device) -> int | None:
    """How many threads compute; None for a device where they are not what computes."""
    return torch.get_num_threads() if device.type == "cpu" else None


class Peers:
    """The processes of a run, as one of them sees them.

    Args:
        rank, size: this one's number, and how many there are.
        device: what this one computes on.
        patience: seconds to wait for a process that gets no further.
        store: the group's key-value store; None for a process that is alone.
    """

    def __init__(self, rank: int, size: int, device: torch.device, patience: float, store: Store | None) -> None:
        self.rank = rank
        self.size = size
        self._device = device
        self._patience = patience
        self._store = store

    def tell(self, n_seen: int) -> None:
        """Say how far this process is, and hear whether another failed.

        Raises:
            PeerError: if one did.
        """
        if self._store is not None:
            with _explained():
                self._store.set(f"at/{self.rank}", str(n_seen))
            self._raise_if_one_failed()

    def fail(self, why: str) -> None:
        """Tell the others that this process does not go on."""
        if self._store is not None:
            try:
                self._store.set("failed", f"process {self.rank} of {self.size}: {why}")
            except RuntimeError:
                return  # the store went with the process that held it, and so nobody waits for this one

    def wait_for_all(self, is_cancelled: Callable[[], bool]) -> None:
        """Wait until each process has read its windows.

        Raises:
            PeerError: if one failed, or got no further for too long.
            CancelledError: if the user said so.
        """
        if self._store is None:
            return
        before: list[bytes] = []
        since = time.monotonic()
        with _explained():
            self._store.set(f"done/{self.rank}", "")
            while not self._store.check([f"done/{rank}" for rank in range(self.size)]):
                self._raise_if_one_failed()
                now = [self._store.get(f"at/{rank}") for rank in range(self.size)]
                since = since if now == before else time.monotonic()
                before = now
                if is_cancelled():
                    raise CancelledError("the capture was cancelled")
                if time.monotonic() - since > self._patience:
                    raise PeerError("another process gets no further", _HINT)
                time.sleep(0.05)

    def add_up(self, progress: Progress) -> ProfileSums:
        """Add up what the processes have read: integers, so the order does not matter.

        Returns:
            The sums of all in the process of rank 0; something unfinished in the others.

        Raises:
            PeerError: if a process is gone, or they did not read the same corpus in the same way.
        """
        if self.size == 1:
            return progress.sums
        mine = (describe(progress.sums), progress.settings, progress.n_seen, progress.digest)
        all_of_them: list[Any] = [None] * self.size
        with _explained():
            dist.all_gather_object(all_of_them, mine)
            if any(each[1:] != mine[1:] for each in all_of_them):
                raise PeerError("the processes did not read the same", "give each the same model, options and corpus")
            total = combine([each[0] for each in all_of_them])
            for index, layer in enumerate(total.layers):
                if layer is not None:
                    own = progress.sums.layers[index] if progress.sums.layers else None
                    self._reduce_layer(layer, own)
        return total

    def share(self, message: str) -> str:
        """Give every process what rank 0 says.

        Raises:
            PeerError: if it is gone.
        """
        if self.size == 1:
            return message
        box = [message]
        with _explained():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def _reduce_layer(self, total: LayerSums, own: LayerSums | None) -> None:
        dense = np.zeros(len(PARTS) * total.n_heads * N_BINS, np.int64)
        if own is not None:
            keys, hits = own.settle_hits()
            dense[keys] = hits
        dense = self._reduce(dense)
        keys = np.flatnonzero(dense)
        total.add_hits(keys, dense[keys])
        ours = {} if own is None else own.arrays()
        arrays = {}
        for name, zeros in total.arrays().items():
            fits = name in ours and ours[name].shape == zeros.shape  # no key shares where lengths differ
            arrays[name] = self._reduce(ours[name] if fits else zeros)
        total.set_arrays(arrays)

    def _reduce(self, array: Any) -> Any:
        if array.size == 0:
            return array
        tensor = torch.from_numpy(np.array(array)).to(self._device)
        dist.reduce(tensor, dst=0)
        return tensor.cpu().numpy()

    def _raise_if_one_failed(self) -> None:
        if self._store is not None:
            with _explained():
                if self._store.check(["failed"]):
                    raise PeerError(self._store.get("failed").decode(errors="replace"), _HINT)


def own_device(asked: str | None, local_rank: int, size: int) -> str | None:
    """The device of one of several processes: the GPU of its number on its machine; else what was asked for."""
    if size == 1 or asked not in (None, "cuda"):
        return asked
    return f"cuda:{local_rank}" if asked or torch.cuda.is_available() else None


@contextmanager
def joined(rank: int, size: int, device_name: str | None, patience: float | None = None) -> Iterator[Peers]:
    """Join the processes of a run; one that leaves by an exception tells the others.

    Args:
        device_name: this process's, from `own_device`; None is the CPU.
        patience: seconds to wait for another; PATIENCE when left out.

    Raises:
        PeerError: if they do not find one another.
    """
    patience = PATIENCE if patience is None else patience
    device = torch.device(device_name or "cpu")
    if size == 1:
        yield Peers(rank, size, device, patience, None)
        return
    with _explained():
        timeout = timedelta(seconds=patience)
        found, _, _ = next(iter(rendezvous("env://", timeout=timeout)))
        store = PrefixStore("laminar", found)
        store.set(f"at/{rank}", "0")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", store=found, rank=rank, world_size=size, timeout=timeout
        )
    peers = Peers(rank, size, device, patience, store)
    try:
        yield peers
    except BaseException as error:
        if not isinstance(error, PeerError):
            peers.fail(" ".join(str(error).split())[:200] or type(error).__name__)
        raise
    finally:
        dist.destroy_process_group()


@contextmanager
def _explained() -> Iterator[None]:
    """Say in the program's own words what torch.distributed raises."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise PeerError(f"the processes of this run lost one another: {reason}", _HINT) from error
