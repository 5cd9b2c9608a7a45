"""Whether dials ended as they must.

Where no table moved but by the dials themselves, and what the client remembers is certain, there is
one right order of attempts and one right end. Elsewhere there are bounds: on the path, on the
codes, and on the attempts that may fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .checks import UnexpectedError, check
from .facts import (
    CODES_OF_LIES,
    Attempted,
    Code,
    Ended,
    Life,
    Outcome,
    Published,
    Servers,
    Tables,
    Tier,
    Verdict,
)
from .memories import NOWHERE
from .model import World
from .steps import Lie

MAX_SERVERS = 2  # on a path


class Judge:
    """Judges dials by one world, which learns from them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.exactly = 0  # dials
        self.by_bounds = 0

    def judge(self, dial: Ended, before: Tables, after: Tables) -> None:
        """Raise `UnexpectedError` if one dial did not end as it must."""
        self.judge_all([dial], before, after)

    def judge_all(self, dials: Sequence[Ended], before: Tables, after: Tables) -> None:
        """Do as `judge`, for dials that began at the same time."""
        new: dict[str, set[str]] = {dial.client: set() for dial in dials}
        for dial in dials:
            mine = {each.server for each in dial.outcome.attempts if each.tier == Tier.NEW_SESSION}
            new[dial.client] |= mine - before.sessions[dial.client].keys()
        stood_still = before.without(new) == after.without(new)
        exact = []
        for dial in dials:
            memory = self._world.memory(dial.client, dial.to)
            memory.forget_what_is_old(dial.began)
            is_one = dial.client not in self._world.twinned
            is_certain = is_one and memory.is_certain(dial.began, dial.now)
            exact.append(stood_still and dial.enough_time and is_certain)
        entries = []
        for dial, is_exact in zip(dials, exact, strict=True):
            try:
                is_alone = sum((d.client, d.to) == (dial.client, dial.to) for d in dials) == 1
                entries.append(self._judge_one(dial, before, after, is_exact, is_alone))
            except UnexpectedError as error:
                memory = self._world.memory(dial.client, dial.to)
                error.add_note(f"{dial}, {memory}, {before}")
                raise
        for dial, entry in sorted(zip(dials, entries, strict=True), key=lambda pair: pair[0].now):
            self.learn(dial, entry)

    def learn(self, dial: Ended, entry: Servers | None = None) -> None:
        """Remember what a dial taught, which ended by ``entry`` if that is certain."""
        memory = self._world.memory(dial.client, dial.to)
        memory.forget_what_is_old(dial.began)
        asked_in_time = dial.enough_time if self._world.discovery_is_up else None
        memory.learn(dial.outcome, dial.now, entry=entry, asked_in_time=asked_in_time)

    def _judge_one(
        self, dial: Ended, before: Tables, after: Tables, is_exact: bool, is_alone: bool
    ) -> Servers | None:
        """Judge a dial; say by which entry it ended, None if by none or if that is not certain."""
        self._judge_path(dial)
        if self._world.memory(dial.client, dial.to).is_certain(dial.began, dial.began):
            self._judge_time(dial, before)
        self._judge_bounds(dial, before, after)
        if not is_exact:
            self.by_bounds += 1
            return None
        try:
            entry = self._judge_exactly(dial, before, after)
        except UnexpectedError:
            if is_alone or not any(each.failed for each in dial.outcome.attempts):
                raise
            # Of several dials to one destination the first that fails is a lesson for the others.
            self.by_bounds += 1
            return None
        self.exactly += 1
        return entry

    # ---- bounds ----

    def _judge_path(self, dial: Ended) -> None:
        path = dial.outcome.path
        check(len(path) <= MAX_SERVERS, f"{path} are more than two servers")
        check(
            not path or self._world.is_whole(dial.client, *path, dial.to),
            f"a stream leads over {path}, and that is not whole",
        )

    def _judge_time(self, dial: Ended, tables: Tables) -> None:
        """See that nothing holds a dial up whose first way leads there."""
        memory = self._world.memory(dial.client, dial.to)
        entry = tables.published[dial.to] if memory.entry is None else memory.entry
        if not isinstance(entry, tuple) or dial.client in self._world.twinned:
            return
        ways = self._world.ways(dial.client, dial.to, entry, dial.began, tables)
        first = min((way.rank for way in ways), default=None)
        best = [way for way in ways if way.rank == first]
        verdicts = {
            self._world.leads(way, dial.client, dial.to, dial.began, tables) for way in best
        }
        if verdicts == {Verdict.YES}:
            seconds = dial.now - dial.began
            check(
                seconds < self._world.patience(tables.routes),
                f"{seconds:.1f} s by a way that leads there at once",
            )

    def _judge_bounds(self, dial: Ended, before: Tables, after: Tables) -> None:
        """See that a dial ended in one of the ways that are possible, whatever moved meanwhile."""
        outcome, world = dial.outcome, self._world
        said = {before.published[dial.to], after.published[dial.to]}
        if outcome.path:
            check(dial.listens, "opened a port that is closed")
        match outcome.code:
            case Code.NO_LISTENER:
                check(not dial.listens, "refused by a port that is open")
            case Code.OUT_OF_TIME:
                check(not dial.enough_time, "neither a stream nor a reason")
            case Code.NO_DISCOVERY:
                was_away = None in said or (world.discovery_delay and not dial.enough_time)
                check(bool(was_away), "the discovery was there")
            case Code.NOT_FOUND | Code.NO_SERVERS | Code.NOT_A_CLIENT as code:
                codes = [CODES_OF_LIES[each] for each in said if isinstance(each, Lie)]
                check(code in codes, f"code {code} where the discovery said {said}")
            case Code.NOT_REACHED:
                certain = self._certain_ways(dial, before) & self._certain_ways(dial, after)
                if any(before.since(each) != after.since(each) for each in (dial.client, dial.to)):
                    certain = set()
                check(not (dial.enough_time and certain), f"gave up, and {certain} lead there")
            case code:
                check(code is None, f"code {code}")

    def _certain_ways(self, dial: Ended, tables: Tables) -> set[str]:
        """Servers with sessions by which the destination is reached, whatever its entry says."""
        legs = tables.sessions[dial.client]
        if dial.client in self._world.twinned:  # who may lose any session at any time
            return set()
        return {
            way.server
            for way in self._world.ways(dial.client, dial.to, NOWHERE, dial.began, tables)
            if legs[way.server].relays_across
            and self._world.life[way.server] is Life.UP
            and self._world.leads(way, dial.client, dial.to, dial.began, tables) is Verdict.YES
        }

    # ---- exactly ----

    def _passes(self, dial: Ended, before: Tables, after: Tables) -> list[Published]:
        """By which entries a dial goes: one that is remembered, and what the discovery has.

        A second pass is where the first was by an entry that is remembered, and the discovery has
        another by now.
        """
        memory = self._world.memory(dial.client, dial.to)
        entries: list[Published] = [before.published[dial.to]]
        if memory.entry is not None:
            entries.insert(0, memory.entry)
        elif entries[0] is None:
            entries[0] = NOWHERE
        if isinstance(entries[-1], tuple) and set(memory.entry or ()) == set(entries[-1]):
            entries = entries[:1]
        return entries

    def _judge_exactly(self, dial: Ended, before: Tables, after: Tables) -> Servers | None:
        outcome, rest = dial.outcome, list(dial.outcome.attempts)
        for number, entry in enumerate(self._passes(dial, before, after)):
            if isinstance(entry, Lie):
                self._check_unknown(entry, outcome, rest)
                return None
            if entry is None:
                break
            tables = _at_the_pass(dial, rest, after) if number else before
            if outcome.code == Code.NO_LISTENER:
                verdicts = set(self._verdicts(dial, entry, tables))
                if verdicts <= {Verdict.NO}:
                    continue
                return entry if Verdict.MAYBE not in verdicts else None
            if self._follow(dial, entry, rest, tables):
                return entry
        if self._moves(dial, before):
            self._judge_once_more(dial, rest, before, after)
            return None
        check(not rest, f"attempted {rest} where nothing was left to try")
        self._check_given_up(dial, before)
        return None

    def _check_given_up(self, dial: Ended, before: Tables) -> None:
        entry = self._world.memory(dial.client, dial.to).entry
        is_unknown = entry is None and before.published[dial.to] is None
        has_tried = bool(dial.outcome.attempts)
        expected = Code.NO_DISCOVERY if is_unknown and not has_tried else Code.NOT_REACHED
        check(dial.outcome.code == expected, f"{dial.outcome.code} where no way leads there")

    # ---- once more, after a move ----

    def _moves(self, dial: Ended, before: Tables) -> bool:
        """Whether a dial may wait for a session that takes streams, and then begin anew."""
        legs = before.sessions[dial.client].values()
        return not any(leg.relays_across for leg in legs)

    def _judge_once_more(
        self, dial: Ended, rest: list[Attempted], before: Tables, after: Tables
    ) -> None:
        """Judge what was tried after that: one more pass, if any."""
        outcome, said = dial.outcome, after.published[dial.to]
        if isinstance(said, Lie) and outcome.code == CODES_OF_LIES[said]:
            check(not rest, f"attempted {rest} without an entry")
            return
        entry = said if isinstance(said, tuple) else self._world.memory(dial.client, dial.to).entry
        entry, tables = entry or NOWHERE, _at_the_pass(dial, rest, after)
        if outcome.code == Code.NO_LISTENER:
            verdicts = set(self._verdicts(dial, entry, tables))
            check(not verdicts <= {Verdict.NO}, "refused where no way leads there")
        elif not (rest and self._follow(dial, entry, rest, tables)):
            check(not rest, f"attempted {rest} where nothing was left to try")
            self._check_given_up(dial, before)

    def _verdicts(self, dial: Ended, entry: Servers, tables: Tables) -> Iterator[Verdict]:
        for way in self._world.ways(dial.client, dial.to, entry, dial.began, tables):
            yield self._world.leads(way, dial.client, dial.to, dial.began, tables)

    def _check_unknown(self, entry: Lie, outcome: Outcome, rest: Sequence[Attempted]) -> None:
        check(not rest, f"attempted {rest} without an entry")
        expected = CODES_OF_LIES[entry]
        check(outcome.code == expected, f"code {outcome.code} where the entry is {entry}")

    def _follow(self, dial: Ended, entry: Servers, rest: list[Attempted], tables: Tables) -> bool:
        """Take the attempts of one pass over all ways from ``rest``; say whether one led there."""
        ways = self._world.ways(dial.client, dial.to, entry, dial.began, tables)
        while ways:
            best = min(way.rank for way in ways)
            candidates = [way for way in ways if way.rank == best]
            check(bool(rest), f"gave up where these are left: {ways}")
            attempt = rest.pop(0)
            chosen = [way for way in candidates if (way.tier, way.server) == attempt.way]
            check(bool(chosen), f"attempted {attempt} where these come first: {candidates}")
            verdict = self._world.leads(chosen[0], dial.client, dial.to, dial.began, tables)
            if not attempt.failed:
                check(verdict is not Verdict.NO, f"{attempt}: this does not lead to {dial.to}")
                return True
            check(verdict is not Verdict.YES, f"{attempt}: this leads to {dial.to}")
            ways.remove(chosen[0])
        return False


def _at_the_pass(dial: Ended, rest: Sequence[Attempted], after: Tables) -> Tables:
    """What there was when a later pass began: without the sessions that this pass itself made."""
    made = {each.server for each in rest if each.tier == Tier.NEW_SESSION}
    return after.without({dial.client: made})
