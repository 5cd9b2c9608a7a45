"""The bar of dmsgcurl: what there is of a file, of all of it."""

from __future__ import annotations

import trio.testing

from dmsg_trio.cli._curl_watch import SHOWN_AFTER, Meter, Screen, Teller


async def test_a_bar_that_comes_late_knows_what_came_over_all_streams(
    autojump_clock: trio.testing.MockClock,
) -> None:
    screen = Screen(silent=False, shows_errors=True)
    meter = Meter(screen, is_plain=False)
    teller = Teller("f", screen, meter=meter, is_verbose=False, write_head=None)
    with meter.shown():
        teller.body_begins(0, 4)
        teller.received(4)
        teller.body_begins(4, 50)
        for start, stop in (4, 27), (27, 50):
            teller.body_begins(start, stop)
        await trio.sleep(2 * SHOWN_AFTER)
        teller.received(6)
        assert screen.bars is not None
        [task] = screen.bars.tasks
        assert (task.completed, task.total) == (10, 50)
        teller.received(40)
        assert (task.completed, task.total) == (50, 50)
