"""Five hundred captures in one process leave it as it was: memory, threads, file descriptors."""

import json
import os
import subprocess
import sys
from pathlib import Path

from many_captures import reading

N_CAPTURES = 500
MOST_GROWTH = 0.01
"""Share of the resident memory after the warm-up. A process of its own: what other tests leave would hide it."""


def run(*options: str) -> dict[str, list[int]]:
    script = Path(__file__).parent / "many_captures.py"
    done = subprocess.run(
        [sys.executable, str(script), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
    )
    found: dict[str, list[int]] = json.loads(done.stdout)
    return found


def growth(resident: list[int]) -> float:
    """From the first readings to the last ones, as a share; the least of three each, since noise only adds."""
    return min(resident[-3:]) / min(resident[:3]) - 1


def test_five_hundred_captures_leave_nothing_behind() -> None:
    found = run("--captures", str(N_CAPTURES))
    assert len(found["resident"]) == N_CAPTURES // 10 + 1
    assert growth(found["resident"]) < MOST_GROWTH, found["resident"]
    assert len(set(found["threads"])) == 1, found["threads"]
    assert len(set(found["descriptors"])) == 1, found["descriptors"]


def test_what_is_measured_sees_what_is_kept() -> None:
    before, kept = reading(), bytearray(b"x") * 10_000_000
    with Path(__file__).open() as held:
        after = reading()
    assert 9_000_000 < after[0] - before[0] < 12_000_000, len(kept)
    assert after[2] == before[2] + 1, held
    assert growth([100] * 5 + [102] * 5) > MOST_GROWTH > growth([100] * 9)
