"""The command line in this process."""

import pytest
from hostile import Run

from laminar_tui.cli import main


@pytest.fixture
def command(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process: exit code, and what came out of file descriptors 1 and 2."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

    def run(*words: object) -> tuple[int, bytes, bytes]:
        capfdbinary.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as left:
            code = int(left.code or 0)
        return code, *capfdbinary.readouterr()

    return run
