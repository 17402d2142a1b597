"""`python -m laminar_tui`."""

import sys

from laminar_tui.cli import main

if __name__ == "__main__":
    sys.exit(main())
