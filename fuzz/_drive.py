"""How a target is driven: atheris feeds it bytes and watches which code of dmsg_trio they reach."""

import gc
import sys
from collections.abc import Callable
from types import FunctionType


def run(check: Callable[[bytes], None]) -> None:
    """Call ``check`` with ever new bytes; arguments of the command line go to libFuzzer."""
    # Here and not above: replaying a corpus, as the tests do, works without atheris.
    import atheris

    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and f"{thing.__module__}".startswith("dmsg_trio."):
            atheris.instrument_func(thing)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
