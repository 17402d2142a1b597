"""What holds for all tests: they leave alone what is the user's own, and begin with the files that take longest."""

import json
import os
import pwd
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

FIND = """
import json, os
from pathlib import Path
import huggingface_hub.constants, platformdirs
from laminar_tui.catalog import recent_path
from laminar_tui.files import state_folder
from laminar_tui.recovery import runs_folder
print(json.dumps([str(each) for each in (
    Path.home(), Path("~/x").expanduser(), state_folder(), runs_folder(), recent_path(),
    huggingface_hub.constants.HF_HUB_CACHE, huggingface_hub.constants.HF_TOKEN_PATH,
    platformdirs.user_cache_path("x"), platformdirs.user_config_path("x"), platformdirs.user_data_path("x"),
)]))
"""


def test_this_process_and_those_it_starts_write_to_a_temporary_folder() -> None:
    with redirect_stdout(StringIO()) as printed:
        exec(FIND, {})
    here = json.loads(printed.getvalue())
    there = json.loads(subprocess.run([sys.executable, "-c", FIND], capture_output=True, check=True).stdout)
    assert len(here) == len(there) == 10
    own = Path(pwd.getpwuid(os.getuid()).pw_dir)
    for path in map(Path, here + there):
        assert path.is_relative_to(tempfile.gettempdir()), path
        assert not path.is_relative_to(own), path


def test_files_that_take_longest_are_begun_first(request: pytest.FixtureRequest) -> None:
    """However the run is started: pytest-xdist would begin with the files of many tests, and end with a long one."""
    ours = next(each for each in request.config.pluginmanager.get_plugins() if hasattr(each, "LONGEST_FIRST"))
    here = {path.stem for path in Path(__file__).parent.rglob("test_*.py")}
    assert set(ours.LONGEST_FIRST) <= here, "files of those names are there"
    assert not request.config.option.loadscopereorder
