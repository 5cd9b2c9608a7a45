"""Run every target for a while: ``python fuzz --time 60``, or only some by name.

An input that breaks an invariant lands in ``corpus/<target>/`` as ``crash-…``, and the tests replay
it from then on. With ``--grow`` all inputs that reach new code are kept there.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    targets = {path.stem: path for path in sorted(FOLDER.glob("fuzz_*.py"))}
    parser = argparse.ArgumentParser(prog="fuzz", description="Run the fuzz targets, each in turn.")
    parser.add_argument("--time", type=int, default=60, metavar="SECONDS", help="for each target")
    parser.add_argument("--grow", action="store_true", help="keep what reaches new code")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(targets))
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(targets):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    names = arguments.targets or list(targets)
    broken = []
    for name in names:
        corpus = FOLDER / "corpus" / name
        corpus.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            finds = corpus if arguments.grow else Path(scratch)
            if not survives(targets[name], arguments.time, finds, corpus):
                broken.append(name)
    for name in broken:
        sys.stderr.write(f"{name} broke its invariant, see {FOLDER / 'corpus' / name}\n")
    return 1 if broken else 0


def survives(target: Path, seconds: int, finds: Path, corpus: Path) -> bool:
    """Fuzz one target in a process of its own, since libFuzzer ends the process it runs in."""
    command = [
        *(sys.executable, str(target), str(finds), str(corpus)),
        *(f"-max_total_time={seconds}", f"-artifact_prefix={corpus}{os.sep}"),
    ]
    path = os.pathsep.join([str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, env=environment, check=False).returncode == 0  # noqa: S603 - our own files


if __name__ == "__main__":
    raise SystemExit(main())
