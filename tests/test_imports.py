"""Arrows only go down, and what is heavy is imported when it is needed."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import heavy_after

import laminar_tui
from laminar_tui import errors
from laminar_tui.profile.profile import Profile

PACKAGE = Path(laminar_tui.__file__).parent

MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "settings": {"errors", "profile", "render", "source"},
    "sizes": {"errors"},
    "log": {"errors", "files", "render", "source", ""},
    "recovery": {"errors", "files", "log", "profile"},
    "record": {"errors", "log", "profile", "recovery", "run"},
    "tail": {"errors", "files", "profile", "recovery", "render", "run", "sizes"},
    "source": {"errors"},
    "profile": {"errors", "files", "sizes"},
    "render": {"errors", "profile"},
    "model": {"errors", "files", "profile", "sizes", "source"},
    "run": {"errors", "profile", "source", "model"},
    "catalog": {"errors", "files", "model", "profile", "run"},
    "corpus": {"errors", "source"},
    "corpus_run": {"errors", "source", "corpus", "profile", "model", "run", "sizes"},
    "sweep_run": {"errors", "files", "source", "profile", "run"},
    "export": {"errors", "files", "profile", "render"},
    "options": {"errors", "render", "run", "sizes"},
    "ui": {
        "settings",
        "catalog",
        "errors",
        "files",
        "source",
        "options",
        "profile",
        "render",
        "run",
        "export",
        "log",
        "record",
        "recovery",
        "sizes",
        "tail",
    },
    "commands": {
        *("errors", "files", "source", "options", "profile", "render", "run", "export", "ui", "model", ""),
        *("log", "record", "recovery", "tail", "corpus_run", "sweep_run"),
    },
    "cli": {"commands", "errors", "log"},
    "__main__": {"cli"},
    "": {"errors", "export", "profile", "model"},
}
"""Which part of the house may import which; `""` is the package itself."""

LIBRARIES = {
    "torch": {"model", "run"},
    "transformers": {"model"},
    "accelerate": {"model"},
    "huggingface_hub": {"model"},
    "textual": {"ui"},
    "rich": {"render", "ui"},
    "plotext": {"render"},
    "scipy": set(),
}
"""Which part may import a library that costs time or ties a part to a screen or a model."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    """`laminar_tui.render.text` is in the part `render`, `laminar_tui` itself in `""`."""
    return module.split(".")[1] if "." in module else ""


def module_name(path: Path) -> str:
    names = ["laminar_tui", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that is imported anywhere in a file, and whether that is within a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    in_functions = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in in_functions
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield str(node.module), id(node) in in_functions
            for alias in node.names if node.module == "laminar_tui" else ():
                if (PACKAGE / alias.name).is_dir() or (PACKAGE / f"{alias.name}.py").is_file():
                    yield f"laminar_tui.{alias.name}", id(node) in in_functions


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def top_imports(path: Path) -> Iterator[str]:
    """What is imported as soon as the module is: outside of functions and of `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for statement in tree.body:
        if is_type_checking(statement):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                break
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield str(node.module)


def test_every_part_is_in_the_table() -> None:
    assert {part_of(module_name(path)) for path in MODULES} == MAY_IMPORT.keys()


@pytest.mark.parametrize("path", MODULES, ids=[module_name(path) for path in MODULES])
def test_arrows_only_go_down(path: Path) -> None:
    here = part_of(module_name(path))
    for module, _ in imports_of(path):
        if module.partition(".")[0] == "laminar_tui":
            assert part_of(module) in MAY_IMPORT[here] | {here}, f"{module_name(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=[module_name(path) for path in MODULES])
def test_a_library_is_imported_only_where_it_belongs(path: Path) -> None:
    here = part_of(module_name(path))
    for module, _ in imports_of(path):
        library = module.partition(".")[0]
        assert here in LIBRARIES.get(library, {here}), f"{module_name(path)} imports {library}"


COMMAND_LINE = [
    *(PACKAGE / name for name in ("cli.py", "options.py", "source.py", "__main__.py", "__init__.py")),
    *sorted((PACKAGE / "commands").glob("*.py")),
]


@pytest.mark.parametrize("path", COMMAND_LINE, ids=[module_name(path) for path in COMMAND_LINE])
def test_the_command_line_imports_at_once_only_the_standard_library(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"laminar_tui"}
    ours = {"laminar_tui", "laminar_tui.errors", *(module_name(path) for path in COMMAND_LINE)}
    for module in top_imports(path):
        assert module.partition(".")[0] in allowed, module
        assert module.partition(".")[0] != "laminar_tui" or module in ours, module


@pytest.mark.parametrize("part", ["run", "export", "ui"])
def test_what_is_heavy_is_imported_within_functions(part: str) -> None:
    for path in MODULES:
        if part_of(module_name(path)) == part:
            assert not {module.partition(".")[0] for module in top_imports(path)} & {"torch", "transformers", "scipy"}
            assert not any(module.startswith("laminar_tui.model") for module in top_imports(path)), path


def test_no_widget_imports_the_app() -> None:
    for path in MODULES:
        name = module_name(path)
        if part_of(name) == "ui" and name not in ("laminar_tui.ui.start", "laminar_tui.ui.app"):
            assert "laminar_tui.ui.app" not in {module for module, _ in imports_of(path)}, name


def test_the_probe_sees_what_is_heavy() -> None:
    assert heavy_after("import textual") == ["textual"]


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_version_and_help_import_nothing_heavy(word: str) -> None:
    assert heavy_after(f"from laminar_tui.cli import main; main([{word!r}])") == []


def test_a_saved_profile_is_shown_without_anything_heavy(small_profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "run.laminar"
    small_profile.save(path)
    for view in ("overview", "layer", "head", "lines"):
        arguments = ["show", str(path), "--view", view, "--width", "60"]
        assert heavy_after(f"from laminar_tui.cli import main; assert main({arguments!r}) == 0") == []


def test_the_library_loads_a_profile_without_anything_heavy(small_profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "run.laminar"
    small_profile.save(path)
    assert heavy_after(f"import laminar_tui; laminar_tui.Profile.load({str(path)!r}).density('final')") == []


def test_what_the_library_offers_is_listed_and_is_there() -> None:
    assert set(laminar_tui.__all__) <= set(dir(laminar_tui))
    assert {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)} <= {
        *laminar_tui.__all__
    }
    for name in laminar_tui.__all__:
        assert getattr(laminar_tui, name) is not None
    assert laminar_tui.UsageError is errors.UsageError
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = laminar_tui.nothing


def test_the_library_is_imported_without_anything_heavy() -> None:
    assert heavy_after("import laminar_tui; dir(laminar_tui); laminar_tui.LaminarError, laminar_tui.make_report") == []


def test_the_app_is_imported_without_torch() -> None:
    assert heavy_after("import laminar_tui.ui.app, laminar_tui.ui.explorer") == ["textual"]
