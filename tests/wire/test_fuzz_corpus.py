"""What the fuzzers have found so far, replayed: no fuzzer is needed for this."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import pytest

FUZZ: Final = Path(__file__).parents[2] / "fuzz"
TARGETS: Final = sorted(FUZZ.glob("fuzz_*.py"))
INPUTS: Final = [
    pytest.param(target, path, id=f"{target.stem}-{path.name}")
    for target in TARGETS
    for path in sorted((FUZZ / "corpus" / target.stem).glob("*"))
]


def check_of(target: Path) -> Callable[[bytes], None]:
    spec = importlib.util.spec_from_file_location(target.stem, target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(Callable[[bytes], None], module.check)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target.stem))
def test_a_target_states_its_invariant_and_has_a_corpus(target: Path) -> None:
    assert check_of(target).__doc__
    assert any((FUZZ / "corpus" / target.stem).glob("*"))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target.stem))
def test_nothing_at_all_is_an_input_too(target: Path) -> None:
    check_of(target)(b"")


@pytest.mark.parametrize(("target", "path"), INPUTS)
def test_no_input_of_the_corpus_breaks_its_invariant(target: Path, path: Path) -> None:
    check_of(target)(path.read_bytes())
