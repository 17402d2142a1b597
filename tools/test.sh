#!/usr/bin/env bash
# Sets up a virtual environment with the tested versions, then checks style, types and behaviour. Arguments go to pytest.
#
# The test files are shared out to three processes ($WORKERS for another number; 0 for this one alone), which is one more
# than the two cores that they are made for: a third of their time they wait, for terminals and for the app to be at rest.
# A process that dies is a failure of the test it was at.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m pytest -n "${WORKERS:-3}" --dist loadfile "$@"
