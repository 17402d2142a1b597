"""What is told on the way: how far a run is, also where nobody knows how far there is to go, and what Esc does."""

import pytest

from laminar_tui.commands.narration import narrated
from laminar_tui.run import Step
from laminar_tui.ui.drawing import progress_text
from laminar_tui.ui.explorer import Terminal


@pytest.mark.parametrize(("total", "said"), [(0, "reading 1,234  "), (2000, "reading 1234 of 2000  ")])
def test_a_terminal_is_told_how_much_is_read(
    total: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with narrated(quiet=False) as tell:
        tell(Step("reading", 1234, total))
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_is_left_is_told_with_how_much_is_done(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    step = Step("reading", 1234, more="12 % done, about 3 min left")
    with narrated(quiet=False) as tell:
        tell(step)
    assert "reading 1,234: 12 % done, about 3 min left" in capsys.readouterr().err
    assert "12 % done, about 3 min left  Esc stops" in progress_text(step, None, Terminal("none", False))


def test_esc_stops_a_run_of_ones_own_but_only_the_looking_at_another() -> None:
    step, terminal = Step("forward", 1, 4), Terminal("none", False)
    assert progress_text(step, 1.0, terminal).endswith("1.0 s so far  Esc stops")
    assert progress_text(step, None, terminal).endswith("Esc stops looking")


def test_a_long_name_gives_way_to_how_far_it_is_and_how_it_is_stopped() -> None:
    step, terminal = Step("needs about 863 MB (parameters 538 MB, forward and reading 53 MB)", 1, 4), Terminal("none")
    whole = progress_text(step, 1.0, terminal)
    assert progress_text(step, 1.0, terminal, len(whole)) == whole
    cut = progress_text(step, 1.0, terminal, 70)
    assert len(cut) == 70
    assert cut.startswith("needs about")
    assert cut.endswith("1 of 4  1.0 s so far  Esc stops")
