"""A figure: one quantity, measured for several subjects in turn, and what it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

OURS = "ours"
REFERENCE = "reference's server"  # with our ends
ALL_REFERENCE = "all reference"
PLAIN = "plain TCP"
ONE_SERVER = "one server"  # of ours, where ours are two
BARE = "bare stream"  # of ours, where ours do more with one

Sample = dict[str, float]  # what one run of a measurement gave, by quantity


@dataclass(frozen=True, slots=True)
class Target:
    """A limit on our value, or on its ratio to somebody else's."""

    limit: float
    at_least: bool = False
    of: str = ""

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.limit:g}" + (f" of {self.of}" if self.of else "")


@dataclass(frozen=True, slots=True)
class Figure:
    """The runs of one quantity, by subject; run i of all subjects took place next to each other."""

    name: str
    unit: str
    runs: dict[str, list[float]]
    target: Target | None = None

    def value(self, subject: str) -> float | None:
        """The median of a subject's runs."""
        return median(self.runs[subject]) if self.runs.get(subject) else None

    def ratio(self, to: str) -> float | None:
        """The median of our runs in terms of the neighbouring runs of another subject."""
        if not (ours := self.runs.get(OURS)) or not (others := self.runs.get(to)):
            return None
        ratios = [one / other for one, other in zip(ours, others, strict=False) if other]
        return median(ratios) if ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where that cannot be said."""
        if self.target is None:
            return None
        value = self.ratio(self.target.of) if self.target.of else self.value(OURS)
        if value is None:
            return None
        return value >= self.target.limit if self.target.at_least else value <= self.target.limit


def interleave(
    subjects: Iterable[str], rounds: int, run: Callable[[str], Sample]
) -> dict[str, list[Sample]]:
    """Measure all subjects in turn, ``rounds`` times over, so that noise falls on all alike."""
    samples: dict[str, list[Sample]] = {subject: [] for subject in subjects}
    for _ in range(rounds):
        for subject, taken in samples.items():
            taken.append(run(subject))
    return samples


def column(samples: dict[str, list[Sample]], quantity: str) -> dict[str, list[float]]:
    """One quantity of all samples."""
    return {
        subject: [sample[quantity] for sample in taken if quantity in sample]
        for subject, taken in samples.items()
    }
