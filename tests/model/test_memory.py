"""What is free: the least of what the system has and of what the groups' limits leave."""

from pathlib import Path

import pytest
import torch

from laminar_tui.model.memory import _free_on_host, free_memory
from laminar_tui.model.tally import measure_rows

GIB = 2**30


def make_system(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable:   {8 * 2**20} kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {"proc/self/cgroup": "0::/user/job\n"}
V1 = {"proc/self/cgroup": "7:cpu:/x\n4:memory:/user/job\n"}
NEW, OLD = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8 * GIB),
        ({**V2, f"{NEW}/user/job/memory.max": "max\n", f"{NEW}/user/job/memory.current": "5\n"}, 8 * GIB),
        ({**V2, f"{NEW}/user/job/memory.max": f"{4 * GIB}", f"{NEW}/user/job/memory.current": f"{GIB}"}, 3 * GIB),
        (
            {
                **V2,
                f"{NEW}/user/job/memory.max": f"{4 * GIB}",
                f"{NEW}/user/job/memory.current": f"{2 * GIB}",
                f"{NEW}/user/job/memory.stat": f"anon 5\ninactive_file {GIB}\n",
            },
            3 * GIB,
        ),
        # The limit is on a group above this one.
        ({**V2, f"{NEW}/user/memory.max": f"{2 * GIB}", f"{NEW}/user/memory.current": f"{GIB}"}, GIB),
        # Within a container the group's own path is not there.
        ({**V2, f"{NEW}/memory.max": f"{2 * GIB}", f"{NEW}/memory.current": "0"}, 2 * GIB),
        (
            {
                **V1,
                f"{OLD}/user/job/memory.limit_in_bytes": f"{3 * GIB}",
                f"{OLD}/user/job/memory.usage_in_bytes": f"{GIB}",
            },
            2 * GIB,
        ),
        ({**V1, f"{OLD}/memory.limit_in_bytes": str(2**63 - 4096), f"{OLD}/memory.usage_in_bytes": "1"}, 8 * GIB),
        ({**V2, f"{NEW}/memory.max": "10", f"{NEW}/memory.current": "50"}, 0),
    ],
)
def test_the_least_that_any_limit_leaves(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert min(_free_on_host(make_system(tmp_path, files))) == expected


def test_this_machine_has_some_memory_left() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**60


def test_what_is_measured_of_a_row_does_not_keep_its_pattern() -> None:
    """A view of one key would: at 8,192 tokens and 4 heads, a gigabyte a layer."""
    weights = torch.eye(64).expand(2, 64, 64).clone()
    allowed = torch.ones(64, 64, dtype=torch.bool).tril()[None]
    rows = measure_rows(weights, weights, allowed, torch.arange(64))
    assert all(each.untyped_storage().nbytes() <= 2 * 64 * 8 for each in vars(rows).values())
