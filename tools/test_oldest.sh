#!/usr/bin/env bash
# Sets up a virtual environment with the oldest versions that pyproject.toml admits, and runs a quick part of the tests.
#
# torch is linked from the environment of $PYTHON if it is there, since its oldest version takes gigabytes; else it is
# fetched. Arguments go to pytest. The table that pip prints last says what the tests were run with.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
venv="${OLDEST_VENV:-.venv-oldest}"

# Every lower bound of the dependencies and of the extras that the tests need, as `name==version`.
oldest() {
    "$python" - <<'END'
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
tools = {"mypy", "ruff"}
for line in {*project["dependencies"], *extras["gguf"], *extras["png"], *extras["test"]}:
    name, bound = re.match(r"([\w-]+)\s*>=\s*([\w.]+)", line).groups()
    if name not in tools | {"torch"}:
        print(f"{name}=={bound}")
END
}

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
here="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
torch="$("$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent.parent)' 2>/dev/null || true)"
if [ -n "$torch" ]; then
    for each in "$torch"/torch "$torch"/functorch "$torch"/torchgen "$torch"/torch-*.dist-info; do
        if [ -e "$each" ]; then ln -sfn "$each" "$here/"; fi
    done
else
    "$venv/bin/pip" install --quiet --disable-pip-version-check "torch==$(sed -n 's/^torch==//p' constraints.txt)"
fi
oldest | xargs "$venv/bin/pip" install --quiet --disable-pip-version-check
export PYTHONPATH="$PWD"
# Families that the oldest transformers does not have yet, or whose attention was not yet what it is today.
"$venv/bin/python" -m pytest -p no:cacheprovider \
    tests/profile tests/render tests/ui tests/test_cli.py tests/test_run.py tests/test_export.py \
    tests/model/test_load.py tests/model/test_capture.py tests/model/test_check.py \
    --deselect "tests/model/test_capture.py::test_the_forward_is_the_models_own[gemma2]" "$@"
"$venv/bin/pip" list --disable-pip-version-check
