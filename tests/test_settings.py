"""Settings are read from where they belong, checked before the screen is touched, and heeded after what was typed."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from laminar_tui.commands.explore import make_parser
from laminar_tui.errors import UsageError
from laminar_tui.settings import DEFAULTS, Settings, read_settings, settings_path
from laminar_tui.ui.keymap import make_keymap

HERE = Path("config.toml")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The usual place of the settings, in a folder of the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "laminar-tui" / "config.toml"
    path.parent.mkdir()
    return path


def test_without_a_file_the_programs_own_values_hold(config: Path) -> None:
    settings = read_settings(None)
    assert settings == Settings()
    assert settings_path() == config
    assert {name: settings.choose(name) for name in DEFAULTS} == DEFAULTS


def test_a_relative_xdg_folder_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert settings_path() == tmp_path / ".config" / "laminar-tui" / "config.toml"


def test_the_file_goes_before_the_program_and_what_is_typed_before_the_file(config: Path) -> None:
    config.write_text('theme = "light"\ncolor_map = "magma"\npopulation = "all"\n[keys]\npopulation = "b"\n')
    settings = read_settings(None)
    assert settings.path == config
    assert settings.keys == {"population": "b"}
    assert settings.choose("color_map") == "magma"
    assert settings.choose("color_map", "gray") == "gray"
    assert settings.choose("scale") == "log"


def test_the_command_line_leaves_to_the_settings_what_is_not_typed() -> None:
    options = make_parser().parse_args(["--population", "self", "--config", "mine.toml"])
    assert (options.population, options.estimator, options.color_map, options.config) == (
        "self",
        None,
        None,
        "mine.toml",
    )


def test_a_start_takes_what_was_typed_else_the_file_else_its_own(config: Path) -> None:
    from laminar_tui.ui.start import _read_settings

    config.write_text('population = "all"\nestimator = "log"\n')
    options = argparse.Namespace(config=None, population="self", estimator=None, color_map=None)
    _read_settings(options)
    assert (options.population, options.estimator, options.color_map) == ("self", "log", "viridis")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("theme = ", "no TOML"),
        ('colour = "red"', "there is no setting 'colour'"),
        ("scale = 3", "scale is no text"),
        ('scale = "cubic"', "there is no scale 'cubic'"),
        ('theme = "blue"', "there is no theme 'blue'"),
        ('population = "some"', "some"),
        ('estimator = "guess"', "guess"),
        ('color_map = "jet"', "there is no colour map 'jet'"),
        ("keys = 3", "[keys] is a table"),
        ("[keys]\nquit = 3", "[keys] is a table"),
        ("# " + "x" * 2**16, "no file of settings"),
    ],
)
def test_what_means_nothing_is_refused_with_the_files_name(config: Path, text: str, said: str) -> None:
    config.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_settings(None)
    assert str(config) in refused.value.message
    assert said in refused.value.message
    assert refused.value.hint


def test_a_file_that_is_named_has_to_be_there_and_be_text(config: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_settings(str(config))
    config.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="UTF-8"):
        read_settings(str(config))
    with pytest.raises(UsageError, match="no file of settings"):
        read_settings(str(config.parent))


def test_keys_are_written_as_textual_names_them() -> None:
    asked = {"population": "B, ctrl+e", "pin": "?", "help": "f1", "find": "colon", "palette": "ctrl+k"}
    assert make_keymap(asked, HERE) == {
        "population": "B,ctrl+e",
        "pin": "question_mark",
        "help": "f1",
        "find": "colon",
        "palette": "ctrl+k",
    }


def test_keys_may_change_places() -> None:
    assert make_keymap({"population": "s", "sink": "p"}, HERE) == {"population": "s", "sink": "p"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"populatoin": "b"}, "'populatoin', which nothing is called"),
        ({"population": "supr"}, "there is no key 'supr'"),
        ({"population": "hyper+x"}, "there is no key 'hyper+x'"),
        ({"population": ""}, "there is no key ''"),
        ({"population": "s"}, "the key s would be both population and sink (the explorer)"),
        ({"pin": "b", "find": "b"}, "the key b would be both find and pin (the explorer)"),
        ({"population": "b"}, "the key b would be both null and population (compare)"),
    ],
)
def test_a_key_that_is_none_or_does_two_things_is_refused(asked: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        make_keymap(asked, HERE)
    assert said in refused.value.message
    assert refused.value.hint


def test_toml_is_read_only_where_there_is_a_file(config: Path) -> None:
    program = (
        "import sys\nfrom laminar_tui.settings import read_settings\nread_settings(None)\n"
        "print({'tomllib', 'textual', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n", config
