"""What the tests of the command line share: how it is called, what a refusal is, and what it has imported."""

import subprocess
import sys
from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
HEAVY = ("torch", "transformers", "scipy.stats", "textual")


def assert_refused(result: tuple[int, str, str], code: int, *words: str) -> None:
    """An error has its exit code, writes nothing to stdout, and says in at most three lines what and what to do."""
    found, out, err = result
    assert found == code, err
    assert out == ""
    assert "Traceback" not in err
    about = [line for line in err.splitlines() if line.startswith(("laminar-tui: ", "  "))]
    assert 1 <= len(about) <= 3, err
    assert about[0].startswith("laminar-tui: ")
    for word in words:
        assert word in err, err


def heavy_after(statement: str) -> list[str]:
    """Run a statement in a fresh interpreter and name the heavy modules it has imported."""
    program = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\n"
    program += f"print('LOADED', *(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()[-1].split()[1:]
