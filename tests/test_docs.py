"""What the README says is what the program does."""

import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from laminar_tui.cli import COMMANDS
from laminar_tui.profile.profile import Profile
from laminar_tui.run import BUNDLED_MODEL

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readmes_table_of_keys_is_the_programs() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / "make_key_table.py", "--check"], check=False)
    assert done.returncode == 0, "run: python tools/make_key_table.py"


def test_every_command_is_in_the_readme() -> None:
    for name in filter(None, COMMANDS):
        assert f"laminar-tui {name} " in README


def test_every_picture_and_page_that_the_readme_names_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_library_part_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    programs = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert programs
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)  # tiny tensors: threads only wait for one another
    exec("\n".join(programs).replace("EleutherAI/pythia-70m", str(BUNDLED_MODEL)), {})
    saved = Profile.load(tmp_path / "ishmael.laminar")
    assert "".join(saved.origin.tokens).endswith("Call me Ishmael.")


def test_every_module_has_its_half_line() -> None:
    """In the part of the page that is about its folder: several folders have one of the same name."""
    page = (ROOT / "docs" / "modules.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    about = dict(zip(parts[::2], parts[1::2], strict=True))
    named = {title.strip("`/"): set(re.findall(r"`([a-z_]+)`", text)) for title, text in about.items()}
    package = ROOT / "laminar_tui"
    for path in package.rglob("*.py"):
        folder = path.relative_to(package).parent.as_posix()
        if not path.stem.startswith("_"):
            assert path.stem in named["Top floor" if folder == "." else folder], f"say what {folder}/{path.stem} is for"


def test_the_package_says_that_it_is_typed_and_goes_into_the_wheel_whole() -> None:
    """Hatch takes a package with all its files, those that git ignores or a setting names left out."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "Typing :: Typed" in settings["project"]["classifiers"]
    assert resources.files("laminar_tui").joinpath("py.typed").is_file()
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["laminar_tui"]}
    assert settings["tool"]["hatch"]["build"].keys() == {"targets"}
    assert not any("py.typed" in rule or "assets" in rule for rule in (ROOT / ".gitignore").read_text().splitlines())


def test_the_readmes_figures_of_families_are_those_of_the_table() -> None:
    table = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    found = re.search(r"(\d+) of (\d+) are read, (\d+) by the tap and (\d+) by hooks", table)
    assert found
    read, all_of_them, tap, hooks = found.groups()
    assert f"Of the {all_of_them} causal-LM types" in README
    assert f"tiny random models of {read} are read" in README
    assert f"{tap} of them by the tap and {hooks} that" in README
