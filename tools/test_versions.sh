#!/usr/bin/env bash
# Sets up a virtual environment with the oldest or the newest versions that pyproject.toml admits, and runs a part of the
# tests that takes few minutes and goes through every layer of the program.
#
#     bash tools/test_versions.sh oldest|newest [arguments of pytest]
#
# torch is linked from the environment of $PYTHON if it is there, as it may take gigabytes; else the oldest or newest one
# is fetched. With a linked torch, the run says nothing about torch's own bounds. The table that is printed last says what
# the tests were run with.
set -euo pipefail
cd "$(dirname "$0")/.."
which="${1:?oldest or newest}"
shift
python="${PYTHON:-python3}"
venv="${VERSIONS_VENV:-.venv-$which}"

# Every dependency, and what the extras name that the tests need: as `name==bound` for the oldest, `name<limit` else.
# The compiler of GPU kernels comes with torch, and what checks style and types is not what is tested.
wanted() {
    "$python" - "$which" <<'END'
import re, sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
for line in sorted({*project["dependencies"], *extras["gguf"], *extras["png"], *extras["test"]}):
    name, bound, limit = re.match(r"([\w-]+)\s*>=\s*([\w.]+)\s*(?:,\s*<\s*([\w.]+))?", line).groups()
    if name not in {"mypy", "ruff", "triton"}:
        print(f"{name}=={bound}" if sys.argv[1] == "oldest" else f"{name}<{limit}" if limit else name)
END
}

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
here="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
torch="$("$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent.parent)' 2>/dev/null || true)"
linked="$(mktemp)"
trap 'rm -f "$linked"' EXIT
if [ -n "$torch" ]; then
    for each in "$torch"/torch "$torch"/functorch "$torch"/torchgen "$torch"/torch-*.dist-info; do
        if [ -e "$each" ]; then ln -sfn "$each" "$here/"; fi
    done
    # As a constraint: pip would write another version through the links, into the environment that they lead to.
    "$venv/bin/python" -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' > "$linked"
fi
{ if [ -s "$linked" ]; then wanted | grep -Ev '^torch([=<]|$)'; else wanted; fi; } |
    xargs "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager -c "$linked"
export PYTHONPATH="$PWD"
# Left out: a family whose attention was not yet what it is today in the oldest transformers.
"$venv/bin/python" -m pytest -p no:cacheprovider -n "${WORKERS:-2}" --dist loadfile \
    tests/profile tests/render tests/ui/test_app.py tests/ui/test_keys.py tests/ui/test_run_in_app.py \
    tests/test_cli.py tests/test_run.py tests/test_export.py tests/terminal/test_lifecycle.py \
    tests/model/test_load.py tests/model/test_capture.py tests/model/test_check.py \
    --deselect "tests/model/test_capture.py::test_the_forward_is_the_models_own[gemma2]" "$@"
"$venv/bin/python" -m pip list --disable-pip-version-check
