"""Measure the remote shell: ``python bench/pty.py``; README.md here says how to read it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Of `python bench/pty.py` the path knows this folder only, where this file hides another `pty`.
    sys.path[0] = str(Path(__file__).parents[1])
    from bench.pty_measurements import main

    raise SystemExit(main())
