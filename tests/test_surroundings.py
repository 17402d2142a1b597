"""The tests leave alone what belongs to whoever runs them: log, journals, recent profiles, caches and settings."""

import json
import os
import pwd
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

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
