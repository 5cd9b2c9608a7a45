"""Measure what README claims about speed: ``python bench``; README.md here says how to read it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Of `python bench` the path knows this folder only, and not the one that it is imported from.
    sys.path[0] = str(Path(__file__).parents[1])
    from bench.command import main

    raise SystemExit(main())
