"""Measure HTTP: ``python bench/http.py``; README.md here says how to read it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Of `python bench/http.py` the path knows this folder only, where this file hides another `http`.
    sys.path[0] = str(Path(__file__).parents[1])
    from bench.http_measurements import main

    raise SystemExit(main())
